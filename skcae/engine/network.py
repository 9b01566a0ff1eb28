"""Parameters of an autoencoder, their initialisation, and encode / decode."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch

from .activations import ACTIVATIONS
from .device import isolated
from .rows import variance_of_rounding
from .sparse import Centred, mean_row, product


class Parameters(NamedTuple):
    """Weights of shape (fan_in, fan_out) and biases of shape (fan_out,), by layer.

    The decoder weights of a tied network are the transposes of the encoder's, the last
    one times the gain.
    """

    encoder_weights: list
    encoder_biases: list
    decoder_weights: list
    decoder_biases: list


class Architecture(NamedTuple):
    """What defines the network apart from its parameters.

    Attributes
    ----------
    sizes : tuple of int
        Number of features, then the number of units of each encoder layer. The
        decoder mirrors them.
    activation : str
        A key of ``ACTIVATIONS``: of every layer but the decoder's last.
    output_activation : str
        A key of ``ACTIVATIONS``: of the decoder's last layer.
    tied : bool
        Whether the decoder weights are the transposes of the encoder's.
    gain : float
        By what the decoder's last layer multiplies the transpose, if weights are tied.
    """

    sizes: tuple
    activation: str = "sigmoid"
    output_activation: str = "identity"
    tied: bool = False
    gain: float = 1.0

    @property
    def depth(self):
        """Number of encoder layers."""
        return len(self.sizes) - 1

    def shapes(self):
        """Shapes of all blocks, in the order in which they lie in a flat vector."""
        fans = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        mirrored = [(fan_out, fan_in) for fan_in, fan_out in reversed(fans)]
        weights = fans if self.tied else fans + mirrored
        return weights + [(fan_out,) for _, fan_out in fans + mirrored]

    def weight_shapes(self):
        """Shapes of the weights alone, which come first."""
        return self.shapes()[: -2 * self.depth]

    def n_weights(self):
        """Number of entries of the flat vector that are weights: the first ones."""
        return sum(torch.Size(shape).numel() for shape in self.weight_shapes())

    def n_parameters(self):
        """Length of the flat vector that holds all parameters."""
        return sum(torch.Size(shape).numel() for shape in self.shapes())

    def view(self, flat):
        """Return the `Parameters` whose entries are views of the vector ``flat``.

        A decoder weight with a gain other than 1 is no view, but a product.
        """
        shapes = self.shapes()
        blocks = flat.split([torch.Size(shape).numel() for shape in shapes])
        blocks = [b.view(shape) for b, shape in zip(blocks, shapes, strict=True)]
        depth, n_weights = self.depth, len(blocks) - 2 * self.depth
        weights, biases = blocks[:n_weights], blocks[n_weights:]
        encoder_weights = weights[:depth]
        decoder_weights = weights[depth:]
        if self.tied:
            decoder_weights = [w.T for w in reversed(encoder_weights)]
            if self.gain != 1:
                decoder_weights[-1] = self.gain * decoder_weights[-1]
        return Parameters(
            encoder_weights, biases[:depth], decoder_weights, biases[depth:]
        )

    def flatten(self, parameters):
        """Return the new flat vector that holds copies of ``parameters``."""
        weights = list(parameters.encoder_weights)
        if not self.tied:
            weights += parameters.decoder_weights
        biases = [*parameters.encoder_biases, *parameters.decoder_biases]
        return torch.cat([block.reshape(-1) for block in weights + biases])


def largest_layer(architecture):
    """Return the numbers of inputs and outputs of the layer with most weights."""
    return max(pairwise(architecture.sizes), key=math.prod)


def encode(architecture, parameters, x):
    """Return every layer's pre-activation and activation: ([a_1, ...], [h_1, ...])."""
    activation = ACTIVATIONS[architecture.activation]
    pre_activations, activations = [], []
    h = x
    for weight, bias in zip(
        parameters.encoder_weights, parameters.encoder_biases, strict=True
    ):
        a = product(h, weight, bias)
        h = activation.value(a)
        pre_activations.append(a)
        activations.append(h)
    return pre_activations, activations


def activation_derivatives(architecture, encoding):
    """Return s'(a_l) of every layer, for what `encode` returned."""
    derivative = ACTIVATIONS[architecture.activation].derivative
    return [derivative(a, h) for a, h in zip(*encoding, strict=True)]


def last_decoder_input(architecture, parameters, h):
    """Return what the decoder's last layer gets, for a code h."""
    activation = ACTIVATIONS[architecture.activation]
    *weights, _ = parameters.decoder_weights
    for weight, bias in zip(weights, parameters.decoder_biases, strict=False):
        h = activation.value(torch.addmm(bias, h, weight))
    return h


def decode(architecture, parameters, h):
    """Return the decoder's last pre-activation z; the reconstruction is s_out(z)."""
    h = last_decoder_input(architecture, parameters, h)
    return torch.addmm(parameters.decoder_biases[-1], h, parameters.decoder_weights[-1])


# Standard deviations of a new encoder's pre-activations. Beyond the largest, bounded
# activations saturate; that of an untied one leaves a free decoder most of the work.
# Below the least, the data would vary less than the biases do while training.
_LEAST_SPREAD = 0.125
_TIED_SPREAD = 1.0
_UNTIED_SPREAD = 0.25

