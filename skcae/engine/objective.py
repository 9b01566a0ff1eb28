"""The objective, reconstruction + penalties, and its gradient.

Two ways to the same gradient share one interface: ``gradient(x)`` writes the gradient
of the batch's mean objective into ``gradient.gradient`` and returns the batch's summed
terms as scalar tensors, without waiting for a device.
"""

import math
from typing import NamedTuple

import torch

from .activations import ACTIVATIONS
from .corruption import fill_normal
from .losses import LOSSES, dot
from .network import decode, encode, largest_layer
from .penalties import contraction, higher_order, projected_contraction
from .products import fastest_product

# Number of steps around each sample over which the curvature is taken.
_N_STEPS = 2


class Terms(NamedTuple):
    """The terms of the objective, per sample or summed over a batch."""

    reconstruction: torch.Tensor
    contraction: torch.Tensor
    curvature: torch.Tensor


def objective(
    architecture,
    parameters,
    x,
    target=None,
    *,
    loss="squared_error",
    lam=1.0,
    gamma=0.0,
    sigma=0.0,
    n_projections=None,
    generator=None,
):
    """The terms of the objective, per sample and differentiable.

    The objective is the mean of reconstruction + lam · contraction + gamma · curvature.

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    target : Tensor of shape (n_samples, n_features), default=None
        What to reconstruct; None is x.
    loss : str, default="squared_error"
        A key of ``LOSSES``.
    lam, gamma : float
        A term with weight 0 is not differentiated; curvature is not even computed.
    sigma : float, default=0.0
        Standard deviation of the steps over which the curvature is taken.
    n_projections : int, default=None
        Number of random projections with which a deep encoder's penalties are
        estimated; None computes them.
    generator : torch.Generator, default=None
        Of projections and steps, where there are any.

    Returns
    -------
    terms : Terms of Tensor of shape (n_samples,)
        The reconstruction loss summed over features, ‖J(x)‖²_F and
        E ‖J(x) - J(x + ε)‖²_F.
    """
    encoding = encode(architecture, parameters, x)
    z = decode(architecture, parameters, encoding[1][-1])
    output = ACTIVATIONS[architecture.output_activation]
    reconstruction = LOSSES[loss].per_sample(z, x if target is None else target, output)
    projects = n_projections is not None and architecture.depth > 1
    with torch.set_grad_enabled(torch.is_grad_enabled() and lam > 0):
        if projects:
            penalty = projected_contraction(
                architecture, parameters, x, n_projections, generator, encoding
            )
        else:
            penalty = contraction(architecture, parameters, x, encoding)
    curvature = torch.zeros_like(reconstruction)
    if gamma > 0:
        noise = x.new_empty(_N_STEPS, *x.shape)
        curvature = higher_order(
            architecture,
            parameters,
            x,
            fill_normal(noise, sigma, generator),
            encoding,
            n_projections=n_projections,
            generator=generator,
        )
    return Terms(reconstruction, penalty, curvature)


def make_gradient(architecture, flat, **kwargs):
    """Return the fastest gradient: closed form for one layer, without curvature."""
    closed = architecture.depth == 1 and kwargs.get("gamma", 0) == 0
    kind = ClosedFormGradient if closed else AutogradGradient
    return kind(architecture, flat, **kwargs)


class FlatGradient:
    """What all kinds share: a flat vector of parameters, its gradient, weight decay.

    Parameters
    ----------
    architecture : Architecture or ClassifierArchitecture
    flat : Tensor of shape (n_parameters,)
        The parameters, read anew at every call.
    batch_size : int
        The largest number of rows in a batch.
    dtype : torch.dtype
        The arithmetic, which is the batches' dtype too. Where it is narrower than
        that of ``flat``, parameters and gradient are cast from and to the latter's.
    alpha : float, default=0.0
        Weight >= 0 of the sum of all squared weights (weight decay).

    Attributes
    ----------
    gradient : Tensor of shape (n_parameters,)
        Where the gradient is written.
    n_terms : int
        Number of terms that a call returns.
    """

    def __init__(self, architecture, flat, *, batch_size, dtype, alpha=0.0):
        self.architecture = architecture
        self.flat = flat
        self.alpha = alpha
        self.batch_size = batch_size
        self.dtype = dtype
        self.gradient = torch.zeros_like(flat)
        casts = dtype != flat.dtype
        self._flat = flat.to(dtype) if casts else flat
        self._gradient = self.gradient.to(dtype) if casts else self.gradient
        self._n_weights = architecture.n_weights()

    @property
    def product_sizes(self):
        """Numbers of rows, inputs and outputs of the largest matrix product."""
        return self.batch_size, *largest_layer(self.architecture)

    @property
    def work(self):
        """Number of multiplications of the largest matrix product."""
        return math.prod(self.product_sizes)

    def __call__(self, x, target=None):
        """Compute the gradient on a batch, whose output should be ``target``."""
        if self._flat is not self.flat:
            self._flat.copy_(self.flat)
        terms = self._evaluate(x, x if target is None else target)
        if self._gradient is not self.gradient:
            self.gradient.copy_(self._gradient)
        if self.alpha > 0:
            n_weights = self._n_weights
            self.gradient[:n_weights].add_(self.flat[:n_weights], alpha=2 * self.alpha)
        return terms

    def weight_decay(self):
        """Return alpha times the sum of all squared weights, a scalar tensor."""
        weights = self.flat[: self._n_weights]
        return self.alpha * torch.dot(weights, weights)


