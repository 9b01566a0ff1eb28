"""The objective, reconstruction + penalties, and its gradient.

There are two implementations of the gradient, with the same interface: ``gradient(x)``
writes the gradient of the batch's mean objective into ``gradient.gradient`` and returns
the batch's summed terms as scalar tensors, without waiting for the device.
"""

import math
from collections import namedtuple
from functools import partial

import torch

from .activations import ACTIVATIONS
from .network import encode, largest_layer
from .penalties import PENALTIES, reported, weighted
from .reconstruction import Formed, Gram, loss_per_sample

# The terms of the objective, per sample or summed over a batch.
Terms = namedtuple("Terms", ["reconstruction", *PENALTIES])


def objective(
    architecture,
    parameters,
    x,
    target=None,
    *,
    loss="squared_error",
    n_projections=None,
    generator=None,
    **settings,
):
    """The terms of the objective, per sample and differentiable.

    The objective is the mean of the reconstruction loss plus the penalties times their
    weights.

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    target : Tensor of shape (n_samples, n_features), default=None
        Rows to reconstruct. None means x.
    loss : str, default="squared_error"
        A key of ``LOSSES``.
    n_projections : int, default=None
        Number of random projections that estimate a deep encoder's penalties. None
        computes the penalties exactly.
    generator : torch.Generator, default=None
        Generator of the projections and of the noise of penalties.
    **settings : float
        The weights and the other parameters of ``PENALTIES``, by name. A weight that
        isn't given is 0. A penalty with weight 0 is not differentiated. It is computed
        if it is monitored, and returned as 0 otherwise.

    Returns
    -------
    terms : Terms of Tensor of shape (n_samples,)
        The reconstruction loss summed over features, and the penalties.
    """
    encoding = encode(architecture, parameters, x)
    target = x if target is None else target
    code = encoding[1][-1]
    terms = [loss_per_sample(architecture, parameters, code, target, loss)]
    computed, differentiated = reported(settings), weighted(settings)
    for name, penalty in PENALTIES.items():
        if name not in computed:
            terms.append(torch.zeros_like(terms[0]))
            continue
        differentiates = torch.is_grad_enabled() and name in differentiated
        with torch.set_grad_enabled(differentiates):
            values = penalty.per_sample(
                architecture,
                parameters,
                x,
                encoding,
                n_projections=n_projections,
                generator=generator,
                **{name: settings[name] for name in penalty.options},
            )
        terms.append(values)
    return Terms(*terms)


def make_gradient(
    architecture,
    flat,
    *,
    loss,
    n_projections=None,
    generator=None,
    centre=None,
    corrupts=False,
    takes_weights=False,
    batch_size,
    dtype,
    alpha=0.0,
    **settings,
):
    """Return the fastest gradient: the closed form, if there is one, or autograd.

    There is a closed form for one layer, if all penalties in use have one.

    Parameters
    ----------
    architecture, flat, batch_size, dtype, alpha
        As in `FlatGradient`.
    loss, n_projections, generator, **settings
        As in `objective`.
    centre : Tensor of shape (n_features,), default=None
        A point near the mean of the data. If it is given, a gradient in closed form
        uses `Gram`, which reports the loss less a constant. `needs_no_reconstruction`
        says when that is possible and saves multiplications.
    corrupts : bool, default=False
        Whether inputs differ from their targets.
    takes_weights : bool, default=False
        Whether batches have weights. No closed form knows of them.
    """
    weights = [settings.get(penalty.weight, 0) for penalty in PENALTIES.values()]
    options = {"batch_size": batch_size, "dtype": dtype, "alpha": alpha}
    closed = all(PENALTIES[name].closed_form for name in weighted(settings))
    if architecture.depth == 1 and closed and not takes_weights:
        return ClosedFormGradient(
            architecture,
            flat,
            weights,
            loss=loss,
            centre=centre,
            corrupts=corrupts,
            **options,
        )
    function = partial(
        objective,
        loss=loss,
        n_projections=n_projections,
        generator=generator,
        **settings,
    )
    return AutogradGradient(architecture, flat, weights, function, **options)


