import numpy as np
import pytest
import torch
from scipy.special import expit

from skcae.engine.activations import ACTIVATIONS

FORMULAS = {
    "identity": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": expit,
    "softplus": lambda a: np.logaddexp(0, a),
    "tanh": np.tanh,
}

# An even number of points: the kink at zero is not one of them.
GRID = torch.linspace(-6, 6, 60, dtype=torch.float64)
LARGE = torch.tensor([-800, -50, -20, 20, 50, 800], dtype=torch.float64)

all_activations = pytest.mark.parametrize("name", sorted(ACTIVATIONS))


def evaluate(name, a):
    """Return s(a), s'(a), s''(a) by way of the registry."""
    activation = ACTIVATIONS[name]
    h = activation.value(a)
    d = activation.derivative(a, h)
    return h, d, activation.second_derivative(a, h, d)


def evaluate_by_autograd(name, a):
    value = ACTIVATIONS[name].value
    first = torch.func.grad(value)
    second = torch.func.grad(first)
    return value(a), torch.func.vmap(first)(a), torch.func.vmap(second)(a)


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_value_matches_the_formula(name):
    a = torch.cat([GRID, torch.zeros(1, dtype=torch.float64), LARGE])
    np.testing.assert_allclose(
        ACTIVATIONS[name].value(a), FORMULAS[name](a.numpy()), rtol=1e-14, atol=1e-15
    )


@all_activations
def test_derivatives_match_autograd(name):
    for computed, expected in zip(
        evaluate(name, GRID), evaluate_by_autograd(name, GRID), strict=True
    ):
        torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12)


@all_activations
def test_derivatives_match_central_differences(name):
    step = 1e-5
    _, d, d2 = evaluate(name, GRID)
    above, slope_above, _ = evaluate(name, GRID + step)
    below, slope_below, _ = evaluate(name, GRID - step)
    differences = (above - below) / (2 * step)
    torch.testing.assert_close(d, differences, rtol=0, atol=1e-9)
    differences = (slope_above - slope_below) / (2 * step)
    torch.testing.assert_close(d2, differences, rtol=0, atol=1e-9)


@all_activations
def test_derivative_at_zero_is_the_one_that_autograd_uses(name):
    # Where there is a kink, a convention decides; all-zero rows of a network without
    # biases are exactly there, and both gradients of the objective must agree.
    zero = torch.zeros(1, dtype=torch.float64)
    for computed, expected in zip(
        evaluate(name, zero), evaluate_by_autograd(name, zero), strict=True
    ):
        torch.testing.assert_close(computed, expected)


@all_activations
def test_values_and_derivatives_are_differentiable(name):
    activation = ACTIVATIONS[name]
    a = GRID.clone().requires_grad_()
    assert torch.autograd.gradcheck(activation.value, a)
    assert torch.autograd.gradcheck(
        lambda a: activation.derivative(a, activation.value(a)) * a, a
    )


@all_activations
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_out_gives_the_same(name, dtype):
    activation = ACTIVATIONS[name]
    a = GRID.to(dtype)
    before = a.clone()
    h, d, d2 = evaluate(name, a)

    def buffer():
        return torch.full_like(a, torch.nan)

    torch.testing.assert_close(activation.value(a, out=buffer()), h, rtol=0, atol=0)
    torch.testing.assert_close(
        activation.derivative(a, h, out=buffer()), d, rtol=0, atol=0
    )
    torch.testing.assert_close(
        activation.second_derivative(a, h, d, out=buffer()), d2, rtol=0, atol=0
    )
    assert torch.equal(a, before)


@all_activations
def test_derivatives_fill_the_buffer_that_they_are_given(name):
    # The closed-form gradient goes on with the buffers, not with what is returned.
    activation = ACTIVATIONS[name]
    h, d, d2 = evaluate(name, GRID)
    out = torch.full_like(GRID, torch.nan)
    activation.derivative(GRID, h, out=out)
    torch.testing.assert_close(out, d, rtol=0, atol=0)
    out = torch.full_like(GRID, torch.nan)
    activation.second_derivative(GRID, h, d, out=out)
    torch.testing.assert_close(out, d2, rtol=0, atol=0)


@all_activations
def test_derivative_may_overwrite_the_pre_activation(name):
    # The squared error does this with an output activation, to save a buffer.
    activation = ACTIVATIONS[name]
    a = GRID.clone()
    h = activation.value(a).clone()
    expected = activation.derivative(GRID, h)
    activation.derivative(a, h, out=a)
    torch.testing.assert_close(a, expected, rtol=0, atol=0)


@all_activations
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_large_arguments_stay_finite(name, dtype):
    a = torch.cat([LARGE, 1e10 * LARGE]).to(dtype).requires_grad_()
    for result in evaluate(name, a):
        assert torch.isfinite(result).all()
    (gradient,) = torch.autograd.grad(ACTIVATIONS[name].value(a).sum(), a)
    assert torch.isfinite(gradient).all()


@all_activations
def test_large_arguments_reach_the_limits(name):
    for computed, expected in zip(
        evaluate(name, LARGE), evaluate_by_autograd(name, LARGE), strict=True
    ):
        torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12)


@all_activations
@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-6), (torch.bfloat16, 0.03)])
def test_dtype_is_kept(name, dtype, atol):
    a = GRID.to(dtype)
    wide = evaluate(name, a.double())
    for computed, expected in zip(evaluate(name, a), wide, strict=True):
        assert computed.dtype == dtype
        torch.testing.assert_close(computed.double(), expected, rtol=0.01, atol=atol)
