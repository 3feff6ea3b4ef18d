"""The `rmkit` command line: each command is a function of one configuration, filled from YAML and flags.

Command modules import torch and the like inside their functions, so that help and every error come at once.
"""

import difflib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import rmkit
from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.config import load_config
from rmkit.core.config_fields import Entry, format_field, import_object, list_entries


class Command(NamedTuple):
    """A command's purpose, and where its function and its configuration are: "module:name"."""

    purpose: str
    function: str
    config: str


COMMANDS = {
    name: Command(purpose, f"rmkit.commands.{name}:{name}", f"rmkit.commands.{name}:{name.capitalize()}Config")
    for name, purpose in {
        "read": "check a preference set, set invalid rows aside, split it",
        "vote": "score every pair with an ensemble of reward models",
        "repair": "flip, smooth, soften or drop labels that are likely wrong",
        "train": "train a reward model",
        "evaluate": "measure reward models on unrepaired pairs or a benchmark",
        "score": "give rewards to any number of responses to each prompt",
        "sft": "fine-tune a language model on completions",
        "dpo": "optimise a policy on pairs, by direct preference optimisation",
        "rl": "optimise a policy against a reward model",
        "sample": "sample a policy's responses to prompts",
        "iterate": "rounds of sampling, MetaRM and policy optimisation",
        "judge": "judge pairs or samples by a model, and measure the judge",
        "compare": "win rates of policies against one of them, by any judge",
        "report": "write the results as one HTML file",
        "synthetic": "make synthetic preference data and a small base model",
        "run": "read, vote, repair, train, evaluate and report, from one YAML file",
    }.items()
}
COMMANDS["meta-reward"] = Command(
    "the meta-rewarding loop: a policy learns from its own judgments",
    "rmkit.meta_rewarding.loop:meta_reward", "rmkit.meta_rewarding.config:MetaRewardConfig",
)
FILE_FIRST = ("run", "meta-reward")  # their YAML file may come without --config
# The deepspeed launcher passes this, before or behind the command; the same number is in the environment.
LAUNCHER_WORDS = ("--local_rank=", "--local-rank=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did its work, 2 when its input was refused (one line on stderr, no traceback)."""
    os.environ.setdefault("TQDM_DELAY", "2")  # seconds; every library's bars are for long work only
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if not word.startswith(LAUNCHER_WORDS)]
    try:
        dispatch(words)
        return 0
    except InputError as error:
        print(f"rmkit: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("rmkit: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def dispatch(words: list[str]) -> None:
    """Find the command, build its configuration, call it."""
    if not words or words[0] in ("-h", "--help"):
        print(list_commands())
        return
    if words[0] == "--version":
        print(f"rmkit {rmkit.__version__}")
        return
    name, *rest = words
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean `rmkit {near[0]}`?" if near else "See rmkit --help."
        raise_input_error("rmkit", "a command", name, hint)
    if "-h" in rest or "--help" in rest:
        print(describe_command(name))
        return
    path, overrides = split_config(rest, file_first=name in FILE_FIRST)
    config = load_config(import_object(COMMANDS[name].config), path, overrides)
    import_object(COMMANDS[name].function)(config)


def split_config(words: Sequence[str], file_first: bool) -> tuple[str | None, list[str]]:
    """Take the YAML file out of the words: `--config FILE` anywhere or, with `file_first`, the first word."""
    path = None
    overrides = []
    remaining = iter(words)
    for number, word in enumerate(remaining):
        if word == "--config" or word.startswith("--config="):
            path = word.partition("=")[2] or next(remaining, None)
            if path is None:
                raise_input_error("--config", "a YAML file", Verbatim("nothing"), "Write --config FILE.")
        elif number == 0 and file_first and not word.startswith("--"):
            path = word
        else:
            overrides.append(word)
    return path, overrides


def list_commands() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<13}{command.purpose}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: rmkit COMMAND [--config FILE.yaml] [--key value ...]", "", *lines, "",
                      "rmkit COMMAND --help lists a command's keys, rmkit --version the version."])


def describe_command(name: str) -> str:
    """A command's usage, purpose and keys: those that are required, the usual ones, the advanced ones."""
    file = "[FILE.yaml]" if name in FILE_FIRST else "[--config FILE.yaml]"
    purpose = COMMANDS[name].purpose
    lines = [f"usage: rmkit {name} {file} [--key value ...]", "", f"{purpose[0].upper()}{purpose[1:]}."]
    groups: dict[str, list[Entry]] = {"required:": [], "keys:": [], "advanced:": []}
    for entry in list_entries(import_object(COMMANDS[name].config)):
        required = entry.field.is_required() and "." not in entry.name  # a nested one only with the rest of its mapping
        groups["required:" if required else "advanced:" if entry.advanced else "keys:"].append(entry)
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    for title, entries in groups.items():
        if entries:
            lines += ["", title]
        for entry in entries:
            lines += textwrap.wrap(describe_entry(entry), width, initial_indent="  ", subsequent_indent=" " * 8,
                                   break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", "A file has the same keys, with mappings for the dots; null restores a default."])


def describe_entry(entry: Entry) -> str:
    """A key with its type, its default and its sentence of help."""
    default = "required"
    if not entry.field.is_required():
        value = entry.field.get_default(call_default_factory=True)
        default = f"default {value if isinstance(value, str) and value else json.dumps(value, default=lambda _: {})}"
    kind = f"kind {entry.kind}: " if entry.kind else ""
    return f"--{entry.name} ({kind}{format_field(entry.field)}, {default})  {entry.field.description or ''}"
