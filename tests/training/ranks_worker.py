"""What each rank of the launched tests does: `python -m ranks_worker train BASE PAIRS OUT`, or `fail`."""

import json
import sys
from pathlib import Path

from datasets import Dataset

from rmkit.models.reward import load_reward_model, load_tokenizer
from rmkit.training.ranks import is_first_rank
from rmkit.training.trainer import RewardConfig, RewardTrainer
from rmkit.training.zero import deepspeed_environment, default_config

SETTINGS = {
    "use_cpu": True,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "max_grad_norm": 0.0,
    "max_length": 128,
    "disable_tqdm": True,
    "save_strategy": "no",
    "num_train_epochs": 2,
}


def train(base, pairs, out, stage, **settings):
    """Losses and metrics of one run at a ZeRO stage; the whole batch is 4 pairs."""
    arguments = RewardConfig(output_dir=out, deepspeed=default_config(stage), **SETTINGS, **settings)
    tokenizer = load_tokenizer(base)
    model = load_reward_model(base, tokenizer, seed=0)
    dataset = Dataset.from_parquet(pairs)
    trainer = RewardTrainer(
        model, arguments, processing_class=tokenizer, train_dataset=dataset.select(range(22)), eval_dataset=dataset
    )
    trainer.train()
    metrics = trainer.evaluate()
    names = ("loss", "accuracy", "margin_accuracy", "gap", "reward_mean", "reward_min", "reward_max")
    return {
        "steps": [[entry[name] for name in names] for entry in trainer.state.log_history if "loss" in entry],
        "metrics": [metrics[f"eval_{name}"] for name in names],
    }


def main():
    """Run the command in the arguments."""
    if sys.argv[1] == "fail":
        with deepspeed_environment():
            RewardConfig(output_dir="unused", use_cpu=True, deepspeed=default_config(2))
        if is_first_rank():
            raise RuntimeError("the first rank has failed")
        raise SystemExit(0)
    base, pairs, out = sys.argv[2:5]
    with deepspeed_environment():
        # stage 3 first: nothing has started DeepSpeed's communication before it
        third = train(base, pairs, out, 3, per_device_train_batch_size=1, gradient_accumulation_steps=2)
        results = {f"stage {stage}": train(base, pairs, out, stage, per_device_train_batch_size=2) for stage in (0, 2)}
        results["stage 3"] = third
        if is_first_rank():
            (Path(out) / "results.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
