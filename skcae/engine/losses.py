"""Reconstruction losses: summed over features, one value per sample.

``LOSSES`` is the only list of losses: parameter validation, the oracle tests and the
documentation read it. To add one, add one entry.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from .activations import ACTIVATIONS, softplus
from .sparse import total_variance


class Loss(NamedTuple):
    """A reconstruction loss of the decoder's last pre-activation z and the input x.

    Attributes
    ----------
    per_sample : callable
        ``per_sample(z, x, output)`` is the loss summed over features, of shape
        (n_samples,). ``output`` is an `Activation`. The result is differentiable by
        autograd.
    sum_and_gradient : callable
        ``sum_and_gradient(z, x, output, scratch, scale)`` is the loss summed over the
        batch, a float32 (or wider) scalar tensor. It overwrites z with ``scale`` times
        the gradient of that sum with respect to z. ``scratch`` is a tensor like z.
    bounds : callable
        ``bounds(x)`` returns two scalar tensors: the mean loss of a perfect
        reconstruction of x, and that of the best constant reconstruction, which is the
        mean. If the loss is the squared error, x may be a `SparseTensor`.
    output_activations : tuple of str
        The output activations that the loss supports.
    default_output : str
        The output activation for "auto".
    unit_interval : bool
        Whether the data must lie in [0, 1].
    """

    per_sample: Callable
    sum_and_gradient: Callable
    bounds: Callable
    output_activations: tuple
    default_output: str
    unit_interval: bool


def _total(t):
    """Sum of all entries, accumulated in at least float32."""
    return t.sum(dtype=torch.promote_types(t.dtype, torch.float32))


def dot(t, u):
    """Sum of products, accumulated in at least float32."""
    if t.dtype.itemsize < 4:
        return _total(t * u)
    return torch.dot(t.view(-1), u.view(-1))


def _squared_error(z, x, output):
    return (output.value(z) - x).square().sum(dim=1)


def _squared_error_gradient(z, x, output, scratch, scale):
    if output is ACTIVATIONS["identity"]:
        residual = z.sub_(x)
        total = dot(residual, residual)
        residual.mul_(2 * scale)
        return total
    y = output.value(z, out=scratch)
    output.derivative(z, y, out=z)
    residual = y.sub_(x)
    z.mul_(residual).mul_(2 * scale)
    return dot(residual, residual)


def _squared_error_bounds(x):
    variance = total_variance(x)
    return torch.zeros_like(variance), variance


def _cross_entropy(z, x, output):
    # This is -x log(y) - (1 - x) log(1 - y) with y = sigmoid(z).
    return (softplus(z) - x * z).sum(dim=1)


def _cross_entropy_gradient(z, x, output, scratch, scale):
    total = _total(softplus(z, out=scratch)) - dot(x, z)
    output.value(z, out=z).sub_(x).mul_(scale)
    return total


def _cross_entropy_bounds(x):
    def entropy(y):
        return -(torch.xlogy(y, y) + torch.xlogy(1 - y, 1 - y)).sum(dim=-1)

    x = x.clamp(0, 1)
    return entropy(x).mean(), entropy(x.mean(dim=0))


LOSSES = {
    "cross_entropy": Loss(
        _cross_entropy,
        _cross_entropy_gradient,
        _cross_entropy_bounds,
        ("sigmoid",),
        default_output="sigmoid",
        unit_interval=True,
    ),
    "squared_error": Loss(
        _squared_error,
        _squared_error_gradient,
        _squared_error_bounds,
        tuple(sorted(ACTIVATIONS)),
        default_output="identity",
        unit_interval=False,
    ),
}
