from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.decomposition import PCA

from skcae.engine.activations import ACTIVATIONS
from skcae.engine.device import make_generator
from skcae.engine.network import (
    Architecture,
    Parameters,
    decode,
    encode,
    initialise,
)

all_activations = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
tied_or_not = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
all_sizes = pytest.mark.parametrize(
    "sizes", [(5, 3), (3, 5), (1, 1), (6, 4, 2), (5, 7, 3, 4)], ids=str
)


def reconstruct(architecture, flat, x):
    parameters = architecture.view(flat)
    z = decode(architecture, parameters, encode(architecture, parameters, x)[1][-1])
    return ACTIVATIONS[architecture.output_activation].value(z)


# Parameters and views of them


@all_sizes
@tied_or_not
def test_views_have_mirrored_shapes(sizes, tied):
    architecture = Architecture(sizes, tied=tied)
    parameters = architecture.view(torch.zeros(architecture.n_parameters()))
    fans = list(pairwise(sizes))
    mirrored = [(fan_out, fan_in) for fan_in, fan_out in reversed(fans)]
    assert architecture.depth == len(sizes) - 1
    assert [w.shape for w in parameters.encoder_weights] == fans
    assert [b.shape for b in parameters.encoder_biases] == [f[1:] for f in fans]
    assert [w.shape for w in parameters.decoder_weights] == mirrored
    assert [b.shape for b in parameters.decoder_biases] == [f[1:] for f in mirrored]


@all_sizes
@tied_or_not
def test_flatten_inverts_view(sizes, tied):
    architecture = Architecture(sizes, tied=tied)
    n_weights = sum(a * b for a, b in pairwise(sizes))
    n_biases = sum(sizes[1:]) + sum(sizes[:-1])
    assert architecture.n_parameters() == n_weights * (1 if tied else 2) + n_biases

    flat = torch.arange(architecture.n_parameters(), dtype=torch.float64)
    copy = architecture.flatten(architecture.view(flat))
    assert torch.equal(copy, flat)
    assert copy.data_ptr() != flat.data_ptr()


@all_sizes
@tied_or_not
def test_views_share_memory_and_cover_the_vector_once(sizes, tied):
    architecture = Architecture(sizes, tied=tied)
    flat = torch.zeros(architecture.n_parameters())
    parameters = architecture.view(flat)
    own = list(parameters.encoder_weights)
    if not tied:
        own += parameters.decoder_weights
    for block in [*own, *parameters.encoder_biases, *parameters.decoder_biases]:
        block += 1
    assert (flat == 1).all()


@all_sizes
def test_tied_weights_are_transposes_in_the_same_memory(sizes):
    architecture = Architecture(sizes, tied=True)
    flat = torch.arange(architecture.n_parameters(), dtype=torch.float64)
    parameters = architecture.view(flat)
    pairs = list(
        zip(
            parameters.encoder_weights,
            reversed(parameters.decoder_weights),
            strict=True,
        )
    )
    for weight, decoder_weight in pairs:
        assert torch.equal(weight.T, decoder_weight)
    flat.mul_(-2)
    for weight, decoder_weight in pairs:
        assert torch.equal(weight.T, decoder_weight)
        assert weight.data_ptr() == decoder_weight.data_ptr()


# Encoding and decoding


def test_encode_and_decode_one_sigmoid_layer(make_problem):
    architecture = Architecture((5, 3), "sigmoid", "identity")
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    (weight,), (bias,), (weight_out,), (bias_out,) = [
        [block.numpy() for block in group] for group in parameters
    ]
    (a,), (h,) = encode(architecture, parameters, x)
    np.testing.assert_allclose(a, x.numpy() @ weight + bias, rtol=1e-13)
    np.testing.assert_allclose(h, expit(a.numpy()), rtol=1e-13)
    z = decode(architecture, parameters, h)
    np.testing.assert_allclose(z, h.numpy() @ weight_out + bias_out, rtol=1e-13)


@tied_or_not
def test_encode_and_decode_several_layers(tied, make_problem):
    architecture = Architecture((5, 4, 3), "tanh", "sigmoid", tied)
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    weights, biases, weights_out, biases_out = [
        [block.numpy() for block in group] for group in parameters
    ]
    first = np.tanh(x.numpy() @ weights[0] + biases[0])
    second = np.tanh(first @ weights[1] + biases[1])
    pre_activations, activations = encode(architecture, parameters, x)
    np.testing.assert_allclose(activations[0], first, rtol=1e-12)
    np.testing.assert_allclose(activations[1], second, rtol=1e-12)
    np.testing.assert_allclose(np.tanh(pre_activations[1].numpy()), second, rtol=1e-12)

    # The hidden activation comes between the decoder's layers, none after the last.
    expected = np.tanh(second @ weights_out[0] + biases_out[0])
    expected = expected @ weights_out[1] + biases_out[1]
    np.testing.assert_allclose(
        decode(architecture, parameters, activations[-1]), expected, rtol=1e-12
    )


# Initialisation


