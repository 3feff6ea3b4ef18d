"""SimCSE and SwAV: the worked values, independent implementations, slow references and invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

from rmkit.losses import preference_embeddings, simcse_loss, sinkhorn, swav_loss

SIMCSE_A = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
SIMCSE_B = torch.tensor([[1, 0.2], [0.1, 1], [1, 0.8]], dtype=torch.float64)
SCORES_S = torch.tensor([[0.9, 0.1, 0], [0.8, 0.2, 0.1], [0.1, 0.7, 0.3], [0.2, 0.3, 0.6]], dtype=torch.float64)
SCORES_T = torch.tensor([[0.8, 0.2, 0.1], [0.7, 0.1, 0.2], [0.2, 0.8, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)

seeds = st.integers(0, 2**31 - 1)
relaxed = settings(deadline=None, max_examples=30)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def distributed_sinkhorn(scores, epsilon, iterations):
    """After `distributed_sinkhorn` in facebookresearch/swav, on one process: Q is [prototype, sample]."""
    q = torch.exp(scores / epsilon).t()
    b, k = q.shape[1], q.shape[0]
    q = q / torch.sum(q)
    for _ in range(iterations):
        q = q / torch.sum(q, dim=1, keepdim=True) / k
        q = q / torch.sum(q, dim=0, keepdim=True) / b
    return (q * b).t()


def slow_simcse(view_a, view_b, temperature):
    """Eq. (9), vector by vector."""
    def similarity(a, b):
        return (a @ b) / a.norm() / b.norm() / temperature

    return torch.stack([
        -torch.log(torch.exp(similarity(a, view_b[i])) / sum(torch.exp(similarity(a, b)) for b in view_b))
        for i, a in enumerate(view_a)])


def slow_swav(view_a, view_b, prototypes, temperature=0.1, epsilon=0.05, iterations=3):
    """Eqs. (7) and (8), vector by vector and prototype by prototype, on unit vectors and unit prototypes."""
    views = [view / view.norm(dim=1, keepdim=True) for view in (view_a, view_b)]
    scores = [view @ (prototypes / prototypes.norm(dim=1, keepdim=True)).t() for view in views]
    codes = [distributed_sinkhorn(score.detach(), epsilon, iterations) for score in scores]
    losses = []
    for i in range(len(view_a)):
        total = 0.0
        for predicting, assigning in ((0, 1), (1, 0)):
            odds = torch.exp(scores[predicting][i] / temperature)
            for k in range(len(prototypes)):
                total = total - codes[assigning][i, k] * torch.log(odds[k] / odds.sum())
        losses.append(total)
    return torch.stack(losses)


def place_on_circle(scores):
    """Unit vectors and orthonormal prototypes in a larger space whose cosines are `scores`."""
    rest = torch.sqrt(1 - scores.square().sum(dim=1, keepdim=True))
    return torch.cat([scores, rest], dim=1), torch.eye(4, dtype=torch.float64)[:3]


def assert_same(actual, expected, inputs, tolerance=1e-6):
    """Values and gradients agree."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)
    weights = torch.linspace(0.5, 1.5, max(actual.numel(), 1), dtype=actual.dtype).reshape(actual.shape)
    for ours, theirs in zip(torch.autograd.grad((actual * weights).sum(), inputs),
                            torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


# SimCSE

@pytest.mark.parametrize(("temperature", "expected", "mean"), [
    (0.05, [0.01825389, 0.00060702, 0.05030330], 0.02305473),
    (1.0, [0.80348172, 0.76095164, 0.97575165], 0.84672834)])
def test_simcse_values(temperature, expected, mean):
    values = simcse_loss(SIMCSE_A, SIMCSE_B, temperature=temperature, reduction="none")
    assert values.tolist() == pytest.approx(expected, abs=1e-7)
    assert simcse_loss(SIMCSE_A, SIMCSE_B, temperature=temperature).item() == pytest.approx(mean, abs=1e-7)
    other_direction = simcse_loss(SIMCSE_B, SIMCSE_A, temperature=temperature, reduction="none")
    assert other_direction.tolist() != pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("oracle", [NTXentLoss, SupConLoss])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_simcse_equals_pytorch_metric_learning(oracle, temperature):
    a, b = draw(3, (12, 8), (12, 8))
    # Two tensors of labels: given one and the same, the library drops the diagonal, which holds the positives.
    labels, reference_labels = torch.arange(12), torch.arange(12)
    expected = oracle(temperature=temperature)(a, labels, ref_emb=b, ref_labels=reference_labels)
    assert_same(simcse_loss(a, b, temperature=temperature), expected, (a, b))


@given(seeds, st.integers(1, 6), st.integers(1, 5))
@relaxed
def test_simcse_equals_the_slow_reference(seed, count, hidden):
    a, b = draw(seed, (count, hidden), (count, hidden))
    assert_same(simcse_loss(a, b, temperature=0.2, reduction="none"), slow_simcse(a, b, 0.2), (a, b))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_simcse_of_identical_orthogonal_views(count):
    rows = torch.eye(count, dtype=torch.float64)
    expected = math.log1p((count - 1) * math.exp(-1 / 0.3))
    assert simcse_loss(rows, rows, temperature=0.3).item() == pytest.approx(expected, abs=1e-12)


# Sinkhorn and SwAV

def test_sinkhorn_values():
    assignment = sinkhorn(SCORES_S, epsilon=0.05, iterations=3)
    expected = [[0.999944406, 2.794e-5, 2.765e-5], [0.996973708, 0.001521188, 0.001505104],
                [2.468e-8, 0.997553433, 0.002446543], [1.847e-7, 3.38933e-4, 0.999660883]]
    torch.testing.assert_close(assignment, torch.tensor(expected, dtype=torch.float64), atol=1e-8, rtol=0)
    torch.testing.assert_close(assignment.sum(dim=1), torch.ones(4, dtype=torch.float64))
    # Three iterations do not reach the balance that a thousand do.
    assert assignment.sum(dim=0).tolist() == pytest.approx([1.99691832, 0.99944150, 1.00364018], abs=1e-8)
    balanced = sinkhorn(SCORES_S, epsilon=0.05, iterations=1000).sum(dim=0)
    assert balanced.tolist() == pytest.approx([4 / 3] * 3, abs=1e-8)


@given(seeds, st.integers(1, 8), st.integers(1, 6), st.integers(1, 5))
@relaxed
def test_sinkhorn_equals_the_original_code(seed, count, prototypes, iterations):
    (scores,) = draw(seed, (count, prototypes))
    actual = sinkhorn(scores, epsilon=0.3, iterations=iterations)
    torch.testing.assert_close(actual, distributed_sinkhorn(scores.detach(), 0.3, iterations), atol=1e-9, rtol=1e-9)
    assert not actual.requires_grad


def test_sinkhorn_keeps_rows_that_the_original_code_loses():
    """Scores 1e4 apart underflow to rows without mass there; here every row is still an assignment."""
    scores = torch.tensor([[0.0, -1e4], [-1e4, -3e4], [1e4, 1e4]])
    assert not torch.isfinite(distributed_sinkhorn(scores, 0.05, 3)).all()
    torch.testing.assert_close(sinkhorn(scores).sum(dim=1), torch.ones(3))


def test_swav_values():
    view_s, prototypes = place_on_circle(SCORES_S)
    view_t, _ = place_on_circle(SCORES_T)
    predicted_by_t = torch.tensor([0.00374611, 0.02582713, 0.02051085, 0.01087026], dtype=torch.float64)
    predicted_by_s = torch.tensor([0.00093249, 0.01418036, 0.02061381, 0.06590309], dtype=torch.float64)
    values = swav_loss(view_s, view_t, prototypes, reduction="none")
    torch.testing.assert_close(values, (predicted_by_t + predicted_by_s).double(), atol=2e-8, rtol=0)
    assert swav_loss(view_s, view_t, prototypes).item() == pytest.approx(0.04064602, abs=1e-7)
    # SwAV's code takes the mean of the two directions, Eq. (7) their sum.
    assert swav_loss(view_s, view_t, prototypes).item() != pytest.approx(0.02032301, abs=1e-3)


@given(seeds, st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.02, 0.033, 0.034, 0.05]))
@relaxed
def test_swav_equals_the_slow_reference(seed, count, prototypes, hidden, epsilon):
    """Assignments come from products or from logarithms, by epsilon: the limit is between 0.033 and 0.034."""
    inputs = draw(seed, (count, hidden), (count, hidden), (prototypes, hidden))
    actual = swav_loss(*inputs, epsilon=epsilon, reduction="none")
    if prototypes > 1:
        assert_same(actual, slow_swav(*inputs, epsilon=epsilon), inputs)
    else:
        assert actual.abs().max() == 0  # one prototype leaves nothing to predict


