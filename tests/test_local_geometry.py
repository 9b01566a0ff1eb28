from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from skcae import geometry
from skcae.engine import rows as rows_module

per_sample = pytest.mark.parametrize(
    "function, shape",
    [
        (geometry.singular_values, (60, 5)),
        (lambda cae, X: geometry.tangent_bases(cae, X, 2), (60, 2, 8)),
        (geometry.local_dimension, (60,)),
        (geometry.score_field, (60, 8)),
    ],
    ids=["singular_values", "tangent_bases", "local_dimension", "score_field"],
)


def contraction_ratio(cae, X):
    return geometry.contraction_ratio(cae, X, [0.1, 1], random_state=0)


def linear(cae, X, matrix):
    """Turn a fitted estimator into the map x ↦ x @ matrix."""
    cae.set_params(activation="identity", n_hidden=matrix.shape[1]).fit(X)
    cae.encoder_coefs_ = [matrix]
    cae.encoder_intercepts_ = [np.zeros(matrix.shape[1])]
    return cae


@pytest.fixture
def cae(make, X):
    return make().fit(X)


@pytest.fixture
def deep(make, X):
    """An estimator with an encoder of three layers, 8-6-3-4, and a decoder to match."""
    rng = np.random.default_rng(0)
    sizes = (8, 6, 3, 4)
    cae = make(n_hidden=4).fit(X)
    cae.encoder_coefs_, cae.decoder_coefs_ = (
        [rng.normal(size=fan) for fan in pairwise(widths)]
        for widths in (sizes, sizes[::-1])
    )
    cae.encoder_intercepts_ = [rng.normal(size=n) for n in sizes[1:]]
    cae.decoder_intercepts_ = [rng.normal(size=n) for n in sizes[-2::-1]]
    cae._architecture = (sizes, "sigmoid", "identity", False)
    return cae


@pytest.fixture(params=["cae", "deep"])
def any_depth(request):
    return request.getfixturevalue(request.param)


def test_singular_values_match_numpys(any_depth, X):
    values = geometry.singular_values(any_depth, X)
    expected = np.linalg.svd(any_depth.jacobian(X), compute_uv=False)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-15)


def test_tangents_span_what_the_encoder_is_most_sensitive_to(any_depth, X):
    bases = geometry.tangent_bases(any_depth, X, 3)
    expected = np.linalg.svd(any_depth.jacobian(X))[2][:, :3]
    # Equal up to signs, as the leading singular values are distinct.
    cosines = np.einsum("nki,nki->nk", bases, expected)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-9)
    np.testing.assert_allclose(
        bases, geometry.tangent_bases(any_depth, X[::-1], 3)[::-1], atol=1e-12
    )


def test_local_dimension_matches_its_formula(any_depth, X):
    squares = np.linalg.svd(any_depth.jacobian(X), compute_uv=False) ** 2
    expected = squares.sum(axis=1) ** 2 / (squares**2).sum(axis=1)
    np.testing.assert_allclose(
        geometry.local_dimension(any_depth, X), expected, rtol=1e-10
    )


def test_local_dimension_is_zero_where_nothing_moves(make, X):
    cae = linear(make(), X, np.zeros((8, 3)))
    np.testing.assert_array_equal(geometry.local_dimension(cae, X), np.zeros(60))


def test_score_field_is_reconstruction_minus_input(any_depth, X):
    expected = any_depth.inverse_transform(any_depth.transform(X)) - X
    np.testing.assert_allclose(
        geometry.score_field(any_depth, X), expected, rtol=1e-10, atol=1e-14
    )


def test_an_isotropic_map_contracts_all_distances_alike(make, X):
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8))).Q
    cae = linear(make(), X, 0.3 * orthogonal)
    ratios = geometry.contraction_ratio(cae, X, [1e-6, 1, 1e3])
    np.testing.assert_allclose(ratios, 0.3, rtol=1e-8)


def test_contraction_ratio_is_the_mean_over_samples_and_directions(any_depth, X):
    ratios = geometry.contraction_ratio(
        any_depth, X, [0.5, 2], n_directions=3, random_state=7
    )
    rng = np.random.RandomState(7)
    for radius, ratio in zip([0.5, 2], ratios, strict=True):
        rng.seed(7)
        distances = []
        for _ in range(3):
            for x, v in zip(X, rng.standard_normal((60, 8)), strict=True):
                pair = np.stack([x, x + radius * v / np.sqrt(v @ v)])
                h, moved = any_depth.transform(pair)
                distances.append(np.sqrt(((moved - h) ** 2).sum()))
        assert ratio == pytest.approx(np.mean(distances) / radius, rel=1e-10)


