import numpy as np
import pytest
import torch

from skcae.engine import geometry
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.network import Architecture, encode
from skcae.engine.penalties import jacobian

all_activations = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
# Wider and narrower than the input, deep, and with a bottleneck.
all_sizes = pytest.mark.parametrize(
    "sizes", [(5, 3), (3, 5), (4, 6, 3), (3, 5, 2, 4), (6, 2, 5)], ids=str
)


@pytest.fixture
def problem(make_problem, materialised_jacobian):
    """Return a function that makes an architecture, parameters, x and Jacobians."""

    def make(sizes, activation="tanh", dtype=torch.float64):
        architecture = Architecture(sizes, activation)
        flat, x = make_problem(architecture, dtype=dtype)
        parameters = architecture.view(flat)
        oracle = materialised_jacobian(architecture, parameters, x).numpy()
        return architecture, parameters, x, oracle

    return make


@all_activations
@all_sizes
def test_singular_values_are_those_of_autograds_jacobian(activation, sizes, problem):
    *arguments, jacobians = problem(sizes, activation)
    values = geometry.singular_values(*arguments)
    expected = np.linalg.svd(jacobians, compute_uv=False)
    assert values.shape == (7, min(sizes[0], sizes[-1]))
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-13)


@all_activations
@all_sizes
def test_tangents_are_leading_right_singular_vectors(activation, sizes, problem):
    *arguments, jacobians = problem(sizes, activation)
    n_components = min(sizes)
    bases = geometry.tangent_bases(n_components)(*arguments).numpy()
    assert bases.shape == (7, n_components, sizes[0])
    products = bases @ bases.transpose(0, 2, 1)
    np.testing.assert_allclose(products - np.eye(n_components), 0, atol=1e-13)
    # Each is stretched by its singular value, and their images are orthogonal.
    values = np.linalg.svd(jacobians, compute_uv=False)[:, :n_components]
    images = jacobians @ bases.transpose(0, 2, 1)
    np.testing.assert_allclose(
        images.transpose(0, 2, 1) @ images,
        values[:, :, None] ** 2 * np.eye(n_components),
        atol=1e-12,
    )
    largest = np.abs(bases).argmax(axis=2)[:, :, None]
    assert (np.take_along_axis(bases, largest, axis=2) > 0).all()


@all_sizes
def test_fewer_tangents_are_the_first_ones(sizes, problem):
    *arguments, jacobians = problem(sizes)
    (first,) = geometry.tangent_bases(1)(*arguments).numpy().transpose(1, 0, 2)
    expected = np.linalg.svd(jacobians)[2][:, 0]
    cosines = (first * expected).sum(axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-12)
    every = geometry.tangent_bases(min(sizes))(*arguments).numpy()
    np.testing.assert_allclose(every[:, 0], first, atol=1e-14)


@all_activations
@all_sizes
def test_participation_ratio_is_that_of_the_singular_values(activation, sizes, problem):
    *arguments, jacobians = problem(sizes, activation)
    squares = np.linalg.svd(jacobians, compute_uv=False) ** 2
    sums = squares.sum(axis=1)
    # Units with a kink can be off for a sample: its Jacobian vanishes.
    with np.errstate(invalid="ignore"):
        expected = np.where(sums > 0, sums**2 / (squares**2).sum(axis=1), 0)
    ratios = geometry.participation_ratio(*arguments)
    np.testing.assert_allclose(ratios, expected, rtol=1e-10)


def test_participation_ratio_counts_equal_singular_values(make_problem):
    architecture = Architecture((6, 6), "identity")
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    orthogonal = torch.linalg.qr(parameters.encoder_weights[0]).Q
    for k in range(7):
        # Small enough for fourth powers to underflow.
        weight = 1e-100 * orthogonal[:, :k] @ orthogonal[:, :k].T
        reduced = parameters._replace(encoder_weights=[weight])
        ratios = geometry.participation_ratio(architecture, reduced, x)
        np.testing.assert_allclose(ratios, k, rtol=1e-12)


@all_activations
@all_sizes
def test_gram_product_is_the_jacobian_times_its_transpose(activation, sizes, problem):
    architecture, parameters, x, jacobians = problem(sizes, activation)
    v = torch.tensor(np.random.default_rng(1).normal(size=(7, sizes[-1])))
    encoding = encode(architecture, parameters, x)
    products = geometry.gram_product(architecture, parameters, encoding, v)
    expected = np.einsum("nji,nki,nk->nj", jacobians, jacobians, v.numpy())
    np.testing.assert_allclose(products, expected, rtol=1e-11, atol=1e-13)


