import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, xlog1py, xlogy

from skcae.engine.activations import ACTIVATIONS
from skcae.engine.losses import LOSSES

CASES = [
    (loss, output)
    for loss in sorted(LOSSES)
    for output in LOSSES[loss].output_activations
]
all_cases = pytest.mark.parametrize("loss, output", CASES)


def squared_error(y, x):
    return ((x - y) ** 2).sum(axis=1)


def cross_entropy(y, x):
    return -(xlogy(x, y) + xlog1py(1 - x, -y)).sum(axis=1)


FORMULAS = {"cross_entropy": cross_entropy, "squared_error": squared_error}


@pytest.fixture(params=["inner", "binary"])
def z_and_x(request, rng):
    """Pre-activations and data in [0, 1]: inside the interval or at its ends."""
    z = rng.normal(scale=3, size=(6, 5))
    x = rng.uniform(size=(6, 5))
    if request.param == "binary":
        x = x.round()
    return torch.tensor(z), torch.tensor(x)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_output_activations_are_known(loss):
    assert LOSSES[loss].output_activations
    assert set(LOSSES[loss].output_activations) <= set(ACTIVATIONS)


@pytest.mark.parametrize(
    "loss, output", [case for case in CASES if case[0] in FORMULAS]
)
def test_per_sample_matches_the_formula(loss, output, z_and_x):
    z, x = z_and_x
    computed = LOSSES[loss].per_sample(z, x, ACTIVATIONS[output])
    y = expit(z.numpy()) if output == "sigmoid" else ACTIVATIONS[output].value(z)
    expected = FORMULAS[loss](np.asarray(y), x.numpy())
    assert computed.shape == (6,)
    np.testing.assert_allclose(computed, expected, rtol=1e-12)


@all_cases
def test_bounds_are_those_of_a_perfect_and_of_a_constant_output(loss, output, z_and_x):
    _, x = z_and_x
    perfect, constant = (bound.item() for bound in LOSSES[loss].bounds(x))
    y, mean = x.numpy(), x.numpy().mean(axis=0)
    formula = FORMULAS[loss]
    assert perfect == pytest.approx(formula(y, y).mean(), rel=1e-12)
    assert constant == pytest.approx(formula(mean, y).mean(), rel=1e-12)
    best = minimize(
        lambda c: formula(c, y).mean(), np.full(5, 0.5), bounds=[(1e-9, 1 - 1e-9)] * 5
    )
    assert constant == pytest.approx(best.fun, rel=1e-6)


@all_cases
@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_sum_and_gradient_match_per_sample_and_autograd(loss, output, scale, z_and_x):
    z, x = z_and_x
    activation = ACTIVATIONS[output]
    leaf = z.clone().requires_grad_()
    expected = LOSSES[loss].per_sample(leaf, x, activation).sum()
    (expected_gradient,) = torch.autograd.grad(expected, leaf)

    gradient, data = z.clone(), x.clone()
    scratch = torch.full_like(z, torch.nan)
    total = LOSSES[loss].sum_and_gradient(gradient, data, activation, scratch, scale)

    assert total.shape == ()
    torch.testing.assert_close(total, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gradient, scale * expected_gradient, rtol=1e-11, atol=1e-12
    )
    assert torch.equal(data, x)


@all_cases
def test_gradient_matches_central_differences(
    loss, output, z_and_x, central_differences
):
    z, x = z_and_x
    activation = ACTIVATIONS[output]

    def total(flat):
        return LOSSES[loss].per_sample(flat.view_as(z), x, activation).sum()

    expected = central_differences(total, z.reshape(-1)).view_as(z)
    gradient = z.clone()
    LOSSES[loss].sum_and_gradient(gradient, x, activation, torch.empty_like(z), 1.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)


@all_cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_keeps_the_gradient_and_widens_the_sum(
    loss, output, z_and_x, dtype
):
    z, x = z_and_x
    activation = ACTIVATIONS[output]
    rounded_z, rounded_x = z.to(dtype), x.to(dtype)
    expected_gradient = rounded_z.double()
    expected = LOSSES[loss].sum_and_gradient(
        expected_gradient, rounded_x.double(), activation, torch.empty_like(z), 1.0
    )
    total = LOSSES[loss].sum_and_gradient(
        rounded_z, rounded_x, activation, torch.empty_like(rounded_z), 1.0
    )
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert total.dtype == torch.float32
    assert rounded_z.dtype == dtype
    torch.testing.assert_close(total.double(), expected, rtol=tolerance, atol=0)
    error = (rounded_z.double() - expected_gradient).norm()
    assert error < tolerance * expected_gradient.norm()


@all_cases
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [50.0, 800.0, 1e5])
def test_extreme_pre_activations_stay_finite(loss, output, dtype, size):
    z = torch.tensor([[-size, size]], dtype=dtype).repeat(3, 1)
    x = torch.tensor([[0.0], [0.25], [1.0]], dtype=dtype).repeat(1, 2)
    leaf = z.clone().requires_grad_()
    values = LOSSES[loss].per_sample(leaf, x, ACTIVATIONS[output])
    (autograd_gradient,) = torch.autograd.grad(values.sum(), leaf)
    total = LOSSES[loss].sum_and_gradient(
        z, x, ACTIVATIONS[output], torch.empty_like(z), 1.0
    )
    for result in (values, autograd_gradient, total, z):
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("size", [50.0, 800.0, 1e5])
def test_cross_entropy_of_extreme_logits(size):
    # Where the sigmoid is 0 or 1 to the last bit, the loss is linear in the logit.
    z = torch.tensor([[-size, size]], dtype=torch.float64).repeat(3, 1)
    x = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    values = LOSSES["cross_entropy"].per_sample(
        z, x[:, None].expand(3, 2), ACTIVATIONS["sigmoid"]
    )
    torch.testing.assert_close(values, size * torch.ones(3, dtype=torch.float64))
    values = LOSSES["cross_entropy"].per_sample(
        z[:, :1], x[:, None], ACTIVATIONS["sigmoid"]
    )
    torch.testing.assert_close(values, size * x, rtol=1e-12, atol=1e-12)