class _Gradient(FlatGradient):
    """What both kinds of an autoencoder's gradient share.

    Parameters
    ----------
    architecture : Architecture
    flat : Tensor of shape (n_parameters,)
    loss : str
        A key of ``LOSSES``.
    lam : float
        Weight λ >= 0 of the contraction.
    gamma, sigma, n_projections, generator
        As in `objective`.
    **kwargs
        As in `FlatGradient`.
    """

    n_terms = len(Terms._fields)

    def __init__(
        self,
        architecture,
        flat,
        *,
        loss,
        lam,
        gamma=0.0,
        sigma=0.0,
        n_projections=None,
        generator=None,
        **kwargs,
    ):
        super().__init__(architecture, flat, **kwargs)
        self.loss = LOSSES[loss]
        self.lam = lam
        self.gamma = gamma
        self.output = ACTIVATIONS[architecture.output_activation]
        self.settings = {
            "loss": loss,
            "lam": lam,
            "gamma": gamma,
            "sigma": sigma,
            "n_projections": n_projections,
        }
        self.generator = generator

    def total(self, terms):
        """Return the objective of which these are the terms, but for weight decay."""
        reconstruction, penalty, curvature = terms
        return reconstruction + self.lam * penalty + self.gamma * curvature


class AutogradGradient(_Gradient):
    """The gradient by reverse-mode differentiation: for every architecture."""

    def _evaluate(self, x, target):
        with torch.enable_grad():
            leaf = self._flat.detach().requires_grad_()
            parameters = self.architecture.view(leaf)
            terms = objective(
                self.architecture,
                parameters,
                x,
                target,
                generator=self.generator,
                **self.settings,
            )
            sums = Terms(*(t.to(self.flat.dtype).sum() for t in terms))
            mean = self.total(sums) / len(x)
            (gradient,) = torch.autograd.grad(mean, leaf)
        self._gradient.copy_(gradient)
        return Terms(*(t.detach() for t in sums))


class _Workspace(NamedTuple):
    """Buffers of one batch, and a transpose: a view that need not be made anew."""

    a: torch.Tensor
    h: torch.Tensor
    d: torch.Tensor
    d2: torch.Tensor
    z: torch.Tensor
    scratch: torch.Tensor
    h_t: torch.Tensor


class ClosedFormGradient(_Gradient):
    """The gradient of a one-layer model, written out: five matrix products in all.

    With w²_j = Σ_i W_ij², R = ∂loss/∂z / n and the sums over the n rows of the batch,

        ∂/∂V = Hᵀ R
        A    = s' ∘ (R Vᵀ + 2 lam / n · s'' ∘ w²)
        ∂/∂W = Xᵀ A + 2 lam / n · W ∘ Σ_n s'²

    and the column sums of A and R are the gradients of the biases; the two weights'
    add up where they are tied. All work happens in buffers allocated once, but for
    what `onednn_product` returns.
    """

    def __init__(self, architecture, flat, **kwargs):
        super().__init__(architecture, flat, **kwargs)
        n_features, n_hidden = architecture.sizes
        self.activation = ACTIVATIONS[architecture.activation]
        self._parameters = architecture.view(self._flat)
        self._views = architecture.view(self._gradient)
        self._decoder_weight_t = self._parameters.decoder_weights[0].T

        def empty(*shape):
            return torch.empty(shape, dtype=self.dtype, device=flat.device)

        self._buffers = [empty(self.batch_size, n_hidden) for _ in range(4)]
        self._buffers += [empty(self.batch_size, n_features) for _ in range(2)]
        self._workspaces = {}
        self._squared_weight = empty(n_features, n_hidden)
        self._column_norms = empty(n_hidden)
        self._column_sums = empty(n_hidden)
        self._no_curvature = torch.zeros((), dtype=flat.dtype, device=flat.device)
        self._product = fastest_product(self._flat, self.product_sizes)

    def _workspace(self, n_samples):
        if n_samples not in self._workspaces:
            buffers = [buffer[:n_samples] for buffer in self._buffers]
            self._workspaces[n_samples] = _Workspace(*buffers, h_t=buffers[1].T)
        return self._workspaces[n_samples]

    def _evaluate(self, x, target):
        n_samples = len(x)
        (weight,), (bias,), (decoder_weight,), (decoder_bias,) = self._parameters
        (d_weight,), (d_bias,), (d_decoder_weight,), (d_decoder_bias,) = self._views
        a, h, d, d2, z, scratch, h_t = self._workspace(n_samples)

        product = self._product
        a = product(x, weight, bias, scratch=a)
        self.activation.value(a, out=h)
        z = product(h, decoder_weight, decoder_bias, scratch=z)
        reconstruction = self.loss.sum_and_gradient(
            z, target, self.output, scratch, 1 / n_samples
        )
        self.activation.derivative(a, h, out=d)
        torch.mul(weight, weight, out=self._squared_weight)
        column_norms = torch.sum(self._squared_weight, dim=0, out=self._column_norms)
        if self.lam > 0:
            self.activation.second_derivative(a, h, d, out=d2)

        # From here on a holds A, the gradient with respect to the pre-activations.
        a = product(z, self._decoder_weight_t, scratch=a)
        weight_of_penalty = 2 * self.lam / n_samples
        if self.lam > 0:
            a.addcmul_(d2, column_norms, value=weight_of_penalty)
        a.mul_(d)
        column_sums = torch.sum(d.square_(), dim=0, out=self._column_sums)
        penalty = dot(column_sums, column_norms)

        if self.lam > 0:
            torch.mul(weight, column_sums, out=d_weight)
            product(x.T, a, d_weight, beta=weight_of_penalty, out=d_weight)
        else:
            product(x.T, a, out=d_weight)
        if self.architecture.tied:
            product(z.T, h, d_weight, out=d_weight)
        else:
            product(h_t, z, out=d_decoder_weight)
        torch.sum(a, dim=0, out=d_bias)
        torch.sum(z, dim=0, out=d_decoder_bias)
        return Terms(reconstruction, penalty, self._no_curvature)
