"""rmkit: robust reward models from noisy preference data. Public names are imported on use."""

import importlib
from typing import Any

MODULES = {
    "rmkit.core.checks": ("InputError",),
    "rmkit.losses": (
        "PAIR_LOSSES", "bradley_terry_loss", "difference_loss", "dpo_loss", "noise_corrected_loss", "simcse_loss",
        "swav_loss", "symmetric_loss",
    ),
    "rmkit.preferences": (
        "RECIPES", "adaptive_margin", "estimate_noise_rate", "preference_strength", "repair_labels",
    ),
    "rmkit.metrics": ("bradley_terry",),
    "rmkit.metrics.length_control": ("length_controlled_rate",),
    "rmkit.models.reward_model": ("load_reward_model",),
    "rmkit.models.scoring": ("score_pairs", "score_responses"),
    "rmkit.judges.base": ("Judgment", "Unparsed"),
    "rmkit.judges.language_model": ("LanguageModelJudge",),
    "rmkit.judges.meta_judge": ("MetaJudge",),
    "rmkit.judges.metrics": ("evaluate_judge",),
    "rmkit.judges.reward_model": ("RewardModelJudge",),
    "rmkit.evaluation.policies": ("evaluate_policies",),
    "rmkit.evaluation.reward_model": ("evaluate_pairs",),
    "rmkit.training.config": ("RewardConfig",),
    "rmkit.training.reward_trainer": ("RewardTrainer",),
    "rmkit.commands.read": ("ReadConfig", "read"),
    "rmkit.commands.vote": ("VoteConfig", "vote"),
    "rmkit.commands.repair": ("RepairConfig", "repair"),
    "rmkit.commands.train": ("TrainConfig", "train"),
    "rmkit.commands.evaluate": ("EvaluateConfig", "evaluate"),
    "rmkit.commands.score": ("ScoreConfig", "score"),
    "rmkit.commands.sft": ("SftConfig", "sft"),
    "rmkit.commands.dpo": ("DpoConfig", "dpo"),
    "rmkit.commands.rl": ("RlConfig", "rl"),
    "rmkit.commands.sample": ("SampleConfig", "sample"),
    "rmkit.commands.iterate": ("IterateConfig", "iterate"),
    "rmkit.commands.judge": ("JudgeConfig", "judge"),
    "rmkit.commands.compare": ("CompareConfig", "compare"),
    "rmkit.commands.report": ("ReportConfig", "report"),
    "rmkit.commands.synthetic": ("SyntheticConfig", "synthetic"),
    "rmkit.commands.run": ("RunConfig", "run"),
    "rmkit.meta_rewarding.config": ("MetaRewardConfig",),
    "rmkit.meta_rewarding.loop": ("meta_reward",),
}
PUBLIC = {name: module for module, names in MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("rmkit")
        except metadata.PackageNotFoundError:  # a checkout that is not installed
            return "0.2.0"
    if name not in PUBLIC:
        raise AttributeError(f"module 'rmkit' has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*PUBLIC, "__version__"])
