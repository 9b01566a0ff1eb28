import numpy as np
import pytest
import torch
from scipy.special import expit

from skcae.engine.activations import ACTIVATIONS
from skcae.engine.network import Architecture, encode
from skcae.engine.penalties import PENALTIES, contraction, jacobian

all_activations = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
tied_or_not = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


@all_activations
@tied_or_not
def test_contraction_is_the_squared_norm_of_autograds_jacobian(
    activation, tied, make_problem
):
    architecture = Architecture((5, 3), activation, tied=tied)
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    (weight,), (bias,) = parameters.encoder_weights, parameters.encoder_biases

    def code(row):
        return ACTIVATIONS[activation].value(row @ weight + bias)

    expected = torch.stack(
        [torch.autograd.functional.jacobian(code, row).square().sum() for row in x]
    )
    torch.testing.assert_close(
        contraction(architecture, parameters, x), expected, rtol=1e-12, atol=0
    )


def test_contraction_of_a_sigmoid_encoder_is_the_papers_formula(make_problem):
    architecture = Architecture((5, 3), "sigmoid")
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    weight = parameters.encoder_weights[0].numpy()
    h = expit(x.numpy() @ weight + parameters.encoder_biases[0].numpy())
    expected = np.zeros(len(x))
    for j in range(3):
        expected += (h[:, j] * (1 - h[:, j])) ** 2 * (weight[:, j] ** 2).sum()
    computed = contraction(architecture, parameters, x)
    np.testing.assert_allclose(computed, expected, rtol=1e-13)


@all_activations
@tied_or_not
def test_contraction_gradient_in_every_parameter(
    activation, tied, make_problem, materialised_jacobian, central_differences
):
    architecture = Architecture((4, 3), activation, tied=tied)
    flat, x = make_problem(architecture, n_samples=5)

    def penalty(flat):
        return contraction(architecture, architecture.view(flat), x).sum()

    leaf = flat.clone().requires_grad_()
    (computed,) = torch.autograd.grad(penalty(leaf), leaf)

    norm = materialised_jacobian(architecture, architecture.view(leaf), x)
    (expected,) = torch.autograd.grad(norm.square().sum(), leaf, materialize_grads=True)
    torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-12)

    differences = central_differences(penalty, flat)
    torch.testing.assert_close(computed, differences, rtol=1e-6, atol=1e-7)

    # The weights' part isn't zero: it is what copying them into a constant loses.
    gradient = architecture.view(computed)
    assert gradient.encoder_weights[0].any()
    if not tied:
        assert not gradient.decoder_weights[0].any()
    assert not gradient.decoder_biases[0].any()


def test_contraction_takes_an_encoding_at_hand(make_problem):
    architecture = Architecture((5, 3))
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    encoding = encode(architecture, parameters, x)
    torch.testing.assert_close(
        contraction(architecture, parameters, torch.full_like(x, torch.nan), encoding),
        contraction(architecture, parameters, x),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
@all_activations
def test_every_penalty_is_per_sample_and_differentiable(
    penalty, activation, make_problem, central_differences
):
    architecture = Architecture((4, 3), activation)
    flat, x = make_problem(architecture, n_samples=5)
    values = PENALTIES[penalty](architecture, architecture.view(flat), x)
    assert values.shape == (5,)
    assert (values >= 0).all()
    for i in range(5):
        alone = PENALTIES[penalty](architecture, architecture.view(flat), x[i : i + 1])
        torch.testing.assert_close(alone[0], values[i])

    def total(flat):
        return PENALTIES[penalty](architecture, architecture.view(flat), x).sum()

    leaf = flat.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf)
    differences = central_differences(total, flat)
    torch.testing.assert_close(gradient, differences, rtol=1e-6, atol=1e-7)


@all_activations
@pytest.mark.parametrize("sizes", [(5, 3), (3, 5), (4, 6, 3), (3, 5, 2, 4)], ids=str)
def test_jacobian_matches_autograd(
    activation, sizes, make_problem, materialised_jacobian
):
    architecture = Architecture(sizes, activation)
    flat, x = make_problem(architecture, n_samples=4)
    parameters = architecture.view(flat)
    computed = jacobian(architecture, parameters, x)
    assert computed.shape == (4, sizes[-1], sizes[0])
    torch.testing.assert_close(
        computed,
        materialised_jacobian(architecture, parameters, x),
        rtol=1e-11,
        atol=1e-13,
    )


@all_activations
def test_jacobian_matches_central_differences(activation, make_problem):
    architecture = Architecture((3, 4, 2), activation)
    flat, x = make_problem(architecture, n_samples=4)
    parameters = architecture.view(flat)
    step = 1e-5
    differences = []
    for i in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[i] = step
        above = encode(architecture, parameters, x + shift)[1][-1]
        below = encode(architecture, parameters, x - shift)[1][-1]
        differences.append((above - below) / (2 * step))
    torch.testing.assert_close(
        jacobian(architecture, parameters, x),
        torch.stack(differences, dim=2),
        rtol=1e-6,
        atol=1e-8,
    )
