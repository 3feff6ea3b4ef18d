"""`rmkit evaluate`: reward models measured side by side, on the same unrepaired pairs or on a benchmark."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.stage import open_stage, read_record, write_json
from rmkit.data.parquet import PAIR_SIDES, load_split, write_table
from rmkit.data.sources import find_files
from rmkit.data.token_batches import MAX_TOKENS
from rmkit.evaluation.benchmarks.registry import Kind
from rmkit.evaluation.benchmarks.runner import find_kind, measure_benchmark
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, compare, mean_over
from rmkit.evaluation.reward_model import evaluate_pairs
from rmkit.evaluation.tables import format_benchmark, format_comparison, format_comparisons
from rmkit.metrics.accuracy import pair_correct
from rmkit.models.scoring import score_pairs_from_path
from rmkit.training.model_card import CARD, add_results


@dataclass
class EvaluateConfig:
    """Reward models (`models`: name -> folder or hub name) measured on `split` of `data`.

    `data` is a stage's folder of pairs, or a `benchmark`: a file, a folder or a hub name in the format of RewardBench
    (on the hub its split is `filtered`), RewardBench 2 (`test`), RM-Bench (`train`), HelpSteer (`validation`), or any
    other with several responses to a prompt; `auto` tells them by their columns. `votes` is a votes folder over the
    same pairs; with it, accuracy is also given by strength. `rewordings` also measures a benchmark with its responses
    reworded in twelve ways, and `card` writes what was found into the models' cards. The bootstrap that gives the
    intervals draws prompts, `n_bootstrap` times. Models read `max_tokens_per_batch` tokens, or one response.
    """

    data: str
    models: dict[str, str]
    output_dir: str
    split: str = "test"
    benchmark: Literal["auto", "pairs", Kind] = "auto"
    votes: str | None = None
    rewordings: bool = False
    card: bool = False
    max_length: int = 1024
    max_tokens_per_batch: int = MAX_TOKENS
    n_bootstrap: int = 1000
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise_input_error(
                "models", "at least one name with a model", Verbatim("none"), "Write --models.NAME FOLDER."
            )
        for name in self.models:
            if not re.fullmatch(r"[\w.-]+", name):
                raise_input_error(
                    "models", "names of letters, digits, dots, dashes and underscores", name, "Files are named so."
                )
        if self.n_bootstrap < 1:
            raise_input_error("n_bootstrap", "at least 1", self.n_bootstrap, "1000 is usual.")
        if self.max_tokens_per_batch < 1:
            raise_input_error("max_tokens_per_batch", "at least 1", self.max_tokens_per_batch, f"{MAX_TOKENS} is usual.")


def evaluate(config: EvaluateConfig) -> Path:
    """Write `metrics.json`, each model's rewards and, of a benchmark, `benchmark.png`; print the tables; the folder.

    A benchmark's rows that cannot be used are in `quarantine.jsonl`, and a run that was killed goes on where it was.
    """
    kind = find_kind(config.data, config.split) if config.benchmark == "auto" else config.benchmark
    if config.card:
        for name, path in config.models.items():
            if not Path(path).is_dir():
                raise_input_error(
                    f"card: models.{name}", "a model's folder, whose card is written to", path, "Download it first."
                )
    if kind is None or kind == "pairs":
        return evaluate_on_pairs(config)
    return evaluate_on_benchmark(config, kind)


def evaluate_on_benchmark(config: EvaluateConfig, kind: Kind) -> Path:
    """`evaluate` on a benchmark."""
    if config.votes is not None:
        raise_input_error("votes", "none for a benchmark", config.votes, "They are for pairs.")
    find_files(config.data)  # an unreadable one is refused before the output folder is touched
    with open_stage(config.output_dir, "evaluate", list_settings(config), list_inputs(config)) as stage:
        if not stage.done:
            found = measure_benchmark(
                stage.directory, kind, data=config.data, split=config.split, models=config.models,
                rewordings=config.rewordings, seed=config.seed, n_bootstrap=config.n_bootstrap,
                scoring={name: getattr(config, name) for name in ("max_length", "max_tokens_per_batch", "trust_remote_code")},
            )
            write_json(stage.directory / "metrics.json", found)
            stage.record.update(rows_in=found["rows_in"], rows_out=found["rows_out"], measured=found)
        found = stage.record["measured"]
        print("\n".join(found["report"]), format_benchmark(found), sep="\n\n")
    write_cards(config, found["title"], {
        name: {**model["scores"], **list_drops(model)} for name, model in found["models"].items()
    })
    return stage.directory


def list_drops(model: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's card says of its robustness."""
    robustness = model.get("robustness")
    if robustness is None:
        return {}
    return {
        "mean drop of accuracy over twelve rewordings": {"value": robustness["mean_drop"]},
        f"worst drop of accuracy ({robustness['worst']})": {"value": robustness["worst_drop"]},
    }


