"""Kinds of X: sparse, memory-mapped, tensors. All give what the dense array gives."""

from functools import partial

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.utils import estimator_checks

from skcae import ContractiveAutoencoderTransformer, _validation, geometry, sampling
from skcae.engine import batches
from skcae.engine import rows as rows_module

METHODS = ["transform", "score_samples", "jacobian", "contraction"]
FORMATS = ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"]
PARAMETERS = {
    "defaults": {},
    "early stopping": {"early_stopping": True},
    "cross-entropy": {"loss": "cross_entropy", "output_activation": "sigmoid"},
    "float64": {"precision": "float64"},
    "untied, small batches": {"tied_weights": False, "batch_size": 7},
}
cases = pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)


@pytest.fixture(scope="session")
def sparse_X(X):
    """The rows of X with two thirds of the entries zero, and one row of zeros."""
    X = np.where(np.random.default_rng(0).random(X.shape) < 1 / 3, X, 0)
    X[5] = 0
    X.flags.writeable = False
    return X


def assert_same_model(model, expected):
    """Compare two models to the last bit."""
    assert_array_equal(model.loss_curve_, expected.loss_curve_)
    for name, curve in expected.history_.items():
        assert_array_equal(model.history_[name], curve)
    for a, b in zip(model._arrays, expected._arrays, strict=True):
        for x, y in zip(a, b, strict=True):
            assert_array_equal(x, y)


# Sparse


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_training_on_sparse_rows_is_training_on_dense_ones(
    dtype, parameters, sparse_X, make
):
    X = sparse_X.astype(dtype) if dtype != np.uint8 else (sparse_X > 0.5).astype(dtype)
    S = scipy.sparse.csr_array(X)
    before = S.copy()
    model, expected = make(**parameters).fit(S), make(**parameters).fit(X)
    assert_same_model(model, expected)
    for method in METHODS:
        result, dense = (getattr(expected, method)(rows) for rows in (S, X))
        assert isinstance(result, np.ndarray)
        assert result.dtype == dense.dtype
        assert_array_equal(result, dense)
    assert expected.score(S) == expected.score(X)
    for name in ("data", "indices", "indptr"):
        assert_array_equal(getattr(S, name), getattr(before, name))


