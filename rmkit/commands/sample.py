"""`rmkit sample`: several responses of a policy to each prompt, without labels, as MetaRM's meta set has them."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import PARTIAL_SUFFIX, Stage, open_stage
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import SAMPLES, read_prompts
from rmkit.data.sources import find_files
from rmkit.evaluation.policies import follow_up_prompt
from rmkit.generation import Completion, Failed, GenerationResult, Generator, Sampling, choose_generator

CACHE = "completions.jsonl"  # what a killed run has made already
PACE = ("concurrency", "api_key_env")  # of no matter to the responses


@dataclass
class SampleConfig:
    """Draw `samples` responses of the policy `model_name_or_path` to each prompt of `data`.

    `data`: rows with a `prompt` (text, dialogue or messages): pairs, or prompts alone; JSON lines, Parquet, a
    `datasets` folder, a hub name. Equal prompts are one. `prompts`: how many of them, drawn under the seed; by default
    all. With `turns` 2, the text in a row's `follow_up` is put to the policy behind its own first response, and
    answered too. With `base_url` (".../v1") the policy is a model's name on an OpenAI-compatible server, whose key is
    in the environment under `api_key_env`. A run that was killed goes on where it was.
    """

    data: str
    model_name_or_path: str
    output_dir: str
    split: str = "train"
    samples: int = 5
    prompts: int | None = None
    turns: Literal[1, 2] = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    max_tokens_per_batch: int = 32768
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1 or self.samples > 1 and self.temperature == 0:
            raise_input_error(
                "samples", "at least 1, and 1 at temperature 0", self.samples, "The paper's meta set has 5."
            )
        if self.prompts is not None and self.prompts < 1:
            raise_input_error("prompts", "at least 1", self.prompts, "Leave it out for all of them.")
        self.make_sampling()

    def make_sampling(self) -> Sampling:
        """How tokens are drawn; refuses values out of range."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens)


def sample(config: SampleConfig) -> Path:
    """Write `samples.jsonl`, rows of a prompt (as messages) with its `responses`; returns the stage's folder.

    What else a row of `data` has, but for responses, stays with it. Second turns come last, as rows of their own
    (`rmkit.evaluation.policies.follow_up_prompt`): `prompt` is the conversation so far. Rows without a prompt to answer go into
    `quarantine.jsonl`; those of which a response fails are left out. The record counts them, and rows, responses,
    their tokens and those of them that were cut at `max_new_tokens`.
    """
    find_files(config.data)
    inputs = {"data": config.data, "model_name_or_path": config.model_name_or_path}
    settings = {name: value for name, value in as_dict(config).items() if name not in PACE}
    if config.turns == 1:
        del settings["turns"]  # or what was drawn before there was a choice would be drawn again
    with open_stage(config.output_dir, "sample", settings, inputs) as stage:
        if not stage.done:
            fill(stage, config)
            (stage.directory / CACHE).unlink(missing_ok=True)
    return stage.directory


def fill(stage: Stage, config: SampleConfig) -> None:
    """Draw the responses and write them."""
    with RejectedRows(stage.directory / "quarantine.jsonl") as quarantine:
        rows = read_prompts(config.data, config.split, quarantine, count=config.prompts, seed=config.seed)
        if config.turns == 2:
            asked = [row["follow_up"] for row in rows if row.get("follow_up")]
            if not asked or not all(isinstance(question, str) for question in asked):
                raise_input_error(
                    f"data {config.data}",
                    "rows whose `follow_up` is a text, the second question",
                    Verbatim("others" if asked else "none"),
                    "Add the column, or leave turns out.",
                )
        generator = choose_generator(
            config.model_name_or_path, base_url=config.base_url, api_key_env=config.api_key_env,
            concurrency=config.concurrency, max_tokens_per_batch=config.max_tokens_per_batch,
            trust_remote_code=config.trust_remote_code,
        )
        counts: Counter[str] = Counter()
        sampled = respond(rows, generator, config, stage, counts)
        if config.turns == 2:
            sampled += respond(list(follow_up_prompt(sampled)), generator, config, stage, counts)
        draft = stage.directory / (SAMPLES + PARTIAL_SUFFIX)
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in sampled)
        draft.replace(stage.directory / SAMPLES)
        stage.record.update(counts=counts, quarantined=quarantine.reasons, sampling=asdict(config.make_sampling()))


def respond(
    rows: list[dict[str, Any]], generator: Generator, config: SampleConfig, stage: Stage, counts: Counter[str]
) -> list[dict[str, Any]]:
    """The rows with their `responses`, counted, without those that have none. Refused where that is all of them."""
    made = generator.generate(
        [row["prompt"] for row in rows], samples=config.samples, sampling=config.make_sampling(),
        seed=derive_seed(config.seed, "responses"), cache=stage.directory / CACHE,
    )
    answered = []
    for row, outcomes in zip(rows, made, strict=True):
        responses = list_responses(outcomes, counts)
        if responses:
            answered.append({**row, "responses": responses})
        else:
            counts["rows left out"] += 1
    counts["rows"] += len(answered)
    if not answered:
        reasons = [outcome.reason for outcome in made[0] if isinstance(outcome, Failed)]
        raise_input_error(
            f"sample {config.data}", "a response to any prompt", Verbatim(reasons[0]), "Check model and prompts."
        )
    return answered


def list_responses(outcomes: list[GenerationResult], counts: Counter[str]) -> list[list[dict[str, str]]]:
    """One prompt's responses as messages, counted; none where one of them failed."""
    made = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    counts["failures"] += len(outcomes) - len(made)
    if len(made) < len(outcomes):
        return []
    counts["responses"] += len(made)
    counts["tokens"] += sum(outcome.tokens or 0 for outcome in made)
    counts["cut"] += sum(outcome.finish == "length" for outcome in made)
    return [[{"role": "assistant", "content": outcome.text}] for outcome in made]
