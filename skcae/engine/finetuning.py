"""Supervised fine-tuning: an encoder with a softmax layer on top.

The network's parameters are `Parameters` whose decoder is the softmax layer: one linear
map from the code to the logits z. The output is o = softmax(z), the class
probabilities. Training is that of `training.train`, with batches of labelled rows.
"""

import math
from itertools import chain, pairwise
from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from .activations import ACTIVATIONS
from .batches import ShuffledBatches, as_tensor, block_rows, row_blocks
from .corruption import fill_normal
from .device import PRECISIONS, isolated, make_generator
from .network import Parameters, activation_derivatives, decode, encode
from .objective import FlatGradient
from .optimizer import OPTIMIZERS
from .penalties import pull_back
from .products import fastest_product
from .training import TrainingRun, check_weights, train


class ClassifierArchitecture(NamedTuple):
    """What defines the classifier's network apart from its parameters.

    Attributes
    ----------
    sizes : tuple of int
        Number of features, of units of each encoder layer, and of classes.
    activation : str
        A key of ``ACTIVATIONS``: of the encoder's layers.
    """

    sizes: tuple
    activation: str = "sigmoid"

    def weight_shapes(self):
        """Shapes of the weights, which come first in a flat vector."""
        return list(pairwise(self.sizes))

    def n_weights(self):
        """Number of entries of the flat vector that are weights."""
        return sum(map(math.prod, self.weight_shapes()))

    def n_parameters(self):
        """Length of the flat vector that holds all parameters."""
        return self.n_weights() + sum(self.sizes[1:])

    def view(self, flat):
        """Return the `Parameters` whose entries are views of the vector ``flat``."""
        shapes = self.weight_shapes()
        blocks = flat.split([*map(math.prod, shapes), *self.sizes[1:]])
        weights = [b.view(s) for b, s in zip(blocks, shapes, strict=False)]
        biases = list(blocks[len(shapes) :])
        return Parameters(weights[:-1], biases[:-1], weights[-1:], biases[-1:])

    def flatten(self, parameters):
        """Return the new flat vector that holds copies of ``parameters``."""
        encoder_weights, encoder_biases, weights, biases = parameters
        blocks = chain(encoder_weights, weights, encoder_biases, biases)
        return torch.cat([block.reshape(-1) for block in blocks])


def _log_softmax(z):
    """Return log o, in at least float32."""
    return torch.log_softmax(z, 1, dtype=torch.promote_types(z.dtype, torch.float32))


def logits(architecture, parameters, x):
    """Return z = h(x) U + c, of shape (n_samples, n_classes)."""
    return decode(architecture, parameters, encode(architecture, parameters, x)[1][-1])


def decision(architecture, parameters, x):
    """Return the logits, or with two classes the second minus the first."""
    z = logits(architecture, parameters, x)
    return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z


def probabilities(architecture, parameters, x):
    """Return o(x) = softmax(z), of shape (n_samples, n_classes)."""
    return torch.softmax(logits(architecture, parameters, x), dim=1)


def log_probabilities(architecture, parameters, x):
    """Return log o(x), of shape (n_samples, n_classes)."""
    return _log_softmax(logits(architecture, parameters, x))


def tangent_penalty(architecture, parameters, tangents, probes, encoding, output):
    """Σ_u Σ_p (p · ∂o/∂x u)², how much the output changes along given directions.

    The tangent propagation penalty Σ_u ‖∂o/∂x u‖² (Rifai, Dauphin, Vincent, Bengio and
    Muller, NIPS 2011) of the class probabilities o, if Σ_p p pᵀ is the identity. It
    costs a vector-Jacobian product for each p, for any number of tangents: the softmax
    takes p to o ∘ (p - o · p), and a layer takes g to (g ∘ s'(a)) Wᵀ.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    parameters : Parameters
    tangents : Tensor of shape (n_samples, n_tangents, n_features)
        The directions u.
    probes : Tensor of shape (n_samples, n_probes, n_classes)
        The directions p.
    encoding : tuple
        What `encode` returned for the samples.
    output : Tensor of shape (n_samples, n_classes)
        Their class probabilities.

    Returns
    -------
    penalties : Tensor of shape (n_samples,)
        Differentiable by autograd.
    """
    o = output.unsqueeze(1)
    g = o * (probes - (o * probes).sum(dim=2, keepdim=True))
    g = g.to(tangents.dtype) @ parameters.decoder_weights[0].T
    diagonals = activation_derivatives(architecture, encoding)
    g = pull_back(g, parameters.encoder_weights, diagonals)
    g = g @ parameters.encoder_weights[0].T
    return (g @ tangents.mT).to(output.dtype).square().sum(dim=(1, 2))


