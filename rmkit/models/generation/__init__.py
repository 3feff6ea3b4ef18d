"""Generation: completions of prompts, by a model in this process or by an OpenAI-compatible server, as one interface.

A completion follows from its request (prompt, sampling, seed), not from what else is asked for. One that failed is a
`Failure` with its reason, never an empty text.
"""

from rmkit.models.generation.choosing import choose_generator
from rmkit.models.generation.generator import Generator, derive_sample
from rmkit.models.generation.in_process import TransformersGenerator, load_generator
from rmkit.models.generation.outcomes import Completion, Failure, Outcome, Token
from rmkit.models.generation.requests import Prompt, Request, Sampling
from rmkit.models.generation.server import ServerGenerator
from rmkit.models.generation.serving import keep_server

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
    "derive_sample",
    "keep_server",
    "load_generator",
]