def write_cards(config: EvaluateConfig, benchmark: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Write each model's scores into its card, where that is asked for; a path is named by its last part alone."""
    if config.card:
        data = Path(config.data)
        name = data.resolve().name if data.exists() else config.data
        for model, path in config.models.items():
            add_results(path, benchmark, name, scores[model], split=None if data.is_file() else config.split)


def list_settings(config: EvaluateConfig) -> dict[str, Any]:
    """What decides the result; a card can be written later."""
    return {key: value for key, value in as_dict(config).items() if key != "card"}


def list_inputs(config: EvaluateConfig) -> dict[str, str]:
    """What the stage depends on."""
    inputs = {"data": config.data}
    for name, path in config.models.items():
        if Path(path).is_dir() and read_record(path) is None:  # a card decides nothing, and is written to
            files = [file for file in sorted(Path(path).iterdir()) if file.is_file() and file.name != CARD]
            inputs |= {f"models.{name}: {file.name}": str(file) for file in files}
        else:
            inputs[f"models.{name}"] = path
    return inputs if config.votes is None else {**inputs, "votes": config.votes}


def evaluate_on_pairs(config: EvaluateConfig) -> Path:
    """`evaluate` on pairs of a stage."""
    if config.rewordings:
        raise_input_error(
            "rewordings", "a benchmark", Verbatim("pairs"), "--benchmark best_of_n takes a file of pairs."
        )
    pairs = load_split(config.data, config.split, ("id", *PAIR_SIDES, "source"))
    refuse_repaired(pairs, config)
    strength = None if config.votes is None else join_strength(pairs, config.votes, config.split)
    with open_stage(config.output_dir, "evaluate", list_settings(config), list_inputs(config)) as stage:
        if not stage.done:
            metrics, credits = {}, {}
            for name, path in config.models.items():
                chosen, rejected = score_pairs_from_path(
                    path, pairs, max_length=config.max_length, max_tokens_per_batch=config.max_tokens_per_batch,
                    trust_remote_code=config.trust_remote_code,
                )
                columns = {"id": pairs["id"][:], "rewards_chosen": chosen, "rewards_rejected": rejected}
                write_table(Dataset.from_dict(columns), stage.directory / f"{name}.parquet")
                metrics[name] = measure(chosen, rejected, pairs, strength, config)
                credits[name] = pair_correct(chosen - rejected)
            comparisons = compare_on_pairs(credits, pairs, config)
            write_json(stage.directory / "metrics.json", metrics)
            stage.record.update(rows_in=len(pairs), rows_out=len(pairs), metrics=metrics, comparisons=comparisons)
        print(format_comparison(stage.record["metrics"]))
        if stage.record["comparisons"]:
            print("", format_comparisons(stage.record["comparisons"]), sep="\n")
    write_cards(config, "pairs", {
        name: {"accuracy": {"value": found["accuracy"], "low": found["accuracy_low"], "high": found["accuracy_high"],
                            "items": found["pairs"]}}
        for name, found in stage.record["metrics"].items()
    })
    return stage.directory


def compare_on_pairs(
    credits: Mapping[str, np.ndarray], pairs: Dataset, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Each two models' accuracy against each other."""
    prompts = [str(prompt) for prompt in pairs["prompt"]]
    measured = {name: BenchmarkResult({"accuracy": mean_over(values)}, {}, values) for name, values in credits.items()}
    return [
        {"first": one, "second": other, **compare(measured[one], measured[other], prompts, seed=config.seed,
                                                  n_bootstrap=config.n_bootstrap)}
        for one, other in combinations(measured, 2)
    ]


def refuse_repaired(pairs: Dataset, config: EvaluateConfig) -> None:
    """Repaired labels would measure agreement with the ensemble that repaired them."""
    if "action" in pairs.column_names:
        raise_input_error(
            f"data {config.data}", "unrepaired pairs", Verbatim("repaired ones"), "Name the folder of `rmkit read`."
        )


def join_strength(pairs: Dataset, votes: str, split: str) -> np.ndarray:
    """The ensemble's strength for each pair, by id."""
    voted = load_split(votes, split, ("id", "strength_mean"))
    by_id = dict(zip(voted["id"], voted["strength_mean"], strict=True))
    lacking = [pair for pair in pairs["id"] if pair not in by_id]
    if lacking:
        raise_input_error(
            f"votes {votes}",
            "a vote on every pair",
            Verbatim(f"none on {len(lacking)}, the first {lacking[0]}"),
            "Vote on the same data, or leave votes out.",
        )
    return np.array([by_id[pair] for pair in pairs["id"]])


def measure(
    chosen: np.ndarray, rejected: np.ndarray, pairs: Dataset, strength: np.ndarray | None, config: EvaluateConfig
) -> dict[str, object]:
    """One model's metrics."""
    return evaluate_pairs(
        chosen,
        rejected,
        prompts=[str(prompt) for prompt in pairs["prompt"]],
        sources=pairs["source"][:],
        chosen_lengths=[len(response[-1]["content"]) for response in pairs["chosen"]],
        rejected_lengths=[len(response[-1]["content"]) for response in pairs["rejected"]],
        strength=strength,
        seed=config.seed,
        n_bootstrap=config.n_bootstrap,
    )