def draw_class_probes(output, generator):
    """Draw one or two directions p for an unbiased estimate of `tangent_penalty`.

    The changes of o sum to 0, so that E Σ_p p pᵀ only has to be the projection onto
    vectors that do. The first p is the unit vector along e_k - o, where k is the most
    probable class: once a network tells classes apart, most of the changes lie along
    it. The second one has a random direction orthogonal to it, and the length
    sqrt(n_classes - 2). It is Hutchinson's estimate (1990) of the trace of
    Σ_u (∂o/∂x u) (∂o/∂x u)ᵀ, but for a part that is taken out first, as in Hutch++
    (Meyer, Musco, Musco and Woodruff, SOSA 2021). It is exact, up to rounding, for two
    classes, which need the first p alone, and for three.

    Parameters
    ----------
    output : Tensor of shape (n_samples, n_classes)
        The class probabilities o.
    generator : torch.Generator

    Returns
    -------
    probes : Tensor of shape (n_samples, n_probes, n_classes)
    """
    # 1 - o_k as a sum, where o_k is rounded to 1.
    top = output.argmax(dim=1, keepdim=True)
    others = output.detach().scatter(1, top, 0.0)
    first = normalize((-others).scatter_(1, top, others.sum(dim=1, keepdim=True)))
    n_classes = output.shape[1]
    if n_classes == 2:
        return first.unsqueeze(1)
    second = fill_normal(torch.empty_like(first), 1.0, generator)
    second -= second.mean(dim=1, keepdim=True)
    second -= (second * first).sum(dim=1, keepdim=True) * first
    second = normalize(second) * math.sqrt(n_classes - 2)
    return torch.stack([first, second], dim=1)


class Terms(NamedTuple):
    """The terms of the objective, per sample or summed over a batch."""

    cross_entropy: torch.Tensor
    tangent: torch.Tensor


class EpochReport(NamedTuple):
    """Weighted means over the samples of one epoch, as seen while training on them.

    Attributes
    ----------
    cross_entropy : float
    tangent : float
        The `tangent_penalty`, as estimated; 0 where there are no tangents.
    objective : float
        cross_entropy + tangent_weight · tangent, plus alpha times the sum of squared
        weights at the end of the epoch.
    """

    cross_entropy: float
    tangent: float
    objective: float


class LabelledBatch(NamedTuple):
    """Rows and what belongs to them.

    Attributes
    ----------
    x : Tensor of shape (n_samples, n_features)
    labels : Tensor of shape (n_samples, 1)
        Numbers of the classes, int64.
    weights : Tensor of shape (n_samples, 1)
        At least float32.
    tangents : Tensor of shape (n_samples, n_tangents, n_features) or None
    """

    x: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    tangents: torch.Tensor | None = None


def objective(architecture, parameters, batch, generator=None):
    """The terms of the objective, per sample, without weights, and differentiable.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    parameters : Parameters
    batch : LabelledBatch
    generator : torch.Generator, default=None
        As in `draw_class_probes`. Required if there are tangents.

    Returns
    -------
    terms : Terms of Tensor of shape (n_samples,)
    """
    encoding = encode(architecture, parameters, batch.x)
    z = decode(architecture, parameters, encoding[1][-1])
    log_output = _log_softmax(z)
    cross_entropy = -log_output.gather(1, batch.labels).squeeze(1)
    tangent = torch.zeros_like(cross_entropy)
    if batch.tangents is not None:
        output = log_output.exp()
        probes = draw_class_probes(output, generator)
        tangent = tangent_penalty(
            architecture, parameters, batch.tangents, probes, encoding, output
        )
    return Terms(cross_entropy, tangent)


class _Gradient(FlatGradient):
    """What both kinds share.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    flat : Tensor of shape (n_parameters,)
    tangent_weight : float, default=0.0
        Weight >= 0 of the tangent penalty.
    generator : torch.Generator, default=None
        As in `objective`.
    **kwargs
        As in `FlatGradient`.
    """

    n_terms = len(Terms._fields)

    def __init__(
        self, architecture, flat, *, tangent_weight=0.0, generator=None, **kwargs
    ):
        super().__init__(architecture, flat, **kwargs)
        self.tangent_weight = tangent_weight
        self.generator = generator

    def total(self, terms):
        """Return the objective of which these are the terms, but for weight decay."""
        cross_entropy, tangent = terms
        return cross_entropy + self.tangent_weight * tangent


