"""Wide tables: sparse ones, which stay sparse, and those with fewer rows than features.

The steps of the algebra are tested in engine/test_sparse.py and engine/test_space.py.
"""

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine import rows, space, training

MODELS = {
    "defaults": {},
    "untied": {"tied_weights": False},
    "adam": {"solver": "adam"},
    "masking": {"corruption": "masking"},
    "early stopping": {"early_stopping": True},
    "deep": {"n_hidden": (6, 3), "n_projections": None},
}
all_models = pytest.mark.parametrize("parameters", MODELS.values(), ids=MODELS)


def make(**parameters):
    defaults = {"n_hidden": 4, "max_iter": 12, "tol": 0, "random_state": 0}
    return ContractiveAutoencoderTransformer(**{**defaults, **parameters})


pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The reconstruction"
)


@pytest.fixture(scope="module")
def thin():
    """A CSR array of 60 rows that use a fourth of 1200 features."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 300, (60, 10)) * 4
    rows = np.repeat(np.arange(60), 10)
    X = scipy.sparse.csr_array((rng.random(600), (rows, columns.ravel())), (60, 1200))
    X.sum_duplicates()
    return X


@pytest.fixture(scope="module")
def wide():
    """40 rows of 1100 features, near a plane of 5 dimensions."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 1100))
    return plane + 0.1 * rng.normal(size=plane.shape)


@pytest.fixture
def never_dense(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("sparse rows were made dense")

    for kind in (scipy.sparse.csr_array, scipy.sparse.csr_matrix):
        for name in ("toarray", "todense"):
            monkeypatch.setattr(kind, name, fail)


@pytest.fixture
def whole_space(monkeypatch):
    monkeypatch.setattr(training, "choose_space", lambda *args: space.WHOLE)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@all_models
def test_thin_rows_are_never_made_dense(parameters, kind, thin, never_dense):
    X = kind(thin)
    model = make(**parameters).fit(X)
    assert np.isfinite(model.score(X))
    assert model.transform(X).shape == (60, model.encoder_coefs_[-1].shape[1])
    model.contraction(X)
    model.partial_fit(X) if not model.early_stopping else None


def test_read_only_rows(thin, never_dense):
    X = thin.copy()
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    model, expected = make().fit(X), make().fit(thin)
    assert_array_equal(model.loss_curve_, expected.loss_curve_)
    for method in ("transform", "score_samples", "contraction"):
        assert_array_equal(getattr(model, method)(X), getattr(model, method)(thin))


def test_entries_may_be_named_twice(thin):
    rows, columns = thin.nonzero()
    halves = np.tile(thin.data / 2, 2)
    coo = (halves, (np.tile(rows, 2), np.tile(columns, 2)))
    X = scipy.sparse.csr_array(scipy.sparse.coo_array(coo, shape=thin.shape))
    twice = scipy.sparse.csr_array(
        (
            np.repeat(thin.data / 2, 2),
            np.repeat(thin.indices, 2),
            2 * thin.indptr,
        ),
        shape=thin.shape,
    )
    before = twice.data.copy()
    expected = make().fit(thin)
    for other in (X, twice):
        assert_allclose(make().fit(other).loss_curve_, expected.loss_curve_, rtol=1e-6)
        assert_allclose(expected.score_samples(other), expected.score_samples(thin))
    assert_array_equal(twice.data, before)


def test_thin_rows_are_never_made_dense_in_fine_tuning(thin, never_dense):
    y = np.arange(60) % 2
    model = ContractiveAutoencoderClassifier(
        make(), max_iter=3, early_stopping=True, random_state=0
    ).fit(thin, y)
    assert model.predict_proba(thin).shape == (60, 2)


def test_other_models_of_thin_rows_take_dense_batches(thin):
    thin = thin / thin.max()
    for parameters in ({"corruption": "gaussian"}, {"loss": "cross_entropy"}):
        model = make(max_iter=2, **parameters).fit(thin)
        expected = make(max_iter=2, **parameters).fit(thin.toarray())
        assert_array_equal(model.loss_curve_, expected.loss_curve_)


@pytest.mark.parametrize(
    "parameters",
    [parameters for name, parameters in MODELS.items() if name != "masking"],
    ids=[name for name in MODELS if name != "masking"],  # it draws other numbers
)
def test_training_on_thin_rows_is_training_on_dense_ones(
    parameters, thin, whole_space, monkeypatch
):
    model = make(precision="float64", **parameters).fit(thin)
    expected = clone(model).fit(thin.toarray())
    # Adam divides rounding errors of gradients that are zero by its own eps.
    assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-4)


def test_results_for_thin_rows_are_those_for_dense_ones(thin):
    model = make().fit(thin)
    for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-10)):
        X = thin.astype(dtype)
        for method in ("transform", "score_samples", "contraction"):
            function = getattr(model, method)
            actual, expected = function(X), function(X.toarray())
            assert actual.dtype == expected.dtype == dtype
            assert_allclose(actual, expected, rtol=rtol, atol=rtol)


