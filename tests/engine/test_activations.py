import numpy as np
import pytest
import torch
from scipy.special import expit, ndtr

from skcae.engine.activations import ACTIVATIONS

FORMULAS = {
    "elu": lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
    "gelu": lambda a: a * ndtr(a),
    "identity": lambda a: a,
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": expit,
    "silu": lambda a: a * expit(a),
    "softplus": lambda a: np.logaddexp(0, a),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "tanh": np.tanh,
}

# An even number of points: the kink at zero is not one of them.
GRID = torch.linspace(-6, 6, 60, dtype=torch.float64)
LARGE = torch.tensor([20, 50, 800, 1e4, -20, -50, -800, -1e4], dtype=torch.float64)

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
def test_derivatives_at_zero_are_those_that_autograd_uses(name):
    # Where there is a kink, a convention decides; all-zero rows of a network without
    # biases are exactly there, and both gradients of the objective must agree.
    zero = torch.zeros(1, dtype=torch.float64)
    for computed, expected in zip(
        evaluate(name, zero), evaluate_by_autograd(name, zero), strict=True
    ):
        torch.testing.assert_close(computed, expected)


@all_activations
def test_autograd_of_the_derivative_is_the_second_derivative(name):
    # Both gradients of the penalty must agree, at a kink and far out too.
    a = torch.cat([GRID, torch.zeros(1, dtype=torch.float64), LARGE]).requires_grad_()
    activation = ACTIVATIONS[name]
    # With 0 · a, constants are differentiable as well.
    derivative = activation.derivative(a, activation.value(a)) + 0 * a
    (computed,) = torch.autograd.grad(derivative.sum(), a)
    _, _, expected = evaluate(name, a.detach())
    torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12)


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
def test_out_is_filled_with_the_same_to_the_last_bits(name, dtype):
    activation = ACTIVATIONS[name]
    a = GRID.to(dtype)
    before = a.clone()
    h, d, d2 = evaluate(name, a)
    eps = torch.finfo(dtype).eps
    for function, arguments, expected in [
        (activation.value, (a,), h),
        (activation.derivative, (a, h), d),
        (activation.second_derivative, (a, h, d), d2),
    ]:
        out = torch.full_like(a, torch.nan)
        returned = function(*arguments, out=out)
        torch.testing.assert_close(out, expected, rtol=4 * eps, atol=4 * eps)
        # The closed-form gradient goes on with the buffer, others with the result.
        assert returned.data_ptr() == out.data_ptr()
    assert torch.equal(a, before)


@all_activations
def test_derivative_may_overwrite_the_pre_activation(name):
    # The squared error does this with an output activation, to save a buffer.
    activation = ACTIVATIONS[name]
    a = GRID.clone()
    h = activation.value(a).clone()
    expected = activation.derivative(GRID, h, out=torch.empty_like(GRID))
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
