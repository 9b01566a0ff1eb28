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

    The decoder weights of a tied network are the transposes of the encoder's. The last
    one is multiplied by the gain.
    """

    encoder_weights: list
    encoder_biases: list
    decoder_weights: list
    decoder_biases: list


class Architecture(NamedTuple):
    """The sizes and activations of an autoencoder, and whether its weights are tied.

    Attributes
    ----------
    sizes : tuple of int
        Number of features, then the number of units of each encoder layer. The
        decoder mirrors them.
    activation : str
        A key of ``ACTIVATIONS``: the activation of every layer but the decoder's last.
    output_activation : str
        A key of ``ACTIVATIONS``: the activation of the decoder's last layer.
    tied : bool
        Whether the decoder weights are the transposes of the encoder's.
    gain : float
        Factor of the transpose in the decoder's last layer, if weights are tied.
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

        With a gain other than 1, the last decoder weight is a product and not a view.
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
    """Return the numbers of inputs and outputs of the layer with the most weights."""
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
    """Return s'(a_l) of every layer, where ``encoding`` is the result of `encode`."""
    derivative = ACTIVATIONS[architecture.activation].derivative
    return [derivative(a, h) for a, h in zip(*encoding, strict=True)]


def last_decoder_input(architecture, parameters, h):
    """Return the input of the decoder's last layer, for a code h."""
    activation = ACTIVATIONS[architecture.activation]
    *weights, _ = parameters.decoder_weights
    for weight, bias in zip(weights, parameters.decoder_biases, strict=False):
        h = activation.value(torch.addmm(bias, h, weight))
    return h


def decode(architecture, parameters, h):
    """Return the decoder's last pre-activation z; the reconstruction is s_out(z)."""
    h = last_decoder_input(architecture, parameters, h)
    return torch.addmm(parameters.decoder_biases[-1], h, parameters.decoder_weights[-1])


# Limits of the standard deviation of a new encoder's pre-activations. Above the upper
# limit, bounded activations saturate. For untied weights it is lower, which leaves most
# of the work to the decoder. Below the lower limit, the pre-activations would vary less
# over the data than the biases vary during training.
_LEAST_SPREAD = 0.125
_TIED_SPREAD = 1.0
_UNTIED_SPREAD = 0.25

# A sigmoid output starts no closer to 0 and 1 than this.
_LOGIT_EPS = 0.05


def _principal_basis(centred, shape, generator):
    """Orthonormal basis (n_features, rank) of the rows' leading principal subspace.

    It is found by a randomised range finder with two power iterations (Halko,
    Martinsson and Tropp, SIAM Review 2011, algorithm 4.4).
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
    # The orthonormal columns of Q of `mix` spread the directions evenly over the units:
    # weight @ weight.T = basis @ basis.T.
    shape = (n_hidden, rank)
    mix = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    weight = basis @ torch.linalg.qr(mix.to(basis)).Q.T
    # Since s(x W) ≈ slope · x W, an autoencoder with tied weights W √(gain / slope)
    # multiplies the principal components by the gain.
    a = weight.new_tensor([-1e-3, 1e-3])
    activation = ACTIVATIONS[architecture.activation]
    slope = activation.derivative(a, activation.value(a)).mean()
    weight *= (gain / slope).sqrt()
    code = centred.product(weight)
    spread = code.square().mean().sqrt()
    factor = spread.new_ones(())
    # Rows that differ only by rounding errors have no spread that could be scaled.
    rounding = variance_of_rounding(rows, torch.finfo(rows.dtype).eps)
    if centred.variance() > rounding:
        largest = _TIED_SPREAD if architecture.tied else _UNTIED_SPREAD
        factor = spread.clamp(_LEAST_SPREAD, largest) / spread
    explained = centred.product(basis).square().sum(dim=1).mean()
    return weight * factor, -(centred.mean @ weight) * factor, factor, explained


def _regression_slope(x, y):
    """The factor by which deviations of x best predict those of y, at least 1."""
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
    reconstructs the layer's input. A tied decoder layer has no weights of its own, so
    that the scale of the encoder is chosen to reconstruct the input. Decoder biases
    match the means.

    The pre-activations must have a standard deviation between 1/8 and 1 (1/4 for untied
    weights); above that, units saturate. If it is outside of that range, the encoder
    weights are multiplied by the factor that takes it to the nearer limit. If weights
    are tied, one over the square of the first layer's factor is the decoder's gain.

    The target of a sigmoid output layer is the logits of the data in [0, 1], which are
    kept 0.05 away from the ends.

    Parameters
    ----------
    architecture : Architecture
    sample : Tensor or SparseTensor of shape (n_samples, n_features)
        Rows of the training data, on the device and in the precision of the result.
    generator : torch.Generator
        A generator on the CPU.

    Returns
    -------
    architecture : Architecture
        The architecture with its gain.
    flat : Tensor of shape (n_parameters,)
    explained : float
        Variance of the rows, summed over features, within the subspace of the first
        layer.
    """
    activation = ACTIVATIONS[architecture.activation]
    # The target of the decoder's last pre-activation is the input, or its logits if the
    # output is a sigmoid.
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
    # The target of each decoder layer is the pre-activation of the encoder layer before
    # its counterpart.
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
