"""Which generator: a server where one is named, else the model in this process."""

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
    attempts: int = 6,
    extra: Mapping[str, Any] | None = None,
    max_tokens_per_batch: int = 32768,
    trust_remote_code: bool = False,
) -> Generator:
    """`model`, by its name on the server at `base_url`, or, without one, its folder or hub name, loaded here.

    `max_tokens_per_batch` as for `TransformersGenerator`, all else as for `ServerGenerator`.
    """
    if base_url is not None:
        return ServerGenerator(base_url, model, api_key_env=api_key_env, concurrency=concurrency, timeout=timeout,
                               attempts=attempts, extra=extra)
    return load_generator(model, max_tokens_per_batch=max_tokens_per_batch, trust_remote_code=trust_remote_code)