def test_contraction_ratio_tends_to_the_jacobians(cae, X):
    # For small radii, E‖Jv‖² over unit vectors v is ‖J‖²_F / n_features.
    x = X[:1].repeat(20_000, axis=0)
    (ratio,) = geometry.contraction_ratio(
        cae, x.astype(np.float32), [1e-7], n_directions=1, random_state=0
    )
    v = np.random.default_rng(0).normal(size=(20_000, 8))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    lengths = np.linalg.norm(v @ cae.jacobian(X[:1])[0].T, axis=1)
    assert (lengths**2).mean() == pytest.approx(cae.contraction(X)[0] / 8, rel=0.02)
    assert ratio == pytest.approx(lengths.mean(), rel=0.02)


def test_contraction_ratio_is_reproducible(cae, X):
    first = contraction_ratio(cae, X)
    np.testing.assert_array_equal(first, contraction_ratio(cae, X))
    assert (first != geometry.contraction_ratio(cae, X, [0.1, 1], random_state=1)).all()


@per_sample
def test_results_have_the_dtype_of_the_rows(function, shape, cae, X):
    exact = function(cae, X)
    assert exact.dtype == np.float64
    assert exact.shape == shape
    computed = function(cae, X.astype(np.float32))
    assert computed.dtype == np.float32
    np.testing.assert_allclose(computed, exact, rtol=1e-3, atol=1e-3)
    assert contraction_ratio(cae, X.astype(np.float32)).dtype == np.float32


@per_sample
def test_memory_is_bounded(function, shape, any_depth, X, monkeypatch):
    whole = function(any_depth, X)
    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 100)
    lengths = []
    tensors = rows_module.Rows.tensors

    def recording(*args):
        for rows, block in tensors(*args):
            lengths.append(len(block))
            yield rows, block

    monkeypatch.setattr(rows_module.Rows, "tensors", recording)
    np.testing.assert_allclose(function(any_depth, X), whole, rtol=1e-10, atol=1e-13)
    # 100 entries hold 12 rows, or the reduced Jacobians of four rows or two.
    largest = 5 * 5 if any_depth.n_hidden == 5 else 6 * 6
    assert max(lengths) == 100 // (8 if function is geometry.score_field else largest)


def test_names_of_features_are_checked_once(make, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    cae = make().fit(frame)
    # A second validation of the bare values would warn that they have no names.
    for function in [
        geometry.singular_values,
        geometry.local_dimension,
        geometry.score_field,
        contraction_ratio,
    ]:
        np.testing.assert_array_equal(function(cae, frame), function(cae, frame))
        with pytest.raises(ValueError, match="feature names should match"):
            function(cae, frame[list("hgfedcba")])


@per_sample
def test_estimators_must_be_fitted_autoencoders(function, shape, make, cae, X):
    with pytest.raises(NotFittedError):
        function(make(), X)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        function(BaseEstimator(), X)
    with pytest.raises(ValueError, match="8 features"):
        function(cae, X[:, :7])
    with pytest.raises(ValueError, match="NaN"):
        function(cae, np.full((2, 8), np.nan))


@pytest.mark.parametrize("value", [0, -1, 1.0, "2", None])
def test_numbers_of_components_and_directions_are_positive(value, cae, X):
    with pytest.raises(ValueError, match="'n_components' parameter"):
        geometry.tangent_bases(cae, X, value)
    with pytest.raises(ValueError, match="'n_directions' parameter"):
        geometry.contraction_ratio(cae, X, [1], n_directions=value)


def test_there_are_no_more_tangents_than_the_narrowest_layer_is_wide(cae, deep, X):
    assert geometry.tangent_bases(cae, X, 5).shape == (60, 5, 8)
    with pytest.raises(ValueError, match="at most 5"):
        geometry.tangent_bases(cae, X, 6)
    with pytest.raises(ValueError, match="at most 3"):
        geometry.tangent_bases(deep, X, 4)


@pytest.mark.parametrize(
    "radii, message",
    [
        ([1, 0], "range"),
        ([-1], "range"),
        ([[1]], "1d"),
        ([], "minimum of 1"),
        ([np.nan], "NaN"),
        ([np.inf], "infinity"),
        (1.0, "'radii' parameter"),
    ],
)
def test_radii_are_positive(radii, message, cae, X):
    with pytest.raises(ValueError, match=message):
        geometry.contraction_ratio(cae, X, radii)


def test_random_state_is_checked(cae, X):
    with pytest.raises(ValueError, match="'random_state' parameter"):
        geometry.contraction_ratio(cae, X, [1], random_state="seed")
