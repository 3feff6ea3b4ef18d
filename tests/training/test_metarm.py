"""The MetaRM step: its values, the parameters it restores, and every other option beside it."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from rmkit.core.checks import InputError
from rmkit.losses import difference_loss
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.training.perturbation import FullParameters, WeightPerturbation, stochastic_round
from rmkit.training.zero import default_config

pytestmark = pytest.mark.slow
RATE = 0.05


class Linear(torch.nn.Module):
    """r = theta * phi, the linear case of which every value is known (arXiv 2405.00438 worked out by hand)."""

    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([0.5, -0.2], dtype=torch.float64))

    def forward(self, features):
        return features @ self.theta


RESPONSES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
PAIR = torch.tensor([1.0, -1.0], dtype=torch.float64)


def descend(model, rate):
    """One step of descent on the pair's loss at parameters perturbed by `rate`: theta', the loss there, and theta."""
    perturbation, view = WeightPerturbation(), FullParameters(model)
    view.accumulate_gradient(difference_loss(view.forward(features=RESPONSES)[None]).squeeze())
    perturbation.apply(view, rate, generator=torch.Generator())
    perturbed = model.theta.detach().clone()
    loss = softplus(-model(PAIR))
    loss.backward()
    perturbation.undo()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return perturbed, loss.item(), model.theta.detach()


def test_the_linear_case():
    perturbed, loss, theta = descend(Linear(), 0.1)
    np.testing.assert_allclose(perturbed, [0.51014926, -0.21042732], rtol=0, atol=1e-8)
    assert loss == pytest.approx(0.39640532, abs=1e-8)
    np.testing.assert_allclose(theta, [0.53272660, -0.23272660], rtol=0, atol=1e-8)
    assert np.abs(theta.numpy() - [0.53318122, -0.23318122]).min() > 1e-4  # the plain step
    assert np.abs(theta.numpy() - [0.53257627, -0.23260019]).min() > 1e-4  # second-order MAML
    np.testing.assert_allclose(descend(Linear(), 0.0)[2], [0.53318122, -0.23318122], rtol=0, atol=1e-8)


def train(trainer):
    trainer.train()
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def train_by_hand(trainer, steps):
    """The same by a plain loop: copies of the model, padded batches, nothing shared with the trainer's step."""
    args, model, tokenizer = trainer.args, copy.deepcopy(trainer.model).train(), trainer.processing_class
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)

    def rewards(model, sequences):
        rows = tokenizer.pad({"input_ids": sequences}, return_tensors="pt", padding_side="right")
        return model(**rows).logits[:, 0]

    pairs = list(trainer._get_train_sampler())
    for step in range(steps):
        moved = copy.deepcopy(model)
        (rows,) = trainer.meta_step.sample_prompts(step)
        groups = [trainer.meta_step.samples[row]["input_ids"] for row in rows]
        values = [difference_loss(rewards(moved, group)[None]).squeeze() for group in groups]
        torch.stack(values).mean().backward()
        with torch.no_grad():
            for weight in moved.parameters():
                weight += args.meta_learning_rate * weight.grad
        moved.zero_grad()
        batch = [trainer.train_dataset[row] for row in pairs[step * 4:step * 4 + 4]]
        sides = [rewards(moved, [row[f"input_ids_{side}"] for row in batch]) for side in ("chosen", "rejected")]
        target, margin = (torch.tensor([row[name] for row in batch]) for name in ("target", "margin"))
        gap = sides[0] - sides[1] - margin
        (target * softplus(-gap) + (1 - target) * softplus(gap)).mean().backward()
        for weight, perturbed in zip(model.parameters(), moved.parameters(), strict=True):
            weight.grad = perturbed.grad
        optimizer.step()
    return dict(model.named_parameters())


def differ(run, other):
    """The largest difference of a parameter's entries, in shares of the parameter's largest."""
    return max(((run[name] - other[name]).abs().max() / other[name].abs().max()).item() for name in run)


def test_against_a_plain_loop(build_trainer, tiny_samples):
    settings = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_steps": 6}
    trainer = build_trainer(meta_dataset=tiny_samples, meta_learning_rate=RATE, **settings)
    expected = train_by_hand(trainer, 6)
    found = train(trainer)
    assert differ(found, expected) < 1e-5
    assert differ(train(build_trainer(**settings)), expected) > 1e-3
    assert 0.3 < trainer.state.log_history[0]["meta_difference"] < 0.8