@all_activations
@tied_or_not
@pytest.mark.parametrize("sizes", [(5, 3), (5, 4, 2)], ids=str)
def test_initialise_is_determined_by_its_generator(activation, tied, sizes, rng):
    architecture = Architecture(sizes, activation, tied=tied)
    sample = torch.tensor(rng.normal(size=(50, 5)))
    results = []
    for seed, global_seed in [(3, 0), (3, 1), (4, 0)]:
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        results.append(initialise(architecture, sample, make_generator(seed))[1])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@tied_or_not
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initialise_keeps_the_dtype_and_the_sample(tied, dtype, rng):
    architecture = Architecture((5, 3), tied=tied)
    sample = torch.tensor(rng.normal(size=(50, 5)), dtype=dtype)
    before = sample.clone()
    architecture, flat, _ = initialise(architecture, sample, make_generator(0))
    assert flat.shape == (architecture.n_parameters(),)
    assert flat.dtype == dtype
    assert not flat.requires_grad
    assert torch.equal(sample, before)


@pytest.fixture
def low_rank_rows(rng):
    """Rows whose variance is mostly in four directions, and their PCA error."""
    scales = np.array([4, 3, 2.5, 2, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    X = 0.2 * (rng.normal(size=(300, 10)) * scales) @ rotation + rng.normal(size=10)
    pca = PCA(4).fit(X)
    residual = X - pca.inverse_transform(pca.transform(X))
    return torch.tensor(X), (residual**2).sum(axis=1).mean()


def mean_squared_error(architecture, rows):
    architecture, flat, _ = initialise(architecture, rows, make_generator(0))
    residual = rows - reconstruct(architecture, flat, rows)
    return residual.square().sum(dim=1).mean().item()


@tied_or_not
def test_linear_autoencoder_starts_at_pca(tied, low_rank_rows):
    rows, pca_error = low_rank_rows
    architecture = Architecture((10, 4), "identity", tied=tied)
    error = mean_squared_error(architecture, rows)
    # PCA is the optimum, and the ridge penalty costs little.
    assert pca_error * (1 - 1e-10) < error < 1.02 * pca_error


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "tanh"])
def test_smooth_autoencoder_starts_close_to_pca(activation, low_rank_rows):
    rows, pca_error = low_rank_rows
    error = mean_squared_error(Architecture((10, 4), activation), rows)
    total = rows.var(dim=0, unbiased=False).sum().item()
    # Less than 2 % of what PCA explains is lost to the units' curvature.
    assert error - pca_error < 0.02 * (total - pca_error)


@all_activations
@tied_or_not
@pytest.mark.parametrize("sizes", [(10, 4), (10, 6, 4)], ids=str)
def test_start_is_better_than_the_mean(activation, tied, sizes, low_rank_rows):
    rows, _ = low_rank_rows
    error = mean_squared_error(Architecture(sizes, activation, tied=tied), rows)
    assert error < 0.9 * rows.var(dim=0, unbiased=False).sum()


@tied_or_not
def test_a_sigmoid_output_starts_at_the_logits(tied, rng):
    rows = torch.tensor(
        expit(1.5 * rng.normal(size=(300, 3)) @ rng.normal(size=(3, 12)))
    )
    architecture = Architecture((12, 3), "sigmoid", "sigmoid", tied)
    variance = rows.var(dim=0).sum()
    # A start as large as the data, where their logits are asked for, leaves 75 %.
    assert mean_squared_error(architecture, rows) < 0.5 * variance


DEGENERATE = {
    "one row": np.array([[0.5, -1.0, 2.0, 0.0]]),
    "duplicates": np.tile([[0.5, -1.0, 2.0, 0.0]], (20, 1)),
    "zeros": np.zeros((20, 4)),
    "constant columns": np.column_stack(
        [np.ones(20), np.linspace(0, 1, 20), np.zeros(20), np.full(20, -3.0)]
    ),
    "tiny": 1e-30 * np.random.default_rng(0).normal(size=(20, 4)),
    "large": 1e6 * np.random.default_rng(0).normal(size=(20, 4)),
    "two rows": np.random.default_rng(0).normal(size=(2, 4)),
}


@all_activations
@tied_or_not
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initialise_is_finite_on_degenerate_data(activation, tied, case, dtype):
    rows = torch.tensor(DEGENERATE[case], dtype=dtype)
    variance = (rows - rows.mean(dim=0)).square().mean()
    for sizes in [(4, 2), (4, 4), (4, 9), (4, 6, 3)]:
        architecture = Architecture(sizes, activation, tied=tied)
        architecture, flat, _ = initialise(architecture, rows, make_generator(0))
        assert torch.isfinite(flat).all()
        error = (reconstruct(architecture, flat, rows) - rows).square().mean()
        assert torch.isfinite(error)
        if architecture.depth == 1:
            # Where nothing can be learnt, the decoder still gives the mean.
            assert error <= 1.01 * variance + 1e-10


@all_activations
def test_overcomplete_untied_start_reconstructs_the_sample(activation, rng):
    # As many units as twice the features: nothing has to be lost.
    rows = torch.tensor(rng.normal(size=(200, 4)))
    architecture = Architecture((4, 8), activation)
    architecture, flat, _ = initialise(architecture, rows, make_generator(0))
    residual = reconstruct(architecture, flat, rows) - rows
    assert residual.square().mean() < 0.15 * rows.var()


@tied_or_not
def test_parameters_of_arrays_and_tensors_flatten_alike(tied):
    # Fitted state is arrays; a tied decoder comes as a transposed, F-ordered view.
    architecture = Architecture((3, 2), tied=tied)
    flat = torch.arange(architecture.n_parameters(), dtype=torch.float64)
    groups = [[b.numpy() for b in group] for group in architecture.view(flat)]
    restored = Parameters(*([torch.tensor(b) for b in group] for group in groups))
    assert torch.equal(architecture.flatten(restored), flat)