def test_swav_uses_its_settings():
    inputs = draw(1, (6, 4), (6, 4), (3, 4))
    settings_ = {"temperature": 0.3, "epsilon": 0.2, "iterations": 1}
    assert_same(swav_loss(*inputs, reduction="none", **settings_), slow_swav(*inputs, **settings_), inputs)
    for name in settings_:
        left_out = {other: value for other, value in settings_.items() if other != name}
        assert abs(swav_loss(*inputs, **settings_) - swav_loss(*inputs, **left_out)) > 1e-4


@pytest.mark.parametrize("epsilon", [1e-4, 0.034, 0.05])
def test_swav_in_float32_at_the_ends_of_the_cosines(epsilon):
    """Every vector on one of two opposite prototypes: all mass on one side, where an exponential could vanish."""
    axis = torch.tensor([[1.0, 0.0]])
    views = axis.repeat(64, 1)
    values = [swav_loss(views, views, torch.cat([axis, -axis]), epsilon=epsilon)]
    values.append(swav_loss(views.double(), views.double(), torch.cat([axis, -axis]).double(), epsilon=epsilon))
    torch.testing.assert_close(values[0].double(), values[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("count", "prototypes", "iterations"), [(64, 2, 30), (4, 20, 60), (512, 50, 100)])
def test_swav_in_float32_after_many_iterations(count, prototypes, iterations):
    """Scales that drift by vectors / prototypes in each would overflow."""
    inputs = [rows.detach() for rows in draw(7, (count, 16), (count, 16), (prototypes, 16))]
    exact = swav_loss(*inputs, iterations=iterations)
    torch.testing.assert_close(
        swav_loss(*(rows.float() for rows in inputs), iterations=iterations).double(), exact, rtol=1e-4, atol=0)


def test_assignments_carry_no_gradient():
    """With gradient through the assignments the result is another one: the reference that detaches is matched above."""
    a, b, prototypes = draw(5, (6, 4), (6, 4), (3, 4))
    (ours,) = torch.autograd.grad(swav_loss(a, b, prototypes), a)
    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in (a, b, prototypes)]
    scores = [unit[0] @ unit[2].t(), unit[1] @ unit[2].t()]
    attached = -sum((distributed_sinkhorn(scores[1 - view], 0.05, 3) * (scores[view] / 0.1).log_softmax(1)).sum(1)
                    for view in (0, 1)).mean()
    (through,) = torch.autograd.grad(attached, a)
    assert not torch.allclose(ours, through, atol=1e-3)