OPTIONS = {
    "padded": {"packing": False, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5},
    "autocast": {"bf16": True, "contrastive": "swav"},
    "stage 0": {"deepspeed": 0, "max_grad_norm": 0.5},
    "stage 1": {"deepspeed": 1, "gradient_accumulation_steps": 2, "bf16": True},
    "stage 2": {"deepspeed": 2, "max_grad_norm": 0.5, "contrastive": "simcse"},
    "stage 3": {"deepspeed": 3, "gradient_accumulation_steps": 2, "contrastive": "swav"},
}


def expand(settings):
    stage = settings.get("deepspeed")
    return {**settings, "max_steps": 2, "deepspeed": None if stage is None else default_config(stage)}


def gather(trainer):
    """The parameters after training, whole."""
    import deepspeed

    parameters = dict(trainer.model.named_parameters())
    with deepspeed.zero.GatheredParameters(list(parameters.values())):
        return {name: value.detach().clone() for name, value in parameters.items()}


@pytest.mark.parametrize("settings", OPTIONS.values(), ids=OPTIONS)
def test_a_step_of_size_zero_is_the_plain_step_bitwise(build_trainer, tiny_samples, settings):
    runs = []
    for meta in ({}, {"meta_dataset": tiny_samples, "meta_learning_rate": 0.0}):
        trainer = build_trainer(**expand(settings), **meta)
        trainer.train()
        runs.append((gather(trainer), [entry.get("grad_norm") for entry in trainer.state.log_history]))
    assert runs[0][1] == runs[1][1]
    for name, value in runs[0][0].items():
        assert torch.equal(value, runs[1][0][name]), name


@pytest.mark.parametrize("stage", [None, 0, 1, 2, 3])
def test_an_exception_leaves_the_parameters_where_the_last_step_put_them(build_trainer, tiny_samples, stage):
    settings = {
        "gradient_accumulation_steps": 2, "meta_learning_rate": RATE, "meta_dataset": tiny_samples,
        "lr_scheduler_type": "constant", "deepspeed": None if stage is None else default_config(stage),
    }
    whole = build_trainer(max_steps=1, **settings)
    whole.train()
    broken = build_trainer(max_steps=2, **settings)
    take_loss, calls = broken.pair_loss, []

    def fail_later(*rewards, **labels):
        calls.append(rewards)
        if len(calls) == 4:  # the second micro-batch of the second step
            assert broken.meta_step.perturbation.saved
            raise ZeroDivisionError
        return take_loss(*rewards, **labels)

    broken.pair_loss = fail_later
    with pytest.raises(ZeroDivisionError):
        broken.train()
    expected, found = gather(whole), gather(broken)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_resumed_run_goes_on_with_the_same_prompts(build_trainer, tiny_samples, tmp_path):
    settings = {
        "meta_learning_rate": RATE, "meta_batch_size": 3, "meta_steps": 2, "contrastive": "simcse", "max_steps": 8,
        "save_strategy": "steps", "save_steps": 3, "save_total_limit": None, "meta_dataset": tiny_samples,
    }
    expected = train(build_trainer(**settings))
    resumed = build_trainer(**settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.named_parameters())
    other = train(build_trainer(**{**settings, "meta_steps": 1}))
    assert not torch.equal(other["score.weight"], expected["score.weight"])


def test_every_prompt_is_drawn_once_an_epoch_by_one_process(build_trainer, tiny_samples):
    meta_step = build_trainer(meta_dataset=tiny_samples, meta_learning_rate=RATE, meta_batch_size=5).meta_step
    rows = [[row for forward in meta_step.sample_prompts(number) for row in forward] for number in range(6)]
    epochs = [sorted(rows[number] + rows[number + 1]) for number in (0, 2, 4)]
    assert epochs == [list(range(10))] * 3 and rows[:2] != rows[2:4] != rows[4:]


class Given(FullParameters):
    """A model of which the gradient is given."""

    def __init__(self, weight, gradient):
        super().__init__(torch.nn.ParameterList([torch.nn.Parameter(weight)]))
        self.gradients = [gradient]


