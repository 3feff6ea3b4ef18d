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
    key_variable: str,
    concurrency: int,
    timeout: float = 600.0,
    attempts: int = 6,
    extra: Mapping[str, Any] | None = None,
    token_budget: int = 32768,
    trust_remote_code: bool = False,
) -> Generator:
    """`model`, by its name on the server at `base_url`, or, without one, its folder or hub name, loaded here.

    `token_budget` as for `TransformersGenerator`, all else as for `ServerGenerator`.
    """
    if base_url is not None:
        return ServerGenerator(base_url, model, key_variable=key_variable, concurrency=concurrency, timeout=timeout,
                               attempts=attempts, extra=extra)
    return load_generator(model, token_budget=token_budget, trust_remote_code=trust_remote_code)
