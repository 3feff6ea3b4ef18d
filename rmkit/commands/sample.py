"""`rmkit sample`: several responses of a policy to each prompt, without labels, such as MetaRM's meta set."""

from pathlib import Path
from typing import Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, output_settings

CACHE = "completions.jsonl"


@configuration
class SampleConfig:
    """Sample responses of a policy to each prompt; an interrupted run is resumed."""

    data: str = option(help="Rows with a prompt: JSON lines, Parquet, a datasets folder, a hub name.")
    model_name_or_path: str = option(help="The policy: a folder or a hub name; with base_url, its name on the server.")
    output_dir: str = option(help="Folder for the samples.")
    split: str = option("train", "Split of a dataset.")
    samples: int = option(5, "Responses to each prompt.", ge=1)
    prompts: int | None = option(None, "Number of prompts, drawn under the seed; null takes all.", ge=1)
    turns: Literal[1, 2] = option(1, "2 also answers a row's follow_up, after the first response of the policy.")
    temperature: float = option(1.0, "Sampling temperature; 0 is greedy decoding.", ge=0)
    top_p: float = option(1.0, "Total probability of the tokens to sample from.", gt=0, le=1)
    max_new_tokens: int = option(512, "Tokens of a response.", ge=1)
    max_tokens_per_batch: int = option(32768, "Tokens in a batch, prompts and responses together.", ge=1, advanced=True)
    base_url: str | None = option(None, "OpenAI-compatible server, such as http://localhost:8000/v1.")
    api_key_env: str = option(
        "OPENAI_API_KEY", "Environment variable with the server's key.", advanced=True, affects_output=False
    )
    concurrency: int = option(16, "Requests to the server at a time.", ge=1, advanced=True, affects_output=False)
    seed: int = option(0, "Seed of all random choices.")
    trust_remote_code: bool = option(False, "Run model code from the hub.", advanced=True)

    def __post_init__(self) -> None:
        if self.samples > 1 and self.temperature == 0:
            raise_input_error("samples", "1 at temperature 0, where all are the same", self.samples, "Change either.")


def sample(config: SampleConfig) -> Path:
    """Write `samples.jsonl`, rows of a prompt (as messages) with its `responses`; returns the stage's folder.

    Other columns of `data` are kept. Second turns come last, as rows of their own, whose `prompt` is the conversation
    so far (`rmkit.evaluation.policies.follow_up_prompt`). Rows without a usable prompt go to `quarantine.jsonl`; rows
    with a failed response are left out. The record counts both, and rows, responses, their tokens and those cut at
    `max_new_tokens`.
    """
    import json
    from collections import Counter
    from dataclasses import asdict

    from rmkit.core.seeds import derive_seed
    from rmkit.core.stage import PARTIAL_SUFFIX, open_stage
    from rmkit.data.rejected_rows import RejectedRows
    from rmkit.data.samples import SAMPLES, read_prompts
    from rmkit.data.sources import find_files
    from rmkit.evaluation.policies import follow_up_prompt
    from rmkit.generation import Sampling, choose_generator
    from rmkit.generation.responses import add_responses

    find_files(config.data)
    inputs = {"data": config.data, "model_name_or_path": config.model_name_or_path}
    sampling = Sampling(config.temperature, config.top_p, config.max_new_tokens)
    with open_stage(config.output_dir, "sample", output_settings(config), inputs) as stage:
        if stage.done:
            return stage.directory
        with RejectedRows(stage.directory / "quarantine.jsonl") as quarantine:
            rows = read_prompts(config.data, config.split, quarantine, count=config.prompts, seed=config.seed)
        follow_ups = [row["follow_up"] for row in rows if row.get("follow_up")]
        if config.turns == 2 and not (follow_ups and all(isinstance(text, str) for text in follow_ups)):
            raise_input_error(
                f"data {config.data}",
                "rows whose `follow_up` is a text, the second question",
                Verbatim("others" if follow_ups else "none"),
                "Add the column, or leave turns out.",
            )
        generator = choose_generator(
            config.model_name_or_path, base_url=config.base_url, api_key_env=config.api_key_env,
            concurrency=config.concurrency, max_tokens_per_batch=config.max_tokens_per_batch,
            trust_remote_code=config.trust_remote_code,
        )
        settings = {"samples": config.samples, "sampling": sampling, "seed": derive_seed(config.seed, "responses"),
                    "cache": stage.directory / CACHE}
        counts: Counter[str] = Counter()
        sampled = add_responses(rows, generator, counts, **settings)
        if config.turns == 2:
            sampled += add_responses(list(follow_up_prompt(sampled)), generator, counts, **settings)
        partial = stage.directory / (SAMPLES + PARTIAL_SUFFIX)
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in sampled)
        partial.replace(stage.directory / SAMPLES)
        stage.record.update(counts=counts, quarantined=quarantine.reasons, sampling=asdict(sampling))
    (stage.directory / CACHE).unlink(missing_ok=True)
    return stage.directory