def test_in_bfloat16_the_expected_perturbation_is_that_of_float32():
    """At a rate of 5e-6, where rounding to the nearest takes all of it away."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.normal(0.0, 0.02, (1000, 1000), generator=generator).bfloat16()
    gradient = torch.normal(0.0, 0.05, (1000, 1000), generator=generator)
    weight[weight.abs() < 2**-9] = 2**-9
    step = 5e-6 * gradient
    start = weight.float()
    assert torch.equal((start + step).bfloat16(), weight)  # the no-op
    perturbation, view = WeightPerturbation(), Given(weight, gradient.clone())
    wanted, moved = perturbation.apply(view, 5e-6, generator=generator)
    assert wanted and moved
    (values,) = view.parameters
    change = values.detach().float() - start
    unit = 2 ** (start.abs().log2().floor() - 7)  # in the last place
    deviation = (step.square() * (step.abs() * unit - step.square())).sum().sqrt() / step.square().sum()
    assert deviation < 0.1
    assert abs((change * step).sum() / step.square().sum() - 1) < 5 * deviation
    assert 0 < change.ne(0).double().mean() < 0.01
    perturbation.undo()
    assert torch.equal(values, weight)
    assert torch.equal(stochastic_round(start, generator), start)  # what needs no rounding is left alone


def test_what_computes_in_float32_beside_bfloat16_is_not_rounded():
    """Adapters on a base in bfloat16, say."""
    gradients = [torch.full((8,), 1e-3), torch.full((8,), 1e-3)]
    view = Given(torch.full((8,), 0.3), gradients[0])
    view.parameters.append(torch.nn.Parameter(torch.full((8,), 0.3).bfloat16()))
    view.gradients.append(gradients[1])
    WeightPerturbation().apply(view, 0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(view.parameters[0], torch.full((8,), 0.3).add(gradients[0], alpha=0.1))
    assert not torch.equal(view.parameters[1].float(), torch.full((8,), 0.3).add(gradients[1], alpha=0.1))


def test_gradients_of_several_forwards_are_added_up_in_float32():
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    view = FullParameters(torch.nn.ParameterList([weight]))
    for factor in (1.0, *[2.0**-9] * 64):  # each of which bfloat16 would round away beside 1
        view.accumulate_gradient((weight * factor).float().sum())
    ((_, gradient),) = view.values_and_gradients()
    assert gradient.dtype is torch.float32 and gradient.item() == 1.125


def test_dropout_is_on_in_both_phases_also_after_an_evaluation(build_trainer, tiny_samples, tiny_pairs):
    trainer = build_trainer(
        meta_dataset=tiny_samples, meta_learning_rate=RATE, max_steps=3, evaluation=tiny_pairs, eval_strategy="steps",
        eval_steps=1,
    )
    seen = []
    trainer.model.register_forward_pre_hook(lambda model, _: seen.append((torch.is_grad_enabled(), model.training)))
    trainer.train()
    assert seen.count((True, True)) == 6 and set(seen) == {(True, True), (False, False)}


@pytest.mark.parametrize("packing", [True, False])
def test_a_perturbation_keeps_to_the_token_budget(build_trainer, tiny_samples, packing):
    settings = {"meta_dataset": tiny_samples, "meta_learning_rate": RATE, "meta_batch_size": 10, "packing": packing}
    whole = build_trainer(max_steps=1, **settings).meta_step
    budget = int(1.5 * whole.sizes.max())
    trainer = build_trainer(max_steps=1, max_tokens_per_batch=budget, **settings)
    forwards = trainer.meta_step.sample_prompts(0)
    assert sorted(row for forward in forwards for row in forward) == list(range(10)) and len(forwards) > 2
    shapes = []
    trainer.model.register_forward_pre_hook(
        lambda model, _, tokens: shapes.append(tokens["input_ids"].numel()), with_kwargs=True
    )
    trainer.train()
    assert len(shapes) > len(forwards) and max(shapes) <= budget
    with pytest.raises(InputError, match="expected at least the [0-9]+ tokens of the meta set's longest"):
        build_trainer(max_tokens_per_batch=int(whole.sizes.max()) - 1, **settings)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_perturbation_without_effect_is_refused(build_trainer, tiny_samples, bf16):
    trainer = build_trainer(max_steps=1, meta_dataset=tiny_samples, meta_learning_rate=1e-30, bf16=bf16)
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(InputError, match="meta_learning_rate: expected a step that changes a parameter, got 1e-30"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_a_meta_set_and_its_step_size_come_together(build_trainer, tiny_samples):
    for settings in ({"meta_dataset": tiny_samples}, {"meta_learning_rate": 5e-6}):
        with pytest.raises(InputError, match="meta_learning_rate and meta_data: expected both or neither"):
            build_trainer(**settings)


def test_a_model_in_float16_is_refused(build_trainer, tiny_samples, tiny_base):
    model = load_reward_model(tiny_base, load_tokenizer(tiny_base), seed=0).half()
    with pytest.raises(InputError, match="model: expected trainable parameters in float32 or bfloat16"):
        build_trainer(model, meta_dataset=tiny_samples, meta_learning_rate=RATE)
