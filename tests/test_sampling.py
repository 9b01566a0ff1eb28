import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

from skcae.engine import rows as rows_module
from skcae.engine.geometry import walk
from skcae.sampling import sample

# The data of most tests are small, beside the walks.
pytestmark = pytest.mark.filterwarnings("ignore:The walks have left the data")


@pytest.fixture
def cae(make, X):
    return make(output_activation="sigmoid", loss="cross_entropy").fit(X)


def test_a_path_matches_a_loop_with_materialised_jacobians(cae, X):
    path = sample(cae, X, n_steps=3, sigma=2.0, return_path=True, random_state=5)
    assert path.shape == (60, 4, 8)
    np.testing.assert_array_equal(path[:, 0], X)
    seed = np.random.RandomState(5).randint(np.iinfo(np.int32).max)
    generator = np.random.default_rng((seed, 0))
    states = X
    for step in range(1, 4):
        # 819 walks of 5 hidden units share a generator.
        noise = generator.standard_normal((819, 5))[:60]
        moved = np.empty_like(X)
        for i, x in enumerate(states):
            J = cae.jacobian([x])[0]
            h = cae.transform([x])[0] + J @ J.T @ (2.0 * noise[i])
            (moved[i],) = cae.inverse_transform([h])
        states = moved
        np.testing.assert_allclose(path[:, step], states, rtol=1e-10)
    ends = sample(cae, X, n_steps=3, sigma=2.0, random_state=5)
    np.testing.assert_array_equal(ends, path[:, -1])


@pytest.mark.filterwarnings("error:The walks have left the data")
def test_walks_that_leave_the_data(make, X):
    cae = make().fit(X)

    for sigma in (0.1, 100):
        arguments = {"n_steps": 1, "sigma": sigma, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ends = sample(cae, X, **arguments)
        ratio = np.linalg.norm(ends) ** 2 / np.linalg.norm(X) ** 2
        for rows in (X, csr_array(X)):
            for return_path in (False, True):
                arguments["return_path"] = return_path
                if sigma == 0.1:
                    assert ratio < 3
                    sample(cae, rows, **arguments)
                    continue
                assert ratio > 3
                message = f"their mean square is {ratio:.2g}".replace("+", r"\+")
                with pytest.warns(UserWarning, match=message):
                    sample(cae, rows, **arguments)
    # One row will do, and there is nothing to compare zeros with.
    with pytest.warns(UserWarning, match="left the data"):
        sample(cae, X[:1], n_steps=1, sigma=100, random_state=0)
    sample(cae, np.zeros((2, 8)), n_steps=1, sigma=100, random_state=0)


def test_without_noise_it_reconstructs(cae, X):
    once, twice = (sample(cae, X, n_steps=n, sigma=0) for n in [1, 2])
    expected = cae.inverse_transform(cae.transform(X))
    np.testing.assert_allclose(once, expected, rtol=1e-12)
    expected = cae.inverse_transform(cae.transform(expected))
    np.testing.assert_allclose(twice, expected, rtol=1e-12)


def test_steps_have_the_covariance_of_the_formula(make, X):
    # With a linear decoder, the covariance of a step is Vᵀ (J Jᵀ)² V σ².
    cae = make().fit(X)
    x, n, sigma = X[:1], 40_000, 0.5
    ends = sample(cae, x, n, n_steps=1, sigma=sigma, random_state=0)
    assert ends.shape == (n, 8)
    J, V = cae.jacobian(x)[0], cae.decoder_coefs_[0]
    factor = sigma * V.T @ J @ J.T
    expected = factor @ factor.T
    np.testing.assert_allclose(
        np.cov(ends.T), expected, rtol=0, atol=0.02 * expected.max()
    )
    mean = cae.inverse_transform(cae.transform(x))[0]
    deviation = np.sqrt(expected.diagonal() / n)
    assert (np.abs(ends.mean(axis=0) - mean) < 5 * deviation).all()


def test_starts_are_rows_drawn_with_replacement(cae, X):
    path = sample(cae, X, 600, n_steps=1, return_path=True, random_state=0)
    assert path.shape == (600, 2, 8)
    counts = (path[:, :1] == X).all(axis=2).sum(axis=0)
    assert counts.sum() == 600
    # Binomial, with mean 10 and standard deviation 3.1.
    assert counts.std() == pytest.approx(3.1, rel=0.3)
    assert sample(cae, X).shape == X.shape


def test_results_are_reproducible(cae, X):
    first, same, other = (sample(cae, X, 9, random_state=seed) for seed in [0, 0, 1])
    np.testing.assert_array_equal(first, same)
    assert (first != other).any(axis=1).all()
    rng = np.random.RandomState(0)
    assert (sample(cae, X, random_state=rng) != sample(cae, X, random_state=rng)).any()


def test_results_have_the_dtype_of_the_rows(cae, X):
    exact = sample(cae, X, random_state=0)
    computed = sample(cae, X.astype(np.float32), random_state=0)
    assert exact.dtype == np.float64
    assert computed.dtype == np.float32
    # The same noise in either format.
    np.testing.assert_allclose(computed, exact, rtol=1e-4)


@pytest.mark.parametrize("return_path, longest", [(False, 12), (True, 4)])
def test_memory_is_bounded(return_path, longest, cae, X, monkeypatch):
    lengths = []

    def recording_walk(*args):
        function = walk(*args)

        def recording(architecture, parameters, x):
            lengths.append(len(x))
            return function(architecture, parameters, x)

        return recording

    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 100)
    monkeypatch.setattr("skcae.sampling.walk", recording_walk)
    samples = sample(cae, X, n_steps=2, return_path=return_path, random_state=0)
    assert max(lengths) == longest
    # No two blocks get the same noise.
    copies = sample(cae, X[:1].repeat(60, axis=0), n_steps=2, random_state=0)
    assert len(np.unique(copies, axis=0)) == len(samples)