# Both

@given(seeds, st.floats(0.01, 100))
@relaxed
def test_directions_alone_matter(seed, scale):
    """Lengths of vectors and prototypes do not; nor does the order of the vectors, nor of SwAV's views."""
    a, b, prototypes = draw(seed, (6, 4), (6, 4), (3, 4))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    for loss in (simcse_loss, lambda a, b, **options: swav_loss(a, b, prototypes, **options)):
        torch.testing.assert_close(loss(a * scale, b / scale), loss(a, b))
        torch.testing.assert_close(
            loss(a[order], b[order], reduction="none"), loss(a, b, reduction="none")[order])
    torch.testing.assert_close(swav_loss(a, b, prototypes * scale), swav_loss(a, b, prototypes))
    torch.testing.assert_close(swav_loss(b, a, prototypes), swav_loss(a, b, prototypes))


def test_zero_vectors_get_no_gradient():
    """Two identical responses have difference zero: no direction, so no pull, and no harm to the other rows."""
    a, b = (rows.detach().clone() for rows in draw(2, (4, 3), (4, 3)))
    a[1], b[1] = 0, 0
    prototypes = draw(2, (5, 3))[0]
    for loss in (simcse_loss, lambda a, b: swav_loss(a, b, prototypes)):
        views = a.clone().requires_grad_(), b.clone().requires_grad_()
        for gradient in torch.autograd.grad(loss(*views), views):
            assert torch.isfinite(gradient).all()
            assert gradient[1].abs().max() == 0 and gradient[0].abs().max() > 0