@pytest.mark.parametrize("container", ["array", "matrix"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_sparse_format(format, container, sparse_X, make):
    S = getattr(scipy.sparse, f"{format}_{container}")(sparse_X)
    assert_same_model(make().fit(S), make().fit(sparse_X))
    H = make().fit_transform(S)
    assert isinstance(H, np.ndarray)
    assert not isinstance(H, np.matrix)
    assert_array_equal(H, make().fit(sparse_X).transform(sparse_X))


@pytest.mark.parametrize("format", ["coo", "csc", "csr"])
@pytest.mark.parametrize("container", ["array", "matrix"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_both_sizes_of_indices(index, container, format, sparse_X, make):
    S = getattr(scipy.sparse, f"{format}_{container}")(sparse_X)
    names = ("row", "col") if format == "coo" else ("indices", "indptr")
    if hasattr(S, "coords"):
        # SciPy 1.13 and later cast what is assigned to row and col.
        S.coords = tuple(axis.astype(index) for axis in S.coords)
    else:
        for name in names:
            setattr(S, name, getattr(S, name).astype(index))
    for name in (*names, "data"):
        # As joblib's memory maps are.
        getattr(S, name).flags.writeable = False
    model = make().fit(S)
    assert_same_model(model, make().fit(sparse_X))
    assert_array_equal(model.transform(S), model.transform(sparse_X))
    assert all(getattr(S, name).dtype == index for name in names)


def test_streams_of_sparse_chunks(sparse_X, make):
    model, expected = make(), make()
    for rows in [slice(0, 30), slice(30, 60), slice(0, 30)]:
        model.partial_fit(scipy.sparse.csr_array(sparse_X[rows]))
        expected.partial_fit(sparse_X[rows])
    assert_same_model(model, expected)


def test_training_on_sparse_rows_resumes(sparse_X, make):
    S = scipy.sparse.csr_array(sparse_X)
    whole = make(tol=0, max_iter=4)
    parts = make(tol=0, max_iter=2, warm_start=True)
    for model in (whole, parts, parts):
        with pytest.warns(match="Maximum iterations"):
            model.fit(S)
    assert_same_model(parts, whole)


def test_codes_may_be_sparse(X, make):
    model = make(activation="relu").fit(X)
    H = model.transform(X)
    assert (H == 0).any()
    restored = model.inverse_transform(scipy.sparse.csc_array(H))
    assert_array_equal(restored, model.inverse_transform(H))


def test_functions_of_a_model_take_sparse_rows(sparse_X, make):
    model = make().fit(sparse_X)
    S = scipy.sparse.csr_array(sparse_X)
    for function in [geometry.singular_values, geometry.local_dimension]:
        assert_array_equal(function(model, S), function(model, sparse_X))
    samples = [
        sampling.sample(model, rows, n_samples=3, sigma=0.1, random_state=0)
        for rows in (S, sparse_X)
    ]
    assert_array_equal(*samples)
    ratios = [
        geometry.contraction_ratio(model, rows, [1.0], random_state=0)
        for rows in (S, sparse_X)
    ]
    assert_array_equal(*ratios)


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_the_range_of_sparse_values_is_checked(value, sparse_X, make):
    parameters = PARAMETERS["cross-entropy"]
    bad = scipy.sparse.csr_array(sparse_X)
    bad.data[7] = value
    with pytest.raises(ValueError, match=rf"in the range \[0, 1\].* {value}"):
        make(**parameters).fit(bad)
    model = make(**parameters).fit(sparse_X)
    with pytest.raises(ValueError, match=rf"in the range \[0, 1\].* {value}"):
        model.score_samples(bad)
    # Zeros that aren't stored count as well.
    full = scipy.sparse.csr_array(np.full((60, 8), 2.0))
    with pytest.raises(ValueError, match=r"values from 0.0 to 2.0"):
        make(**parameters).fit(full)


def test_entries_that_are_named_twice_are_summed(sparse_X, make):
    S = scipy.sparse.coo_array(sparse_X)
    halves = scipy.sparse.csr_array(sparse_X)
    halves.data = np.repeat(halves.data / 2, 2)
    halves.indices = np.repeat(halves.indices, 2)
    halves.indptr = 2 * halves.indptr
    parameters = PARAMETERS["cross-entropy"]
    assert_same_model(make(**parameters).fit(halves), make(**parameters).fit(S))
    assert halves.nnz == 2 * S.nnz
    with pytest.raises(ValueError, match=r"to 3\.0"):
        make(**parameters).fit(4 * halves / halves.max() * 0.75)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sparse_values_are_checked(value, sparse_X, make):
    bad = scipy.sparse.csr_array(sparse_X)
    bad.data[7] = value
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        make().fit(bad)


def test_huge_sparse_values_are_explained(sparse_X, make):
    with pytest.raises(ValueError, match=r"largest absolute value in X is .*e\+29"):
        make().fit(scipy.sparse.csr_array(1e30 * sparse_X))


def test_sparse_rows_in_pipelines_and_searches(sparse_X, make):
    S = scipy.sparse.csr_array(sparse_X)
    search = GridSearchCV(
        make_pipeline(MaxAbsScaler(), make()),
        {"contractiveautoencodertransformer__lam": [0.1, 1]},
        cv=2,
    )
    scores = [search.fit(rows).cv_results_["mean_test_score"] for rows in (S, sparse_X)]
    assert_allclose(*scores, rtol=1e-12)


# Memory maps


@cases
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_small_memory_maps_are_arrays(mode, parameters, mapped, X, make):
    rows = mapped(X, mode)
    model = make(**parameters).fit(rows)
    assert_same_model(model, make(**parameters).fit(X))
    for method in METHODS:
        assert_array_equal(getattr(model, method)(rows), getattr(model, method)(X))
    assert_array_equal(rows, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@cases
def test_large_memory_maps_train_as_well(
    dtype, parameters, mapped, digits, make, monkeypatch
):
    # Sorted by class, so that neighbours are alike.
    X = digits[0][digits[1].argsort(kind="stable")]
    X = (X > 0.5).astype(dtype) if dtype == np.uint8 else X.astype(dtype)
    settings = {"tol": 1e-2, "n_hidden": 20, "lam": 1.0, **parameters}
    expected = make(**settings).fit(X)
    # Four windows of about 35 runs of 13 rows.
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", X.nbytes // 4)
    monkeypatch.setattr(batches, "_RUN_BYTES", 13 * X[0].nbytes)
    model = make(**settings).fit(mapped(X))
    assert model.loss_curve_[0] != expected.loss_curve_[0]
    assert_allclose(model.score(X), expected.score(X), rtol=0.05)
    assert_same_model(make(**settings).fit(mapped(X)), model)


def test_held_out_rows_of_large_memory_maps(mapped, small_windows, X, make):
    seen = []

    class Recording(ContractiveAutoencoderTransformer):
        def _data(self, *args):
            train, held_out, rng = super()._data(*args)
            seen.append((train[0][:], held_out[0][:]))
            return train, held_out, rng

    model = Recording(
        3, early_stopping=True, max_iter=2, tol=0, warm_start=True, random_state=0
    )
    with pytest.warns(match="Maximum iterations"):
        model.fit(mapped(X)).fit(mapped(X))
    train, held_out = seen[0]
    assert len(held_out) == 6
    assert_array_equal(
        np.unique(np.concatenate([train, held_out]), axis=0).shape, X.shape
    )
    assert_array_equal(seen[1][1], held_out)
    # The other training resumed, so that both are one.
    whole = Recording(3, early_stopping=True, max_iter=4, tol=0, random_state=0)
    with pytest.warns(match="Maximum iterations"):
        whole.fit(mapped(X))
    assert_same_model(model, whole)


VIEWS = {
    "columns": lambda X: X[:, 1:],
    "every other row": lambda X: X[::2],
    "reversed": lambda X: X[::-1],
    "transposed": lambda X: X.reshape(X.shape[::-1]).T,
}
NUMBERS = ["f2", ">f4", ">f8", "i1", "u2", "i8", "u8", "?"]


@pytest.mark.filterwarnings("ignore:The reconstruction explains")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    "dtype, view", [("f8", view) for view in VIEWS] + [(d, None) for d in NUMBERS]
)
def test_large_memory_maps_of_any_kind(
    dtype, view, early_stopping, mapped, small_windows, X, make
):
    rows = mapped((X if "f" in dtype else 4 * X - 2).astype(dtype))
    rows = rows if view is None else VIEWS[view](rows)
    plain = np.array(rows, dtype=np.float64)
    settings = {"early_stopping": early_stopping, "precision": "float64"}
    model = make(**settings).fit(rows)
    for method in METHODS:
        result = getattr(model, method)(rows)
        assert result.dtype == np.float64
        assert_allclose(result, getattr(model, method)(plain), rtol=1e-12, atol=1e-15)
    if dtype == "f8":
        assert_same_model(model, make(**settings).fit(mapped(plain)))


def test_large_memory_maps_are_checked(mapped, small_windows, make):
    with pytest.raises(ValueError, match="contains NaN"):
        make().fit(mapped(np.full((600, 8), np.nan, dtype=">f4")))
    with pytest.raises(ValueError, match="Complex data not supported"):
        make().fit(mapped(np.zeros((600, 8), dtype=complex)))


def test_huge_values_in_large_memory_maps(mapped, small_windows, X, make):
    for early_stopping in (False, True):
        with pytest.raises(ValueError, match=r"largest absolute value in X is .*e\+29"):
            make(early_stopping=early_stopping).fit(mapped(1e30 * X))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, bool])
def test_integers_are_computed_in_float64(dtype, X, make):
    X = (4 * X).astype(dtype)
    model = make().fit(X)
    for method in METHODS:
        result = getattr(model, method)(X)
        assert result.dtype == np.float64
        assert_array_equal(result, getattr(model, method)(X.astype(np.float64)))
    assert_array_equal(
        geometry.contraction_ratio(model, X, [1.0], random_state=0),
        geometry.contraction_ratio(model, 1.0 * X, [1.0], random_state=0),
    )


# Tensors


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_tensors_are_arrays(dtype, parameters, X, make):
    tensor = torch.tensor(X).round().to(dtype) if dtype == torch.uint8 else None
    tensor = torch.tensor(X).to(dtype) if tensor is None else tensor
    array = tensor.numpy().copy()
    model = make(**parameters).fit(tensor)
    assert_same_model(model, make(**parameters).fit(array))
    for method in METHODS:
        result, expected = (getattr(model, method)(rows) for rows in (tensor, array))
        assert isinstance(result, np.ndarray)
        assert result.dtype == expected.dtype
        assert_array_equal(result, expected)
    assert_array_equal(tensor, array)


def test_tensors_of_a_graph_and_views(X, make):
    tensor = torch.tensor(X, requires_grad=True)
    expected = make().fit(X)
    assert_same_model(make().fit(tensor), expected)
    assert_same_model(make().fit(torch.tensor(X.T).T), expected)
    H = expected.transform(tensor)
    assert_array_equal(
        expected.inverse_transform(torch.tensor(H, requires_grad=True)),
        expected.inverse_transform(H),
    )
    assert_same_model(make().partial_fit(tensor), make().partial_fit(X))


def test_tensors_of_short_floats_become_float64(X, make):
    for dtype in (torch.bfloat16, torch.float16):
        tensor = torch.tensor(X).to(dtype)
        wide = tensor.double().numpy()
        model = make().fit(tensor)
        assert_same_model(model, make().fit(wide))
        assert_array_equal(model.transform(tensor), model.transform(wide), strict=True)


def test_tensors_are_checked(X, make):
    with pytest.raises(ValueError, match="contains NaN"):
        make().fit(torch.tensor(X) * torch.nan)
    with pytest.raises(ValueError, match="has 4 features"):
        make().fit(X).transform(torch.tensor(X)[:, :4])


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
@pytest.mark.parametrize("layout", ["coo", "csr", "csc"])
def test_sparse_tensors_are_refused(layout, X, make):
    sparse = getattr(torch.tensor(X), f"to_sparse_{layout}")()
    with pytest.raises(TypeError, match=r"sparse tensor was passed.*'\.to_dense\(\)'"):
        make().fit(sparse)
    with pytest.raises(TypeError, match="sparse tensor was passed"):
        make().fit(X).transform(sparse)


def test_lazy_frames_are_refused(X, make):
    frame = pytest.importorskip("polars").DataFrame(X)
    model = make().fit(frame)
    with pytest.raises(TypeError, match=r"LazyFrame was passed.*'\.collect\(\)'"):
        make().fit(frame.lazy())
    with pytest.raises(TypeError, match="LazyFrame was passed"):
        model.transform(frame.lazy())


# Tensors under array API dispatch


@pytest.fixture
def dispatch():
    """Turn scikit-learn's array API dispatch on."""
    try:
        context = config_context(array_api_dispatch=True)
        with context:
            yield
    except ImportError as error:  # scikit-learn < 1.8 needs array_api_compat
        pytest.skip(str(error))


def twin(tensor):
    """Return the array of the same values, bits and dtype."""
    return tensor.detach().numpy().copy()


@pytest.mark.parametrize("parameters", [{}, PARAMETERS["cross-entropy"]], ids=str)
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.uint8, torch.int32, torch.bool],
    ids=str,
)
def test_tensors_come_out_as_tensors(dtype, parameters, X, make, dispatch):
    tensor = torch.tensor(X if dtype.is_floating_point else X.round()).to(dtype)
    model = make(**parameters).fit(tensor)
    assert_same_model(model, make(**parameters).fit(twin(tensor)))
    for method in METHODS:
        result = getattr(model, method)(tensor)
        assert isinstance(result, torch.Tensor)
        assert result.device == tensor.device
        expected = getattr(model, method)(twin(tensor))
        assert_array_equal(result.numpy(), expected, strict=True)
    assert model.score(tensor) == pytest.approx(model.score(twin(tensor)), rel=1e-6)
    codes = model.transform(tensor)
    restored = model.inverse_transform(codes)
    assert isinstance(restored, torch.Tensor)
    assert_array_equal(
        restored.numpy(), model.inverse_transform(twin(codes)), strict=True
    )