@pytest.mark.parametrize("n_samples", [60, None])
def test_walks_do_not_depend_on_what_is_computed_at_once(
    n_samples, cae, X, monkeypatch
):
    path = sample(cae, X, n_samples, n_steps=6, return_path=True, random_state=0)
    for block_entries in (1, 20, 100, 300, 2**22):
        monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", block_entries)
        for n_steps in (1, 2, 6):
            arguments = {"n_steps": n_steps, "random_state": 0}
            ends = sample(cae, X, n_samples, **arguments)
            np.testing.assert_allclose(ends, path[:, n_steps], rtol=1e-9)
            states = sample(cae, X, n_samples, return_path=True, **arguments)
            np.testing.assert_allclose(states, path[:, : n_steps + 1], rtol=1e-9)
    if n_samples is None:
        # Nor do they depend on the rows that follow.
        first = sample(cae, X[:25], n_steps=6, random_state=0)
        np.testing.assert_allclose(first, path[:25, -1], rtol=1e-9)


def test_walks_on_digits_stay_among_digits(make, digits):
    X, _ = digits
    cae = make(
        n_hidden=64,
        lam=1,
        output_activation="sigmoid",
        loss="cross_entropy",
        max_iter=30,
        tol=1e-3,
        n_iter_no_change=30,
    )
    with pytest.warns(match="converge"):
        cae.fit(X[:1200])
    ends = sample(cae, X[1200:], 300, n_steps=20, random_state=0)
    noise = expit(np.random.default_rng(0).normal(size=(99, 64)))
    neighbours = NearestNeighbors(n_neighbors=1).fit(X[:1200])
    to_samples, to_digits, to_noise = (
        neighbours.kneighbors(rows)[0].mean() for rows in [ends, X[1200:], noise]
    )
    assert to_samples < 1.2 * to_digits < to_noise
    # And they don't all end in the same place.
    assert ends.std(axis=0).mean() > 0.3 * X.std(axis=0).mean()


@pytest.mark.parametrize(
    "name, values",
    [
        ("n_samples", [0, -1, 2.0, "all"]),
        ("n_steps", [0, 2.0, None]),
        ("sigma", [-0.1, "1", None]),
        ("return_path", ["yes", None]),
        ("random_state", ["seed", -1]),
    ],
)
def test_parameters_are_checked(name, values, cae, X):
    for value in values:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            sample(cae, X, **{name: value})


def test_estimators_must_be_fitted_autoencoders(make, cae, X):
    with pytest.raises(NotFittedError):
        sample(make(), X)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        sample(BaseEstimator(), X)
    with pytest.raises(ValueError, match="8 features"):
        sample(cae, X[:, :7])