def test_displacement_is_the_gradient_of_a_potential_for_tied_weights(make_problem):
    # x̂ = W s(Wᵀx + b) + c is ∂/∂x of Σ_j S(a_j) + c·x with S' = s; for the sigmoid, S
    # is the softplus.
    architecture = Architecture((5, 3), "sigmoid", tied=True)
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    x.requires_grad_()
    a = x @ parameters.encoder_weights[0] + parameters.encoder_biases[0]
    potential = torch.nn.functional.softplus(a).sum()
    potential = potential + (x @ parameters.decoder_biases[0]).sum()
    (expected,) = torch.autograd.grad(potential - x.square().sum() / 2, x)
    displacement = geometry.displacement(architecture, parameters, x.detach())
    torch.testing.assert_close(displacement, expected, rtol=1e-12, atol=1e-13)


@all_sizes
def test_float32_is_as_accurate_as_it_can_be(sizes, problem):
    architecture, parameters, x, _ = problem(sizes, dtype=torch.float32)
    values = geometry.singular_values(architecture, parameters, x)
    assert values.dtype == torch.float32
    exact = np.linalg.svd(
        jacobian(architecture, parameters, x).double(), compute_uv=False
    )
    np.testing.assert_allclose(values, exact, atol=1e-5 * exact.max(), rtol=0)
    assert geometry.tangent_bases(1)(architecture, parameters, x).dtype == torch.float32


def test_small_singular_values_keep_their_digits(make_problem):
    # Eigenvalues of a Gram matrix would have lost the last of these in float64.
    architecture = Architecture((6, 4), "identity")
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    left, _, right = torch.linalg.svd(
        parameters.encoder_weights[0], full_matrices=False
    )
    spectrum = torch.tensor([1, 1e-4, 1e-8, 1e-12], dtype=torch.float64)
    parameters = parameters._replace(encoder_weights=[(left * spectrum) @ right])
    values = geometry.singular_values(architecture, parameters, x)
    np.testing.assert_allclose(values, np.tile(spectrum, (7, 1)), rtol=1e-3)


def test_entries_per_row_is_the_largest_matrix_of_a_sample():
    assert geometry.entries_per_row(Architecture((784, 256))) == 256 * 256
    assert geometry.entries_per_row(Architecture((10, 300))) == 300 * 10
    assert geometry.entries_per_row(Architecture((784, 64, 1000))) == 1000 * 64