def test_rows_of_tensors_do_not_go_through_numpy(X, make, dispatch, monkeypatch):
    model = make().fit(X)
    expected = model.transform(X)
    tensor = torch.tensor(X)

    def forbidden(*args, **kwargs):
        raise AssertionError("a tensor leaves its device")

    for way in ("numpy", "__array__", "cpu", "tolist"):
        monkeypatch.setattr(torch.Tensor, way, forbidden)
    codes = model.transform(tensor)
    restored = model.inverse_transform(codes)
    monkeypatch.undo()
    assert_array_equal(codes, expected)
    assert_array_equal(restored, model.inverse_transform(expected))


def test_tensors_are_checked_under_dispatch(X, make, dispatch):
    model = make(**PARAMETERS["cross-entropy"]).fit(X)
    tensor = torch.tensor(X)
    with pytest.raises(ValueError, match="contains NaN"):
        model.transform(tensor * torch.nan)
    with pytest.raises(ValueError, match="has 4 features"):
        model.transform(tensor[:, :4])
    with pytest.raises(ValueError, match="has 8 features"):
        model.inverse_transform(tensor)
    with pytest.raises(ValueError, match=r"in the range \[0, 1\]"):
        model.score_samples(2 * tensor)
    with pytest.raises(TypeError, match="sparse tensor was passed"):
        model.transform(tensor.to_sparse())