# A sigmoid output need not start closer than this to 0 and 1.
_LOGIT_EPS = 0.05


def _principal_basis(centred, shape, generator):
    """Orthonormal basis (n_features, rank) of the rows' leading principal subspace.

    A randomised range finder with two power iterations (Halko, Martinsson and Tropp,
    SIAM Review 2011, algorithm 4.4).
    """
    basis = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    basis = basis.to(centred.mean)
    for _ in range(3):
        basis = centred.transposed_product(centred.product(basis))
        basis = torch.linalg.qr(basis).Q
    return basis


def _initial_encoder_layer(architecture, rows, n_hidden, gain, generator):
    centred = Centred(rows)
    n_features = rows.shape[1]
    rank = min(n_hidden, n_features)
    basis = _principal_basis(centred, (n_features, rank), generator)
    # `mix` has orthonormal columns: it spreads the directions evenly over the units,
    # so that weight @ weight.T = basis @ basis.T.
    shape = (n_hidden, rank)
    mix = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    weight = basis @ torch.linalg.qr(mix.to(basis)).Q.T
    # With x ↦ s(x W) ≈ slope · x W, a tied decoder of W √(gain / slope) multiplies by
    # the gain.
    a = weight.new_tensor([-1e-3, 1e-3])
    activation = ACTIVATIONS[architecture.activation]
    slope = activation.derivative(a, activation.value(a)).mean()
    weight *= (gain / slope).sqrt()
    code = centred.product(weight)
    spread = code.square().mean().sqrt()
    factor = spread.new_ones(())
    # Rows that differ by rounding errors have no spread.
    rounding = variance_of_rounding(rows, torch.finfo(rows.dtype).eps)
    if centred.variance() > rounding:
        largest = _TIED_SPREAD if architecture.tied else _UNTIED_SPREAD
        factor = spread.clamp(_LEAST_SPREAD, largest) / spread
    explained = centred.product(basis).square().sum(dim=1).mean()
    return weight * factor, -(centred.mean @ weight) * factor, factor, explained


def _regression_slope(x, y):
    """The one factor by which deviations of x best predict those of y, at least 1."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    slope = (x * y).sum() / x.square().sum()
    return slope.nan_to_num(1).clamp(min=1)


def _least_squares(inputs, targets):
    """Weights of the ridge regression of centred targets on centred inputs."""
    inputs = inputs - inputs.mean(dim=0)
    gram = inputs.T @ inputs
    tiny = torch.finfo(gram.dtype).tiny
    gram.diagonal().add_(1e-3 * gram.diagonal().mean() + tiny)
    return torch.linalg.solve(gram, Centred(targets).transposed_product(inputs).T)


@isolated
def initialise(architecture, sample, generator):
    """Draw parameters that start near the best linear autoencoder of the sample.

    Each encoder layer maps its centred input to a random rotation of its leading
    principal components. An untied decoder layer is the ridge regression that
    reconstructs the layer's input. A tied one is given, which fixes the scale of the
    encoder instead. Where pre-activations would then have a standard deviation above
    1, at which units saturate, or below 1/8, the encoder of the data is multiplied by
    what takes it there, and one over the square of that is the decoder's gain. Decoder
    biases match the means. A sigmoid output layer starts at the logits of data in
    [0, 1], not closer than 0.05 to the ends.

    Parameters
    ----------
    architecture : Architecture
    sample : Tensor or SparseTensor of shape (n_samples, n_features)
        Rows of the training data, in the device and precision of the result.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    architecture : Architecture
        With the gain.
    flat : Tensor of shape (n_parameters,)
    explained : float
        The part of the variance of the rows, summed over features, that lies in the
        subspace of the first layer.
    """
    activation = ACTIVATIONS[architecture.activation]
    # The last pre-activation that the decoder should return: the input, but for an
    # output layer that squashes it.
    output, gain = sample, torch.ones((), dtype=sample.dtype, device=sample.device)
    if architecture.output_activation == "sigmoid":
        output = torch.logit(sample, eps=_LOGIT_EPS)
        gain = _regression_slope(sample, output)
    weights, biases, targets = [], [], [output]
    h = sample
    for n_hidden in architecture.sizes[1:]:
        weight, bias, factor, part = _initial_encoder_layer(
            architecture, h, n_hidden, gain, generator
        )
        if not weights:
            explained = part.item()
            if architecture.tied:
                architecture = architecture._replace(gain=(factor**-2).item())
        gain = torch.ones_like(gain)
        weights.append(weight)
        biases.append(bias)
        targets.append(product(h, weight, bias))
        h = activation.value(targets[-1])
    # Each decoder layer returns the pre-activations that led to its counterpart.
    decoder_weights, decoder_biases = [], []
    for weight, code, target in zip(weights, targets[1:], targets[:-1], strict=True):
        h = activation.value(code)
        weight_out = weight.T if architecture.tied else _least_squares(h, target)
        if not decoder_weights:
            weight_out = architecture.gain * weight_out
        decoder_weights.insert(0, weight_out)
        decoder_biases.insert(0, mean_row(target) - h.mean(dim=0) @ weight_out)
    parameters = Parameters(weights, biases, decoder_weights, decoder_biases)
    return architecture, architecture.flatten(parameters), explained
