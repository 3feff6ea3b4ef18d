"""What holds for every loss of the table: one number per row, its dtype and device, finite extremes, clear refusals."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rmkit.losses
from rmkit.core.checks import InputError
from rmkit.losses import CONTRASTIVE_LOSSES, LOSSES, PAIR_LOSSES, get_pair_loss, noise_corrected_loss

ROWS = 6
HALF = (torch.float16, torch.bfloat16)


def draw(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


# name -> (the loss' tensors, its other arguments), of ordinary size.
EXAMPLES = {
    "bradley_terry": (draw(ROWS, ROWS), {"target": 0.8, "margin": 0.3}),
    "symmetric": (draw(ROWS, ROWS), {"target": 0.8, "margin": 0.3}),
    "noise_corrected": (draw(ROWS, ROWS), {"target": 0.8, "margin": 0.3, "flip_rate": 0.2}),
    "reward_center": (draw((ROWS, 2)), {}),
    "simcse": (draw((ROWS, 4), (ROWS, 4)), {}),
    "swav": (draw((ROWS, 4), (ROWS, 4), (3, 4)), {}),
    "difference": (draw((ROWS, 3)), {}),
    "dpo": (draw(ROWS, ROWS, ROWS, ROWS), {"target": 0.8, "margin": 0.3, "label_smoothing": 0.1}),
}

FAR = torch.tensor([1e4, -1e4, 5e3, -5e3, 0.0, 1e-4], dtype=torch.float64)
LONG = [1e4 * torch.nn.functional.normalize(rows) for rows in draw((ROWS, 64), (ROWS, 64), (3, 64))]
LONG[1][0] = LONG[0][0]
# name -> tensors with gaps of 1e4 and embeddings of norm 1e4. The centring penalty squares rewards, so its extreme in
# float16 is a large gap between rewards that are centred already.
EXTREMES = {
    "bradley_terry": [FAR, torch.zeros(ROWS)],
    "symmetric": [FAR, torch.zeros(ROWS)],
    "noise_corrected": [FAR, torch.zeros(ROWS)],
    "reward_center": [torch.stack([FAR / 2, -FAR / 2], dim=1)],
    "simcse": LONG[:2],
    "swav": LONG,
    "difference": [torch.stack([FAR, torch.zeros(ROWS), -FAR], dim=1)],
    "dpo": [FAR, torch.zeros(ROWS), torch.zeros(ROWS), torch.zeros(ROWS)],
}

every_loss = pytest.mark.parametrize("name", LOSSES)


def call(name, tensors=None, **arguments):
    default_tensors, default_arguments = EXAMPLES[name]
    return LOSSES[name](*(default_tensors if tensors is None else tensors), **{**default_arguments, **arguments})


def test_table_and_exports_are_the_same_set():
    exported = {name: getattr(rmkit.losses, name) for name in rmkit.losses.__all__ if name != "get_pair_loss"}
    losses = {function for name, function in exported.items() if name.endswith(("_loss", "_penalty"))}
    assert losses == set(LOSSES.values()) and len(LOSSES) == len(losses)
    assert all(function.__name__ in (f"{name}_loss", f"{name}_penalty") for name, function in LOSSES.items())
    assert PAIR_LOSSES.items() | CONTRASTIVE_LOSSES.items() <= LOSSES.items()
    assert LOSSES.keys() == EXAMPLES.keys() == EXTREMES.keys()


def test_losses_of_one_table_share_their_arguments():
    for losses, shared in ((PAIR_LOSSES, ["chosen_rewards", "rejected_rewards", "target", "margin", "reduction"]),
                           (CONTRASTIVE_LOSSES, ["view_a", "view_b", "temperature", "reduction"])):
        for loss in losses.values():
            assert [name for name in inspect.signature(loss).parameters if name in shared] == shared


@every_loss
def test_reductions(name):
    values = call(name, reduction="none")
    assert values.shape == (ROWS,)
    torch.testing.assert_close(call(name, reduction="sum"), values.sum())
    torch.testing.assert_close(call(name, reduction="mean"), values.mean())
    torch.testing.assert_close(call(name), values.mean())
    with pytest.raises(ValueError, match="reduction: expected"):
        call(name, reduction="max")


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - CONTRASTIVE_LOSSES.keys()))
def test_rows_are_independent(name):
    rows = [call(name, [tensor[row:row + 1] for tensor in EXAMPLES[name][0]], reduction="none") for row in range(ROWS)]
    torch.testing.assert_close(torch.cat(rows), call(name, reduction="none"))


@every_loss
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64], ids=str)
def test_dtype_and_device_are_kept_and_computed_in_full_precision(name, dtype):
    tensors = [tensor.to(dtype).requires_grad_() for tensor in EXAMPLES[name][0]]
    exact = call(name, [tensor.detach().double() for tensor in tensors], reduction="none")
    actual = call(name, tensors, reduction="none")
    assert actual.dtype == dtype and actual.device == tensors[0].device
    # One rounding of the result, none on the way: half an ulp is the best that the dtype can do.
    torch.testing.assert_close(
        actual.double(), exact, rtol=max(torch.finfo(dtype).eps / 2, 2e-6 if dtype != torch.float64 else 0), atol=1e-6)
    assert all(gradient.dtype == dtype for gradient in torch.autograd.grad(actual.sum(), tensors))


@every_loss
@pytest.mark.parametrize("dtype", [*HALF, torch.float32], ids=str)
def test_extremes_are_finite(name, dtype):
    tensors = [tensor.to(dtype).requires_grad_() for tensor in EXTREMES[name]]
    values = call(name, tensors, reduction="none")
    assert torch.isfinite(values).all()
    loss = call(name, tensors)
    assert torch.isfinite(loss)
    gradients = torch.autograd.grad(loss, tensors)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if name in ("bradley_terry", "noise_corrected", "dpo"):
        assert gradients[0][1].abs() > 0  # the pair that is wrong by 1e4 still pulls


@every_loss
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_cuda_device(name):
    tensors = [tensor.float() for tensor in EXAMPLES[name][0]]
    found = call(name, [tensor.cuda() for tensor in tensors], reduction="none")
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), call(name, tensors, reduction="none"), rtol=1e-5, atol=1e-5)


@every_loss
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=5)
def test_gradients_are_those_of_finite_differences(name, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64).requires_grad_()
               for tensor in EXAMPLES[name][0]]
    if name == "swav":
        # Its assignments are constants to autograd but not to finite differences: with one prototype iteration at a
        # large epsilon they are uniform and do not move.
        assert torch.autograd.gradcheck(lambda *args: call(name, args, epsilon=1e9, reduction="none"), tensors)
    else:
        assert torch.autograd.gradcheck(lambda *args: call(name, args, reduction="none"), tensors)


@every_loss
def test_autocast_changes_nothing(name):
    tensors = [tensor.float().requires_grad_() for tensor in EXAMPLES[name][0]]
    plain = call(name, tensors)
    plain_gradients = torch.autograd.grad(plain, tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = call(name, tensors)
        inside_gradients = torch.autograd.grad(inside, tensors)
    assert torch.equal(plain, inside)
    assert all(torch.equal(one, other) for one, other in zip(plain_gradients, inside_gradients, strict=True))


@every_loss
def test_input_is_left_alone(name):
    tensors = [tensor.clone() for tensor in EXAMPLES[name][0]]
    call(name, tensors)
    assert all(torch.equal(kept, given) for kept, given in zip(tensors, EXAMPLES[name][0], strict=True))


def change(name, position, by):
    """The loss' tensors and the name of the one that `by` has changed."""
    tensors = list(EXAMPLES[name][0])
    tensors[position] = by(tensors[position].clone())
    return tensors, list(inspect.signature(LOSSES[name]).parameters)[position]