def test_gradients_end_at_the_transformer(X, make, dispatch):
    model = make().fit(X)
    leaf = torch.tensor(X, requires_grad=True)
    result = model.transform(leaf.T.contiguous().T)
    assert not result.requires_grad
    assert_array_equal(result, model.transform(X))


def test_other_input_comes_out_as_arrays_under_dispatch(X, make, dispatch):
    model = make().fit(torch.tensor(X))
    for rows in (X, X.tolist(), np.asfortranarray(X), scipy.sparse.coo_array(X)):
        assert isinstance(model.transform(rows), np.ndarray)
    # Functions of a model return arrays for tensors too.
    for function in (geometry.singular_values, geometry.score_field, sampling.sample):
        assert isinstance(function(model, torch.tensor(X)), np.ndarray)
    geometry.contraction_ratio(model, torch.tensor(X), [1.0])


@pytest.fixture
def validated(monkeypatch):
    """Return the list of what X will be after it has been validated."""
    seen = []

    def validate(*args, **kwargs):
        seen.append(validate_data(*args, **kwargs))
        return seen[-1]

    validate_data = _validation.validate_data
    monkeypatch.setattr(_validation, "validate_data", validate)
    return seen


@pytest.mark.parametrize("dtype", [np.int16, np.float16])
def test_maps_are_not_converted_under_dispatch(
    dtype, X, make, mapped, dispatch, validated, monkeypatch
):
    rows = mapped((10 * X).astype(dtype))
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", rows.nbytes // 2)
    model = make().fit(rows)
    codes = model.transform(rows)
    assert rows_module.is_out_of_core(validated[-1])
    assert validated[-1].dtype == dtype
    assert_array_equal(codes, model.transform(rows[:].astype(np.float64)))


