"""A trainer on the tiny pairs, with DeepSpeed or without, in this process; and what two ranks did, in one launch."""

import contextlib
import json
import os
from pathlib import Path

import pytest
import torch

from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.training.config import RewardConfig
from rmkit.training.distributed import launch
from rmkit.training.reward_trainer import RewardTrainer
from rmkit.training.zero import deepspeed_environment

SETTINGS = {
    "use_cpu": True,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "max_grad_norm": 0.0,
    "max_length": 128,
    "disable_tqdm": True,
    "save_strategy": "no",
}


@pytest.fixture
def build_trainer(tiny_base, tiny_pairs, tmp_path):
    """build_trainer(**settings) -> a RewardTrainer; a `deepspeed` setting works within this test."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(deepspeed_environment())

        def build(model=None, pairs=tiny_pairs, evaluation=None, meta_dataset=None, **settings):
            arguments = RewardConfig(**{"output_dir": str(tmp_path), **SETTINGS, **settings})
            tokenizer = load_tokenizer(tiny_base)
            model = model or load_reward_model(tiny_base, tokenizer, seed=0)
            return RewardTrainer(
                model, arguments, processing_class=tokenizer, train_dataset=pairs, eval_dataset=evaluation,
                meta_dataset=meta_dataset,
            )

        yield build


@pytest.fixture
def train_losses(build_trainer):
    """train_losses(**settings) -> the loss of each step."""

    def run(**settings):
        trainer = build_trainer(**settings)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    return run


@pytest.fixture(scope="session")
def pairs_file(tiny_pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    tiny_pairs.to_parquet(path)
    return str(path)


@pytest.fixture(scope="session")
def wide_base(tmp_path_factory):
    """A model of 80 MB in float32, stored in bfloat16 in files of 10 MB, with a token fewer than its tokenizer."""
    from rmkit.models.tiny import build_language_model, build_tokenizer

    folder = tmp_path_factory.mktemp("wide")
    tokenizer = build_tokenizer(["red river"], vocabulary=300)
    model = build_language_model(tokenizer, hidden=512, layers=6)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="10MB")
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)
    return folder


def launch_ranks(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what a tensor frees is given back, and not counted
        launch(["ranks_worker", *map(str, words)], num_processes=2)


@pytest.fixture(scope="session")
def two_ranks(tiny_base, pairs_file, wide_base, tmp_path_factory):
    """What `ranks_worker work` found, and under "folder" the model that stage 3 saved."""
    out = tmp_path_factory.mktemp("two ranks")
    launch_ranks("work", tiny_base, pairs_file, wide_base, out)
    return json.loads((out / "results.json").read_text()) | {"folder": out}


@pytest.fixture(scope="session")
def perturbed_ranks(tiny_base, pairs_file, samples_file, tmp_path_factory):
    """The folder of the models that `ranks_worker perturb` trained."""
    out = tmp_path_factory.mktemp("perturbed ranks")
    launch_ranks("perturb", tiny_base, pairs_file, samples_file, out)
    return out
