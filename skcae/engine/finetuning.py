"""Supervised fine-tuning: an encoder with a softmax layer on top.

The network's parameters are `Parameters` whose decoder is the softmax layer: one linear
map from the code to the logits z. The output is o = softmax(z), the class
probabilities. Training is a `training.TrainingRun` with batches of labelled rows.
"""

import math
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from .activations import ACTIVATIONS
from .batches import ShuffledBatches
from .corruption import KEEP_ZEROS, fill_normal
from .device import PRECISIONS, isolated, make_generator
from .network import Parameters, activation_derivatives, decode, encode
from .objective import AutogradGradient, FlatGradient
from .optimizer import OPTIMIZERS, dtype_of_steps
from .penalties import pull_back
from .rows import as_rows, as_tensor, cast
from .sparse import product, transposed_product
from .training import TrainingRun, check_weights


class ClassifierArchitecture(NamedTuple):
    """The sizes and the activation of the classifier's network.

    Attributes
    ----------
    sizes : tuple of int
        The number of features, the number of units of each encoder layer, and the
        number of classes.
    activation : str
        A key of ``ACTIVATIONS``: the activation of the encoder's layers.
    """

    sizes: tuple
    activation: str = "sigmoid"

    def weight_shapes(self):
        """Shapes of the weights, which come first in a flat vector."""
        return list(pairwise(self.sizes))

    def shapes(self):
        """Shapes of all blocks, in the order in which they lie in a flat vector."""
        return self.weight_shapes() + [(size,) for size in self.sizes[1:]]

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


def _cross_entropy(log_output, target):
    """Return −log o of the classes, or its mean under class probabilities."""
    if target.dim() == 2:
        return -(log_output * target).sum(dim=1)
    return -log_output.gather(1, target.unsqueeze(1)).squeeze(1)


def logits(architecture, parameters, x):
    """Return z = h(x) U + c, of shape (n_samples, n_classes)."""
    return decode(architecture, parameters, encode(architecture, parameters, x)[1][-1])


