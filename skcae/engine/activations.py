"""Elementwise activations with their first two derivatives.

``ACTIVATIONS`` is the only list of activations: parameter validation, the oracle tests
and the documentation read it. To add one, add one entry.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

_aten = torch.ops.aten


class Activation(NamedTuple):
    """An elementwise function ``s`` of the pre-activation ``a``.

    Every function takes an optional ``out`` tensor that receives the result. Without
    ``out``, every function is differentiable by autograd.

    Attributes
    ----------
    value : callable
        ``value(a, out=None)`` is h = s(a).
    derivative : callable
        ``derivative(a, h, out=None)`` is s'(a), computed from h where possible; ``out``
        may be a.
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
    # Autograd's derivative of threshold at 0 is 0, unlike that of clamp.
    return torch.threshold(a, 0, 0, out=out)


def _step(a, h, out=None):
    # h >= 0, so its sign is the indicator of h > 0.
    return torch.sign(h, out=out)


def softplus(a, out=None):
    """log(1 + exp(a)), without overflow."""
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


def _kernel(function, *arguments, out):
    """Call one of PyTorch's backward kernels: s'(a) in one pass and without a buffer.

    At a kink the result is therefore the same as autograd's.
    """
    if out is None:
        return function(*arguments)
    return function.grad_input(*arguments, grad_input=out)


def _ones(a):
    return a.new_ones(()).expand_as(a)


def _elu(a, out=None):
    return torch._C._nn.elu(a, out=out)


def _elu_derivative(a, h, out=None):
    # = 1 for a > 0, else exp(a) = 1 + h
    return _kernel(_aten.elu_backward, _ones(a), 1, 1, 1, False, a, out=out)


def _elu_second_derivative(a, h, d, out=None):
    # = s' for a < 0, else 0
    return torch.mul(torch.lt(h, 0, out=out), d, out=out)


def _gelu(a, out=None):
    return torch._C._nn.gelu(a, out=out)


def _gelu_derivative(a, h, out=None):
    # = Φ(a) + a φ(a)
    return _kernel(_aten.gelu_backward, _ones(a), a, out=out)


def _gelu_second_derivative(a, h, d, out=None):
    # = (2 - a²) φ(a) = 2 φ(a) + h - a s', since h = a Φ(a). The last form needs no
    # second buffer.
    density = torch.mul(a, a, out=out).mul_(-0.5).exp_()
    density = torch.mul(density, math.sqrt(2 / math.pi), out=out)
    return torch.addcmul(density.add_(h), a, d, value=-1, out=out)


def _leaky_relu(a, out=None):
    return torch._C._nn.leaky_relu(a, 0.01, out=out)


def _leaky_relu_derivative(a, h, out=None):
    return _kernel(_aten.leaky_relu_backward, _ones(a), a, 0.01, False, out=out)


def _silu(a, out=None):
    return torch._C._nn.silu(a, out=out)


def _silu_derivative(a, h, out=None):
    if out is None:
        # Autograd can't differentiate the kernel.
        sigmoid = torch.sigmoid(a)
        return sigmoid * (1 + a * (1 - sigmoid))
    return _kernel(_aten.silu_backward, _ones(a), a, out=out)


def _silu_second_derivative(a, h, d, out=None):
    # = (2 s' - h) σ(-a). The kernel multiplies by the sigmoid without a buffer for it.
    factor = torch.sub(h, d, alpha=2, out=out).neg_()
    return _kernel(_aten.softplus_backward, factor, a, -1, 40, out=out)


def _softsign(a, out=None):
    return torch.div(a, torch.abs(a, out=out).add_(1), out=out)


def _softsign_derivative(a, h, out=None):
    # (1 - |h|)² would suffer from cancellation.
    return torch.abs(a, out=out).add_(1).square_().reciprocal_()


def _softsign_second_derivative(a, h, d, out=None):
    # = -2 sign(a) / (1 + |a|)³ = -2 (a + sign(a)) s'²
    return torch.sign(a, out=out).add_(a).mul_(d).mul_(d).mul_(-2)


# Activations that saturate on both sides.
BOUNDED = {"sigmoid", "softsign", "tanh"}

ACTIVATIONS = {
    "elu": Activation(_elu, _elu_derivative, _elu_second_derivative),
    "gelu": Activation(_gelu, _gelu_derivative, _gelu_second_derivative),
    "identity": Activation(_identity, _one, _zero),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_derivative, _zero),
    "relu": Activation(_relu, _step, _zero),
    "sigmoid": Activation(_sigmoid, _sigmoid_derivative, _sigmoid_second_derivative),
    "silu": Activation(_silu, _silu_derivative, _silu_second_derivative),
    "softplus": Activation(softplus, _softplus_derivative, _softplus_second_derivative),
    "softsign": Activation(
        _softsign, _softsign_derivative, _softsign_second_derivative
    ),
    "tanh": Activation(_tanh, _tanh_derivative, _tanh_second_derivative),
}