def noise_of_walks(seed, n_walks, n_steps, n_hidden):
    """Return the noise, of shape (n_steps, n_walks, n_hidden).

    Groups of walks, as many as have 4096 numbers, share a generator, and so do steps.
    """
    size = 4096 // n_hidden
    groups = [
        np.random.default_rng((seed, i)).standard_normal((n_steps, size, n_hidden))
        for i in range(-(-n_walks // size))
    ]
    return np.concatenate(groups, axis=1)[:, :n_walks]


@all_sizes
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_walk_matches_a_loop_over_chains(sizes, output, rng, make_problem):
    architecture = Architecture(sizes, "sigmoid", output)
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    n_steps, sigma, seed = 3, 0.7, 42
    path = geometry.walk(n_steps, sigma, seed, keep_path=True)(
        architecture, parameters, x
    )
    assert path.shape == (7, n_steps + 1, sizes[0])

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    noise = noise_of_walks(seed, 7, n_steps, sizes[-1])
    weights, biases, decoder_weights, decoder_biases = (
        [block.numpy() for block in group] for group in parameters
    )
    for i, state in enumerate(x.numpy()):
        np.testing.assert_array_equal(path[i, 0], state)
        for step in range(n_steps):
            h, J = state, np.eye(sizes[0])
            for weight, bias in zip(weights, biases, strict=True):
                h = sigmoid(h @ weight + bias)
                J = np.diag(h * (1 - h)) @ weight.T @ J
            h = h + J @ J.T @ (sigma * noise[step][i])
            for layer, (weight, bias) in enumerate(
                zip(decoder_weights, decoder_biases, strict=True)
            ):
                h = (sigmoid(h) if layer else h) @ weight + bias
            state = sigmoid(h) if output == "sigmoid" else h
            np.testing.assert_allclose(path[i, step + 1], state, rtol=1e-10)

    last = geometry.walk(n_steps, sigma, seed, keep_path=False)
    torch.testing.assert_close(
        last(architecture, parameters, x), path[:, -1], rtol=0, atol=0
    )


def test_walks_from_further_rows_draw_further_noise(make_problem):
    architecture = Architecture((5, 3))
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    step = geometry.walk(1, 1.0, 0, keep_path=False)
    first, second = (step(architecture, parameters, x) for _ in range(2))
    assert not torch.equal(first, second)


def walked(flat, blocks, n_steps=4, keep_path=True):
    architecture = Architecture((6, 1000))
    function = geometry.walk(n_steps, 1.0, 0, keep_path)
    parameters = architecture.view(flat)
    return torch.cat([function(architecture, parameters, x) for x in blocks])


@pytest.mark.parametrize("sizes", [[1] * 23, [3] * 7 + [2], [4, 8, 11], [22, 1]])
def test_walks_do_not_depend_on_blocks(sizes, make_problem):
    # Four walks share a generator.
    flat, x = make_problem(Architecture((6, 1000)), n_samples=23)
    expected = walked(flat, [x])
    torch.testing.assert_close(
        walked(flat, x.split(sizes)), expected, rtol=1e-9, atol=1e-9
    )
    # Nor does a walk depend on how many others there are.
    torch.testing.assert_close(
        walked(flat, [x[:10]]), expected[:10], rtol=1e-9, atol=1e-9
    )


def test_no_two_walks_or_steps_have_the_same_noise():
    noises = geometry._noise(0, 0, 23, 1000)
    noise = torch.stack([next(noises).clone() for _ in range(4)]).flatten(0, 1)
    expected = noise_of_walks(0, 23, 4, 1000).reshape(-1, 1000)
    np.testing.assert_array_equal(noise, expected)
    correlations = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlations).max() < 6 / np.sqrt(1000)


def test_a_shorter_walk_is_the_beginning_of_a_longer_one(make_problem):
    flat, x = make_problem(Architecture((6, 1000)), n_samples=23)
    path = walked(flat, x.split([10, 13]), n_steps=5)
    for n_steps in range(1, 6):
        blocks = x.split(23 // n_steps)
        ends = walked(flat, blocks, n_steps, keep_path=False)
        torch.testing.assert_close(ends, path[:, n_steps], rtol=1e-9, atol=1e-9)


def test_settings_of_other_code_do_not_matter_to_the_noise(make_problem):
    architecture = Architecture((5, 3))
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    before = torch.get_rng_state()
    results = []
    for seed in [1, 2]:
        torch.manual_seed(seed)
        step = geometry.walk(2, 1.0, 0, keep_path=False)
        results.append(step(architecture, parameters, x))
    torch.set_rng_state(before)
    torch.testing.assert_close(*results, rtol=0, atol=0)


# Subspace iteration


def tangents_of(n_components, architecture, flat, x, seed=0):
    function = geometry.leading_tangents(n_components, seed)
    return function(architecture, architecture.view(flat), x)


def projections(vectors):
    return vectors.mT @ vectors


@pytest.mark.parametrize("sizes", [(6, 4), (5, 8), (6, 5, 3), (3, 9, 4)], ids=str)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_leading_tangents_of_small_layers_are_exact(sizes, activation, make_problem):
    architecture = Architecture(sizes, activation)
    flat, x = make_problem(architecture)
    for n_components in range(1, min(sizes) + 1):
        expected = geometry.tangent_bases(n_components)(
            architecture, architecture.view(flat), x
        )
        actual = tangents_of(n_components, architecture, flat, x)
        assert actual.shape == expected.shape
        torch.testing.assert_close(
            (actual * expected).sum(dim=2).abs(), torch.ones(7, n_components).double()
        )


@pytest.fixture(params=[False, True], ids=["CPU", "as on a GPU"])
def _number_of_shared_vectors(request, monkeypatch):
    """Share as many vectors as on a CPU, or as on a GPU, that is fewer."""
    numbers = geometry._n_vectors
    monkeypatch.setattr(geometry, "_N_SHARED_ON_GPU", 12)
    assert numbers(5, (100, 200), request.param) == (9, 12 if request.param else 27)
    monkeypatch.setattr(
        geometry, "_n_vectors", lambda n, sizes, _: numbers(n, sizes, request.param)
    )


@pytest.mark.usefixtures("_number_of_shared_vectors")
def test_leading_tangents_of_large_layers(make_problem):
    architecture = Architecture((60, 80))
    flat, x = make_problem(architecture)
    # A spectrum that falls by 10% from value to value: the ninth after the leading five
    # is at a quarter of them.
    weight = architecture.view(flat).encoder_weights[0]
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    weight.copy_(u * 0.9 ** torch.arange(60) @ vh)
    exact = geometry.tangent_bases(5)(architecture, architecture.view(flat), x)
    actual = tangents_of(5, architecture, flat, x)
    identity = torch.eye(5, dtype=torch.float64).expand(7, 5, 5)
    torch.testing.assert_close(actual @ actual.mT, identity)
    difference = projections(actual) - projections(exact)
    assert torch.linalg.matrix_norm(difference).max() < 0.02
    # A seed makes it reproducible.
    assert torch.equal(actual, tangents_of(5, architecture, flat, x))


@pytest.mark.usefixtures("_number_of_shared_vectors")
def test_leading_tangents_where_jacobians_have_little_in_common(make_problem):
    architecture = Architecture((100, 200), "relu")
    flat, x = make_problem(architecture)
    parameters = architecture.view(flat)
    jacobians = jacobian(architecture, parameters, x).numpy()
    values = np.linalg.svd(jacobians, compute_uv=False)[:, :5]
    vectors = tangents_of(5, architecture, flat, x).numpy()
    squares = ((jacobians @ vectors.transpose(0, 2, 1)) ** 2).sum(axis=(1, 2))
    assert (squares / (values**2).sum(axis=1)).min() > 0.99


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_leading_tangents_do_not_depend_on_the_scale(scale, make_problem):
    architecture = Architecture((20, 30), "identity")
    flat, x = make_problem(architecture)
    expected = tangents_of(3, architecture, flat.float(), x.float())
    actual = tangents_of(3, architecture, (flat * scale).float(), x.float())
    torch.testing.assert_close(
        projections(actual), projections(expected), rtol=0, atol=1e-4
    )


@pytest.mark.usefixtures("_number_of_shared_vectors")
def test_leading_tangents_start_alike_in_each_block(make_problem):
    architecture = Architecture((60, 80))
    flat, x = make_problem(architecture)
    function = geometry.leading_tangents(5, 0)
    first, second = (function(architecture, architecture.view(flat), x) for _ in "ab")
    torch.testing.assert_close(second, first, rtol=0, atol=0)


# Threads


def threads_of(name, function, monkeypatch):
    """Call function(); return the numbers of threads that torch.linalg.<name> had."""
    decomposition = getattr(torch.linalg, name)
    counts = []

    def recording(*args, **kwargs):
        counts.append(torch.get_num_threads())
        return decomposition(*args, **kwargs)

    monkeypatch.setattr(torch.linalg, name, recording)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        function()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    return set(counts)


@pytest.mark.parametrize(
    "name, function",
    [
        ("qr", geometry.singular_values),
        ("svdvals", geometry.singular_values),
        ("svd", geometry.tangent_bases(3)),
        ("qr", geometry.leading_tangents(3, 0)),
        ("eigh", geometry.leading_tangents(3, 0)),
        ("qr", geometry.participation_ratio),
    ],
)
def test_small_matrices_are_decomposed_by_one_thread(
    name, function, make_problem, monkeypatch
):
    architecture = Architecture((60, 80))
    flat, x = make_problem(architecture)
    arguments = architecture, architecture.view(flat), x
    assert threads_of(name, lambda: function(*arguments), monkeypatch) == {1}


@pytest.mark.parametrize("size, n_threads", [(256, 1), (257, 2)])
def test_large_matrices_are_decomposed_by_several_threads(
    size, n_threads, make_problem, monkeypatch
):
    architecture = Architecture((size, size))
    flat, _ = make_problem(architecture, n_samples=1)
    weight = architecture.view(flat).encoder_weights[0]
    counts = threads_of(
        "qr", lambda: geometry._decomposed(torch.linalg.qr, weight), monkeypatch
    )
    assert counts == {n_threads}
