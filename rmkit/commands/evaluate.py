"""`rmkit evaluate`: reward models evaluated side by side, on the same unrepaired pairs or on a benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, output_settings
from rmkit.core.stage import Stage, open_stage, read_record, write_json

BenchmarkName = Literal["auto", "pairs", "reward_bench", "reward_bench_2", "rm_bench", "best_of_n", "helpsteer"]


@configuration
class EvaluateConfig:
    """Reward models evaluated on labelled pairs or on a benchmark."""

    data: str = option(help="Folder of `rmkit read`, or a benchmark: a file, a folder or a name on the hub.")
    models: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], str] = option(
        help="Reward models: name -> folder or name on the hub; names have letters, digits, dots, dashes, underscores.",
        min_length=1,
    )
    output_dir: str = option(help="Folder for metrics, rewards and figures.")
    split: str = option("test", "Split of the data (on the hub: `filtered` of RewardBench, `train` of RM-Bench, ...).")
    benchmark: BenchmarkName = option("auto", "Format of the data; `auto` detects it from the columns.")
    votes: str | None = option(None, "Folder of `rmkit vote` on the same pairs, for accuracy by strength.")
    perturbations: bool = option(False, "Also evaluate a benchmark under twelve perturbations of the responses.")
    write_model_card: bool = option(False, "Write the results into the models' cards.", affects_output=False)
    max_length: int = option(1024, "Tokens of prompt and response that a model reads.", ge=1)
    max_tokens_per_batch: int = option(16384, "Tokens per forward pass.", ge=1, advanced=True)
    n_bootstrap: int = option(1000, "Bootstrap resamples for the intervals.", ge=1, advanced=True)
    seed: int = option(0, "Seed of the bootstrap.", advanced=True)
    trust_remote_code: bool = option(False, "Run code that a model on the hub brings along.", advanced=True)


def evaluate(config: EvaluateConfig) -> Path:
    """Write `metrics.json`, each model's rewards and, for a benchmark, `benchmark.png`; print tables.

    A benchmark's invalid rows are in `quarantine.jsonl`. A run that was killed is resumed. Returns the output folder.
    """
    from rmkit.data.sources import find_files
    from rmkit.evaluation.benchmarks.registry import find_benchmark
    from rmkit.evaluation.pairs import load_pairs, load_strength

    name = find_benchmark(config.data, config.split) if config.benchmark == "auto" else config.benchmark
    if config.write_model_card:
        for model, path in config.models.items():
            if not Path(path).is_dir():
                raise_input_error(
                    f"write_model_card: models.{model}", "a model's folder, whose card is written to", path,
                    "Download it first.",
                )
    if name is None or name == "pairs":
        if config.perturbations:
            raise_input_error(
                "perturbations", "a benchmark", Verbatim("pairs"), "--benchmark best_of_n takes a file of pairs."
            )
        pairs = load_pairs(config.data, config.split)
        strength = None if config.votes is None else load_strength(config.votes, config.split, pairs)
        with open_stage(config.output_dir, "evaluate", output_settings(config), list_inputs(config)) as stage:
            title, scores = run_on_pairs(config, stage, pairs, strength)
    else:
        if config.votes is not None:
            raise_input_error("votes", "none for a benchmark", config.votes, "They are for pairs.")
        find_files(config.data)  # refuses unreadable data before the output folder is touched
        with open_stage(config.output_dir, "evaluate", output_settings(config), list_inputs(config)) as stage:
            title, scores = run_on_benchmark(config, stage, name)
    if config.write_model_card:
        write_results_to_cards(config, title, scores)
    return stage.directory


def list_inputs(config: EvaluateConfig) -> dict[str, str]:
    """What the stage depends on; a model's card is left out, as it is written to."""
    from rmkit.training.model_card import CARD

    inputs = {"data": config.data}
    for name, path in config.models.items():
        if Path(path).is_dir() and read_record(path) is None:
            files = [file for file in sorted(Path(path).iterdir()) if file.is_file() and file.name != CARD]
            inputs |= {f"models.{name}: {file.name}": str(file) for file in files}
        else:
            inputs[f"models.{name}"] = path
    return inputs if config.votes is None else {**inputs, "votes": config.votes}


def scoring_settings(config: EvaluateConfig) -> dict[str, Any]:
    """How models read, as keyword arguments of the scoring functions."""
    return {key: getattr(config, key) for key in ("max_length", "max_tokens_per_batch", "trust_remote_code")}


def run_on_pairs(config: EvaluateConfig, stage: Stage, pairs: Any, strength: Any) -> tuple[str, Mapping[str, Any]]:
    """Evaluate on pairs, unless that is done, and print the tables; the data's title and scores for the cards."""
    from rmkit.evaluation.pairs import evaluate_models
    from rmkit.evaluation.tables import format_comparisons, format_pair_metrics

    if not stage.done:
        metrics, comparisons = evaluate_models(
            stage.directory, pairs, config.models, strength=strength, scoring=scoring_settings(config),
            seed=config.seed, n_bootstrap=config.n_bootstrap,
        )
        write_json(stage.directory / "metrics.json", metrics)
        stage.record.update(rows_in=len(pairs), rows_out=len(pairs), metrics=metrics, comparisons=comparisons)
    tables = [format_pair_metrics(stage.record["metrics"])]
    if stage.record["comparisons"]:
        tables.append(format_comparisons(stage.record["comparisons"]))
    print("\n\n".join(tables))
    keys = {"value": "accuracy", "low": "accuracy_low", "high": "accuracy_high", "items": "pairs"}
    return "pairs", {
        name: {"accuracy": {key: metrics[source] for key, source in keys.items()}}
        for name, metrics in stage.record["metrics"].items()
    }


def run_on_benchmark(config: EvaluateConfig, stage: Stage, name: str) -> tuple[str, Mapping[str, Any]]:
    """Evaluate on a benchmark, unless that is done, and print the tables; its title and scores for the cards."""
    from rmkit.evaluation.benchmarks.runner import evaluate_benchmark
    from rmkit.evaluation.tables import format_benchmark

    if not stage.done:
        result = evaluate_benchmark(
            stage.directory, name, data=config.data, split=config.split, models=config.models,
            perturbations=config.perturbations, scoring=scoring_settings(config), seed=config.seed,
            n_bootstrap=config.n_bootstrap,
        )
        write_json(stage.directory / "metrics.json", result)
        stage.record.update(rows_in=result["rows_in"], rows_out=result["rows_out"], measured=result)
    result = stage.record["measured"]
    print("\n".join(result["report"]), format_benchmark(result), sep="\n\n")
    scores = {model: dict(metrics["scores"]) for model, metrics in result["models"].items()}
    for model, metrics in result["models"].items():
        if "robustness" in metrics:
            drops = metrics["robustness"]
            scores[model]["mean drop of accuracy under twelve perturbations"] = {"value": drops["mean_drop"]}
            scores[model][f"worst drop of accuracy ({drops['worst']})"] = {"value": drops["worst_drop"]}
    return result["title"], scores


def write_results_to_cards(config: EvaluateConfig, title: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Write each model's scores into its card; local data is named by the last part of its path."""
    from rmkit.training.model_card import add_results

    data = Path(config.data)
    name = data.resolve().name if data.exists() else config.data
    for model, path in config.models.items():
        add_results(path, title, name, scores[model], split=None if data.is_file() else config.split)