def decision(architecture, parameters, x):
    """Return the logits, or for two classes the second logit minus the first."""
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

    If Σ_p p pᵀ is the identity, this is the tangent propagation penalty Σ_u ‖∂o/∂x u‖²
    of the class probabilities o (Rifai, Dauphin, Vincent, Bengio and Muller, NIPS
    2011). It costs one vector-Jacobian product for each p, however many tangents there
    are. The softmax maps p to o ∘ (p - o · p), and a layer maps g to (g ∘ s'(a)) Wᵀ.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    parameters : Parameters
    tangents : Tensor of shape (n_samples, n_tangents, n_features)
        The directions u.
    probes : Tensor of shape (n_samples, n_probes, n_classes)
        The directions p.
    encoding : tuple
        The result of `encode` for the samples.
    output : Tensor of shape (n_samples, n_classes)
        The class probabilities of the samples.

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

    The entries of each change of o sum to 0. E Σ_p p pᵀ therefore only has to be the
    projection onto the vectors whose entries sum to 0. The first p is the unit vector
    along e_k - o, where k is the most probable class: once a network tells classes
    apart, most of the change lies along this vector. The second p has a random
    direction orthogonal to the first, and the length sqrt(n_classes - 2).

    This is Hutchinson's estimate (1990) of the trace of Σ_u (∂o/∂x u) (∂o/∂x u)ᵀ,
    except that the part along the first p is computed exactly, as in Hutch++ (Meyer,
    Musco, Musco and Woodruff, SOSA 2021). The penalty is exact, up to rounding, for two
    classes, which need only the first p, and for three.

    Parameters
    ----------
    output : Tensor of shape (n_samples, n_classes)
        The class probabilities o.
    generator : torch.Generator

    Returns
    -------
    probes : Tensor of shape (n_samples, n_probes, n_classes)
    """
    # 1 - o_k is computed as a sum, since o_k may be rounded to 1.
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


class ClassifierTerms(NamedTuple):
    """The terms of the objective, per sample or summed over a batch."""

    cross_entropy: torch.Tensor
    tangent: torch.Tensor


def classifier_objective(
    architecture, parameters, x, target, tangents=None, generator=None
):
    """The terms of the objective, per sample, without weights, and differentiable.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    target : Tensor of shape (n_samples,) or (n_samples, n_classes)
        Class indices, int64, or class probabilities.
    tangents : Tensor of shape (n_samples, n_tangents, n_features), default=None
    generator : torch.Generator, default=None
        As in `draw_class_probes`. Required if there are tangents.

    Returns
    -------
    terms : ClassifierTerms of Tensor of shape (n_samples,)
    """
    encoding = encode(architecture, parameters, x)
    z = decode(architecture, parameters, encoding[1][-1])
    log_output = _log_softmax(z)
    cross_entropy = _cross_entropy(log_output, target)
    tangent = torch.zeros_like(cross_entropy)
    if tangents is not None:
        output = log_output.exp()
        probes = draw_class_probes(output, generator)
        tangent = tangent_penalty(
            architecture, parameters, tangents.to(x.dtype), probes, encoding, output
        )
    return ClassifierTerms(cross_entropy, tangent)


class CrossEntropyGradient(FlatGradient):
    """The gradient of the cross-entropy alone, by explicit backpropagation.

    All large intermediate results are written to buffers that are allocated once.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    **kwargs
        As in `FlatGradient`.
    """

    def __init__(self, architecture, flat, **kwargs):
        super().__init__(architecture, flat, [0.0], **kwargs)
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

    def _by_layer(self, flat):
        weights, biases, last_weights, last_biases = self.architecture.view(flat)
        return list(zip(weights + last_weights, biases + last_biases, strict=True))

    def _evaluate(self, x, target, weights, tangents):
        n_samples = len(x)
        pre_activations, activations, deltas = (
            [buffer[:n_samples] for buffer in buffers] for buffers in self._buffers
        )
        *hidden_layers, (weight, bias) = self._layers
        h = x
        for (w, b), a, out in zip(
            hidden_layers, pre_activations, activations, strict=True
        ):
            product(h, w, b, out=a)
            h = self.activation.value(a, out=out)
        log_output = _log_softmax(torch.addmm(bias, h, weight))
        losses = _cross_entropy(log_output, target)
        if weights is not None:
            losses = losses * weights
        delta = log_output.exp_()
        if target.dim() == 2:
            delta.sub_(target)
        else:
            minus_one = delta.new_full((1, 1), -1.0).expand(n_samples, 1)
            delta.scatter_add_(1, target.unsqueeze(1), minus_one)
        if weights is not None:
            delta.mul_(weights.unsqueeze(1))
        delta = delta.div_(n_samples).to(self.dtype)

        # From here on delta is the gradient with respect to a layer's pre-activation.
        inputs = [x, *activations]
        for i in reversed(range(len(inputs))):
            d_weight, d_bias = self._views[i]
            transposed_product(inputs[i], delta, out=d_weight)
            torch.sum(delta, dim=0, out=d_bias)
            if i > 0:
                a, h = pre_activations[i - 1], activations[i - 1]
                delta = torch.mm(delta, self._layers[i][0].T, out=deltas[i - 1])
                delta.mul_(self.activation.derivative(a, h, out=a))
        return ClassifierTerms(losses.sum(), self._no_tangent)


class FineTuner(TrainingRun):
    """Parameters, gradient, optimiser and batches of a classifier's training.

    The softmax layer starts with zeros, so that all classes are equally probable.

    Parameters
    ----------
    architecture : ClassifierArchitecture
    X : ndarray, CSR array or Rows of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,) or (n_samples, n_classes)
        Class indices, from 0, or class probabilities.
    encoder_weights, encoder_biases : list of ndarray
        The encoder to start from.
    weights : ndarray of shape (n_samples,)
        Weights of the samples, >= 0 and not all zero. Only their ratios matter.
    tangents : ndarray of shape (n_samples, n_tangents, n_features), default=None
    tangent_weight : float, default=0.0
    alpha : float
        Weight of the sum of all squared weights.
    corruption : str, default=None
        A key of ``CORRUPTIONS``: the corruption of the rows during training.
    corruption_level : float, default=0.0
    learning_rate : float
    batch_size : int
    precision : str
        A key of ``PRECISIONS``, as in `Trainer`.
    device : torch.device
    seed : int
        Seed of the order of the samples, the corruption and the probes.
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
        rows = as_rows(X)
        if corruption in KEEP_ZEROS:
            rows = rows.kept_sparse(device, dtype)
        self.batches = ShuffledBatches(
            rows,
            cast(labels, wide) if labels.ndim == 2 else np.asarray(labels, np.int64),
            cast(weights / weights.mean(), wide),
            None if tangents is None else cast(tangents, wide),
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            generator=make_generator(seed),
        )
        n_hidden, n_classes = architecture.sizes[-2:]
        parameters = Parameters(
            [as_tensor(a).to(wide) for a in encoder_weights],
            [as_tensor(a).to(wide) for a in encoder_biases],
            [torch.zeros((n_hidden, n_classes), dtype=wide, device="cpu")],
            [torch.zeros(n_classes, dtype=wide, device="cpu")],
        )
        flat = architecture.flatten(parameters).to(device)
        # The order of the rows, the noise and the probes have different seeds.
        noise, probes = (make_generator(seed + i, device) for i in (1, 2))
        options = {
            "alpha": alpha,
            "batch_size": self.batches.batch_size,
            "dtype": dtype,
        }
        if tangents is None:
            self.gradient = CrossEntropyGradient(architecture, flat, **options)
        else:
            function = partial(classifier_objective, generator=probes)
            self.gradient = AutogradGradient(
                architecture, flat, [tangent_weight], function, **options
            )
        self.optimizer = OPTIMIZERS[optimizer](
            architecture,
            flat,
            self.gradient.gradient,
            learning_rate,
            dtype_of_steps(dtype, device, self.group),
        )
        self._corrupt = self._corruption(corruption, corruption_level, noise)
        names = ["cross_entropy", None if tangents is None else "tangent"]
        self._draws = noise, probes
        self._record(names, self._draws)

    @isolated
    def mean_objective(self, data):
        """Return the weighted mean cross-entropy of (X, labels, weights), as a float.

        It includes no penalties, and the rows aren't corrupted. Raises
        FloatingPointError if the result is infinite or NaN.
        """
        X, labels, weights = data
        flat = self.gradient.flat
        rows = as_rows(X).kept_sparse(flat.device, flat.dtype)
        parameters = self.architecture.view(flat)
        total = torch.zeros((), dtype=flat.dtype, device=flat.device)
        n_rows = rows.at_once(max(self.architecture.sizes[1:]))
        for part, x in rows.tensors(n_rows, flat.dtype, flat.device):
            target = as_tensor(labels[part]).to(flat.device)
            terms = classifier_objective(self.architecture, parameters, x, target)
            total += torch.dot(as_tensor(weights[part]).to(flat), terms.cross_entropy)
        mean = total.item() / weights.sum()
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss on held-out samples is {mean}")
        return float(mean)
