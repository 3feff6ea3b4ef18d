"""The model card: a README.md that says what made the model and how to use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

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
    (Path(directory) / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def table(values: Mapping[str, Any]) -> str:
    """A two-column Markdown table."""
    rows = [f"| {name} | {spell(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def spell(value: Any) -> str:
    """A value in a table's cell."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