class FlatGradient:
    """Base class: a flat vector of parameters, its gradient, and weight decay.

    Parameters
    ----------
    architecture : Architecture or ClassifierArchitecture
    flat : Tensor of shape (n_parameters,)
        The parameters, which every call reads anew.
    weights : sequence of float
        Weights of all terms but the first, whose weight is 1.
    batch_size : int
        The largest number of rows in a batch.
    dtype : torch.dtype
        The dtype of the computations and of the batches. If it is narrower than that of
        ``flat``, the parameters are cast to it, and the gradient is cast back.
    alpha : float, default=0.0
        Weight >= 0 of the sum of all squared weights (weight decay).

    Attributes
    ----------
    gradient : Tensor of shape (n_parameters,)
        Where the gradient is written.
    n_terms : int
        Number of terms that a call returns.
    is_relative : bool
        Whether the first term leaves out a part of the loss that depends only on the
        data; see `Gram`.
    """

    is_relative = False

    def __init__(self, architecture, flat, weights, *, batch_size, dtype, alpha=0.0):
        self.architecture = architecture
        self.flat = flat
        self.weights = [float(weight) for weight in weights]
        self.n_terms = 1 + len(self.weights)
        self.alpha = alpha
        self.batch_size = batch_size
        self.dtype = dtype
        self.gradient = torch.zeros_like(flat)
        casts = dtype != flat.dtype
        self._flat = flat.to(dtype) if casts else flat
        self._gradient = self.gradient.to(dtype) if casts else self.gradient
        self._n_weights = architecture.n_weights()

    @property
    def work(self):
        """Number of multiplications of the largest matrix product."""
        return self.batch_size * math.prod(largest_layer(self.architecture))

    def __call__(self, x, target=None, weights=None, tangents=None):
        """Compute the gradient on a batch; return its terms, summed over the rows.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Input of the network.
        target, weights, tangents
            As in `Batch`. The target of an autoencoder may be the uncorrupted rows.
        """
        if self._flat is not self.flat:
            self._flat.copy_(self.flat)
        target = x if target is None else target
        terms = self._evaluate(x, target, weights, tangents)
        if self._gradient is not self.gradient:
            self.gradient.copy_(self._gradient)
        if self.alpha > 0:
            n_weights = self._n_weights
            self.gradient[:n_weights].add_(self.flat[:n_weights], alpha=2 * self.alpha)
        return terms

    def total(self, terms):
        """Return the objective with these terms, without weight decay."""
        first, *penalties = terms
        for weight, penalty in zip(self.weights, penalties, strict=True):
            if weight > 0:
                first = first + weight * penalty
        return first

    def weight_decay(self):
        """Return alpha times the sum of all squared weights, a scalar tensor."""
        weights = self.flat[: self._n_weights]
        return self.alpha * torch.dot(weights, weights)


class AutogradGradient(FlatGradient):
    """The gradient by reverse-mode differentiation, for every objective.

    Parameters
    ----------
    objective : callable
        ``objective(architecture, parameters, x, target)`` returns the terms of each
        row, a named tuple. It gets ``tangents=`` if batches have tangents.
    **kwargs
        As in `FlatGradient`.
    """

    def __init__(self, architecture, flat, weights, objective, **kwargs):
        super().__init__(architecture, flat, weights, **kwargs)
        self.objective = objective

    def _evaluate(self, x, target, weights, tangents):
        extra = {} if tangents is None else {"tangents": tangents}
        with torch.enable_grad():
            leaf = self._flat.detach().requires_grad_()
            parameters = self.architecture.view(leaf)
            terms = self.objective(self.architecture, parameters, x, target, **extra)
            sums = []
            for values in terms:
                values = values.to(self.flat.dtype)
                values = values if weights is None else values * weights
                sums.append(values.sum())
            (gradient,) = torch.autograd.grad(self.total(sums) / len(x), leaf)
        self._gradient.copy_(gradient)
        return type(terms)(*(t.detach() for t in sums))


class ClosedFormGradient(FlatGradient):
    """The gradient of a one-layer model, in closed form.

    With a = x W + b and h = s(a),

        A    = s'(a) ∘ (∂/∂h + Σ_penalties)
        ∂/∂b = Σ_n A

    where A is the gradient of the mean objective with respect to a, and ∂/∂h is that of
    the mean loss with respect to h, which a `reconstruction` computes. Each penalty
    adds a term, which is its gradient with respect to a divided by s'(a). The
    reconstruction turns A into the gradient of the weights.

    Parameters
    ----------
    loss : str
        A key of ``LOSSES``.
    centre, corrupts
        As in `make_gradient`.
    **kwargs
        As in `FlatGradient`.
    """

    def __init__(
        self,
        architecture,
        flat,
        weights,
        *,
        loss,
        centre=None,
        corrupts=False,
        **kwargs,
    ):
        super().__init__(architecture, flat, weights, **kwargs)
        n_hidden = architecture.sizes[1]
        self.activation = ACTIVATIONS[architecture.activation]
        parameters = architecture.view(self._flat)
        views = architecture.view(self._gradient)
        self._d_bias = views.encoder_biases[0]
        self.is_relative = centre is not None
        shared = architecture, parameters, views
        if self.is_relative:
            self.reconstruction = Gram(*shared, self.batch_size, centre, corrupts)
        else:
            self.reconstruction = Formed(*shared, loss, self.batch_size)
        weight = parameters.encoder_weights[0]
        self._penalties = [
            penalty.closed_form
            and (weighted > 0 or penalty.monitored)
            and penalty.closed_form(self.activation, weight, self.batch_size)
            for penalty, weighted in zip(PENALTIES.values(), self.weights, strict=True)
        ]
        self._a, self._h, self._d = (
            weight.new_empty(self.batch_size, n_hidden) for _ in range(3)
        )
        self._d_columns = weight.new_zeros(n_hidden)
        self._adds_to_columns = any(self.weights)
        self._zero = torch.zeros((), dtype=flat.dtype, device=flat.device)

    def _evaluate(self, x, target, weights, tangents):
        n = x.shape[0]
        reconstruction = self.reconstruction
        a = reconstruction.encode(x, self._a[:n])
        h = self.activation.value(a, out=self._h[:n])
        loss, delta = reconstruction.forward(x, target, h)
        d = self.activation.derivative(a, h, out=self._d[:n])
        terms = [loss]
        d_columns = self._d_columns
        if self._adds_to_columns:
            d_columns.zero_()
        for penalty, weight in zip(self._penalties, self.weights, strict=True):
            value = self._zero
            if penalty:
                value = penalty(a, h, d, weight / n, delta, d_columns)
            terms.append(value)
        A = delta.mul_(d)
        reconstruction.backward(x, A, d_columns)
        torch.sum(A, dim=0, out=self._d_bias)
        return Terms(*terms)