class AutogradGradient(_Gradient):
    """The gradient by reverse-mode differentiation: with or without tangents."""

    def _evaluate(self, x, batch):
        batch = batch._replace(x=x)
        weights = batch.weights.squeeze(1)
        with torch.enable_grad():
            leaf = self._flat.detach().requires_grad_()
            parameters = self.architecture.view(leaf)
            terms = objective(self.architecture, parameters, batch, self.generator)
            sums = Terms(*((weights * t).sum() for t in terms))
            (gradient,) = torch.autograd.grad(self.total(sums) / len(x), leaf)
        self._gradient.copy_(gradient)
        return Terms(*(t.detach() for t in sums))


class ClosedFormGradient(_Gradient):
    """The gradient of the cross-entropy alone, by backpropagation written out.

    All large intermediate results lie in buffers allocated once, but for what
    `onednn_product` returns.
    """

    def __init__(self, architecture, flat, **kwargs):
        super().__init__(architecture, flat, **kwargs)
        self.activation = ACTIVATIONS[architecture.activation]
        self._layers = self._by_layer(self._flat)
        self._views = self._by_layer(self._gradient)
        self._buffers = [
            [
                torch.empty(
                    (self.batch_size, size), dtype=self.dtype, device=flat.device
                )
                for size in architecture.sizes[1:-1]
            ]
            for _ in range(3)
        ]
        self._no_tangent = torch.zeros((), dtype=flat.dtype, device=flat.device)
        self._product = fastest_product(self._flat, self.product_sizes)

    def _by_layer(self, flat):
        weights, biases, last_weights, last_biases = self.architecture.view(flat)
        return list(zip(weights + last_weights, biases + last_biases, strict=True))

    def _evaluate(self, x, batch):
        n_samples = len(x)
        pre_activations, activations, deltas = (
            [buffer[:n_samples] for buffer in buffers] for buffers in self._buffers
        )
        *hidden_layers, (weight, bias) = self._layers
        product = self._product
        h = x
        for i, layer in enumerate(hidden_layers):
            a = product(h, *layer, scratch=pre_activations[i])
            pre_activations[i] = a
            h = self.activation.value(a, out=activations[i])
        log_output = _log_softmax(torch.addmm(bias, h, weight))
        losses = log_output.gather(1, batch.labels).mul_(batch.weights)
        delta = log_output.exp_().scatter_add_(
            1, batch.labels, log_output.new_full((1, 1), -1.0).expand(n_samples, 1)
        )
        delta = delta.mul_(batch.weights / n_samples).to(self.dtype)

        # From here on delta is the gradient with respect to a layer's pre-activation.
        inputs = [x, *activations]
        for i in reversed(range(len(inputs))):
            d_weight, d_bias = self._views[i]
            product(inputs[i].T, delta, out=d_weight)
            torch.sum(delta, dim=0, out=d_bias)
            if i > 0:
                a, h = pre_activations[i - 1], activations[i - 1]
                delta = product(delta, self._layers[i][0].T, scratch=deltas[i - 1])
                delta.mul_(self.activation.derivative(a, h, out=a))
        return Terms(-losses.sum(), self._no_tangent)


class LabelledBatches:
    """Labelled rows in random batches: `ShuffledBatches` of each part, in step.

    Parameters
    ----------
    X : ndarray, CSR array or RowSubset of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Numbers of the classes.
    weights : ndarray of shape (n_samples,)
    tangents : ndarray of shape (n_samples, n_tangents, n_features), default=None
    batch_size, dtype, device
        As in `ShuffledBatches`.
    seed : int
    """

    def __init__(
        self, X, labels, weights, tangents=None, *, batch_size, dtype, device, seed
    ):
        columns = [X, labels.reshape(-1, 1), weights.reshape(-1, 1)]
        if tangents is not None:
            columns.append(tangents.reshape(len(tangents), -1))
        wide = torch.promote_types(dtype, torch.float32)
        dtypes = [dtype, torch.int64, wide, dtype]
        self._parts = []
        for rows, rows_dtype in zip(columns, dtypes, strict=False):
            part = ShuffledBatches(
                rows,
                batch_size=batch_size,
                dtype=rows_dtype,
                device=device,
                generator=make_generator(seed),
                in_step_with=self._parts[0] if self._parts else None,
            )
            self._parts.append(part)
        self.n_samples = self._parts[0].n_samples
        self.batch_size = self._parts[0].batch_size

    def __iter__(self):
        for x, labels, weights, *tangents in zip(*self._parts, strict=True):
            tangents = [rows.unflatten(1, (-1, x.shape[1])) for rows in tangents]
            yield LabelledBatch(x, labels, weights, *tangents)


