"""The model card: a README.md that says what made the model, how to use it, and what evaluations found."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rmkit.core.checks import Verbatim, raise_input_error

CARD = "README.md"
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
# The papers whose methods a reward model of this kind is trained with.
CITATION = '''```bibtex
@article{wang2024secrets,
  title = {Secrets of {RLHF} in Large Language Models Part {II}: Reward Modeling},
  author = {Wang, Binghai and others},
  journal = {arXiv preprint arXiv:2401.06080},
  year = {2024}
}
```'''

# Between these stands the section that `add_results` writes anew.
BEGIN, END = "<!-- evaluation -->", "<!-- end of evaluation -->"


def write_card(
    directory: str | Path,
    *,
    base_model: str,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    versions: Mapping[str, str],
) -> None:
    """Write `directory`/README.md: a YAML header, then data and repair, settings, metrics, versions, use, citation.

    The mappings are printed as tables, as they are.
    """
    header = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": base_model,
        "tags": ["reward-model", "rmkit"],
    }
    sections = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        "# Reward model",
        f"A scalar reward for a response to a prompt, trained by rmkit from `{base_model}`. Only differences between "
        "responses to the same prompt mean anything. The chat template is saved with the tokenizer.",
        "## Data",
        table(data),
        "## Training",
        table(settings),
        "## Metrics",
        table(metrics) if metrics else "None measured in training; `rmkit evaluate` measures more.",
        "## Versions",
        table(versions),
        "## Use",
        USAGE,
        "## Citation",
        CITATION,
    ]
    (Path(directory) / CARD).write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def add_results(
    directory: str | Path,
    benchmark: str,
    data: str,
    scores: Mapping[str, Mapping[str, Any]],
    *,
    split: str | None = None,
) -> None:
    """Write what a benchmark found on `data` into the card in `directory`, in the place of what it found before.

    `scores`: name -> `value` and, where they are known, `low` and `high`, the ends of its 95 % interval, and `items`.
    They stand in the header, as `model-index`, which hubs read, and from there in the section Evaluation; the rest of
    the card is left as it is, and one is begun where there is none. Raises `InputError` for a header that is no YAML.

    Source of the header's form: github.com/huggingface/hub-docs, modelcard.md.
    """
    path = Path(directory) / CARD
    header, text = split_card(path)
    index = header.setdefault("model-index", [{"name": Path(directory).resolve().name, "results": []}])
    found = {
        "task": {"type": "text-classification", "name": "reward modelling"},
        "dataset": {"name": benchmark, "type": data} | ({} if split is None else {"split": split}),
        "metrics": [
            {"type": "accuracy", "name": name, "value": score["value"],
             "args": {key: score[key] for key in ("low", "high", "items") if score.get(key) is not None}}
            for name, score in scores.items() if score["value"] is not None
        ],
    }
    results = index[0]["results"]
    places = [place for place, result in enumerate(results) if result["dataset"] == found["dataset"]]
    if places:
        results[places[0]] = found
    else:
        results.append(found)
    section = "\n\n".join([BEGIN, "## Evaluation", *map(spell_result, results), END])
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    card = f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n{before.strip()}\n\n{section}\n\n{after.strip()}"
    path.write_text(card.rstrip() + "\n", encoding="utf-8")


def split_card(path: Path) -> tuple[dict[str, Any], str]:
    """The header of a card and the text below it, both empty where there is none."""
    content = path.read_text(encoding="utf-8") if path.is_file() else "# Reward model\n"
    parts = re.fullmatch(r"---\n(.*?\n)?---\n(.*)", content, re.DOTALL)
    if parts is None:
        return {}, content
    try:
        header = yaml.safe_load(parts[1] or "") or {}
    except yaml.YAMLError as error:
        raise_input_error(f"card {path}", "a YAML header", Verbatim(error), "Mend it, or leave `card` out.")
    if not isinstance(header, dict):
        raise_input_error(f"card {path}", "a YAML header with keys", header, "Mend it, or leave `card` out.")
    return header, parts[2]


def spell_result(result: Mapping[str, Any]) -> str:
    """One entry of `model-index` as a heading and a table."""
    dataset = result["dataset"]
    rows = []
    for metric in result["metrics"]:
        known = metric.get("args") or {}
        interval = f"{spell(known['low'])} to {spell(known['high'])}" if "low" in known else ""
        cells = (metric.get("name", metric["type"]), spell(metric["value"]), interval, spell(known.get("items", "")))
        rows.append(f"| {' | '.join(cells)} |")
    split = f", {dataset['split']}" if "split" in dataset else ""
    heading = f"### {dataset['name']} (`{dataset['type']}`{split})"
    return "\n".join([heading, "", "| | accuracy | 95 % interval | items |", "|---|---|---|---|", *rows])


def table(values: Mapping[str, Any]) -> str:
    """A two-column Markdown table."""
    rows = [f"| {name} | {spell(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def spell(value: Any) -> str:
    """A value in a table's cell."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
