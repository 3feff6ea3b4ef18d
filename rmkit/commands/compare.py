"""`rmkit compare`: win rates of policies against one of them, by any judge."""

from pathlib import Path
from typing import Any, Literal

from rmkit.core.checks import raise_input_error
from rmkit.core.config import configuration, option, output_settings, section
from rmkit.core.stage import Stage, open_stage, write_json
from rmkit.judges.config import load_judge, resolve_judge


@configuration
class CompareConfig:
    """Compare policies with a baseline by a judge of their samples.

    The n-th responses of two policies to a question are compared; questions that not all policies answered are left
    out. Second turns (`rmkit sample --turns 2`; rows with `question` and `turn`) are questions of their own. A
    `difficulty` in every row enters the length-controlled rate. A killed run continues.
    """

    policies: dict[str, str | list[str]] = option(
        help="Samples of each policy, name -> a folder of `rmkit sample`, a file with `prompt` and `responses`, or a "
        "list of these.", min_length=2
    )
    output_dir: str = option(help="Output folder.")
    judge: dict[str, Any] = section(
        "rmkit.judges.config:JUDGES", "The judge: its `kind` (llm, reward_model or gold) and that kind's settings."
    )
    baseline: str | None = option(None, "Policy that the others are compared with; null: the first.")
    matches: Literal["baseline", "all"] = option(
        "baseline", "Compare with the baseline alone, or all with each other, which the arena score takes in."
    )
    split: str = option("train", "Split of samples that are a dataset.")
    batch_size: int = option(64, "Rows that are judged together.", ge=1, affects_output=False)
    allow_failures: bool = option(False, "Finish without the answers that failed.", affects_output=False)
    n_bootstrap: int = option(1000, "Bootstrap samples of prompts for the intervals.", ge=1, advanced=True)
    seed: int = option(0, "Seed of sampling and of the bootstrap.")
    trust_remote_code: bool = option(False, "Run code that comes with the models.", advanced=True)

    def __post_init__(self) -> None:
        if self.baseline is not None and self.baseline not in self.policies:
            raise_input_error("baseline", f"one of {', '.join(self.policies)}", self.baseline, "Name a policy.")
        self.judge = resolve_judge(self.judge)


def compare(config: CompareConfig) -> Path:
    """Write `comparison.json`, and every answer into `judgments.parquet`; print the table; returns the folder.

    The record has the figures of `evaluate_policies`, `grades` (of judges of single responses: mean scores by turn, as
    `grade_turns`), questions, rows left out by policy, and counts of the judge's answers.
    """
    from rmkit.evaluation.policy_samples import read_policies
    from rmkit.evaluation.tables import format_policies
    from rmkit.judges.runner import ANSWERS

    spec, build = load_judge(config.judge)
    paths = {name: [files] if isinstance(files, str) else files for name, files in config.policies.items()}
    samples = read_policies(paths, config.split)
    inputs = {f"policies.{name}.{number}": file for name, files in paths.items() for number, file in enumerate(files)}
    with open_stage(config.output_dir, "compare", output_settings(config), {**inputs, **spec.models}) as stage:
        if not stage.done:
            stage.record["comparison"] = compare_policies(stage, config, samples, spec, build)
            write_json(stage.directory / "comparison.json", stage.record["comparison"])
        print(format_policies(stage.record["comparison"]))
    (stage.directory / ANSWERS).unlink(missing_ok=True)
    return stage.directory


def compare_policies(stage: Stage, config: CompareConfig, samples: Any, spec: Any, build: Any) -> dict[str, Any]:
    """The contents of `comparison.json`."""
    from rmkit.evaluation.policies import evaluate_policies
    from rmkit.evaluation.policy_samples import build_comparisons, pairwise_rows, pointwise_rows, score_preferences
    from rmkit.judges.metrics import average, to_verdicts
    from rmkit.judges.runner import run_judge
    from rmkit.metrics import position_bias

    baseline = config.baseline or samples.policies[0]
    only = samples.policies.index(baseline) if config.matches == "baseline" else None
    rows = pointwise_rows(samples) if spec.responses == 1 else pairwise_rows(samples, only)
    results = run_judge(rows, stage.directory, spec, build, batch_size=config.batch_size, seed=config.seed,
                        allow_failures=config.allow_failures, trust_remote_code=config.trust_remote_code)
    answers = results.answers
    report: dict[str, Any] = {
        "baseline": baseline, "questions": len(samples.names), "left_out": samples.left_out,
        "answers": answers.counts() | {"prompt_tokens": answers.prompt_tokens, "answer_tokens": answers.answer_tokens},
    }
    bootstrap = {"seed": config.seed, "n_bootstrap": config.n_bootstrap}
    if spec.responses == 2:
        verdicts = to_verdicts(average(results.preferences, (2,)))
        preferences = (verdicts + 1) / 2
        report["position"] = position_bias(verdicts[:, 0], -verdicts[:, 1])._asdict()
    else:
        preferences = score_preferences(samples, only, results.task_scores)
        report["grades"] = samples.mean_score_by_turn(results.task_scores, **bootstrap)
    comparisons = build_comparisons(samples, only, preferences)
    report["policies"] = evaluate_policies(comparisons, samples.policies, baseline=baseline, **bootstrap)
    return report
