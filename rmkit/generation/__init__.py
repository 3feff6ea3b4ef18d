"""Generation of completions by a model in this process or by an OpenAI-compatible server, behind one interface.

A request without a completion gives a `Failed` with its reason, never an empty text.
"""

from rmkit.generation.base import Generator, Prompt, Request, Sampling, derive_sample_seed
from rmkit.generation.local import TransformersGenerator, load_generator
from rmkit.generation.openai_server import ServerGenerator, choose_generator
from rmkit.generation.results import Completion, Failed, GenerationResult, Token
from rmkit.generation.server_process import managed_server

__all__ = [
    "Completion",
    "Failed",
    "GenerationResult",
    "Generator",
    "Prompt",
    "Request",
    "Sampling",
    "ServerGenerator",
    "Token",
    "TransformersGenerator",
    "choose_generator",
    "derive_sample_seed",
    "load_generator",
    "managed_server",
]
