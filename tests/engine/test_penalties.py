from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.utils._python_dispatch import TorchDispatchMode

from skcae.engine import penalties
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.device import make_generator
from skcae.engine.network import Architecture, encode
from skcae.engine.penalties import (
    contraction,
    entries_per_row,
    higher_order,
    jacobian,
    projected_contraction,
)

all_activations = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
tied_or_not = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])

# Contracting, expanding, and both; with and without a Gram matrix.
SIZES = [(5, 3), (3, 5), (9, 4, 2), (2, 4, 7), (5, 3, 6), (7, 5, 4, 2), (2, 4, 3, 6)]
DEEP = [sizes for sizes in SIZES if len(sizes) > 2]
all_sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)
deep_sizes = pytest.mark.parametrize("sizes", DEEP, ids=str)


def draw_noise(x, n_corruptions=3):
    generator = make_generator(0)
    shape = (n_corruptions, *x.shape)
    return 0.5 * torch.randn(shape, generator=generator, dtype=x.dtype, device="cpu")


# As functions of the same three arguments, with the same draws at each call.
PENALTIES = {
    "contraction": contraction,
    "projected_contraction": lambda architecture, parameters, x: projected_contraction(
        architecture, parameters, x, 2, make_generator(0)
    ),
    "higher_order": lambda architecture, parameters, x: higher_order(
        architecture, parameters, x, draw_noise(x)
    ),
    "projected higher_order": lambda architecture, parameters, x: higher_order(
        *(architecture, parameters, x, draw_noise(x)),
        n_projections=2,
        generator=make_generator(0),
    ),
}
all_penalties = pytest.mark.parametrize("penalty", sorted(PENALTIES))


def gradient_of(function, flat):
    """Return the gradient of the sum of function(flat)."""
    leaf = flat.clone().requires_grad_()
    total = function(leaf).sum()
    return torch.autograd.grad(total, leaf, materialize_grads=True)[0]


def assert_equal(computed, expected):
    torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-10)


# All penalties


@all_penalties
@all_activations
@pytest.mark.parametrize("sizes", [(4, 3), (3, 4, 2)], ids=str)
def test_gradient_matches_central_differences(
    penalty, activation, sizes, make_problem, central_differences
):
    architecture = Architecture(sizes, activation)
    flat, x = make_problem(architecture, n_samples=3)

    def total(flat):
        return PENALTIES[penalty](architecture, architecture.view(flat), x).sum()

    computed = gradient_of(total, flat)
    differences = central_differences(total, flat)
    torch.testing.assert_close(computed, differences, rtol=1e-6, atol=1e-6)
    gradient = architecture.view(computed)
    assert not any(weight.any() for weight in gradient.decoder_weights)
    assert not any(bias.any() for bias in gradient.decoder_biases)
    if penalty == "contraction":
        # This is what copying the weights into a constant would lose.
        assert all(weight.any() for weight in gradient.encoder_weights)


@all_penalties
@all_sizes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_value_per_sample_in_the_dtype_of_the_batch(
    penalty, sizes, dtype, make_problem
):
    architecture = Architecture(sizes, "tanh")
    flat, x = make_problem(architecture, dtype=dtype)
    parameters = architecture.view(flat)
    values = PENALTIES[penalty](architecture, parameters, x)
    assert values.shape == (len(x),)
    assert values.dtype == dtype
    assert (values >= 0).all()
    # Other rows have no influence; noise and projections are drawn per sample.
    others = torch.cat([x[:3], 2 * x[3:]])
    again = PENALTIES[penalty](architecture, parameters, others)
    torch.testing.assert_close(again[:3], values[:3])
    assert not torch.isclose(again[3:], values[3:]).any()


