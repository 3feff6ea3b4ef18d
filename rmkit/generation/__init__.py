"""Generation: completions of prompts, by a model in this process or by an OpenAI-compatible server, as one interface.

A completion follows from its request (prompt, sampling, seed), not from what else is asked for. One that failed is a
`Failure` with its reason, never an empty text.
"""

from rmkit.generation.base import (
    Completion,
    Failure,
    Generator,
    Outcome,
    Prompt,
    Request,
    Sampling,
    Token,
    derive_sample_seed,
)
from rmkit.generation.factory import choose_generator
from rmkit.generation.local import TransformersGenerator, load_generator
from rmkit.generation.openai_server import ServerGenerator
from rmkit.generation.server_process import keep_server

__all__ = [
    "Completion",
    "Failure",
    "Generator",
    "Outcome",
    "Prompt",
    "Request",
    "Sampling",
    "ServerGenerator",
    "Token",
    "TransformersGenerator",
    "choose_generator",
    "derive_sample_seed",
    "keep_server",
    "load_generator",
]
