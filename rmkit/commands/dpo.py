"""`rmkit dpo`: a policy optimised on pairs by direct preference optimisation, on DeepSpeed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmkit.core.checks import raise_input_error
from rmkit.core.stage import Stage
from rmkit.data.completions import encode_sides
from rmkit.data.parquet import load_split, split_path
from rmkit.models.reward_model import check_positions
from rmkit.training.config import make_arguments, select_settings
from rmkit.training.dpo import SIDES, PreferenceLoss, make_preference_trainer
from rmkit.training.rl import import_trl, load_policy, load_policy_tokenizer
from rmkit.training.session import LaunchSettings, record_dropped_rows, run_training_session, take_all_steps
from rmkit.training.sft import CompletionSettings


@dataclass(kw_only=True)
class DpoConfig(LaunchSettings, PreferenceLoss, CompletionSettings):
    """Optimise the policy `model_name_or_path` on the train pairs of `data` (a stage's folder or a Parquet file).

    The reference is the policy as it begins, or `reference`. `beta`: reward units per nat of log-ratio. A pair's
    `target` (probability that `chosen` is truly preferred) and `margin` (reward units, `beta` included) are honoured
    where the pairs have them. `label_smoothing` is the share of labels taken to be flipped, "conservative" or "robust".
    Prompts are cut from the left to `max_length` tokens; pairs of which a side alone exceeds it are left out, and
    counted. `deepspeed`, `processes` and `launcher` are those of `rmkit train`, all others Hugging Face's. An
    interrupted run goes on from its last complete checkpoint (`save_steps`).
    """

    data: str
    model_name_or_path: str
    output_dir: str = field()
    reference: str | None = None
    max_length: int = 1024

    def __post_init__(self) -> None:
        CompletionSettings.check(self)
        PreferenceLoss.check(self)
        self.check_ranks()
        if self.max_length < 2:
            raise_input_error("max_length", "at least 2 tokens", self.max_length, "1024 is usual.")


def dpo(config: DpoConfig) -> Path:
    """Optimise, and write policy and tokenizer into the stage's folder; the record has the curves, "log_history".

    Under a launcher, every rank calls this.
    """
    split_path(config.data, "train")
    inputs = {"data": config.data, "model": config.model_name_or_path,
              "reference": config.reference or config.model_name_or_path}

    def make(deepspeed: dict[str, Any] | str | None) -> Any:
        return make_arguments(
            import_trl().DPOConfig, select_settings(CompletionSettings, config), "dpo", output_dir=config.output_dir,
            deepspeed=deepspeed, use_cpu=config.use_cpu, remove_unused_columns=False, precompute_ref_log_probs=True,
            disable_dropout=True, max_length=None, beta=config.beta,
        )

    def optimise(stage: Stage, arguments: Any) -> None:
        policy = load_policy(config.model_name_or_path, config.trust_remote_code)
        reference = None if config.reference is None else load_policy(config.reference, config.trust_remote_code)
        tokenizer = load_policy_tokenizer(config.model_name_or_path, policy, config.trust_remote_code)
        pairs = load_split(config.data, "train")
        encoded = encode_sides(pairs, tokenizer, config.max_length, SIDES)
        check_positions(policy, record_dropped_rows("dpo", stage, pairs, encoded))
        trainer = make_preference_trainer(
            arguments, select_settings(PreferenceLoss, config), model=policy, reference=reference, tokenizer=tokenizer,
            pairs=encoded, checkpoints=config.save_total_limit,
        )
        take_all_steps("dpo", trainer, stage)

    return run_training_session("dpo", config, inputs, make, optimise)
