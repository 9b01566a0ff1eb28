"""Elementwise activations with their first two derivatives.

``ACTIVATIONS`` is the only list of activations: parameter validation, the oracle tests
and the documentation read it. To add one, add one entry.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch


class Activation(NamedTuple):
    """An elementwise function ``s`` of the pre-activation ``a``.

    Every function takes an optional ``out`` tensor that receives the result, and is
    differentiable by autograd without it.

    Attributes
    ----------
    value : callable
        ``value(a, out=None)`` is h = s(a).
    derivative : callable
        ``derivative(a, h, out=None)`` is s'(a), computed from h where possible.
    second_derivative : callable
        ``second_derivative(a, h, d, out=None)`` is s''(a), with d = s'(a).
    """

    value: Callable
    derivative: Callable
    second_derivative: Callable


def _sigmoid(a, out=None):
    return torch.sigmoid(a, out=out)


def _sigmoid_derivative(a, h, out=None):
    return torch.addcmul(h, h, h, value=-1, out=out)


def _sigmoid_second_derivative(a, h, d, out=None):
    # s'' = s' (1 - 2 h)
    return torch.addcmul(d, d, h, value=-2, out=out)


def _tanh(a, out=None):
    return torch.tanh(a, out=out)


def _tanh_derivative(a, h, out=None):
    return torch.addcmul(a.new_ones(()), h, h, value=-1, out=out)


def _tanh_second_derivative(a, h, d, out=None):
    return torch.mul(h, d, out=out).mul_(-2)


def _relu(a, out=None):
    # Unlike clamp, its derivative at 0 is 0 for autograd too.
    return torch.threshold(a, 0, 0, out=out)


def _step(a, h, out=None):
    # h >= 0, so its sign is the indicator of h > 0.
    return torch.sign(h, out=out)


def _softplus(a, out=None):
    # Beyond 40, softplus(a) = a to the last bit of a float64.
    return torch._C._nn.softplus(a, 1, 40, out=out)


def _softplus_derivative(a, h, out=None):
    # = 1 - exp(-h)
    return torch.sigmoid(a, out=out)


def _softplus_second_derivative(a, h, d, out=None):
    return torch.addcmul(d, d, d, value=-1, out=out)


def _identity(a, out=None):
    return a if out is None else out.copy_(a)


def _one(a, h, out=None):
    return torch.ones_like(a) if out is None else out.fill_(1)


def _zero(a, h, d, out=None):
    return torch.zeros_like(a) if out is None else out.zero_()


ACTIVATIONS = {
    "identity": Activation(_identity, _one, _zero),
    "relu": Activation(_relu, _step, _zero),
    "sigmoid": Activation(_sigmoid, _sigmoid_derivative, _sigmoid_second_derivative),
    "softplus": Activation(
        _softplus, _softplus_derivative, _softplus_second_derivative
    ),
    "tanh": Activation(_tanh, _tanh_derivative, _tanh_second_derivative),
}
