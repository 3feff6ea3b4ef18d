"""What each launched rank does: `python -m ranks_worker work BASE PAIRS WIDE OUT`, `perturb ...`, or `fail`."""

import gc
import hashlib
import itertools
import json
import sys
import threading
from pathlib import Path
from unittest import mock

import deepspeed
import torch
import torch.distributed as dist
from datasets import Dataset
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.training.config import RewardConfig
from rmkit.training.distributed import is_first_rank
from rmkit.training.perturbation import WeightPerturbation
from rmkit.training.reward_trainer import RewardTrainer
from rmkit.training.zero import ShardedParameters, deepspeed_environment, default_config

BATCH = 8  # pairs in a step, on however many processes
TIMEOUT = 345  # seconds; one that nobody else would set
SETTINGS = {
    "use_cpu": True,
    "max_steps": 30,
    "learning_rate": 2e-4,
    "max_grad_norm": 1.0,
    "logging_steps": 1,
    "max_length": 128,
    "disable_tqdm": True,
    "report_to": "none",
    "save_strategy": "no",
    "ddp_timeout": TIMEOUT,
}
NAMES = ("loss", "accuracy", "margin_accuracy", "gap", "reward_mean", "reward_min", "reward_max")
CPU = torch.device("cpu")


def train(base, pairs, out, config, *, micro, checkpointing=False, save=False, model=None, samples=None, **settings):
    """One run's numbers: every step's, the gradient's norm before clipping, and each pair's rewards at the end.

    `micro`: pairs in a forward, which decides how many are accumulated. The epoch's last batch is short.
    """
    processes = dist.get_world_size() if dist.is_initialized() else 1
    arguments = RewardConfig(
        output_dir=out, deepspeed=config, activation_checkpointing=checkpointing,
        **{"per_device_train_batch_size": micro, "gradient_accumulation_steps": BATCH // micro // processes,
           **SETTINGS, **settings},
    )
    tokenizer = load_tokenizer(base)
    model = model or load_reward_model(base, tokenizer, seed=0)
    dataset = Dataset.from_parquet(pairs)
    trainer = RewardTrainer(
        model, arguments, processing_class=tokenizer, train_dataset=dataset.select(range(22)), eval_dataset=dataset,
        meta_dataset=None if samples is None else Dataset.from_parquet(samples),
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    found = trainer.predict(trainer.eval_dataset)
    if save:
        trainer.save_model(out)
    return {
        "steps": [[entry[name] for name in NAMES] for entry in steps],
        "norms": [entry.get("grad_norm") for entry in steps],
        "rewards": found.predictions.tolist(),
        "metrics": [found.metrics[f"test_{name}"] for name in NAMES],
    }


def cells(processes):
    """Names and settings of one run per ZeRO stage and micro-batch; with half of them, activation checkpointing.

    Stage 3 comes first: nothing has started DeepSpeed's communication before it.
    """
    return {
        f"stage {stage}, {micro}x{BATCH // micro // processes}{', checkpointing' * checkpointing}": (
            default_config(stage), {"micro": micro, "checkpointing": checkpointing}
        )
        for stage in (3, 0, 1, 2)
        for micro, checkpointing in ((BATCH // processes, stage % 2 == 0), (1, stage % 2 == 1))
    }


# Without a bound that any batch would pass, a step takes all pairs, as two micro-batches of unlike numbers of them.
ALL_PAIRS = {"micro": BATCH // 4, "max_tokens_per_batch": 10**6}
META = {"max_steps": 20, "meta_learning_rate": 0.05, "meta_batch_size": 6}


def perturb(base, pairs, samples, out):
    """MetaRM at every stage, the model of each saved in `out`; and by a mutant that leaves out a stage-3 gathering.

    Before these in bfloat16, and by a mutant whose ranks round apart: `perturbations.json` in `out` has the results.
    """
    with deepspeed_environment():
        RewardConfig(output_dir=out, deepspeed=default_config(0), **SETTINGS)  # so that the processes meet
        settings = {**META, "micro": 4, "bf16": True, "max_steps": 2, "samples": samples}
        seen = {
            name: watch(base, pairs, out, default_config(stage), apart=name == "apart", **settings)
            for name, stage in (("2", 2), ("3", 3), ("apart", 2))
        }
        if is_first_rank():
            (Path(out) / "perturbations.json").write_text(json.dumps(seen), encoding="utf-8")
        for name, stage, micro in (("0", 0, 4), ("1", 1, 2), ("2", 2, 4), ("3", 3, 2), ("mutant", 3, 4)):
            if name == "mutant":
                ShardedParameters.update_model = ShardedParameters.release = lambda self: None
            train(base, pairs, str(Path(out) / name), default_config(stage), micro=micro, checkpointing=stage == 1,
                  save=True, samples=samples, **META)


def watch(*words, apart, **settings):
    """A training's losses, and the parameters of each rank before, during and after every perturbation.

    `apart`: each rank rounds with its own random numbers.
    """
    notes = []

    class WatchedPerturbation(WeightPerturbation):
        def apply(self, view, rate, *, generator, autocast):
            if apart:
                generator.manual_seed(dist.get_rank())
            held, gradients, values_and_gradients = list_held(view), [], view.values_and_gradients
            start = [values.detach().clone() for values in held]

            def watched():
                for values, gradient in values_and_gradients():
                    gradients.append(gradient.clone())
                    yield values, gradient

            view.values_and_gradients = watched
            moved = super().apply(view, rate, generator=generator, autocast=autocast)
            changes = [values.detach().float() - own.float() for values, own in zip(held, start, strict=True)]
            steps = [rate * gradient for gradient in gradients]
            notes.append({
                "types": sorted({str(values.dtype) for values in held}),
                "before": digest(start),
                "above": digest(held),
                "along": sum((change * step).sum().item() for change, step in zip(changes, steps, strict=True)),
                "wanted": sum(step.square().sum().item() for step in steps),
            })
            return moved

        def undo(self):
            held = [] if self.view is None else list_held(self.view)
            super().undo()
            if held:
                notes[-1]["after"] = digest(held)

    with mock.patch("rmkit.training.metarm.WeightPerturbation", WatchedPerturbation):
        losses = [step[0] for step in train(*words, **settings)["steps"]]
    everyone = [None, None]
    dist.all_gather_object(everyone, notes)
    return {"losses": losses, "ranks": everyone}


def list_held(view):
    """The parameters of a model, or this rank's shards of them."""
    if isinstance(view, ShardedParameters):
        return [parameter.ds_tensor for parameter in itertools.chain.from_iterable(view.optimizer.fp16_groups)]
    return view.parameters


def digest(tensors):
    """SHA-256 of some tensors' bits."""
    found = hashlib.sha256()
    for values in tensors:
        found.update(values.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def load(base):
    """What this rank holds of a model, in bytes: at most while it is loaded, and then; and what its weights are."""
    tokenizer = load_tokenizer(base)
    gc.collect()  # what an earlier model has left would be let go while this one is loaded
    before = resident()
    peak = [before]
    done = threading.Event()

    def watch():
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load_reward_model(base, tokenizer, seed=0)
    done.set()
    watcher.join()
    held = sum(getattr(parameter, "ds_tensor", parameter).nbytes for parameter in model.parameters())
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        weights = {
            name: hashlib.sha256(parameter.detach().numpy().tobytes()).hexdigest()
            for name, parameter in model.named_parameters()
        }
    return {"peak": max(*peak, resident()) - before, "held": held, "weights": weights}


def resident():
    """This process' memory that is no file's, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def main():
    """Run the command in the arguments."""
    if sys.argv[1] == "fail":
        with deepspeed_environment():
            RewardConfig(output_dir="unused", use_cpu=True, deepspeed=default_config(2))
        if is_first_rank():
            raise RuntimeError("the first rank has failed")
        raise SystemExit(0)
    if sys.argv[1] == "perturb":
        perturb(*sys.argv[2:])
        return
    base, pairs, wide, out = sys.argv[2:]
    with deepspeed_environment():
        arguments = RewardConfig(output_dir=out, deepspeed=default_config(3), **SETTINGS)
        load(base)  # what a first time alone costs
        loaded = [load(wide)]
        del arguments
        unset_hf_deepspeed_config()
        loaded.append(load(wide))
        everyone = [None, None]
        dist.all_gather_object(everyone, loaded)
        runs = {
            name: train(base, pairs, out, config, save=config["zero_optimization"]["stage"] == 3, **settings)
            for name, (config, settings) in cells(2).items()
        }
        runs["bfloat16"] = train(base, pairs, out, default_config(3), micro=BATCH // 2, bf16=True)
        runs["token budget"] = train(base, pairs, out, default_config(2), **ALL_PAIRS)
        groups = dist.distributed_c10d._world.pg_map
        if is_first_rank():
            results = {
                "loaded": everyone,
                "runs": runs,
                "timeouts": [group._get_backend(CPU).options._timeout.total_seconds() for group in groups],
            }
            (Path(out) / "results.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
