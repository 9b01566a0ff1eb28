"""The encoder's Jacobian J = ∂h/∂x and penalties on it, per sample.

With D_l = diag(s'(a_l)), J = D_L W_Lᵀ … D_1 W_1ᵀ. All results are differentiable by
autograd. The optional ``encoding`` is the result of ``encode(architecture, parameters,
x)``, if the caller has it already.

``PENALTIES`` is the only list of penalties. To add one, add one entry.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch

from .corruption import fill_normal
from .device import copy_without_waiting
from .losses import dot
from .network import activation_derivatives, encode


def jacobian(architecture, parameters, x):
    """Jacobian of the encoder, J = D_L W_Lᵀ … D_1 W_1ᵀ with D_l = diag(s'(a_l)).

    Returns
    -------
    jacobians : Tensor of shape (n_samples, n_hidden, n_features)
    """
    derivatives = _derivatives(architecture, parameters, x)
    return _push_forward(parameters.encoder_weights, derivatives).transpose(1, 2)


def contraction(architecture, parameters, x, encoding=None):
    """Squared Frobenius norm of the encoder's Jacobian.

    For one layer it is

        ‖J(x)‖²_F = Σ_j s'(a_j)² Σ_i W_ij²  with  a = x W + b

    (Rifai et al., ICML 2011, section 3, there for the sigmoid, s' = h (1 - h)), which
    costs O(n_samples n_hidden + n_features n_hidden); no Jacobian is formed.

    For several layers it is computed as ‖M W_1ᵀ‖²_F with M = D_L W_Lᵀ … W_2ᵀ D_1. If
    there are few features, ‖W_1 D_1 … W_L D_L‖²_F may be cheaper and is computed
    instead. Either way the cost is about that of encoding min(n_hidden, n_features)
    batches. The memory is that of M, of shape (n_samples, n_hidden, n_hidden_1), or of
    the other matrix, of shape (n_samples, n_features, n_hidden).

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    encoding : tuple, default=None

    Returns
    -------
    norms : Tensor of shape (n_samples,)
        Summed over features and hidden units, per sample.
    """
    derivatives = _derivatives(architecture, parameters, x, encoding)
    if architecture.depth == 1:
        return _one_layer_norms(derivatives[0], parameters)
    return _squared_norms(*_factors(architecture, parameters, derivatives))


def projected_contraction(
    architecture, parameters, x, n_projections, generator, encoding=None
):
    """Unbiased estimate of `contraction` by random projections.

    E Σ_k ‖v_kᵀ J‖² = ‖J‖²_F if E Σ_k v_k v_kᵀ is the identity (Hutchinson 1990;
    Hoffman, Roberts and Yaida 2019). One vector-Jacobian product costs about as much
    as encoding the batch.

    The entries of v = Σ_k v_k are random signs. With A = J Jᵀ, the variance of the
    estimate ‖vᵀ J‖² is 2 Σ_{i≠j} A_ij². For normal entries it would be 2 ‖A‖²_F, which
    is at least as much. For a random direction it would be n_hidden / (n_hidden + 2)
    times 2 (‖A‖²_F - (tr A)² / n_hidden), which is at least as much up to the first
    factor.

    The hidden units are partitioned at random. Each v_k has the entries of v in its
    part, and zeros elsewhere. These v_k are orthogonal. The variance then has terms
    only for pairs of units in the same part, which are fewer than 1 / n_projections of
    all pairs. It is 0 if each unit is a part of its own.

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    n_projections : int
        At least 1. The estimate is exact from ``n_hidden`` on.
    generator : torch.Generator
    encoding : tuple, default=None

    Returns
    -------
    norms : Tensor of shape (n_samples,)
    """
    derivatives = _derivatives(architecture, parameters, x, encoding)
    probes = draw_probes(derivatives[-1], n_projections, generator)
    return _squared_norms(*_factors(architecture, parameters, derivatives, probes))


def higher_order(
    architecture,
    parameters,
    x,
    noise,
    encoding=None,
    *,
    n_projections=None,
    generator=None,
):
    """Mean squared change of the Jacobian under corruptions, E ‖J(x) - J(x + ε)‖²_F.

    This is the penalty of the CAE+H on the encoder's curvature (Rifai, Mesnil, Vincent,
    Muller, Bengio, Dauphin and Glorot, ECML 2011, equation 6). For one layer it is

        ‖J(x) - J(x + ε)‖²_F = Σ_j (s'(a_j) - s'(ã_j))² Σ_i W_ij²,

    which costs as much as encoding the corrupted rows. For several layers it takes
    n_corruptions times the time and the memory of `contraction`, or of
    `projected_contraction` if ``n_projections`` is given.

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    noise : Tensor of shape (n_corruptions, n_samples, n_features)
        The ε, which the paper draws from a normal distribution.
    encoding : tuple, default=None
        The encoding of x.
    n_projections : int, default=None
        Number of random projections that estimate the norm. None computes it exactly.
    generator : torch.Generator, default=None
        Generator of the projections.

    Returns
    -------
    norms : Tensor of shape (n_samples,)
    """
    clean = _derivatives(architecture, parameters, x, encoding)
    corrupted = [
        d.unflatten(0, noise.shape[:2])
        for d in _derivatives(architecture, parameters, (x + noise).flatten(0, 1))
    ]
    if architecture.depth == 1:
        return _one_layer_norms(corrupted[0] - clean[0], parameters).mean(dim=0)
    probes = None
    if n_projections is not None:
        probes = draw_probes(clean[-1], n_projections, generator)
    factor, rest = _factors(architecture, parameters, clean, probes)
    corrupted_factor, _ = _factors(architecture, parameters, corrupted, probes)
    return _squared_norms(corrupted_factor - factor, rest).mean(dim=0)


def pull_back(rows, weights, derivatives):
    """Vector-Jacobian products up to the first layer, rows · D_L W_Lᵀ … W_2ᵀ D_1.

    Parameters
    ----------
    rows : Tensor of shape (..., n_rows, n_hidden)
    weights : list of Tensor
        W_1 to W_L.
    derivatives : list of Tensor of shape (..., n_hidden_l)
        s'(a_1) to s'(a_L).

    Returns
    -------
    products : Tensor of shape (..., n_rows, n_hidden_1)
        The products, which are still to be multiplied by W_1ᵀ.
    """
    rows = rows * derivatives[-1][..., None, :]
    for weight, d in zip(weights[:0:-1], derivatives[-2::-1], strict=True):
        rows = (rows @ weight.T) * d[..., None, :]
    return rows


def entries_per_row(architecture):
    """Return the size of the largest array that `contraction` makes for one row."""
    n_features, *n_hidden = architecture.sizes
    if architecture.depth == 1:
        return n_hidden[0]
    if _starts_at_output(architecture.sizes):
        return n_hidden[-1] * max(n_hidden[:-1])
    return n_features * max(n_hidden)


# In the following functions, "..." stands for any number of leading dimensions.


def _derivatives(architecture, parameters, x, encoding=None):
    """Return the s'(a_l), of shape (n_samples, n_hidden_l), of all layers."""
    encoding = encoding or encode(architecture, parameters, x)
    return activation_derivatives(architecture, encoding)


def _one_layer_norms(d, parameters):
    """Return ‖diag(d) Wᵀ‖²_F of shape (...,) for d of shape (..., n_hidden)."""
    (weight,) = parameters.encoder_weights
    return d.square() @ weight.square().sum(dim=0)


def _push_forward(weights, derivatives):
    """Return Jᵀ = W_1 D_1 W_2 … W_L D_L, of shape (..., n_features, n_hidden)."""
    columns = weights[0] * derivatives[0][..., None, :]
    for weight, d in zip(weights[1:], derivatives[1:], strict=True):
        columns = (columns @ weight) * d[..., None, :]
    return columns


def _factors(architecture, parameters, derivatives, probes=None):
    """Factor J, or probes · J: return (factor, rest) with ‖J‖ = ‖factor · restᵀ‖.

    ``rest`` is W_1, or None for the identity.
    """
    weights = parameters.encoder_weights
    if probes is not None:
        return pull_back(probes, weights, derivatives), weights[0]
    if _starts_at_output(architecture.sizes):
        # Contiguous rows let all samples share one product with the next weights.
        rows = derivatives[-1][..., :, None] * weights[-1].T.contiguous()
        return pull_back(rows, weights[:-1], derivatives[:-1]), weights[0]
    return _push_forward(weights, derivatives), None


def _starts_at_output(sizes):
    """Return whether `_factors` takes fewer operations from the output than from x."""
    back = (*sizes[-2:0:-1], min(sizes[:2]))
    return _operations(sizes[-1], back) <= _operations(sizes[0], sizes[1:])


def _operations(n_rows, sizes):
    """Return the number of multiplications that take rows through scaled layers."""
    return n_rows * (sizes[0] + sum(a * b for a, b in pairwise(sizes)))


def _squared_norms(factor, rest):
    """Return ‖factor · restᵀ‖²_F of shape (...,)."""
    if rest is None:
        return factor.square().sum(dim=(-2, -1))
    n_rows = factor.shape[:-1].numel()
    n_features, n_hidden = rest.shape
    # For many short rows the Gram matrix is cheaper: ‖u Wᵀ‖² = u (WᵀW) uᵀ.
    if n_hidden * (n_features + n_rows) < n_features * n_rows:
        norms = ((factor @ (rest.T @ rest)) * factor).sum(dim=(-2, -1))
        # Cancellation can make a norm negative. It becomes 0, but keeps the gradient of
        # the formula, which need not be small.
        return norms - norms.detach().clamp(max=0)
    return (factor @ rest.T).square().sum(dim=(-2, -1))


def draw_probes(d, n_probes, generator):
    """Draw v_k with orthogonal supports and E Σ_k v_k v_kᵀ = I, for each row of d.

    Returns
    -------
    probes : Tensor of shape (n_samples, n_probes, n_hidden)
        They have the dtype and the device of d, whose shape is (n_samples, n_hidden).
    """
    n_samples, n_hidden = d.shape
    n_probes = min(n_probes, n_hidden)
    options = {"generator": generator, "device": generator.device}
    signs = torch.randint(0, 2, (n_samples, 1, n_hidden), dtype=torch.int8, **options)
    part = torch.randperm(n_hidden, **options) % n_probes
    parts = part == torch.arange(n_probes, device=part.device)[:, None]
    signs, parts = (
        copy_without_waiting(values, d.new_empty(values.shape))
        for values in (2 * signs - 1, parts)
    )
    return signs * parts


class Penalty(NamedTuple):
    """A term of the objective besides the reconstruction. Its key is its name.

    Attributes
    ----------
    weight : str
        Name of the parameter that multiplies the penalty, in [0, inf).
    per_sample : callable
        ``per_sample(architecture, parameters, x, encoding, n_projections=...,
        generator=..., **options)`` is the penalty of each row, of shape (n_samples,),
        differentiable by autograd. ``n_projections`` is the number of random
        projections that may estimate the penalty, or None.
    options : tuple of str, default=()
        Names of the penalty's other parameters, in (0, inf).
    monitored : bool, default=False
        Whether the penalty is computed and reported even if its weight is 0.
    closed_form : type or None, default=None
        The penalty's value and gradient for one layer, with the interface of
        `ContractionOfOneLayer`. None leaves the gradient to autograd.
    adds_noise : bool, default=False
        Whether the penalty adds noise to the rows, so that sparse rows can't stay
        sparse.
    requires : callable or None, default=None
        ``requires(activation)`` is None if the penalty is meaningful with the
        activation of that name. Otherwise it is the reason why it isn't.
    """

    weight: str
    per_sample: Callable
    options: tuple = ()
    monitored: bool = False
    closed_form: type | None = None
    adds_noise: bool = False
    requires: Callable | None = None


def _contraction(architecture, parameters, x, encoding, *, n_projections, generator):
    if n_projections is None or architecture.depth == 1:
        return contraction(architecture, parameters, x, encoding)
    return projected_contraction(
        architecture, parameters, x, n_projections, generator, encoding
    )


# Number of random steps around each sample from which the curvature is estimated.
_N_STEPS = 2


def _curvature(
    architecture, parameters, x, encoding, *, n_projections, generator, sigma
):
    noise = fill_normal(x.new_empty(_N_STEPS, *x.shape), sigma, generator)
    return higher_order(
        architecture,
        parameters,
        x,
        noise,
        encoding,
        n_projections=n_projections,
        generator=generator,
    )


def _needs_curvature(activation):
    if activation == "identity":
        return "activation='identity' has no curvature"
    return None


class ContractionOfOneLayer:
    """The contraction of one layer and its gradient, in closed form.

    With w²_j = Σ_i W_ij² and sums over the rows of a batch, the value is
    Σ_j w²_j Σ_n s'(a_nj)². Its gradient is 2 s' ∘ s'' ∘ w² with respect to a, and
    2 W ∘ Σ_n s'² with respect to W.

    Parameters
    ----------
    activation : Activation
    weight : Tensor of shape (n_features, n_hidden)
        W, which every call reads anew.
    batch_size : int
        The largest number of rows in a batch.
    """

    def __init__(self, activation, weight, batch_size):
        self.activation = activation
        self.weight = weight
        self._squares = torch.empty_like(weight)
        self._norms, self._sums = (weight.new_empty(weight.shape[1]) for _ in range(2))
        self._buffer = weight.new_empty(batch_size, weight.shape[1])

    def __call__(self, a, h, d, scale, delta, d_columns):
        """Return the value; add ``scale`` times its gradients to two tensors.

        Parameters
        ----------
        a, h, d : Tensor of shape (n_samples, n_hidden)
            Pre-activations, s(a) and s'(a).
        scale : float
            At 0 the two tensors stay as they are.
        delta : Tensor of shape (n_samples, n_hidden)
            The gradient with respect to a, still to be multiplied by s'(a).
        d_columns : Tensor of shape (n_hidden,)
            The factors by which the columns of W are multiplied in the gradient with
            respect to W.
        """
        torch.mul(self.weight, self.weight, out=self._squares)
        norms = torch.sum(self._squares, dim=0, out=self._norms)
        buffer = self._buffer[: len(a)]
        if scale > 0:
            self.activation.second_derivative(a, h, d, out=buffer)
            delta.addcmul_(buffer, norms, value=2 * scale)
        torch.sum(torch.mul(d, d, out=buffer), dim=0, out=self._sums)
        if scale > 0:
            d_columns.add_(self._sums, alpha=2 * scale)
        return dot(self._sums, norms)


PENALTIES = {
    "contraction": Penalty(
        "lam", _contraction, monitored=True, closed_form=ContractionOfOneLayer
    ),
    "curvature": Penalty(
        "gamma",
        _curvature,
        options=("sigma",),
        adds_noise=True,
        requires=_needs_curvature,
    ),
}

# For each parameter of a penalty: whether it is an option (True) or a weight (False).
PARAMETERS = {
    name: name != penalty.weight
    for penalty in PENALTIES.values()
    for name in (penalty.weight, *penalty.options)
}


def weighted(settings):
    """Return the names of the penalties whose weights in ``settings`` aren't 0.

    A weight that is still to be chosen is None, and counts as not 0.
    """
    return [name for name, p in PENALTIES.items() if settings.get(p.weight, 0) != 0]


def reported(settings):
    """Return the names of the penalties that are computed with these settings."""
    names = weighted(settings)
    return [name for name, p in PENALTIES.items() if p.monitored or name in names]


def check_penalties(settings, activation):
    """Raise ValueError if a penalty in use is meaningless with the activation."""
    for name in weighted(settings):
        penalty = PENALTIES[name]
        reason = penalty.requires and penalty.requires(activation)
        if reason:
            raise ValueError(
                f"{penalty.weight} must be 0 here, as {reason}. Got "
                f"{settings[penalty.weight]!r} instead."
            )