class FineTuner(TrainingRun):
    """Parameters, gradient, optimiser and batches of a classifier's training.

    The softmax layer starts with zeros: with equal probabilities.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    X : ndarray, CSR array or RowSubset of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Numbers of the classes, from 0.
    encoder_weights, encoder_biases : list of ndarray
        The encoder to start from.
    weights : ndarray of shape (n_samples,)
        Of the samples, >= 0 and not all zero; only their ratios matter.
    tangents : ndarray of shape (n_samples, n_tangents, n_features), default=None
    tangent_weight : float, default=0.0
    alpha : float
        Weight of the sum of all squared weights.
    corruption : str, default=None
        A key of ``CORRUPTIONS``: what is done to the rows while training.
    corruption_level : float, default=0.0
    learning_rate : float
    batch_size : int
    precision : str
        A key of ``PRECISIONS``, as in `Trainer`.
    device : torch.device
    seed : int
        Of the order of the samples, of the corruption and of the probes.
    optimizer : str, default="adam"
        A key of ``OPTIMIZERS``.

    Raises
    ------
    FloatingPointError
        If ``alpha`` or ``tangent_weight`` is too large.
    """

    @isolated
    def __init__(
        self,
        architecture,
        X,
        labels,
        encoder_weights,
        encoder_biases,
        *,
        weights,
        tangents=None,
        tangent_weight=0.0,
        alpha,
        corruption=None,
        corruption_level=0.0,
        learning_rate,
        batch_size,
        precision,
        device,
        seed,
        optimizer="adam",
    ):
        self.architecture = architecture
        self.learning_rate = learning_rate
        dtype = PRECISIONS[precision]
        wide = torch.promote_types(dtype, torch.float32)
        check_weights(wide, alpha=alpha, tangent_weight=tangent_weight)
        self.batches = LabelledBatches(
            X,
            labels,
            weights / weights.mean(),
            tangents,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            seed=seed,
        )
        n_hidden, n_classes = architecture.sizes[-2:]
        parameters = Parameters(
            [as_tensor(a).to(wide) for a in encoder_weights],
            [as_tensor(a).to(wide) for a in encoder_biases],
            [torch.zeros((n_hidden, n_classes), dtype=wide, device="cpu")],
            [torch.zeros(n_classes, dtype=wide, device="cpu")],
        )
        flat = architecture.flatten(parameters).to(device)
        # Not that of the order, nor that of one another.
        noise, probes = (make_generator(seed + i, device) for i in (1, 2))
        kind = ClosedFormGradient if tangents is None else AutogradGradient
        self.gradient = kind(
            architecture,
            flat,
            tangent_weight=tangent_weight,
            generator=probes,
            alpha=alpha,
            batch_size=self.batches.batch_size,
            dtype=dtype,
        )
        self.optimizer = OPTIMIZERS[optimizer](
            architecture, flat, self.gradient.gradient, learning_rate, dtype
        )
        self._corrupt = self._corruption(corruption, corruption_level, noise)
        self._draws = noise, probes

    def epochs(self):
        """Return the endless generator of `EpochReport`; see `training.train`."""
        return train(
            self.gradient,
            self.optimizer,
            self.batches,
            lambda batch: self._corrupt(batch.x),
            EpochReport,
            generators=self._draws,
        )

    @isolated
    def mean_objective(self, data):
        """Return the weighted mean cross-entropy of (X, labels, weights), as a float.

        Neither penalties nor corruption are part of it. Raises FloatingPointError if it
        is infinite or NaN.
        """
        X, *others = data
        labels, weights = (as_tensor(array.reshape(-1, 1)) for array in others)
        flat = self.gradient.flat
        parameters = self.architecture.view(flat)
        total = torch.zeros((), dtype=flat.dtype, device=flat.device)
        n_rows = block_rows(max(self.architecture.sizes))
        for rows, x in row_blocks(
            X, dtype=flat.dtype, device=flat.device, n_rows=n_rows
        ):
            w = weights[rows].to(flat)
            batch = LabelledBatch(x, labels[rows].to(flat.device), w)
            terms = objective(self.architecture, parameters, batch)
            total += torch.dot(w.squeeze(1), terms.cross_entropy)
        mean = total.item() / others[1].sum()
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss on held-out samples is {mean}")
        return float(mean)