@all_penalties
@all_sizes
def test_of_a_constant_jacobian(penalty, sizes, make_problem):
    # J = (W_1 … W_L)ᵀ, everywhere: its change is zero.
    architecture = Architecture(sizes, "identity")
    flat, x = make_problem(architecture)
    weights = architecture.view(flat).encoder_weights
    product = weights[0] if len(weights) == 1 else torch.linalg.multi_dot(weights)
    values = PENALTIES[penalty](architecture, architecture.view(flat), x)
    if "higher_order" in penalty:
        assert_equal(values, torch.zeros_like(values))
    elif penalty == "contraction":
        assert_equal(values, product.square().sum().expand_as(values))


@pytest.mark.parametrize("sizes", [(5, 3), (5, 4, 3)], ids=str)
def test_an_encoding_at_hand_is_used(sizes, make_problem):
    architecture = Architecture(sizes)
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    encoding = encode(architecture, parameters, x)
    noise = draw_noise(x)
    nan = torch.full_like(x, torch.nan)

    for function in [
        contraction,
        lambda *args: projected_contraction(*args[:3], 1, make_generator(0), *args[3:]),
    ]:
        expected = function(architecture, parameters, x)
        computed = function(architecture, parameters, nan, encoding)
        assert torch.equal(computed, expected)
    clean, other = (
        higher_order(architecture, parameters, x, noise, encoding)
        for encoding in [encoding, encode(architecture, parameters, 2 * x)]
    )
    assert torch.equal(clean, higher_order(architecture, parameters, x, noise))
    assert not torch.isclose(clean, other).any()


# The contraction


@all_activations
@tied_or_not
@all_sizes
@pytest.mark.parametrize("n_samples", [1, 9])
def test_contraction_and_its_gradient_are_those_of_autograds_jacobian(
    activation, tied, sizes, n_samples, make_problem, materialised_jacobian
):
    architecture = Architecture(sizes, activation, tied=tied)
    flat, x = make_problem(architecture, n_samples)

    def computed(flat):
        return contraction(architecture, architecture.view(flat), x)

    def expected(flat):
        jacobians = materialised_jacobian(architecture, architecture.view(flat), x)
        return jacobians.square().sum(dim=(1, 2))

    assert_equal(computed(flat), expected(flat))
    assert_equal(gradient_of(computed, flat), gradient_of(expected, flat))


@deep_sizes
@pytest.mark.parametrize("penalty", ["contraction", "higher_order"])
def test_both_sides_of_a_deep_encoder_agree(penalty, sizes, make_problem, monkeypatch):
    architecture = Architecture(sizes, "tanh")
    flat, x = make_problem(architecture)
    results = []
    for at_output in [False, True]:
        side = MagicMock(return_value=at_output)
        monkeypatch.setattr(penalties, "_starts_at_output", side)
        results.append(PENALTIES[penalty](architecture, architecture.view(flat), x))
        assert side.called
    assert_equal(*results)


@pytest.mark.parametrize(
    "sizes, at_output",
    [
        ((784, 512, 128), True),
        ((784, 1000, 500, 2), True),
        ((784, 784, 784), True),
        ((2, 64, 64, 32), False),
        ((10, 20, 300), False),
        # Though the code is wider than the input: the narrowest layer is between.
        ((100, 10, 200), True),
    ],
    ids=str,
)
def test_the_cheaper_side_is_chosen(sizes, at_output):
    assert penalties._starts_at_output(sizes) is at_output


@all_sizes
def test_entries_per_row_is_the_size_of_the_largest_array(sizes, make_problem):
    architecture = Architecture(sizes)
    flat, x = make_problem(architecture, n_samples=200)
    parameters = architecture.view(flat)
    with LargestResult() as recorder:
        contraction(architecture, parameters, x)
    assert recorder.numel == 200 * entries_per_row(architecture)