def test_columns_without_entries_change_nothing(thin):
    used = np.unique(thin.indices)
    model, expected = make().fit(thin), make().fit(thin[:, used].toarray())
    assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-4)
    assert not np.delete(model.encoder_coefs_[0], used, axis=0).any()
    # Entries that training didn't know are none that the model can reconstruct.
    other = scipy.sparse.csr_array(([2.0], ([0], [1])), shape=(1, 1200))
    assert model.score(other) == pytest.approx(model.score(0 * other) - 4, rel=1e-6)


@pytest.mark.parametrize("parameters", [{}, {"tied_weights": False}, {"gamma": 0.01}])
def test_wide_rows_come_to_the_objective_of_the_whole_space(
    parameters, wide, monkeypatch
):
    # Random rotations of the units are others: seeds differ by as much.
    model = make(max_iter=60, tol=0.05, precision="float64", **parameters).fit(wide)
    monkeypatch.setattr(training, "choose_space", lambda *args: space.WHOLE)
    expected = clone(model).fit(wide)
    assert model.loss_curve_[0] == pytest.approx(expected.loss_curve_[0], rel=0.3)
    assert model.loss_curve_[-1] < 1.4 * expected.loss_curve_[-1]
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]


@pytest.mark.parametrize("name", ["thin", "wide"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_in_a_smaller_space_resumes_exactly(name, early_stopping, request):
    X = request.getfixturevalue(name)
    whole = make(early_stopping=early_stopping).fit(X)
    model = make(early_stopping=early_stopping, warm_start=True, max_iter=5).fit(X)
    assert model._training_state["is_whole"] is False
    model.set_params(max_iter=7).fit(X)
    assert_array_equal(model.loss_curve_, whole.loss_curve_)
    for a, b in zip(model._arrays, whole._arrays, strict=True):
        for x, y in zip(a, b, strict=True):
            assert_array_equal(x, y)
    # Other rows are trained on in the space of all features.
    model.set_params(max_iter=2).fit(X[::-1])
    assert model._training_state["is_whole"] is True
    assert model.n_iter_ == 14


def test_a_training_goes_on_on_a_device_with_another_space(thin, monkeypatch):
    model = make(warm_start=True, max_iter=5).fit(thin)
    # What rows do on a GPU.
    monkeypatch.setattr(rows.SparseRows, "kept_sparse", lambda self, *_: self)
    before = model.score(thin)
    model.fit(thin)
    assert model.n_iter_ == 10
    assert model.score(thin) > before


def test_a_space_needs_room_on_a_gpu(monkeypatch):
    gpu, X = torch.device("cuda"), np.zeros((20, 2000), np.float32)
    nbytes = 2 * X.nbytes
    for free, fits in [(2 * nbytes, True), (2 * nbytes - 1, False)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 1))
        monkeypatch.setattr(space, "RowSpace", lambda *args: "the rows' span")
        chosen = space.choose_space(rows.as_rows(X), 4, torch.float32, gpu)
        assert chosen == ("the rows' span" if fits else space.WHOLE)


@pytest.mark.parametrize("mean, deviation", [(2015, 3), (1e4, 0.1)])
def test_a_dense_column_of_large_mean(mean, deviation, thin):
    column = mean + deviation * np.random.default_rng(0).normal(size=(60, 1))
    X = scipy.sparse.csr_array(scipy.sparse.hstack([thin, column]))
    parameters = {"lam": "auto", "early_stopping": True, "max_iter": 30}
    model = make(**parameters).fit(X)
    dense = make(**parameters).fit(X.toarray())
    assert model.lam_ == pytest.approx(dense.lam_, rel=0.1)
    for name, curve in model.history_.items():
        assert_allclose(curve, dense.history_[name], rtol=0.2)
    assert_allclose(
        model.score_samples(X), model.score_samples(X.toarray()), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", ["thin", "wide"])
def test_partial_fit_goes_on_from_a_smaller_space(name, request):
    X = request.getfixturevalue(name)
    model = make(warm_start=True, max_iter=5).fit(X)
    before = model.score(X)
    model.set_params(learning_rate_init=0.01)
    for _ in range(10):
        model.partial_fit(X)
    assert model.score(X) > before
    assert model.n_iter_ == 15


def test_validation_rows_outside_of_the_space_count_as_a_whole(wide):
    model = make(early_stopping=True, lam=0.0).fit(wide)
    (rows, _), (held_out, _), _ = clone(model)._data(wide, None, False)
    assert (len(rows), len(held_out)) == (36, 4)
    lowest = model.history_["validation_loss"].min()
    assert -model.score(held_out[:]) == pytest.approx(lowest, rel=1e-4)