@pytest.mark.parametrize(
    "function",
    [
        geometry.singular_values,
        partial(geometry.tangent_bases, n_components=2),
        geometry.local_dimension,
        geometry.score_field,
        partial(sampling.sample, n_samples=3, random_state=0),
        partial(sampling.sample, random_state=0),
    ],
)
def test_functions_do_not_convert_maps(
    function, X, make, mapped, validated, monkeypatch
):
    model = make().fit(X)
    rows = mapped((10 * X).astype(np.int16))
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", rows.nbytes // 2)
    result = function(model, rows)
    assert rows_module.is_out_of_core(validated[-1])
    assert validated[-1].dtype == np.int16
    assert_array_equal(result, function(model, rows[:].astype(np.float64)))


def test_tensors_go_through_pipelines(X, make, dispatch):
    pytest.importorskip("sklearn", "1.9", reason="StandardScaler takes no tensors")
    pipeline = make_pipeline(MaxAbsScaler(), make(), StandardScaler())
    expected = pipeline.fit(X).transform(X)
    result = pipeline.fit(torch.tensor(X)).transform(torch.tensor(X))
    assert isinstance(result, torch.Tensor)
    assert_allclose(result.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_check_of_array_api_input(dtype, X, dispatch):
    """What the check asks for, but for fitted arrays in the namespace of X.

    Fitted state is NumPy, whatever it was fitted to; so the estimator has no array API
    tag. The check looks at one of its attributes only, which is a list here.
    """

    class Listed(ContractiveAutoencoderTransformer):
        def fit(self, X, y=None):
            super().fit(X)
            self.loss_curve_ = self.loss_curve_.tolist()
            return self

    estimator_checks.check_array_api_input_and_values(
        "Listed", Listed(tol=0.1), "torch", "cpu", dtype
    )