every_tensor = pytest.mark.parametrize(
    ("name", "position"), [(name, position) for name in LOSSES for position in range(len(EXAMPLES[name][0]))])


def spoil(tensor, value):
    tensor.view(-1)[-1] = value
    return tensor


@every_tensor
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(name, position, value):
    tensors, argument = change(name, position, lambda tensor: spoil(tensor, value))
    with pytest.raises(ValueError, match=rf"^{argument}: expected finite numbers, got 1 of \d+ not finite"):
        call(name, tensors)


@every_tensor
def test_one_axis_too_many_is_refused(name, position):
    tensors, argument = change(name, position, lambda tensor: tensor.unsqueeze(-1))
    with pytest.raises(ValueError, match=rf"^{argument}: expected shape \[.*\], got \[.*, 1\]"):
        call(name, tensors)


@every_tensor
def test_integers_are_refused(name, position):
    tensors, argument = change(name, position, lambda tensor: tensor.long())
    with pytest.raises(ValueError, match=f"^{argument}: expected a floating-point tensor, got torch.int64"):
        call(name, tensors)


@every_loss
def test_mismatched_lengths_are_refused(name):
    if len(EXAMPLES[name][0]) > 1:
        tensors, argument = change(name, 1, lambda tensor: tensor[:-1])
        with pytest.raises(ValueError, match=rf"^{argument}: expected the shape \[6"):
            call(name, tensors)


@every_loss
def test_empty_batches_are_refused(name):
    with pytest.raises(ValueError, match="with at least one element, got .*0"):
        call(name, [tensor[:0] for tensor in EXAMPLES[name][0]])


def test_get_pair_loss_sets_the_arguments_of_a_loss():
    chosen, rejected = torch.tensor([1.0, -2.0]), torch.zeros(2)
    loss = get_pair_loss("noise_corrected", {"flip_rate": 0.2})
    assert loss(chosen, rejected) == noise_corrected_loss(chosen, rejected, flip_rate=0.2)
    assert get_pair_loss("symmetric")(chosen, rejected) == PAIR_LOSSES["symmetric"](chosen, rejected)


@pytest.mark.parametrize(("name", "kwargs", "message"), [
    ("symetric", {}, "loss: expected one of .*Did you mean symmetric"),
    ("noise_corrected", {}, "loss_kwargs: expected the arguments of loss noise_corrected: flip_rate.*Add or remove"),
    ("symmetric", {"flip_rate": 0.1}, "loss symmetric: none, got {'flip_rate': 0.1}. Add or remove flip_rate"),
    ("bradley_terry", {"margin": 0.1}, "Add or remove margin"),
    ("noise_corrected", {"flip_rate": 0.5}, "flip_rate: expected a number in"),
])
def test_get_pair_loss_refuses_before_training(name, kwargs, message):
    with pytest.raises(InputError, match=message):
        get_pair_loss(name, kwargs)
