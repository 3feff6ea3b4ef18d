"""Reward models: `AutoModelForSequenceClassification` with one label, loaded and initialised."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.chat_template import set_default_template

# Padding tokens of model families; one that is in the vocabulary is used before a new one is added.
PAD_TOKENS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]")


def load_tokenizer(path: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The fast tokenizer at `path` with a chat template, right padding and a distinct pad token.

    The pad token is never EOS, BOS or the unknown token: a reward is read at the last token that is not padding, so
    with pad == eos it would be read at a wrong token.
    Raises `InputError` when there is no fast tokenizer at `path`.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise_input_error(
            f"tokenizer {path}", "a tokenizer's folder or hub name", Verbatim(first_line(error)), "Check the path."
        )
    if not tokenizer.is_fast:
        raise_input_error(
            f"tokenizer {path}", "a fast tokenizer", Verbatim(type(tokenizer).__name__), "Save it as tokenizer.json."
        )
    tokenizer.padding_side = "right"
    set_default_template(tokenizer)
    textual = (None, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
    if tokenizer.pad_token in textual:
        vocabulary = tokenizer.get_vocab()
        known = [token for token in PAD_TOKENS if token in vocabulary and token not in textual]
        tokenizer.add_special_tokens({"pad_token": known[0] if known else PAD_TOKENS[1]})
    return tokenizer


def load_reward_model(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """The model at `path` (causal LM, encoder or reward model) with a scalar head, ready for `tokenizer`.

    A head that the checkpoint lacks is initialised under `seed`, without changing the global random state. `dtype`
    defaults to float32, whatever the checkpoint's. The embedding is enlarged for tokens (a pad token) that the
    checkpoint lacks. Raises `InputError` when there is no such model at `path`, or when its head has several outputs.
    """
    with fork_seed(seed):
        model, report = load_pretrained(
            AutoModelForSequenceClassification,
            path,
            "a model's folder or hub name, with safetensors weights and one label if it has a head",
            num_labels=1,
            problem_type="regression",  # otherwise pipelines apply a sigmoid to the reward
            dtype=torch.float32 if dtype is None else dtype,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
        enlarge_embeddings(model, tokenizer)
    body = [key for key in report["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]
    missing = [key for key in body if "pooler" not in key]  # a pooler belongs to the head
    if missing:
        raise_input_error(
            f"model {path}",
            "weights for every layer but the head",
            Verbatim(f"none for {', '.join(missing[:3])}"),
            "Check that the weights belong to this architecture.",
        )
    for config in (model.config, model.config.get_text_config()):  # the latter is used in nested configurations
        config.pad_token_id = tokenizer.pad_token_id
    return model


def check_positions(model: PreTrainedModel, longest: int) -> None:
    """Raise `InputError` when the model has fewer positions than `longest` tokens."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise_input_error(
            "max_length",
            f"at most the model's {positions} positions",
            Verbatim(f"a sequence of {longest} tokens"),
            f"Set max_length to {positions}.",
        )


def find_head(model: nn.Module) -> nn.Linear:
    """The linear layer that gives the reward; its input is the embedding f(x, y) of the contrastive losses."""
    heads = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and not re.search("original_module|lora_", name)
    ]
    if not heads:
        raise_input_error(
            "model", "a linear head with one output", Verbatim(type(model).__name__), "Use load_reward_model."
        )
    return heads[-1]


@contextlib.contextmanager
def fork_seed(seed: int | None) -> Iterator[None]:
    """Seed torch for the block and restore the random state afterwards; None leaves the state in use."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        yield


def load_language_model(
    path: str | Path, *, dtype: torch.dtype | str = torch.float32, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The causal language model at `path`. Raises `InputError` where there is none."""
    expected = "a causal language model's folder or hub name, with safetensors weights"
    return load_pretrained(AutoModelForCausalLM, path, expected, dtype=dtype, trust_remote_code=trust_remote_code)


def load_pretrained(auto_class: Any, path: str | Path, expected: str, **settings: Any) -> Any:
    """`auto_class.from_pretrained`, without its report on missing weights.

    Raises `InputError`, naming what is `expected` at `path`, where there is none.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return auto_class.from_pretrained(path, use_safetensors=True, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        got = Verbatim(first_line(error))
        raise_input_error(f"model {path}", expected, got, "Check the path and the model's kind.")
    finally:
        logging.set_verbosity(verbosity)


def enlarge_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add embeddings for tokens that the model lacks, such as a pad token."""
    if model.get_input_embeddings().num_embeddings < len(tokenizer):  # type: ignore[operator]
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; its mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
