"""Optimisers on the one flat parameter vector.

``OPTIMIZERS`` is the only list of optimisers: parameter validation and the tests read
it. An optimiser is created by ``optimizer(architecture, parameters, gradient,
learning_rate, dtype=None, units=None)``. ``parameters`` and ``gradient`` are vectors of
shape (n_parameters,). Each ``step()`` reads the gradient, and updates the parameters in
place.

``dtype`` is that of matrix products, by default that of the parameters. ``units`` has a
number for each block of the parameters. The entries of a step in a block are about as
large as the learning rate times this number. The default is 1, or 0.2 for weights that
Muon updates.

The attributes ``learning_rate`` and ``units`` may change between steps. ``memory`` is a
dict of the tensors that are kept from one step to the next.
"""

from functools import partial

import torch

from .device import has_fast_bfloat16
from .replay import replayed


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) in PyTorch's fused implementation.

    `torch.optim.Adam` spends more time on bookkeeping than on the arithmetic of a small
    model. This class calls the function beneath it, and owns the optimiser's memory.
    """

    def __init__(
        self,
        architecture,
        parameters,
        gradient,
        learning_rate,
        dtype=None,
        units=None,
    ):
        self.learning_rate = learning_rate
        self.units = units or [1.0]
        # If all blocks have the same unit, one call updates them all.
        sizes = [len(parameters)]
        if units is not None:
            shapes = architecture.shapes()[-len(units) :]
            sizes = [torch.Size(shape).numel() for shape in shapes]
        self.memory = {
            "exp_avgs": torch.zeros_like(parameters),
            "exp_avg_sqs": torch.zeros_like(parameters),
            "state_steps": torch.zeros(
                (), dtype=torch.float32, device=parameters.device
            ),
        }
        self._one = torch.ones_like(self.memory["state_steps"])
        self._blocks = list(
            zip(
                *(
                    vector.split(sizes)
                    for vector in (
                        parameters,
                        gradient,
                        self.memory["exp_avgs"],
                        self.memory["exp_avg_sqs"],
                    )
                ),
                strict=True,
            )
        )

    def step(self):
        """Update the parameters."""
        state_steps = self.memory["state_steps"]
        # Adding a Python number would create a tensor each time.
        state_steps.add_(self._one)
        for unit, blocks in zip(self.units, self._blocks, strict=True):
            parameters, gradient, exp_avgs, exp_avg_sqs = blocks
            # `torch.optim.Adam(fused=True)` calls this function after many checks.
            torch._fused_adam_(
                [parameters],
                [gradient],
                [exp_avgs],
                [exp_avg_sqs],
                max_exp_avg_sqs=[],
                state_steps=[state_steps],
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self.learning_rate * unit,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )


class Muon:
    """Muon (Jordan et al., 2024) on the weights, Adam on the biases.

    The momentum of each weight matrix is replaced by a coarse approximation of the
    nearest orthogonal matrix, so that a step is as long in the directions in which the
    data vary little as in the leading ones. The step is scaled such that the root mean
    square of its entries is the learning rate times the unit, which is about the size
    of Adam's steps (Liu et al., "Muon is Scalable for LLM Training", 2025, equation 4).
    """

    def __init__(
        self,
        architecture,
        parameters,
        gradient,
        learning_rate,
        dtype=None,
        units=None,
    ):
        n_weights = architecture.n_weights()
        self.learning_rate = learning_rate
        momentum, direction = (torch.zeros_like(gradient[:n_weights]) for _ in range(2))
        shapes = architecture.weight_shapes()
        self.biases = Adam(
            architecture,
            parameters[n_weights:],
            gradient[n_weights:],
            learning_rate,
            units=units and units[len(shapes) :],
        )
        self.units = units or len(shapes) * [0.2] + self.biases.units
        self.memory = {"momentum": momentum, **self.biases.memory}
        sizes = [torch.Size(shape).numel() for shape in shapes]
        self._weights, directions = (
            [
                block.view(shape)
                for block, shape in zip(flat.split(sizes), shapes, strict=True)
            ]
            for flat in (parameters[:n_weights], direction)
        )
        self._find_directions = replayed(
            partial(
                _find_directions,
                gradient[:n_weights],
                momentum,
                direction,
                directions,
                [_orthogonalizer(weight, dtype) for weight in self._weights],
            ),
            parameters.device,
        )

    def step(self):
        """Update the parameters."""
        n_weights = len(self._weights)
        for weight, unit, direction in zip(
            self._weights, self.units[:n_weights], self._find_directions(), strict=True
        ):
            size = unit * self.learning_rate * max(weight.shape) ** 0.5
            weight.sub_(direction.mul_(size))
        self.biases.learning_rate = self.learning_rate
        self.biases.units = self.units[n_weights:]
        self.biases.step()


def _find_directions(gradient, momentum, direction, directions, orthogonalizers):
    """Yield the orthogonal matrices of the steps of the weights, one after the other.

    ``directions`` are views of ``direction``, one for each weight.
    """
    momentum.lerp_(gradient, 1 - _MOMENTUM)
    # Nesterov momentum
    torch.lerp(gradient, momentum, _MOMENTUM, out=direction)
    for matrix, orthogonalizer in zip(directions, orthogonalizers, strict=True):
        yield orthogonalizer(matrix)


def dtype_of_steps(dtype, device, group):
    """Return the dtype of the products in an optimiser's steps, for all of a group.

    A step of Muon is coarse by design, and was published in bfloat16. Where the device
    has matrix instructions for that, it takes a quarter of the time of float32.
    """
    is_fast = device.type in ("cpu", "cuda") and has_fast_bfloat16(device)
    if all(group.gather(is_fast)) and dtype == torch.float32:
        return torch.bfloat16
    return dtype


def _orthogonalizer(weight, dtype):
    """Return the fastest `orthogonalize` for matrices like ``weight``."""
    is_narrow = min(weight.shape) < _NARROW_SIZE
    return partial(orthogonalize, dtype=weight.dtype if is_narrow else dtype)


_MOMENTUM = 0.95

# With fewer rows or columns, products take so small a part of a step's time on a CPU
# that the gain from a narrower precision isn't worth its rounding.
_NARROW_SIZE = 128

# The coefficients of the odd polynomial a x + b x³ + c x⁵ that, applied a few times,
# takes (0, 1] to about 1 fastest (Jordan et al., 2024). Three iterations do so for
# singular values above 0.02 times the norm. Five iterations, as published, took more
# time, and training gained nothing from them.
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_N_ITERATIONS = 3


def orthogonalize(matrix, dtype=None):
    """Take the singular values of a matrix to about 1, except for those near zero.

    It uses the Newton–Schulz iteration X ← a X + b (XXᵀ) X + c (XXᵀ)² X.

    Parameters
    ----------
    matrix : Tensor of shape (m, n)
        Zeros stay zeros.
    dtype : torch.dtype, default=None
        Dtype of the products and the result. None means that of ``matrix``.

    Returns
    -------
    result : Tensor of shape (m, n)
        It has the same singular vectors as ``matrix``. Singular values that are at
        least 0.02 times the Frobenius norm become values between 0.68 and 1.21; with
        bfloat16 these are off by up to 0.1. Entries of ``matrix`` below the largest one
        times the precision of its dtype count as zeros.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    # Squares of very large or small entries must not leave the range of the dtype. On
    # the CPU, abs and amax take a tenth of the time of the norm of order infinity.
    tiny = torch.finfo(wide.dtype).tiny
    wide = wide / wide.abs().amax().clamp_(min=tiny)
    # Entries that would be lost in rounding are dropped. Otherwise the updates of
    # features that are always zero would shrink forever, and products of subnormal
    # numbers are slow.
    wide = torch.nn.functional.hardshrink(wide, torch.finfo(wide.dtype).eps)
    x = wide.div_(torch.linalg.vector_norm(wide).clamp_(min=tiny)).to(dtype)
    if x.shape[1] <= 1.5 * x.shape[0]:
        for _ in range(_N_ITERATIONS):
            gram = x @ x.T
            factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.addmm(x, factor, x, beta=a)
    else:
        # The same iteration on the smaller Gram matrix; x is multiplied by the product
        # of all factors in the end. Terms of that product cancel, for which a narrower
        # dtype isn't precise enough. With such a dtype, x is therefore multiplied by
        # the first factor at once, and only one multiple of the identity is added to
        # the product.
        gram = x @ x.T
        factors = None
        for i in range(_N_ITERATIONS):
            factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            if i + 1 < _N_ITERATIONS:
                gram = torch.addmm(gram, factor, gram, beta=a)
                gram = torch.addmm(gram, factor, gram, beta=a)
            if i == 0 and x.dtype != matrix.dtype:
                x = torch.addmm(x, factor, x, beta=a)
            elif factors is None:
                factors = factor
                factors.diagonal().add_(a)
            else:
                factors = torch.addmm(factors, factor, factors, beta=a)
        x = factors @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


OPTIMIZERS = {"adam": Adam, "muon": Muon}
