"""The generator that settings name: a server, or a model in this process."""

from collections.abc import Mapping
from typing import Any

from rmkit.generation.base import Generator
from rmkit.generation.local import load_generator
from rmkit.generation.openai_server import ServerGenerator


def choose_generator(
    model: str,
    *,
    base_url: str | None,
    api_key_env: str,
    concurrency: int,
    timeout: float = 600.0,
    max_retries: int = 5,
    extra_body: Mapping[str, Any] | None = None,
    max_tokens_per_batch: int = 32768,
    trust_remote_code: bool = False,
) -> Generator:
    """`model` on the server at `base_url`; without one, the model of that folder or hub name, loaded in this process.

    `max_tokens_per_batch` as for `TransformersGenerator`, all else as for `ServerGenerator`.
    """
    if base_url is not None:
        return ServerGenerator(base_url, model, api_key_env=api_key_env, concurrency=concurrency, timeout=timeout,
                               max_retries=max_retries, extra_body=extra_body)
    return load_generator(model, max_tokens_per_batch=max_tokens_per_batch, trust_remote_code=trust_remote_code)