class LargestResult(TorchDispatchMode):
    """Records the number of entries of the largest array that is computed."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.see(func(*args, **(kwargs or {})))

    def see(self, array):
        self.numel = max(self.numel, array.numel())
        return array


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


# Random projections


@all_activations
@tied_or_not
@all_sizes
def test_as_many_projections_as_units_are_exact(activation, tied, sizes, make_problem):
    architecture = Architecture(sizes, activation, tied=tied)
    flat, x = make_problem(architecture)

    def exact(flat):
        return contraction(architecture, architecture.view(flat), x)

    for n_projections in [sizes[-1], sizes[-1] + 1]:

        def projected(flat, n_projections=n_projections):
            return projected_contraction(
                architecture,
                architecture.view(flat),
                x,
                n_projections,
                make_generator(3),
            )

        assert_equal(projected(flat), exact(flat))
        assert_equal(gradient_of(projected, flat), gradient_of(exact, flat))


@pytest.mark.parametrize("n_projections", [1, 2, 5])
@pytest.mark.parametrize("sizes", [(5, 7), (5, 4, 6), (3, 4, 5, 8)], ids=str)
def test_projections_are_unbiased(sizes, n_projections, make_problem):
    architecture = Architecture(sizes, "softplus")
    flat, x = make_problem(architecture, n_samples=1)
    generator = make_generator(0)

    def exact(flat):
        return contraction(architecture, architecture.view(flat), x)

    def projected(flat):
        rows = x.expand(500, -1)
        return projected_contraction(
            architecture, architecture.view(flat), rows, n_projections, generator
        ).mean()

    values = torch.stack([projected(flat) for _ in range(100)])
    gradients = torch.stack([gradient_of(projected, flat) for _ in range(100)])
    for draws, expected in [
        (values, exact(flat)[0]),
        (gradients, gradient_of(exact, flat)),
    ]:
        standard_error = draws.std(dim=0) / len(draws) ** 0.5
        error = (draws.mean(dim=0) - expected).abs()
        assert (error <= 4.5 * standard_error + 1e-10).all()
    # The bound is sharp enough to tell.
    assert values.std() / 10 < 0.01 * exact(flat)


@pytest.mark.parametrize("n_projections", [1, 2, 3, 6])
def test_variance_of_the_projections(n_projections, make_problem):
    architecture = Architecture((5, 4, 6), "tanh")
    flat, x = make_problem(architecture, n_samples=1)
    parameters, generator = architecture.view(flat), make_generator(0)
    estimates = torch.stack(
        [
            projected_contraction(
                *(architecture, parameters, x.expand(50, -1)), n_projections, generator
            )
            for _ in range(400)
        ]
    )
    (j,) = jacobian(architecture, parameters, x)
    pairs = (j @ j.T).square().fill_diagonal_(0).sum()
    # Of a unit's five partners, so many are in its part.
    partners = 6 / n_projections - 1
    torch.testing.assert_close(
        estimates.var(), 2 * pairs * partners / 5, rtol=0.1, atol=1e-20
    )


@all_penalties
def test_draws_depend_on_nothing_but_the_generator(
    penalty, make_problem, torch_setting
):
    architecture = Architecture((5, 4, 3))
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    before = torch.get_rng_state()
    expected = PENALTIES[penalty](architecture, parameters, x)
    with torch_setting():
        computed = PENALTIES[penalty](architecture, parameters, x)
    assert torch.equal(computed, expected)
    assert torch.equal(torch.get_rng_state(), before)


# The change of the Jacobian


@all_activations
@tied_or_not
@all_sizes
@pytest.mark.parametrize("n_projections", [None, 20], ids=["exact", "projected"])
def test_higher_order_is_the_change_of_autograds_jacobian(
    activation, tied, sizes, n_projections, make_problem, materialised_jacobian
):
    architecture = Architecture(sizes, activation, tied=tied)
    flat, x = make_problem(architecture, n_samples=4)
    noise = draw_noise(x)

    def computed(flat):
        return higher_order(
            *(architecture, architecture.view(flat), x, noise),
            n_projections=n_projections,
            generator=make_generator(0),
        )

    def expected(flat):
        parameters = architecture.view(flat)
        clean, *corrupted = (
            materialised_jacobian(architecture, parameters, rows)
            for rows in [x, *(x + noise)]
        )
        changes = [(other - clean).square().sum(dim=(1, 2)) for other in corrupted]
        return sum(changes) / len(changes)

    assert_equal(computed(flat), expected(flat))
    assert_equal(gradient_of(computed, flat), gradient_of(expected, flat))


@all_activations
def test_only_kinks_are_missing_in_the_gradient_of_the_mean_change(
    activation, make_problem
):
    # As the user guide says. Steps that take many draws past them show the kinks.
    has_kinks = activation in ("relu", "leaky_relu")
    step = 0.02 if has_kinks else 1e-5
    architecture = Architecture((3, 4), activation)
    flat, x = make_problem(architecture, n_samples=50)
    noise = draw_noise(x, n_corruptions=400)

    def mean(flat):
        parameters = architecture.view(flat)
        return higher_order(architecture, parameters, x, noise).mean()

    computed = architecture.view(gradient_of(mean, flat)).encoder_biases[0]
    differences = []
    for j in range(4):
        shift = torch.zeros_like(flat)
        architecture.view(shift).encoder_biases[0][j] = step
        differences.append((mean(flat + shift) - mean(flat - shift)) / (2 * step))
    differences = torch.stack(differences)
    if has_kinks:
        assert not computed.any()
        assert differences.abs().max() > 0.1
    else:
        torch.testing.assert_close(computed, differences, rtol=1e-4, atol=1e-6)


def test_higher_order_of_one_layer_is_the_papers_formula(make_problem):
    architecture = Architecture((5, 3), "sigmoid")
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    weight = parameters.encoder_weights[0].numpy()
    noise = draw_noise(x)
    h, *corrupted = (
        expit(rows.numpy() @ weight + parameters.encoder_biases[0].numpy())
        for rows in [x, *(x + noise)]
    )
    expected = np.zeros(len(x))
    for other in corrupted:
        change = other * (1 - other) - h * (1 - h)
        expected += change**2 @ (weight**2).sum(axis=0) / len(corrupted)
    computed = higher_order(architecture, parameters, x, noise)
    np.testing.assert_allclose(computed, expected, rtol=1e-12)


# The Jacobian


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


# Rounding


def cancelling_problems(make_problem):
    """Yield architectures, parameters and batches with Jacobians that nearly vanish.

    The units of the first layer are nearly the same, and the weights of each unit of
    the second layer sum to nearly zero.
    """
    architecture = Architecture((40, 8, 3), "tanh")
    for _ in range(10):
        flat, x = make_problem(architecture, n_samples=50, dtype=torch.float32)
        first, second = architecture.view(flat).encoder_weights
        first.copy_(first[:, :1] / 10 + 3e-6 * first)
        second.sub_(second.mean(dim=0))
        architecture.view(flat).encoder_biases[0].zero_()
        yield architecture, flat, x


@all_penalties
def test_penalties_are_never_negative(penalty, make_problem):
    norms = [
        PENALTIES[penalty](architecture, architecture.view(flat), x)
        for architecture, flat, x in cancelling_problems(make_problem)
    ]
    # Rounding errors would make some of them negative: these are zero.
    assert torch.cat(norms).min() == 0


def test_gradients_where_rounding_errors_would_be_negative(make_problem):
    def gradients(architecture, flat, x):
        def oracle(flat):
            jacobians = jacobian(architecture, architecture.view(flat), x.double())
            return jacobians.square().sum(dim=(1, 2))

        def computed(flat):
            return contraction(architecture, architecture.view(flat), x)

        return gradient_of(computed, flat), gradient_of(oracle, flat.double())

    n_samples = 0
    for architecture, flat, x in cancelling_problems(make_problem):
        x = x[contraction(architecture, architecture.view(flat), x) == 0]
        n_samples += len(x)
        gradient, expected = gradients(architecture, flat, x)
        assert (gradient - expected).norm() <= 0.1 * expected.norm()
    assert n_samples > 0
