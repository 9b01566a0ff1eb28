"""Any data, any parameters, any interruption: a usable model or a clear error.

The cases are drawn by Hypothesis, the same ones each time. For a long search among new
ones, say how many: ``SKCAE_FAULT_CASES=50000 pytest tests/test_faults.py``.
"""

import os
import pickle
import re
import sys
import tempfile
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import InvalidParameterError

import skcae
from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine.activations import ACTIVATIONS

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

N_CASES = int(os.environ.get("SKCAE_FAULT_CASES", 0))


def cases(n_cases):
    """Settings for a test that normally tries so many cases."""
    return settings(
        max_examples=n_cases * N_CASES // 3000 if N_CASES else n_cases,
        derandomize=not N_CASES,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


# Data


def draw_values(rng, kind, shape):
    values = rng.normal(size=shape)
    if kind == "unit interval":
        values = rng.uniform(size=shape)
    elif kind == "constant":
        values[:] = values[0, 0]
    elif kind == "constant columns":
        values[:, ::2] = values[0, ::2]
    elif kind == "duplicates":
        values[:] = values[:1]
    elif kind == "two values":
        values = np.sign(values)
    elif kind == "zeros":
        values[:] = 0
    elif kind == "one entry":
        values[1:], values[0, 1:] = 0, 0
    elif kind == "one outlier":
        values[-1, -1] = 1e6
    elif kind == "columns of all sizes":
        values *= 10.0 ** np.linspace(-15, 15, shape[1])
    return values


KINDS = [
    "normal",
    "unit interval",
    "constant",
    "constant columns",
    "duplicates",
    "two values",
    "zeros",
    "one entry",
    "one outlier",
    "columns of all sizes",
]
DTYPES = ["f8", "f4", "f2", "g", "i8", "u8", "i4", "u2", "i1", "u1", "?", ">f8", ">f4"]
SCALES = [1.0, 255.0, 1e-3, 1e3, *10.0 ** np.arange(-30, 31, 5)]
OFFSETS = [0.0, 1.0, -10.0, 1e4, -1e8, 1e20]


def cast(values, dtype):
    dtype = np.dtype(dtype)
    if dtype == "?":
        return values > 0
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        # The largest integers of 64 bits have no float64 that isn't larger.
        return np.clip(values.round(), limits.min // 2, limits.max // 2).astype(dtype)
    # Not the very largest: scikit-learn's own check of the data overflows for those.
    limit = float(np.finfo(dtype).max) / 1e3 if dtype.itemsize < 8 else np.inf
    return np.clip(values, -limit, limit).astype(dtype)


def strided(X):
    wide = np.zeros((2 * len(X), 3 * X.shape[1]), dtype=X.dtype)
    wide[::2, 1::3] = X
    return wide[::2, 1::3]


def unaligned(X):
    buffer = bytearray(X.nbytes + 1)
    copy = np.frombuffer(buffer, X.dtype, offset=1, count=X.size).reshape(X.shape)
    copy[:] = X
    return copy


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def memmap(X):
    with tempfile.TemporaryFile() as file:
        copy = np.memmap(file, X.dtype, "w+", shape=X.shape)
    copy[:] = X
    return copy


def frame(X):
    pd = pytest.importorskip("pandas")
    names = [f"column {i}" for i in range(X.shape[1])]
    return pd.DataFrame(X.astype(X.dtype.newbyteorder("=")), columns=names)


def native(X):
    """Return the values in a format that SciPy's sparse arrays can have."""
    dtype = X.dtype.newbyteorder("=")
    return X.astype("f4" if dtype == "f2" else dtype)


def wide_indices(X):
    X = sparse.coo_array(native(X))
    if hasattr(X, "coords"):
        X.coords = tuple(index.astype(np.int64) for index in X.coords)
    else:  # SciPy < 1.13
        X.row, X.col = X.row.astype(np.int64), X.col.astype(np.int64)
    return X


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": strided,
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "read-only": read_only,
    "memmap": memmap,
    "objects": lambda X: X.astype(object),
    "lists": lambda X: X.tolist(),
    "frame": frame,
    "CSR": lambda X: sparse.csr_array(native(X)),
    "CSC matrix": lambda X: sparse.csc_matrix(native(X)),
    "COO, 64-bit indices": wide_indices,
    "nullable frame": lambda X: frame(X).convert_dtypes(),
    "frame of columns": lambda X: frame(X).astype({"column 0": "float64"}),
}


@st.composite
def data(draw, n_columns=range(1, 7)):
    """Draw (X in some layout, the same values as an array that is nothing special)."""
    shape = draw(st.tuples(st.integers(1, 12), st.sampled_from(n_columns)))
    kind = draw(st.sampled_from(KINDS))
    dtype = draw(st.sampled_from(DTYPES))
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    scale = draw(st.sampled_from(SCALES))
    offset = draw(st.sampled_from(OFFSETS))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    with np.errstate(all="ignore"):
        values = scale * (offset + draw_values(rng, kind, shape))
        values = cast(values, dtype)
        X = LAYOUTS[layout](values)
    plain = check_array(X, accept_sparse=True, dtype=["f8", "f4"])
    plain = plain.toarray() if sparse.issparse(plain) else plain
    return X, np.array(plain, order="C")


# Parameters

POWERS = st.integers(-30, 30).map(lambda exponent: 10.0**exponent)
FRACTIONS = [0.1, 0.5, 0.9, 1e-300, 1e-9, 1 - 1e-9, 1 - 2**-53]
VALID = {
    "n_hidden": st.one_of(
        st.integers(1, 20), st.sampled_from([(4, 2), [2, 5], (3, 3, 1), np.int8(7)])
    ),
    "lam": st.one_of(st.just(0), st.just(1.0), POWERS, POWERS.map(np.float32)),
    "gamma": st.one_of(st.just(0), st.just(1.0), POWERS),
    "sigma": st.one_of(st.just(0.1), POWERS),
    "alpha": st.one_of(st.just(0), st.just(1e-3), POWERS),
    "corruption": st.sampled_from([None, "gaussian", "masking"]),
    "corruption_level": st.sampled_from([0, 0.1, 0.5, 1 - 2**-53, 1, 1e3, 1e30]),
    "n_projections": st.sampled_from([None, 1, 3, 100]),
    "solver": st.sampled_from(["adam", "muon"]),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "output_activation": st.sampled_from(["identity", "sigmoid"]),
    "loss": st.sampled_from(["squared_error", "squared_error", "cross_entropy"]),
    "tied_weights": st.booleans(),
    "learning_rate_init": st.one_of(st.just(0.003), POWERS, POWERS.map(np.float32)),
    "batch_size": st.sampled_from(["auto", 1, 2, 3, 11, np.int8(5), 10**30]),
    "max_iter": st.integers(1, 4),
    "tol": st.one_of(st.just(0), POWERS, POWERS.map(np.float32)),
    "n_iter_no_change": st.sampled_from([1, 2, 10**30]),
    "early_stopping": st.booleans(),
    "validation_fraction": st.sampled_from(FRACTIONS),
    "precision": st.sampled_from(["float32", "float64", "bfloat16"]),
    "warm_start": st.booleans(),
    "random_state": st.sampled_from([0, np.int64(1), 2**32 - 1]),
}
INVALID = {
    "n_hidden": [0, -1, 2.5, "5", None, np.nan, (), (3, 0), [2.5], (None,), [True]],
    "gamma": [-1e-300, np.nan, np.inf, None],
    "sigma": [0, -1.0, np.nan, np.inf],
    "alpha": [-1, np.nan, np.inf, "0"],
    "corruption": ["salt", 0, True],
    "corruption_level": [-1e-300, np.nan, np.inf, None],
    "n_projections": [0, -1, 1.5, "all"],
    "solver": ["sgd", None],
    "lam": [-1e-300, np.nan, np.inf, None, "1", 1j],
    "activation": ["", "softmax", None],
    "output_activation": ["relu", None],
    "loss": ["hinge", None],
    "tied_weights": ["yes", None, 2],
    "learning_rate_init": [0, 0.0, -1e-300, np.inf, np.nan, "auto"],
    "batch_size": [0, -1, 1.0, "all", None],
    "max_iter": [0, -1, 1.0, None],
    "tol": [-1e-300, np.nan, None],
    "n_iter_no_change": [0, 1.5, np.inf, None],
    "early_stopping": [None, "yes"],
    "validation_fraction": [0, 0.0, 1, 1.0, np.nan, None],
    "precision": ["float16", np.float32, None],
    "device": ["", "cpu:1", "meta", "cuda:-1", 0, None],
    "warm_start": [None, "no"],
    "random_state": [-1, 2**32, 0.5, "seed"],
    "verbose": ["loud", -1, None],
}
PAIRS = [(name, value) for name, values in INVALID.items() for value in values]


@st.composite
def parameters(draw, **fixed):
    """Draw parameters; one in ten times, one of them is invalid."""
    drawn = {"n_hidden": 3, "max_iter": 2, "random_state": 0, **fixed}
    for name in draw(st.lists(st.sampled_from(sorted(VALID)), max_size=8)):
        drawn[name] = draw(VALID[name])
    if drawn.get("loss") == "cross_entropy" and draw(st.integers(0, 9)):
        drawn["output_activation"] = "sigmoid"
    if not draw(st.integers(0, 9)):
        drawn |= [draw(st.sampled_from(PAIRS))]
    return drawn


def is_invalid(drawn, invalid=INVALID):
    return any(
        any(drawn[name] is value for value in values)
        for name, values in invalid.items()
        if name in drawn
    )


def must_work(drawn, X):
    """Whether these are parameters and data that someone may well use."""
    if is_invalid(drawn) or drawn.get("loss") == "cross_entropy":
        return False
    if drawn.get("early_stopping"):
        n_held_out = np.ceil(drawn.get("validation_fraction", 0.1) * len(X))
        if n_held_out >= len(X):
            return False
    return (
        np.abs(X).max() <= 1e3
        and all(
            drawn.get(name, 0) == "auto" or drawn.get(name, 0) <= 1e3
            for name in ("lam", "gamma", "alpha")
        )
        and drawn.get("sigma", 0) <= 1e3
        and drawn.get("learning_rate_init", 0) <= 0.1
        and drawn.get("corruption") is None
    )


# What must hold

ALLOWED_WARNINGS = [
    "Maximum iterations",
    "The reconstruction explains",
    "Rounding X to precision=",
    "precision='bfloat16' is emulated",
    "X does not have valid feature names",
    "X has feature names, but",
    "Training interrupted by user",
    "Fine-tuning interrupted by user",
    "Fine-tuning converged at a cross-entropy",
    "The label '-1' is a string",
    ".* samples have the label -1",
    "The held-out samples are drawn anew",
    "The number of unique classes is greater than 50%",
]
NAMES = sorted(
    {
        *ContractiveAutoencoderTransformer().get_params(),
        *ContractiveAutoencoderClassifier().get_params(),
    }
)
A_NAME = re.compile(rf"\b(X|y|[Ll]abels?|feature names|{'|'.join(NAMES)})\b")


@pytest.fixture(autouse=True)
def only_warnings_that_explain():
    # Every other warning is an error, NumPy's of overflow before all.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ALLOWED_WARNINGS:
            warnings.filterwarnings("ignore", text, UserWarning)
        yield


def explained(error):
    """Whether it is an error as scikit-learn's, about a parameter or the data."""
    return (
        type(error) in (ValueError, TypeError, InvalidParameterError)
        and A_NAME.search(str(error))
        and "Exception raised from" not in str(error)  # PyTorch's C++ stack
    )


def attempt(function, must_work=False):
    """Return (result, None) or (None, error); errors have to be good ones."""
    try:
        return function(), None
    except Exception as error:
        if must_work or not explained(error):
            raise
        event(f"{type(error).__name__}: {str(error)[:20]}")
        return None, error


def fitted_state(model):
    """Everything but the parameters, to the last bit."""
    names = vars(model).keys() - model.get_params().keys()
    return pickle.dumps({name: vars(model)[name] for name in sorted(names)})


def answers(model, X):
    """What the model says about X, method by method."""
    H = model.transform(X)
    results = {
        "transform": H,
        "inverse_transform": model.inverse_transform(H),
        "jacobian": model.jacobian(X),
        "contraction": model.contraction(X),
    }
    if model._loss == "squared_error":
        results["score_samples"] = model.score_samples(X)
    return results


def roomy(model, X, plain):
    """The data in float64 where float32 may be too narrow for what a model computes.

    It was trained in float64 on enormous values then.
    """
    return roomy_for(X, plain, [*model.encoder_coefs_, *model.decoder_coefs_])


def roomy_for(X, plain, weights):
    arrays = [plain, *weights]
    with np.errstate(over="ignore"):
        largest = np.prod([a.size * max(1.0, np.abs(a).max()) for a in arrays]) ** 2
    if plain.dtype == np.float32 and largest > 1e38:
        return (plain.astype(np.float64),) * 2
    return X, plain


def assert_fits(model, X, plain):
    """Check shapes, dtypes and that all is finite; return the answers."""
    n_features, n_hidden = model.n_features_in_, model.encoder_coefs_[-1].shape[1]
    n_rows = len(plain)
    shapes = {
        "transform": (n_rows, n_hidden),
        "inverse_transform": (n_rows, n_features),
        "jacobian": (n_rows, n_hidden, n_features),
        "contraction": (n_rows,),
        "score_samples": (n_rows,),
    }
    assert model.n_iter_ == len(model.loss_curve_) >= 1
    assert all(len(curve) == model.n_iter_ for curve in model.history_.values())
    assert np.isfinite(model.loss_curve_).all()
    results = answers(model, X)
    for name, values in results.items():
        assert values.shape == shapes[name], name
        assert values.dtype == plain.dtype, name
        assert np.isfinite(values).all(), name
    return results


def assert_same_answers(actual, expected):
    assert actual.keys() == expected.keys()
    for name, values in actual.items():
        assert_array_equal(values, expected[name], strict=True, err_msg=name)


def train(model, X, how):
    if how == "partial_fit" and model.early_stopping is not False:
        how = "fit"  # partial_fit isn't there
    return model.fit(X) if how == "fit" else model.partial_fit(X)


HOW = st.sampled_from(["fit", "fit", "partial_fit"])


@cases(700)
@given(data=data(), drawn=parameters(), how=HOW)
def test_a_fit_works_or_says_what_is_wrong(data, drawn, how):
    X, plain = data
    model = ContractiveAutoencoderTransformer(**drawn)
    nothing = fitted_state(model)
    _, error = attempt(lambda: train(model, X, how), must_work(drawn, plain))
    if error is not None:
        assert fitted_state(model) == nothing
        return
    assert not is_invalid(drawn)
    X, plain = roomy(model, X, plain)
    results = assert_fits(model, X, plain)
    # The same values in an ordinary array give the same bits.
    twin = train(clone(model), data[1], how)
    assert_array_equal(twin.loss_curve_, model.loss_curve_, strict=True)
    assert_same_answers(answers(twin, plain), results)
    assert_same_answers(answers(model, plain), results)


@cache
def pickled_model(how, has_names, parameters):
    X = np.random.default_rng(0).uniform(size=(10, 4))
    model = ContractiveAutoencoderTransformer(**dict(parameters))
    return pickle.dumps(train(model, frame(X) if has_names else X, how))


@st.composite
def fitted_models(draw):
    """Draw a model of 4 columns and 3 units: converged, stopped, or of chunks."""
    drawn = {"n_hidden": 3, "tol": 0.3, "n_iter_no_change": 1, "random_state": 0}
    for name in ("activation", "early_stopping", "precision", "warm_start"):
        drawn[name] = draw(VALID[name])
    drawn["max_iter"] = draw(st.sampled_from([2, 100]))
    args = draw(HOW), draw(st.booleans()), tuple(drawn.items())
    return pickle.loads(pickled_model(*args))


@cases(400)
@given(
    model=fitted_models(),
    data=data(n_columns=[4, 4, 4, 3]),
    drawn=parameters(),
    how=HOW,
)
def test_a_refit_works_or_leaves_all_as_it_was(model, data, drawn, how):
    X, plain = data
    twin = pickle.loads(pickle.dumps(model))
    before = fitted_state(model)
    model.set_params(**drawn)
    _, error = attempt(lambda: train(model, X, how))
    if error is not None:
        assert fitted_state(model) == before
        return
    assert not is_invalid(drawn)
    X, plain = roomy(model, X, plain)
    results = assert_fits(model, X, plain)
    twin = train(twin.set_params(**drawn), data[0], how)
    assert fitted_state(twin) == fitted_state(model)
    assert_same_answers(answers(twin, plain), results)


@cases(300)
@given(model=fitted_models(), data=data(n_columns=[4, 4, 4, 3]))
def test_a_fitted_model_answers_or_says_what_is_wrong(model, data):
    X, plain = data
    before = fitted_state(model)
    methods = ["transform", "score_samples", "jacobian", "contraction"]
    H = np.resize(plain, (len(plain), 3))
    for name, rows in [*((name, X) for name in methods), ("inverse_transform", H)]:
        method = getattr(model, name)
        result, error = attempt(partial(method, rows))
        if error is None:
            assert len(result) == len(plain)
            assert result.dtype == plain.dtype
            # Squares may be too large for float32.
            assert not np.isnan(result).any()
            assert np.isfinite(result).all() or np.abs(plain).max() > 1e15
            again = rows.copy() if sparse.issparse(rows) else np.array(rows)
            assert_array_equal(method(again), result)
        else:
            assert plain.shape[1] != 4
    assert fitted_state(model) == before


# The classifier

CLASSIFIER_VALID = {
    "tangent_weight": st.one_of(st.just(0.1), POWERS),
    "n_tangents": st.sampled_from([1, 2, np.int8(3), 100]),
    "class_weight": st.sampled_from(
        [None, "balanced", {0: 3.0}, {"a": 0.5}, {0: 1e-300}, {1: 1e300}, {7: 1.0}]
    ),
    **{
        name: VALID[name]
        for name in (
            *("alpha", "solver", "learning_rate_init", "batch_size", "max_iter"),
            *("tol", "n_iter_no_change", "early_stopping", "validation_fraction"),
            *("corruption", "corruption_level", "random_state"),
        )
    },
}
CLASSIFIER_INVALID = {
    "transformer": [0, "pca", ContractiveAutoencoderTransformer],
    "tangent_weight": [-1e-300, np.nan, np.inf, None],
    "n_tangents": [0, -1, 1.5, None],
    "class_weight": ["auto", {0: -1.0}, {0: 0, 1: 0}, {0: np.nan}, [1, 2], 1.0],
    **{
        name: INVALID[name]
        for name in (*CLASSIFIER_VALID, "device", "verbose")
        if name in INVALID
    },
}
CLASSIFIER_PAIRS = [
    (name, value) for name, values in CLASSIFIER_INVALID.items() for value in values
]
LABELS = {
    "two": [0, 1],
    "three": [0, 1, 2],
    "as many as there are": range(99),
    "negative": [-7, 3],
    "some missing": [-1, 0, 1],
    "most missing": [-1, -1, -1, -1, 0, 1],
    "huge": [0, 2**62],
    "floats": [0.0, 1.0],
    "booleans": [False, True],
    "strings": ["a", "b", "ä"],
    "strings, some missing": np.array(["a", "b", -1], dtype=object),
    "strings, a string missing": ["a", "b", "-1"],
    "one": [1],
    "none": [-1],
    "halves": [0.5, 1.0],
    "not finite": [0.0, np.nan],
    "None": np.array([None, "a"], dtype=object),
}
LEARNABLE = ["two", "three", "negative", "floats", "booleans", "strings"]


@st.composite
def labels(draw, n_rows):
    """Draw (kind, y): each label of its kind in turn."""
    kind = draw(st.sampled_from(sorted(LABELS)))
    y = np.resize(np.asarray(LABELS[kind]), n_rows)
    return kind, y.tolist() if draw(st.booleans()) else y


@cache
def pickled_encoder(activation):
    X = np.random.default_rng(0).uniform(size=(10, 4))
    model = ContractiveAutoencoderTransformer(
        3, activation=activation, max_iter=2, random_state=0
    )
    return pickle.dumps(model.fit(X))


@st.composite
def transformers(draw):
    if draw(st.integers(0, 9)) == 5:
        activation = draw(VALID["activation"])
        return FrozenEstimator(pickle.loads(pickled_encoder(activation)))
    drawn = {"n_hidden": 3, "max_iter": 2}
    names = ["n_hidden", "lam", "activation", "precision", "solver", "random_state"]
    for name in draw(st.lists(st.sampled_from(names), max_size=3)):
        drawn[name] = draw(VALID[name])
    if draw(st.integers(0, 19)) == 5:
        drawn |= [draw(st.sampled_from(PAIRS))]
    return ContractiveAutoencoderTransformer(**drawn)


@st.composite
def classifier_parameters(draw):
    drawn = {"transformer": draw(transformers()), "max_iter": 2, "random_state": 0}
    drawn["n_tangents"] = 1
    for name in draw(st.lists(st.sampled_from(sorted(CLASSIFIER_VALID)), max_size=5)):
        drawn[name] = draw(CLASSIFIER_VALID[name])
    if draw(st.integers(0, 9)) == 5:
        drawn |= [draw(st.sampled_from(CLASSIFIER_PAIRS))]
    return drawn


def classifier_must_work(drawn, kind, X):
    transformer = drawn["transformer"]
    frozen = isinstance(transformer, FrozenEstimator)
    return (
        kind in LEARNABLE
        and len(X) > 2
        and not is_invalid(drawn, CLASSIFIER_INVALID)
        and not isinstance(drawn.get("class_weight"), dict)
        and not drawn.get("early_stopping")
        and drawn.get("tangent_weight", 0) <= 1e3
        and drawn["n_tangents"] == 1
        and drawn.get("alpha", 0) <= 1e3
        and (drawn.get("corruption") is None or drawn.get("corruption_level", 0) < 1)
        and drawn.get("learning_rate_init", 0) <= 0.1
        and np.abs(X).max() <= 1e3
        and (X.shape[1] == 4 if frozen else must_work(transformer.get_params(), X))
    )


def classifier_answers(model, X):
    return {
        name: getattr(model, name)(X)
        for name in ("predict_proba", "decision_function", "predict")
    }


def assert_classifies(model, X, plain):
    """Check shapes, dtypes and that all is finite; return the answers."""
    n_rows, n_classes = len(plain), len(model.classes_)
    assert model.n_iter_ == len(model.loss_curve_) >= 1
    assert all(len(curve) == model.n_iter_ for curve in model.history_.values())
    assert np.isfinite(model.loss_curve_).all()
    results = classifier_answers(model, X)
    probabilities, scores, predicted = results.values()
    assert probabilities.shape == (n_rows, n_classes)
    assert scores.shape == ((n_rows, n_classes) if n_classes > 2 else (n_rows,))
    assert predicted.shape == (n_rows,)
    assert predicted.dtype == model.classes_.dtype
    assert np.isin(predicted, model.classes_).all()
    for values in (probabilities, scores):
        assert values.dtype == plain.dtype
        assert np.isfinite(values).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    return results


@cache
def pickled_classifier():
    X = np.random.default_rng(0).uniform(size=(10, 4))
    transformer = ContractiveAutoencoderTransformer(3, max_iter=2, random_state=0)
    model = ContractiveAutoencoderClassifier(transformer, max_iter=2, random_state=0)
    return pickle.dumps(model.fit(X, np.arange(10) % 2))


@cases(300)
@given(
    data=data(n_columns=[1, 2, 4, 4, 4]).flatmap(
        lambda pair: st.tuples(st.just(pair), labels(len(pair[1])))
    ),
    drawn=classifier_parameters(),
    was_fitted=st.booleans(),
)
def test_a_classifier_works_or_leaves_all_as_it_was(data, drawn, was_fitted):
    (X, plain), (kind, y) = data
    model = ContractiveAutoencoderClassifier()
    if was_fitted:
        model = pickle.loads(pickled_classifier())
    before = fitted_state(model)
    model.set_params(**drawn)
    _, error = attempt(
        lambda: model.fit(X, y), classifier_must_work(drawn, kind, plain)
    )
    if error is not None:
        assert fitted_state(model) == before
        return
    assert not is_invalid(drawn, CLASSIFIER_INVALID)
    X, plain = roomy_for(X, plain, [*model.coefs_, *model.transformer_.encoder_coefs_])
    results = assert_classifies(model, X, plain)
    # The same values in an ordinary array give the same bits, fitted before or not.
    twin = clone(model).fit(data[0][1], y)
    assert_array_equal(twin.loss_curve_, model.loss_curve_, strict=True)
    assert_same_answers(classifier_answers(twin, plain), results)
    assert_same_answers(classifier_answers(model, plain), results)


# Cases that went wrong once


@pytest.mark.parametrize("axis", [0, 1])
def test_one_row_or_column_backwards(axis, X):
    # NumPy calls it contiguous whatever its stride; PyTorch doesn't.
    one = X[:1].copy() if axis == 0 else X[:, :1].copy()
    backwards = np.flip(one, axis)
    assert backwards.flags.c_contiguous
    model = ContractiveAutoencoderTransformer(n_hidden=3, max_iter=1, random_state=0)
    expected = model.fit(one).transform(one)
    assert_array_equal(model.transform(backwards), expected)
    assert_array_equal(model.fit(backwards).transform(one), expected)


@pytest.mark.parametrize("tol", [1e-3, np.float32(1e30)])
def test_squares_beyond_float32(tol, X):
    model = ContractiveAutoencoderTransformer(
        n_hidden=3, tol=tol, max_iter=3, precision="float64"
    )
    assert_fits(model.fit(1e20 * X), 1e20 * X, X)


@pytest.mark.parametrize("n_rows, fraction", [(1, 0.1), (5, 0.9)])
def test_nothing_left_to_train_on(n_rows, fraction, X):
    model = ContractiveAutoencoderTransformer(
        early_stopping=True, validation_fraction=fraction
    )
    with pytest.raises(ValueError, match="validation_fraction"):
        model.fit(X[:n_rows])


def test_numbers_of_tangents_in_few_bits(X):
    # Numbers of entries are computed from it.
    transformer = ContractiveAutoencoderTransformer(3, max_iter=1, random_state=0)
    first, second = (
        ContractiveAutoencoderClassifier(
            transformer, tangent_weight=0.1, n_tangents=n, max_iter=1, random_state=0
        )
        .fit(X, np.arange(len(X)) % 2)
        .predict_proba(X)
        for n in (3, np.int8(3))
    )
    assert_array_equal(first, second)


def test_too_little_memory_for_a_classifier(X, monkeypatch):
    from skcae.engine.finetuning import FineTuner

    def allocate(*args, **kwargs):
        return torch.empty(2**60, dtype=torch.uint8, device="cpu")

    transformer = ContractiveAutoencoderTransformer(3, max_iter=1)
    model = ContractiveAutoencoderClassifier(transformer, n_tangents=1)
    monkeypatch.setattr(FineTuner, "__init__", allocate)
    for tangent_weight, end in [(0, "'auto'"), (1, "'auto' and n_tangents=1")]:
        model.set_params(tangent_weight=tangent_weight)
        sizes = rf"{X.shape[1]} features and units by layer \(3,\)"
        with pytest.raises(MemoryError, match=rf"{sizes} with batch_size={end}\.$"):
            model.fit(X, np.arange(len(X)) % 2)
        assert not hasattr(model, "transformer_")


@pytest.mark.parametrize("n_hidden", [10**15, 2**62, 10**30])
def test_more_units_than_memory(n_hidden, X):
    model = ContractiveAutoencoderTransformer(n_hidden, max_iter=2)
    with pytest.raises((MemoryError, ValueError), match="n_hidden"):
        model.fit(X)


# Damaged files


@pytest.mark.parametrize("kind", ["transformer", "classifier"])
def test_truncated_pickles_raise(kind):
    pickled = (
        pickled_encoder("sigmoid") if kind == "transformer" else pickled_classifier()
    )
    pickle.loads(pickled)
    for length in range(len(pickled)):
        with pytest.raises((EOFError, pickle.UnpicklingError)):
            pickle.loads(pickled[:length])


# Interruptions, anywhere

SKCAE = str(Path(skcae.__file__).parent)
N_PLACES = N_CASES // 100 or 30
SMALL = {"n_hidden": 3, "tol": 0, "batch_size": 5, "random_state": 0}


class Interruption:
    """Raise ``error`` at the n-th line of the package's code that is run.

    Without an error, only count the lines: ``n_lines``.
    """

    def __init__(self, at=None, error=None):
        self.at = at
        self.error = error
        self.n_lines = 0

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def trace(self, frame, kind, value):
        if not frame.f_code.co_filename.startswith(SKCAE):
            return None
        # Not while a generator is thrown away, which nobody would notice.
        if kind == "line" or (kind == "return" and value is not None):
            self.n_lines += 1
            if self.n_lines == self.at:
                sys.settrace(None)
                raise self.error
        return self.trace


def stop(model, X, n_epochs, how="fit"):
    return train(model.set_params(max_iter=n_epochs), X, how)


START = {
    "fit": lambda model, X: model,
    "fit, early stopping": lambda model, X: model.set_params(early_stopping=True),
    "refit": lambda model, X: stop(model, X, 2),
    "warm start": lambda model, X: stop(model.set_params(warm_start=True), X, 2),
    "warm start on other data": lambda model, X: stop(
        model.set_params(warm_start=True), X[3:], 2
    ),
    "first partial_fit": lambda model, X: model,
    "partial_fit": lambda model, X: stop(model, X, 2, "partial_fit"),
    "partial_fit after fit": lambda model, X: stop(model, X, 2),
}


def public_state(model):
    """What a fit has come to, but for what only the next one needs."""
    return pickle.dumps(
        [item for item in sorted(vars(model).items()) if item[0].endswith("_")]
    )


def places(n_lines):
    """Some lines all over the run, and each of the last ones, where all is written."""
    spread = np.linspace(1, n_lines, N_PLACES).astype(int)
    return sorted({*spread.tolist(), *range(n_lines - 30, n_lines + 1)})


def global_state():
    # Not the number of threads: setting one and being ready to undo it is two steps.
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        sklearn.get_config(),
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("start", START)
def test_an_interruption_anywhere_leaves_whole_epochs(start, error, X):
    how = "partial_fit" if "partial_fit" in start else "fit"
    X = X[:12]
    model = START[start](ContractiveAutoencoderTransformer(**SMALL), X)
    begun, before = pickle.dumps(model), fitted_state(model)
    others = global_state()
    whole = [
        public_state(stop(pickle.loads(begun), X, n_epochs, how))
        for n_epochs in (1, 2, 3)
    ]
    with Interruption() as run:
        stop(pickle.loads(begun), X, 3, how)

    for place in places(run.n_lines):
        model = pickle.loads(begun)
        method = getattr(model.set_params(max_iter=3), how)
        try:
            with Interruption(place, error):
                method(X)
        except error:
            pass
        assert fitted_state(model) == before or public_state(model) in whole, place
        assert global_state() == others, place
        # It is of use, and can go on.
        if "encoder_coefs_" in vars(model):
            assert_fits(model, X, X)
        assert_fits(stop(model, X, 1, how), X, X)


def tune(model, X, n_epochs, n_tuning_epochs):
    model.set_params(transformer__max_iter=n_epochs, max_iter=n_tuning_epochs)
    return model.fit(X, np.arange(len(X)) % 3)


def tuned_state(model):
    if not hasattr(model, "coefs_"):
        return None
    names = ["classes_", "coefs_", "intercepts_", "loss_curve_", "history_", "n_iter_"]
    encoder = model.transformer_
    return pickle.dumps(
        [getattr(model, name) for name in names]
        + [encoder.encoder_coefs_, encoder.loss_curve_]
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("start", ["fit", "refit"])
def test_an_interrupted_classifier_has_whole_epochs(start, error, X):
    X = X[:12]
    settings = {name: SMALL[name] for name in ("tol", "batch_size", "random_state")}
    model = ContractiveAutoencoderClassifier(
        ContractiveAutoencoderTransformer(**SMALL), **settings
    )
    if start == "refit":
        tune(model, X[:, ::-1], 2, 2)
    begun = pickle.dumps(model)
    before = fitted_state(pickle.loads(begun))
    others = global_state()
    whole = [
        tuned_state(tune(pickle.loads(begun), X, *n_epochs))
        for n_epochs in [(1, 3), (2, 3), (3, 3), (3, 1), (3, 2)]
    ]
    with Interruption() as run:
        tune(pickle.loads(begun), X, 3, 3)

    for place in places(run.n_lines):
        model = pickle.loads(begun)
        try:
            with Interruption(place, error):
                tune(model, X, 3, 3)
        except error:
            pass
        assert fitted_state(model) == before or tuned_state(model) in whole, place
        assert global_state() == others, place
        assert_classifies(tune(model, X, 1, 1), X, X)
