"""The fields of transformers.TrainingArguments as a configuration, without importing transformers or torch.

Importing them takes seconds, so the fields are read from the source of the class.
"""

import ast
import contextlib
import functools
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rmkit.core.config import configuration, option

__all__ = ["HuggingFaceArguments", "hugging_face_arguments"]

BASIC = {
    "activation_checkpointing", "bf16", "eval_steps", "eval_strategy", "gradient_accumulation_steps", "learning_rate",
    "logging_steps", "lr_scheduler_type", "max_steps", "num_train_epochs", "per_device_train_batch_size", "save_steps",
    "seed", "warmup_steps", "weight_decay",
}
NO_EFFECT = {"ddp_timeout", "disable_tqdm", "hub_token"}
SECRETS = {"hub_token"}
SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z`'])")


class _Types(dict[str, Any]):
    """What annotations may name; any other name is an enumeration of strings, such as SchedulerType."""

    def __missing__(self, name: str) -> Any:
        return str


TYPES = _Types(Any=Any, Literal=Literal, ParallelismConfig=Any, bool=bool, dict=dict, float=float, int=int, list=list)


@functools.cache
def hugging_face_arguments() -> type:
    """A base class for configurations: each field of TrainingArguments with its type, default and a sentence of help.

    Only types and choices are checked; TrainingArguments itself checks the rest.
    """
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        raise ImportError("transformers is not installed")
    tree = ast.parse((Path(package.origin).parent / "training_args.py").read_text(encoding="utf-8"))
    source = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    constants: dict[str, Any] = {"list": list, "dict": dict}  # what a default may name
    fields: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
    for node in source.body:
        if isinstance(node, ast.Assign | ast.If):  # of values that depend on torch, the last is that of a new one
            for part in ast.walk(node):
                if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                    with contextlib.suppress(ValueError):
                        constants[part.targets[0].id] = ast.literal_eval(part.value)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call):
            name = node.target.id
            fields["__annotations__"][name], fields[name] = _read_field(name, node.annotation, node.value, constants)
    return configuration(type("HuggingFaceArguments", (), fields))


def _read_field(name: str, annotation: ast.expr, call: ast.Call, constants: dict[str, Any]) -> tuple[Any, Any]:
    """The type and the option for `name: annotation = field(default=..., metadata={...})`."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    metadata = given.pop("metadata", ast.Dict([], []))
    assert isinstance(metadata, ast.Dict)
    about = {ast.literal_eval(key): value for key, value in zip(metadata.keys, metadata.values, strict=True) if key}
    help = ast.literal_eval(about["help"]).replace("%%", "%") if "help" in about else "See TrainingArguments."
    hint: Any = Any
    with contextlib.suppress(NameError, TypeError, AttributeError):
        hint = eval(compile(ast.Expression(annotation), __file__, "eval"), {"__builtins__": {}}, TYPES)
    if "choices" in about:
        with contextlib.suppress(ValueError):
            choices = Literal[tuple(ast.literal_eval(about["choices"]))]  # type: ignore[valid-type]
            hint = choices | None if type(None) in get_args(hint) else choices
    defaults = {
        kind: constants[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
        for kind, node in given.items() if kind in ("default", "default_factory")
    }
    first, *others = SENTENCE_END.split(help.strip())
    help = " ".join([first, *(sentence for sentence in others if sentence.startswith("Options:"))])
    return hint, option(
        help=help.rstrip(".") + ".", advanced=name not in BASIC, affects_output=name not in NO_EFFECT,
        repr=name not in SECRETS, **defaults,
    )


if TYPE_CHECKING:  # mypy takes the fields from the class itself
    from transformers import TrainingArguments as HuggingFaceArguments
else:
    HuggingFaceArguments = hugging_face_arguments()
