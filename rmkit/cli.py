"""The `rmkit` command: one subcommand per stage, each a dataclass filled from YAML and flags."""

import dataclasses
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.config import load_config, section_class, spell

COMMANDS = {
    "read": "check a preference set, set bad rows aside, split it",
    "vote": "score every pair with an ensemble of reward models",
    "repair": "flip, smooth, soften or drop the labels to distrust",
    "train": "train a reward model with DeepSpeed",
    "evaluate": "measure reward models on unrepaired pairs or a benchmark",
    "score": "give rewards to any number of responses to each prompt",
    "sft": "fine-tune a language model on completions",
    "dpo": "optimise a policy on pairs, by direct preference optimisation",
    "sample": "draw a policy's responses to prompts",
    "reinforce": "optimise a policy against a reward model",
    "meta-reward": "the meta-rewarding loop: a policy learns from its own judgments",
    "iterate": "rounds of sampling, MetaRM and policy optimisation",
    "judge": "put pairs or samples to a judge, and measure it",
    "compare": "win rates of policies against one of them, by any judge",
    "audit": "write the report as one HTML file",
    "run": "all of these, from one YAML file",
}
LOOPS = ("meta-reward",)  # of rmkit.meta_rewarding; all others are stages
# The deepspeed launcher passes this, before or behind the command; the same number is in the environment.
LAUNCHER_WORDS = ("--local_rank=", "--local-rank=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did its work, 2 when its input was refused (one line on stderr, no traceback)."""
    os.environ.setdefault("TQDM_DELAY", "2")  # seconds; every library's bars are for long work only
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if not word.startswith(LAUNCHER_WORDS)]
    try:
        return dispatch(words)
    except InputError as error:
        print(f"rmkit: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("rmkit: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def dispatch(words: list[str]) -> int:
    """Find the command, build its configuration, call it."""
    if not words or words[0] in ("-h", "--help"):
        print(list_commands(COMMANDS))
        return 0
    name, *rest = words
    if name not in COMMANDS:
        raise_input_error("rmkit", f"a command ({', '.join(COMMANDS)})", name, "See rmkit --help.")
    verb = name.replace("-", "_")
    home = "meta_rewarding" if name in LOOPS else f"commands.{verb}"
    room: Any = importlib.import_module(f"rmkit.{home}")
    config_class = getattr(room, f"{''.join(map(str.capitalize, verb.split('_')))}Config")
    if "-h" in rest or "--help" in rest:
        print(describe(name, COMMANDS[name], config_class))
        return 0
    path, overrides = split_config(rest, positional=name in ("run", *LOOPS))
    getattr(room, verb)(load_config(config_class, path, overrides))
    return 0


def split_config(words: list[str], positional: bool) -> tuple[str | None, list[str]]:
    """Take the YAML file out of the words: `--config FILE` anywhere, or, for `run` and loops, the first word."""
    path: str | None = None
    if positional and words and not words[0].startswith("--"):
        path, words = words[0], words[1:]
    overrides: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--config":
            path = next(remaining, None)
            if path is None:
                raise_input_error("--config", "a YAML file", Verbatim("nothing"), "Write --config FILE.")
        elif word.startswith("--config="):
            path = word.partition("=")[2]
        else:
            overrides.append(word)
    return path, overrides


def list_commands(purposes: Mapping[str, str]) -> str:
    """The commands, a line each."""
    lines = ["usage: rmkit COMMAND [--config FILE.yaml] [--key value ...]", ""]
    lines += [f"  {name:<12}{purpose}" for name, purpose in purposes.items()]
    return "\n".join([*lines, "", "rmkit COMMAND --help lists a command's keys."])


def describe(name: str, purpose: str, config_class: type) -> str:
    """A command's keys with their types and defaults, and the text of its dataclass."""
    place = "CONFIG.yaml" if name == "run" else "[--config FILE.yaml]"
    usage = f"usage: rmkit {name} {place} [--key value ...]"
    lines = [usage, "", purpose, "", inspect.cleandoc(config_class.__doc__ or ""), ""]
    return "\n".join(lines + list_keys(config_class, ""))


def list_keys(config_class: type, prefix: str) -> list[str]:
    """One line per key, those of nested sections with their dotted names."""
    hints = typing.get_type_hints(config_class)
    lines = []
    for field in dataclasses.fields(config_class):
        if not field.init or field.name.startswith("_"):
            continue
        section = section_class(hints[field.name])
        if section is not None:
            lines += list_keys(section, f"{prefix}{field.name}.")
            continue
        if field.default is not dataclasses.MISSING:
            default = f"default {field.default!r}"
        elif field.default_factory is not dataclasses.MISSING:
            default = f"default {field.default_factory()!r}"
        else:
            default = "required"
        lines.append(f"  --{prefix}{field.name} ({spell(hints[field.name])}, {default})")
    return lines