@pytest.mark.parametrize("length", [1e-16, 1e-18, 1e-20, 1e-22, 1e-30])
def test_vectors_too_short_for_float32_do_no_harm(length):
    a, b, prototypes = (rows.detach().float() for rows in draw(2, (4, 8), (4, 8), (5, 8)))
    a[1], b[1] = a[1] / a[1].norm() * length, b[1] / b[1].norm() * length
    for loss in (simcse_loss, lambda a, b: swav_loss(a, b, prototypes)):
        views = a.clone().requires_grad_(), b.clone().requires_grad_()
        value = loss(*views)
        assert torch.isfinite(value) and all(torch.isfinite(rows).all() for rows in torch.autograd.grad(value, views))


def test_inputs_of_different_precision_are_computed_in_the_wider():
    a, b, prototypes = (rows.detach() for rows in draw(2, (4, 8), (4, 8), (5, 8)))
    for loss, inputs in ((simcse_loss, [a, b]), (swav_loss, [a, b, prototypes])):
        mixed = [inputs[0].float().requires_grad_(), *inputs[1:]]
        exact = loss(inputs[0].float().double(), *inputs[1:])
        value = loss(*mixed)
        assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=1e-7)
        assert torch.autograd.grad(value, mixed[0])[0].dtype == torch.float32


def test_preference_embeddings():
    chosen, rejected = draw(4, (3, 5), (3, 5))
    pair = preference_embeddings(chosen, rejected, "pair")
    difference = preference_embeddings(chosen, rejected, "difference")
    assert torch.equal(pair, torch.cat([chosen, rejected]))
    assert torch.equal(difference, torch.cat([chosen - rejected, rejected - chosen]))
    torch.testing.assert_close(
        torch.cosine_similarity(difference[:3], difference[3:]), -torch.ones(3, dtype=torch.float64))
    assert torch.equal(difference.norm(dim=1), (-difference).norm(dim=1))
    swapped = preference_embeddings(rejected, chosen, "difference")
    assert torch.equal(swapped, difference.roll(3, dims=0))


@pytest.mark.parametrize(("call", "message"), [
    (lambda a, c: simcse_loss(a, a, temperature=0), r"temperature: expected a number in \(0.0, inf\), got 0"),
    (lambda a, c: swav_loss(a, a, c, temperature=0.0), "temperature: expected a number"),
    (lambda a, c: swav_loss(a, a, c, epsilon=-1.0), "epsilon: expected a number"),
    (lambda a, c: swav_loss(a, a, c, iterations=0), "iterations: expected a whole number"),
    (lambda a, c: swav_loss(a, a, c, iterations=2.5), "iterations: expected a whole number, 1 or more, got 2.5"),
    (lambda a, c: swav_loss(a, a, c, temperature=1e-40), "temperature: expected a number that float32 can divide by"),
    (lambda a, c: sinkhorn(a, epsilon=1e-40), "epsilon: expected a number that float32 can divide by"),
    (lambda a, c: swav_loss(a, a, c[:, :2]), "prototypes: expected hidden size 3, got 2"),
    (lambda a, c: simcse_loss(a, a[:3]), r"view_b: expected the shape \[4, 3\] of view_a, got \[3, 3\]"),
    (lambda a, c: simcse_loss(a, a[0]), r"view_b: expected shape \[vector, hidden\], got \[3\]"),
    (lambda a, c: sinkhorn(a * float("nan")), "scores: expected finite numbers"),
    (lambda a, c: sinkhorn(a, epsilon=0.0), "epsilon: expected a number"),
    (lambda a, c: preference_embeddings(a, a, "pairs"), "kind: expected 'pair' or 'difference', got 'pairs'"),
    (lambda a, c: preference_embeddings(a, a[:2], "pair"), "rejected: expected the shape"),
    (lambda a, c: simcse_loss(a * 1e200, a), "view_a and view_b: expected numbers whose .* norms are finite"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(*(rows.detach() for rows in draw(0, (4, 3), (2, 3))))
