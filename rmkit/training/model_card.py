"""The model card: a README.md on how the model was trained, how to use it, and its evaluations."""

from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_record, versions
from rmkit.data.parquet import stream_rows

CARD = "README.md"
TITLE = "# Reward model"
NEW_CARD = f"---\nlibrary_name: transformers\n---\n{TITLE}\n"
USAGE = '''```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("PATH")
tokenizer = AutoTokenizer.from_pretrained("PATH")
messages = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]
text = tokenizer.apply_chat_template(messages, tokenize=False)
inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
with torch.no_grad():
    reward = model(**inputs).logits[0, 0].item()
```'''
CITATION = '''```bibtex
@article{wang2024secrets,
  title = {Secrets of {RLHF} in Large Language Models Part {II}: Reward Modeling},
  author = {Wang, Binghai and others},
  journal = {arXiv preprint arXiv:2401.06080},
  year = {2024}
}
```'''

# `add_results` replaces the section between these.
BEGIN, END = "<!-- evaluation -->", "<!-- end of evaluation -->"


def write_model_card(
    directory: str | Path,
    *,
    base_model: str,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write `directory`/README.md: a YAML header, tables of data, settings, metrics and versions, use and citation."""
    header = ModelCardData(
        base_model=base_model,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["reward-model", "rmkit"],
    )
    sections = [
        f"---\n{header.to_yaml()}\n---",
        TITLE,
        f"A scalar reward for a response to a prompt, trained by rmkit from `{base_model}`. Only differences between "
        "responses to the same prompt mean anything. The chat template is saved with the tokenizer.",
        "## Data",
        format_table(data),
        "## Training",
        format_table(settings),
        "## Metrics",
        format_table(metrics) if metrics else "None measured in training; `rmkit evaluate` measures more.",
        "## Versions",
        format_table(versions()),
        "## Use",
        USAGE,
        "## Citation",
        CITATION,
    ]
    ModelCard("\n\n".join(sections) + "\n").save(Path(directory) / CARD)


def describe_data(data: str, pairs: Dataset) -> dict[str, Any]:
    """The card's facts on the training pairs: their rows, the stage that wrote them, and the pairs by repair action."""
    record = read_record(data) or {}
    facts = {"pairs": data, "rows": len(pairs), **({"stage": record["stage"], "key": record["key"]} if record else {})}
    if "action" in pairs.column_names:
        actions = Counter(row["action"] for row in stream_rows(pairs, ["action"]))
        facts |= {f"action {action}": count for action, count in sorted(actions.items())}
    return facts


def add_results(
    directory: str | Path,
    benchmark: str,
    data: str,
    scores: Mapping[str, Mapping[str, Any]],
    *,
    split: str | None = None,
) -> None:
    """Write a benchmark's results on `data` into the card in `directory`, replacing its earlier ones.

    `scores`: name -> `value` and, where known, `low` and `high`, the ends of its 95 % interval, and `items`. They are
    written into the header as `model-index`, which hubs read, and into the section Evaluation; the rest of the card
    stays, and one is created where there is none. Raises `InputError` for a header that is not YAML.
    """
    path = Path(directory) / CARD
    try:
        card = ModelCard.load(path) if path.is_file() else ModelCard(NEW_CARD)
    except (yaml.YAMLError, ValueError) as error:
        raise_input_error(f"card {path}", "a YAML header with keys", Verbatim(error), "Repair it.")
    new_results = [
        EvalResult(
            task_type="text-classification", task_name="reward modelling", dataset_type=data, dataset_name=benchmark,
            dataset_split=split, metric_type="accuracy", metric_name=name, metric_value=score["value"],
            metric_args={key: score[key] for key in ("low", "high", "items") if score.get(key) is not None} or None,
        )
        for name, score in scores.items() if score["value"] is not None
    ]
    header: Any = card.data
    groups = {key: list(group) for key, group in groupby(header.eval_results or [], dataset_key)}
    if new_results:
        groups[dataset_key(new_results[0])] = new_results
    header.model_name = header.model_name or Path(directory).resolve().name
    header.eval_results = [result for group in groups.values() for result in group]
    before, _, rest = card.text.partition(BEGIN)
    section = [BEGIN, "## Evaluation", *map(format_results, groups.values()), END, rest.partition(END)[2].strip()]
    card.text = f"\n{before.strip()}\n\n" + "\n\n".join(section).strip() + "\n"
    card.save(path)


def dataset_key(result: EvalResult) -> tuple[str, str, str | None]:
    """What one entry of `model-index` is about."""
    return result.dataset_name, result.dataset_type, result.dataset_split


def format_results(results: list[EvalResult]) -> str:
    """The results on one dataset as a heading and a table."""
    name, data, split = dataset_key(results[0])
    heading = f"### {name} (`{data}`{f', {split}' if split else ''})"
    rows = []
    for result in results:
        args = result.metric_args or {}
        interval = f"{format_cell(args['low'])} to {format_cell(args['high'])}" if "low" in args else ""
        cells = [result.metric_name, result.metric_value, interval, args.get("items", "")]
        rows.append(f"| {' | '.join(map(format_cell, cells))} |")
    return "\n".join([heading, "", "| | accuracy | 95 % interval | items |", "|---|---|---|---|", *rows])


def format_table(values: Mapping[str, Any]) -> str:
    """A two-column Markdown table."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {format_cell(value)} |" for name, value in values.items())])


def format_cell(value: Any) -> str:
    """A value in a table's cell."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
