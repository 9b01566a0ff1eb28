"""The estimator alone: parameters, fitted attributes, methods, and how it trains.

What the methods compute is held against NumPy and SciPy on the fitted arrays.
"""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from callbacks import needs_callbacks, other_steps_lack_callbacks
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, ndtr, xlog1py, xlogy
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.engine import optimizer
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.device import make_generator
from skcae.engine.losses import LOSSES
from skcae.engine.optimizer import OPTIMIZERS
from skcae.engine.rows import split_numbers

VALUES = {
    "elu": lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
    "gelu": lambda a: a * ndtr(a),
    "identity": lambda a: a,
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": expit,
    "silu": lambda a: a * expit(a),
    "softplus": lambda a: np.logaddexp(0, a),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "tanh": np.tanh,
}
CROSS_ENTROPY = {"loss": "cross_entropy", "output_activation": "sigmoid"}
# Never improving enough and never giving up: max_iter is what ends the training.
keeps_little = pytest.mark.filterwarnings("ignore:The reconstruction explains")
ENDLESS = {"tol": 0, "n_iter_no_change": 10**6}

emulates_bfloat16 = pytest.mark.filterwarnings(
    "ignore:precision='bfloat16' is emulated:UserWarning"
)


def fit_to_max_iter(estimator, X):
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(\d+\) reached"):
        return estimator.fit(X)


def weights(estimator):
    """All parameters in one vector, for comparisons."""
    groups = (
        estimator.encoder_coefs_,
        estimator.encoder_intercepts_,
        estimator.decoder_coefs_,
        estimator.decoder_intercepts_,
    )
    return np.concatenate([array.ravel() for group in groups for array in group])


def assert_same_fit(actual, expected):
    """Equal to the last bit: parameters and every curve."""
    assert_array_equal(weights(actual), weights(expected), strict=True)
    assert_array_equal(actual.loss_curve_, expected.loss_curve_, strict=True)
    assert actual.history_.keys() == expected.history_.keys()
    for name, curve in actual.history_.items():
        assert_array_equal(curve, expected.history_[name], strict=True)
    assert actual.n_iter_ == expected.n_iter_


def reconstruction(estimator, X):
    """Encode and decode with a sigmoid hidden layer, in NumPy."""
    H = expit(X @ estimator.encoder_coefs_[0] + estimator.encoder_intercepts_[0])
    Z = H @ estimator.decoder_coefs_[0] + estimator.decoder_intercepts_[0]
    return VALUES[estimator._fitted_architecture.output_activation](Z)


def terms(estimator, X):
    """Both terms of the objective per sample, for a sigmoid layer, in NumPy."""
    Y = reconstruction(estimator, X)
    if estimator.loss == "cross_entropy":
        losses = -(xlogy(X, Y) + xlog1py(1 - X, -Y)).sum(axis=1)
    else:
        losses = ((X - Y) ** 2).sum(axis=1)
    (W,) = estimator.encoder_coefs_
    H = expit(X @ W + estimator.encoder_intercepts_[0])
    norms = (H * (1 - H)) ** 2 @ (W**2).sum(axis=0)
    return losses, norms


def split(X, fraction, random_state=0):
    """The rows to train on and those held out, for an int as ``random_state``."""
    seed = np.random.RandomState(random_state).randint(np.iinfo(np.int32).max)
    n_held_out = math.ceil(fraction * len(X))
    parts = split_numbers(len(X), n_held_out, make_generator(seed))
    return [X[part] for part in parts]


def objective(estimator, X):
    losses, norms = terms(estimator, X)
    lam = estimator.lam_ if estimator.lam == "auto" else estimator.lam
    return (losses + lam * norms).mean()


# Every parameter does something. Each entry: what it changes from, and to.

CHANGES_THE_WEIGHTS = {
    "lam": ({"lam": 0.1}, {"lam": 1.0}),
    "gamma": ({"gamma": 0.0}, {"gamma": 1.0}),
    "sigma": ({"gamma": 1, "sigma": 0.1}, {"gamma": 1, "sigma": 0.5}),
    "alpha": ({"alpha": 0}, {"alpha": 0.1}),
    "corruption": ({"corruption": "gaussian"}, {"corruption": "masking"}),
    "corruption_level": (
        {"corruption": "gaussian", "corruption_level": 0.1},
        {"corruption": "gaussian", "corruption_level": 0.3},
    ),
    "n_projections": (
        {"n_hidden": (6, 4), "n_projections": 1},
        {"n_hidden": (6, 4), "n_projections": None},
    ),
    "solver": ({"solver": "adam"}, {"solver": "muon"}),
    "activation": ({"activation": "sigmoid"}, {"activation": "tanh"}),
    "output_activation": (
        {"output_activation": "identity"},
        {"output_activation": "sigmoid"},
    ),
    "loss": ({"output_activation": "sigmoid"}, CROSS_ENTROPY),
    "tied_weights": ({"tied_weights": False}, {"tied_weights": True}),
    "learning_rate_init": ({"learning_rate_init": 1e-3}, {"learning_rate_init": 1e-2}),
    "batch_size": ({"batch_size": 16}, {"batch_size": 60}),
    "early_stopping": ({"early_stopping": False}, {"early_stopping": True}),
    "validation_fraction": (
        {"early_stopping": True, "validation_fraction": 0.1},
        {"early_stopping": True, "validation_fraction": 0.5},
    ),
    "precision": ({"precision": "float32"}, {"precision": "float64"}),
    "random_state": ({"random_state": 0}, {"random_state": 1}),
}
CHANGES_SOMETHING_ELSE = {
    "n_hidden": "test_fitted_attributes",
    "max_iter": "test_max_iter_bounds_the_epochs",
    "tol": "test_tol_and_n_iter_no_change_say_when_to_stop",
    "n_iter_no_change": "test_tol_and_n_iter_no_change_say_when_to_stop",
    "device": "test_device_auto_falls_back_on_the_cpu",
    "warm_start": "test_warm_start_goes_on",
    "verbose": "test_verbose",
}


def test_every_parameter_has_its_test():
    parameters = inspect.signature(ContractiveAutoencoderTransformer).parameters
    assert set(parameters) == {*CHANGES_THE_WEIGHTS, *CHANGES_SOMETHING_ELSE}
    assert set(CHANGES_SOMETHING_ELSE.values()) <= set(globals())


@pytest.mark.parametrize("name", CHANGES_THE_WEIGHTS)
def test_parameter_changes_the_weights(name, X, make):
    before, after = (
        weights(fit_to_max_iter(make(max_iter=2, **ENDLESS, **parameters), X))
        for parameters in CHANGES_THE_WEIGHTS[name]
    )
    # Far from the few units in the last place by which mere rounding would differ,
    # but for the precision, which is about nothing else.
    atol = 0 if name == "precision" else 1e-5
    assert before.shape != after.shape or np.abs(before - after).max() > atol


def test_max_iter_bounds_the_epochs(X, make):
    for max_iter in (1, 3):
        model = fit_to_max_iter(make(max_iter=max_iter, **ENDLESS), X)
        assert model.n_iter_ == max_iter


def test_tol_and_n_iter_no_change_say_when_to_stop(X, make):
    def n_iter(tol, n_iter_no_change):
        parameters = {"tol": tol, "n_iter_no_change": n_iter_no_change}
        return make(lam=0.1, **parameters).fit(X).n_iter_

    assert n_iter(0.3, 4) > n_iter(0.3, 1)
    assert n_iter(0.01, 1) > n_iter(0.3, 1)


def test_the_learning_rate_falls_before_training_converges(X, make):
    # No improvement is large enough here. A window has eight epochs of two steps. After
    # the first one, which has nothing to improve on, there are three; then the rate
    # falls for as many epochs.
    settings = {"tol": 1e6, "n_iter_no_change": 3, "batch_size": 30, "solver": "adam"}
    assert make(**settings).fit(X).n_iter_ == 2 * (1 + 3) * 8
    path = [
        weights(fit_to_max_iter(make(max_iter=max_iter, **settings), X))
        for max_iter in (31, 32, 62, 63)
    ]
    # Adam's steps are about as large as the learning rate.
    steps = np.abs(np.diff(path, axis=0)).mean(axis=1)
    assert steps[2] < 0.1 * steps[0]


def test_device_auto_falls_back_on_the_cpu(X, make, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_same_fit(make(device="auto").fit(X), make(device="cpu").fit(X))
    with pytest.raises(ValueError, match="device='cuda' is not available"):
        make(device="cuda").fit(X)


@pytest.mark.parametrize("verbose", [True, 1, 2])
def test_verbose(verbose, X, make, capsys):
    model = make(verbose=verbose).fit(X)
    out, err = capsys.readouterr()
    *lines, last = out.splitlines()
    assert err == ""
    assert last == f"Stopped after {model.n_iter_} epochs: convergence"
    assert len(lines) == model.n_iter_ > 1
    assert lines[0].endswith("learning_rate = 0.05")
    # It fell linearly over half of the epochs, in the middle of each.
    assert lines[-1].endswith(f"learning_rate = {0.05 / model.n_iter_:.6g}")
    for epoch, (line, value) in enumerate(
        zip(lines, model.loss_curve_, strict=True), start=1
    ):
        assert f"Epoch {epoch}:" in line
        assert f"{value:.6g}" in line


@pytest.mark.parametrize("verbose", [False, 0])
def test_silence(verbose, X, make, capsys):
    model = make(verbose=verbose, early_stopping=True).fit(X)
    model.transform(X)
    make(verbose=verbose).partial_fit(X)
    assert capsys.readouterr() == ("", "")


# Fitted attributes


@pytest.mark.parametrize("n_hidden", [1, 5, 13])
@pytest.mark.parametrize("tied_weights", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_fitted_attributes(n_hidden, tied_weights, precision, X, make):
    model = make(n_hidden=n_hidden, tied_weights=tied_weights, precision=precision)
    model.fit(X)
    shapes = {
        "encoder_coefs_": (8, n_hidden),
        "encoder_intercepts_": (n_hidden,),
        "decoder_coefs_": (n_hidden, 8),
        "decoder_intercepts_": (8,),
    }
    for name, shape in shapes.items():
        layers = getattr(model, name)
        assert type(layers) is list
        assert [type(array) for array in layers] == [np.ndarray]
        assert layers[0].shape == shape
        assert layers[0].dtype == precision
        assert np.isfinite(layers[0]).all()
    assert type(model.components_) is np.ndarray
    assert_array_equal(model.components_, model.encoder_coefs_[0].T, strict=True)
    tied = np.array_equal(model.decoder_coefs_[0], model.encoder_coefs_[0].T)
    assert tied == tied_weights

    assert type(model.n_iter_) is int
    assert type(model.n_features_in_) is int
    assert model.n_features_in_ == 8
    assert not hasattr(model, "feature_names_in_")
    assert type(model.history_) is dict
    assert set(model.history_) == {"reconstruction", "contraction"}
    for curve in (model.loss_curve_, *model.history_.values()):
        assert type(curve) is np.ndarray
        assert curve.dtype == np.float64
        assert curve.shape == (model.n_iter_,)
    assert model.transform(X).shape == (60, n_hidden)
    names = [f"contractiveautoencodertransformer{i}" for i in range(n_hidden)]
    assert model.get_feature_names_out().tolist() == names


def test_fitted_state_is_numpy_and_plain_python(X, make):
    # Also what isn't public: all of it goes into the pickle.
    plain = (np.ndarray, np.generic, bool, int, float, str, type(None))

    def visit(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                visit(item, f"{path}[{key!r}]")
        elif type(value) in (list, tuple):
            for i, item in enumerate(value):
                visit(item, f"{path}[{i}]")
        else:
            assert isinstance(value, plain), f"{path} is a {type(value)}"

    visit(vars(make(early_stopping=True).fit(X)), "converged")
    visit(vars(fit_to_max_iter(make(max_iter=1), X)), "unconverged")
    visit(vars(make().partial_fit(X)), "partial_fit")


def test_fit_returns_self_and_leaves_parameters_alone(X, make):
    model = make(batch_size=7, lam=np.float32(0.1))
    before = dict(model.get_params())
    assert model.fit(X) is model
    assert model.partial_fit(X) is model
    after = model.get_params()
    assert all(after[name] is value for name, value in before.items())


def test_numpy_numbers_are_numbers(X, make):
    python = {
        "n_hidden": 5,
        "lam": 0.5,
        "tied_weights": False,
        "learning_rate_init": 0.0625,
        "batch_size": 16,
        "max_iter": 500,
        "tol": 0.25,
        "n_iter_no_change": 2,
        "early_stopping": True,
        "validation_fraction": 0.25,
        "random_state": 3,
        "verbose": 0,
    }
    numpy = {
        name: {bool: np.bool_, int: np.int64, float: np.float32}[type(value)](value)
        for name, value in python.items()
    }
    assert_same_fit(make(**numpy).fit(X), make(**python).fit(X))


def test_tied_attributes_do_not_share_memory(X, make):
    for model in (make().fit(X), make().partial_fit(X)):
        assert not np.shares_memory(model.encoder_coefs_[0], model.decoder_coefs_[0])


def test_only_what_will_be_resumed_is_kept(X, make):
    plain = make(max_iter=1, **ENDLESS)
    resumable = make(max_iter=1, warm_start=True, **ENDLESS)
    sizes = [
        len(pickle.dumps(fit_to_max_iter(model, X))) for model in (plain, resumable)
    ]
    assert sizes[0] + 2 * weights(plain).nbytes / 2 < sizes[1]
    assert_array_equal(weights(plain), weights(resumable))


def test_attributes_are_their_own(X, make):
    """Nothing that the caller does to one fit's arrays reaches another's."""
    model = make(warm_start=True, max_iter=2, **ENDLESS)
    first = copy.copy(fit_to_max_iter(model, X))
    before = weights(first)
    fit_to_max_iter(model, X)
    assert_array_equal(weights(first), before)
    assert not np.array_equal(weights(model), before)


# What the methods compute


@pytest.fixture(scope="module")
def digits_model(digits):
    return ContractiveAutoencoderTransformer(random_state=0).fit(digits[0])


def test_every_activation_has_its_formula():
    assert set(VALUES) == set(ACTIVATIONS)


@pytest.fixture(params=sorted(VALUES))
def activation(request):
    return request.param


def test_transform_is_the_formula(activation, X, make):
    model = make(activation=activation, precision="float64").fit(X)
    a = X @ model.encoder_coefs_[0] + model.encoder_intercepts_[0]
    assert_allclose(model.transform(X), VALUES[activation](a), rtol=1e-12, atol=1e-14)


def test_transform_is_the_formula_with_defaults(digits, digits_model):
    X, _ = digits
    # Training was in single precision; what the weights define isn't.
    (W,), (b,) = digits_model.encoder_coefs_, digits_model.encoder_intercepts_
    a = X @ W.astype(float) + b
    assert_allclose(digits_model.transform(X), expit(a), rtol=1e-12)


@pytest.mark.parametrize("output_activation", ["identity", "sigmoid"])
def test_inverse_transform_is_the_formula(output_activation, X, make):
    model = make(output_activation=output_activation, precision="float64").fit(X)
    codes = np.random.default_rng(1).normal(size=(7, 5))
    z = codes @ model.decoder_coefs_[0] + model.decoder_intercepts_[0]
    actual = model.inverse_transform(codes)
    assert_allclose(actual, VALUES[output_activation](z), rtol=1e-12)


@pytest.mark.parametrize(
    "parameters", [{}, {"output_activation": "sigmoid"}, CROSS_ENTROPY], ids=str
)
def test_scores_are_the_formula(parameters, X, make):
    model = make(precision="float64", **parameters).fit(X)
    losses, _ = terms(model, X)
    assert_allclose(model.score_samples(X), -losses, rtol=1e-12)
    assert type(model.score(X)) is float
    assert_allclose(model.score(X), -losses.mean(), rtol=1e-12)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_scores_are_finite_where_the_reconstruction_saturates(loss, X, make):
    model = make(loss=loss, output_activation="sigmoid").fit(X)
    model.decoder_intercepts_[0][:] = [800, -800, 800, -800, 800, -800, 800, -800]
    X = (np.arange(16) % 2).reshape(2, 8)
    # Every feature is exactly wrong: 1 each for the squared error, |z| each for the
    # cross-entropy, whose logarithms would be infinite.
    decoder = model.decoder_coefs_[0].astype(float)
    z = model.transform(X) @ decoder + model.decoder_intercepts_[0]
    expected = 8 if loss == "squared_error" else np.abs(z).sum(axis=1)
    assert_allclose(model.score_samples(X), -np.broadcast_to(expected, 2))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_jacobian_is_that_of_transform(name, X, make):
    model = make(activation=name, precision="float64").fit(X)
    step = 1e-6
    differences = [
        (model.transform(X + shift) - model.transform(X - shift)) / (2 * step)
        for shift in step * np.eye(8)
    ]
    jacobians = model.jacobian(X)
    assert jacobians.shape == (60, 5, 8)
    assert_allclose(jacobians, np.stack(differences, axis=2), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_contraction_is_the_norm_of_the_jacobian(name, X, make):
    model = make(activation=name, precision="float64").fit(X)
    norms = model.contraction(X)
    assert norms.shape == (60,)
    assert_allclose(norms, (model.jacobian(X) ** 2).sum(axis=(1, 2)), rtol=1e-12)


def test_results_do_not_depend_on_blocks_of_rows(digits, digits_model):
    X, _ = digits
    # All digits' Jacobians, 1797 x 64 x 64 numbers, are more than one block.
    jacobians = digits_model.jacobian(X)
    (W,) = digits_model.encoder_coefs_
    H = digits_model.transform(X)
    expected = (H * (1 - H))[:, :, None] * W.T.astype(float)
    assert_allclose(jacobians, expected, rtol=1e-10, atol=1e-14)


METHODS = ["transform", "score_samples", "jacobian", "contraction"]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("method", [*METHODS, "inverse_transform"])
def test_floats_keep_their_dtype(method, precision, X, make):
    # Whatever the training's arithmetic was.
    model = make(precision=precision).fit(X)
    rows = X[:, :5] if method == "inverse_transform" else X
    double = getattr(model, method)(rows)
    single = getattr(model, method)(rows.astype(np.float32))
    assert double.dtype == np.float64
    assert single.dtype == np.float32
    assert_allclose(single, double, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u8", "f2", "?"])
@pytest.mark.parametrize("method", [*METHODS, "inverse_transform"])
def test_other_numbers_become_float64(method, dtype, X, make):
    model = make().fit(X)
    n_columns = 5 if method == "inverse_transform" else 8
    rows = np.random.default_rng(0).integers(2, size=(9, n_columns))
    actual = getattr(model, method)(rows.astype(dtype))
    expected = getattr(model, method)(rows.astype(float))
    assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8", ">f4", "f2", "?"])
def test_fit_sees_values_not_dtypes(dtype, make):
    X = np.random.default_rng(0).integers(2, size=(40, 6))
    assert_same_fit(make().fit(X.astype(dtype)), make().fit(X.astype(float)))


@pytest.mark.parametrize(
    "layout",
    {
        "fortran": np.asfortranarray,
        "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
        "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
        "foreign endian": lambda X: X.astype(X.dtype.newbyteorder()),
        "list": lambda X: X.tolist(),
    }.items(),
    ids=lambda layout: layout[0],
)
def test_memory_layout_does_not_matter(layout, X, make):
    expected = make().fit(X)
    other = layout[1](X)
    model = make().fit(other)
    assert_same_fit(model, expected)
    assert_array_equal(model.transform(other), expected.transform(X))


def test_data_are_not_modified(X, make):
    writeable = X.copy()
    model = make().fit(writeable)
    model.partial_fit(writeable)
    for method in METHODS:
        getattr(model, method)(writeable)
    assert_array_equal(writeable, X)


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_independent(method, digits, digits_model):
    function = getattr(digits_model, method)
    X = digits[0][:150]
    expected = function(X)
    order = np.random.default_rng(0).permutation(150)
    assert_allclose(function(X[order]), expected[order], rtol=1e-10, atol=1e-14)
    assert_allclose(function(X[::7]), expected[::7], rtol=1e-10, atol=1e-14)
    assert_allclose(function(X[:1]), expected[:1], rtol=1e-10, atol=1e-14)


def test_unfitted_estimators_have_no_fitted_attributes():
    model = ContractiveAutoencoderTransformer()
    for name in ("components_", "encoder_coefs_", "loss_curve_", "n_iter_"):
        assert not hasattr(model, name)


# Seeds


@pytest.mark.parametrize(
    "parameters", [{}, {"early_stopping": True}, {"tied_weights": False}], ids=str
)
def test_a_seed_fixes_everything(parameters, X, make):
    first, second = (make(**parameters).fit(X) for _ in range(2))
    assert_same_fit(first, second)
    same = make(**parameters, random_state=np.random.RandomState(0)).fit(X)
    assert_same_fit(first, same)
    other = make(**parameters, random_state=1).fit(X)
    assert np.abs(weights(other) - weights(first)).max() > 1e-3


def test_without_a_seed_fits_differ(X, make):
    first, second = (make(random_state=None).fit(X) for _ in range(2))
    assert np.abs(weights(first) - weights(second)).max() > 1e-3


def test_a_random_state_instance_is_used_up(X, make):
    model = make(random_state=np.random.RandomState(0))
    first = weights(model.fit(X))
    assert np.abs(weights(model.fit(X)) - first).max() > 1e-3


def test_global_state_is_left_alone(X, make):
    def state():
        return (
            pickle.dumps(np.random.get_state()),
            torch.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = state()
    model = make(early_stopping=True).fit(X)
    model.inverse_transform(model.transform(X))
    model.score(X)
    model.jacobian(X)
    model.set_params(early_stopping=False).partial_fit(X)
    assert state() == before


def test_global_seeds_do_not_matter(X, make):
    fits = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        fits.append(make().fit(X))
    assert_same_fit(*fits)


# The objective and its curves


@pytest.mark.parametrize("lam", [0, 0.1, 3])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_curves_add_up(lam, precision, X, make):
    model = make(lam=lam, precision=precision).fit(X)
    total = model.history_["reconstruction"] + lam * model.history_["contraction"]
    assert_allclose(model.loss_curve_, total, rtol=1e-12)
    assert (model.history_["contraction"] > 0).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"tied_weights": False},
        {"lam": 0},
        {"output_activation": "sigmoid"},
        CROSS_ENTROPY,
    ],
    ids=str,
)
def test_curves_are_the_objective(parameters, X, make):
    # With one batch an epoch, an epoch reports the objective at the parameters with
    # which the one before ended, that is, those of a shorter fit.
    settings = ENDLESS | parameters | {"batch_size": 60, "precision": "float64"}
    model = fit_to_max_iter(make(max_iter=4, **settings), X)
    for n_epochs in (1, 2, 3):
        shorter = fit_to_max_iter(make(max_iter=n_epochs, **settings), X)
        assert_array_equal(shorter.loss_curve_, model.loss_curve_[:n_epochs])
        losses, norms = terms(shorter, X)
        history = {name: curve[n_epochs] for name, curve in model.history_.items()}
        assert_allclose(history["reconstruction"], losses.mean(), rtol=1e-10)
        assert_allclose(history["contraction"], norms.mean(), rtol=1e-10)
        assert_allclose(model.loss_curve_[n_epochs], objective(shorter, X), rtol=1e-10)


@pytest.mark.parametrize("batch_size", [7, 59, 60, 1000, "auto"])
def test_every_row_counts_whatever_the_batches(batch_size, X, make):
    # Steps too small to move a parameter, so that the whole epoch sees the same ones.
    model = make(
        batch_size=batch_size,
        max_iter=1,
        learning_rate_init=1e-100,
        precision="float64",
    )
    fit_to_max_iter(model, X)
    assert_allclose(model.loss_curve_[0], objective(model, X), rtol=1e-10)


def test_the_first_step_of_adam_is_the_learning_rate(X, make):
    # m / √v is the gradient's sign then (Kingma and Ba, 2015, algorithm 1), so that two
    # fits' parameters differ by the difference of their learning rates, relative to the
    # root mean square of the weights at the start, half for an encoder's.
    first, second = (
        fit_to_max_iter(
            make(
                solver="adam",
                learning_rate_init=rate,
                batch_size=60,
                max_iter=1,
                precision="float64",
                tied_weights=False,
            ),
            X,
        )
        for rate in (1e-3, 1.5e-3)
    )
    (one,), (other,) = first.encoder_coefs_, second.encoder_coefs_
    # Where the start is, from the two equidistant points on the way.
    start = one - 2 * (other - one)
    differences = np.abs(other - one) / np.sqrt(np.square(start).mean())
    # Less only where the initialisation has left next to no gradient.
    assert differences.max() <= 0.25e-3 * (1 + 1e-6)
    assert_allclose(np.median(differences), 0.25e-3, rtol=1e-3)


def test_batches_larger_than_the_data_are_the_data(X, make):
    assert_same_fit(make(batch_size=60).fit(X), make(batch_size=61).fit(X))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_defaults_converge(early_stopping, digits):
    # A ConvergenceWarning would be an error.
    X, _ = digits
    model = ContractiveAutoencoderTransformer(
        early_stopping=early_stopping, random_state=0
    ).fit(X)
    assert model.n_iter_ < model.max_iter
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]


def test_two_epochs_do_not_converge(digits):
    X, _ = digits
    with pytest.warns(ConvergenceWarning, match=r"\(2\).*Increase max_iter or tol"):
        ContractiveAutoencoderTransformer(max_iter=2).fit(X)


def test_a_larger_lam_contracts_more(digits):
    X = digits[0][:600]
    contractions, reconstructions = [], []
    for lam in (0, 0.1, 1, 10):
        model = ContractiveAutoencoderTransformer(
            lam=lam, tied_weights=True, random_state=0
        ).fit(X)
        contractions.append(model.contraction(X).mean())
        reconstructions.append(-model.score(X))
    # Each step by more than noise would make.
    assert (np.divide(contractions[1:], contractions[:-1]) < 0.8).all()
    # And it costs something.
    assert (np.diff(reconstructions) > 0).all()


@emulates_bfloat16
@pytest.mark.parametrize("solver", sorted(OPTIMIZERS))
def test_low_precision_is_close(solver, X, make, monkeypatch):
    monkeypatch.setattr(optimizer, "_NARROW_SIZE", 1)  # else layers are too small
    monkeypatch.setattr(optimizer, "has_fast_bfloat16", lambda device: False)
    double, single, half = (
        fit_to_max_iter(
            make(
                precision=precision,
                solver=solver,
                max_iter=20,
                learning_rate_init=0.005,
                **ENDLESS,
            ),
            X,
        )
        for precision in ("float64", "float32", "bfloat16")
    )
    assert half.encoder_coefs_[0].dtype == np.float32
    assert_allclose(single.loss_curve_, double.loss_curve_, rtol=1e-3)
    assert_allclose(half.loss_curve_, double.loss_curve_, rtol=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_coarse_steps_of_the_optimizer_reach_the_objective(tied, monkeypatch):
    X = load_digits().data[:400] / 16
    X = np.hstack([X, X**2, np.sqrt(X)])
    objectives = []
    for is_fast in (False, True):
        monkeypatch.setattr(
            optimizer, "has_fast_bfloat16", lambda device, is_fast=is_fast: is_fast
        )
        cae = ContractiveAutoencoderTransformer(
            130, lam=0.1, tied_weights=tied, random_state=0
        ).fit(X)
        objectives.append(0.1 * cae.contraction(X).mean() - cae.score(X))
    single, coarse = objectives
    assert coarse != single
    assert coarse < 1.02 * single


# Early stopping


def noise(n_samples):
    """Data with nothing to learn, so that training longer makes it worse."""
    return np.random.default_rng(0).normal(size=(n_samples, 20))


@pytest.mark.parametrize("validation_fraction", [0.2, 0.5])
def test_early_stopping_returns_the_best_weights(validation_fraction, make):
    X = noise(60)
    model = make(
        n_hidden=20,
        lam=0,
        learning_rate_init=0.003,
        tol=1e-3,
        n_iter_no_change=10,
        early_stopping=True,
        validation_fraction=validation_fraction,
        precision="float64",
        tied_weights=False,
        random_state=4,
    ).fit(X)
    curve = model.history_["validation_loss"]
    assert curve.shape == (model.n_iter_,)
    # Otherwise the last weights would do as well.
    assert 0 < curve.argmin() < model.n_iter_ - 1
    _, held_out = split(X, validation_fraction, random_state=4)
    assert_allclose(objective(model, held_out), curve.min(), rtol=1e-10)


@pytest.mark.parametrize(
    "first, then",
    [({"early_stopping": False}, {}), ({}, {"lam": 5})],
    ids=["early stopping begins", "the objective changes"],
)
@keeps_little
def test_what_was_lowest_for_another_loss_is_no_measure(first, then, make):
    # The loss was that of the rows trained on, or had another lam, and was lower.
    X = noise(60)
    then = {"early_stopping": True, **then}
    model = make(n_hidden=20, warm_start=True, max_iter=5, precision="float64")
    model.set_params(**ENDLESS)
    fit_to_max_iter(model.set_params(**then | {"lam": 0} | first), X)
    _, held_out = split(X, model.validation_fraction)
    # The start counts too, at its value of now.
    start = objective(model.set_params(**then), held_out)
    fit_to_max_iter(model, X)
    lowest = min(start, model.history_["validation_loss"][5:].min())
    assert_allclose(objective(model, held_out), lowest, rtol=1e-10)


def test_held_out_rows_are_not_trained_on(X, make):
    model = make(
        early_stopping=True,
        validation_fraction=0.25,
        max_iter=1,
        learning_rate_init=1e-100,
        precision="float64",
        lam=0.1,
    )
    fit_to_max_iter(model, X)
    train, held_out = split(X, 0.25)
    assert_allclose(model.loss_curve_[0], objective(model, train), rtol=1e-10)
    validation_loss = model.history_["validation_loss"][0]
    assert_allclose(validation_loss, objective(model, held_out), rtol=1e-10)


# Continued training

CONTINUED = [
    {},
    {"early_stopping": True},
    {"precision": "float64", "tied_weights": False},
    {"activation": "relu", "lam": 1},
    CROSS_ENTROPY,
]


def through_a_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


@pytest.mark.parametrize("between", [copy.copy, copy.deepcopy, through_a_pickle])
@pytest.mark.parametrize("parameters", CONTINUED, ids=str)
@keeps_little
def test_warm_start_goes_on(parameters, between, X, make):
    whole = fit_to_max_iter(make(max_iter=6, **ENDLESS | parameters), X)
    parts = make(max_iter=3, warm_start=True, **ENDLESS | parameters)
    parts = fit_to_max_iter(between(fit_to_max_iter(parts, X)), X)
    assert_same_fit(parts, whole)
    assert_array_equal(parts.transform(X), whole.transform(X))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_goes_on_to_convergence(early_stopping, X, make):
    # The learning rate and what is counted towards convergence go on, too.
    settings = {"tol": 0.01, "n_iter_no_change": 2, "early_stopping": early_stopping}
    whole = make(**settings).fit(X)
    for n_first in range(1, whole.n_iter_, 1 + whole.n_iter_ // 5):
        parts = make(max_iter=n_first, warm_start=True, **settings)
        fit_to_max_iter(parts, X)
        assert parts.n_iter_ == n_first
        assert_same_fit(parts.set_params(max_iter=500).fit(X), whole)


def test_warm_start_after_convergence(X, make):
    model = make(lam=0.1, warm_start=True, tol=1e-3, n_iter_no_change=3).fit(X)
    first = copy.deepcopy(model)
    model.fit(X)
    assert model.n_iter_ > first.n_iter_
    assert_array_equal(model.loss_curve_[: first.n_iter_], first.loss_curve_)
    # It starts from the solution, not afresh.
    improved = first.loss_curve_[0] - first.loss_curve_[-1]
    assert model.loss_curve_[first.n_iter_] < first.loss_curve_[0] - 0.5 * improved
    assert objective(model, X) < objective(first, X) + 0.1 * improved


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)], ids=str)
def test_warm_start_holds_out_the_same_rows(random_state, X, make):
    # An epoch that trained on them would change what they are worth as a test.
    model = make(
        early_stopping=True,
        warm_start=True,
        random_state=random_state,
        max_iter=1,
        learning_rate_init=1e-100,
        precision="float64",
        **ENDLESS,
    )
    curve = fit_to_max_iter(fit_to_max_iter(model, X), X).history_["validation_loss"]
    assert curve[0] == curve[1]


@pytest.mark.parametrize("change", ["weights", "rows", "lam"])
def test_a_stopped_training_is_not_resumed_with_something_else(change, X, make):
    # Early stopping returns other weights than those that it would go on from.
    X = noise(60)
    settings = {"n_hidden": 20, "lam": 0, "learning_rate_init": 0.03, **ENDLESS}
    model = make(early_stopping=True, warm_start=True, max_iter=12, **settings)
    fit_to_max_iter(model, X)
    if change == "weights":
        # A caller's own copy of the fitted weights is what counts.
        rows = X[::-1]
    elif change == "rows":
        rows = np.where(np.arange(20) == 0, 0, X)
    else:
        rows = X
        model.set_params(lam=1e-3)
    start = copy.deepcopy(model)
    fit_to_max_iter(model.set_params(max_iter=1, learning_rate_init=1e-100), rows)
    assert_allclose(weights(model), weights(start), rtol=1e-6)


@pytest.mark.parametrize("convert", [np.array, scipy.sparse.csr_array], ids=str)
def test_a_single_other_value_is_other_data(convert, make, capsys):
    X = np.random.default_rng(0).random((2500, 3))
    other = X.copy()
    other[1, 1] += 1e-9
    model = make(warm_start=True, max_iter=1, verbose=True, **ENDLESS)
    message = "The data or settings aren't those of the training that was stopped"
    for data, is_other in [(X, False), (X.copy(), False), (other, True)]:
        fit_to_max_iter(model, convert(data))
        assert (message in capsys.readouterr().out) == is_other
    # What was not to be resumed wasn't identified.
    model = make(max_iter=1, verbose=True, **ENDLESS).partial_fit(convert(X))
    fit_to_max_iter(model.set_params(warm_start=True), convert(X))
    assert message not in capsys.readouterr().out


def test_warm_start_takes_new_data(X, make):
    model = make(warm_start=True).fit(X[:40])
    before = model.n_iter_
    model.fit(X[40:])
    assert model.n_iter_ > before
    assert model.loss_curve_.shape == (model.n_iter_,)


@pytest.mark.parametrize("change", ["lam", "data"])
@keeps_little
def test_convergence_is_judged_by_the_objective_of_now(change, X, make):
    # What the objective was for a smaller lam, or for smaller values, can't be reached:
    # as long as it improves on what it has been since, training goes on.
    settings = {"tol": 1e-2, "n_iter_no_change": 2, "tied_weights": True}
    now = {"lam": 0.2} if change == "lam" else {}
    rows = X if change == "lam" else 3 * X
    fresh = make(lam=0.01, **settings).set_params(**now).fit(rows)

    model = make(lam=0.01, max_iter=5, warm_start=True, **settings)
    fit_to_max_iter(model, X)
    start = objective(model.set_params(**now), rows)
    model.set_params(max_iter=500).fit(rows)
    best = objective(fresh, rows)
    assert objective(model, rows) < best + 0.1 * (start - best)


def test_a_first_warm_start_is_a_fresh_start(X, make):
    assert_same_fit(make(warm_start=True).fit(X), make().fit(X))


def test_without_warm_start_fits_are_fresh(X, make):
    model = make().fit(X)
    expected = make().fit(X[:30, :6])
    assert_same_fit(model.fit(X[:30, :6]), expected)
    assert model.n_features_in_ == 6
    fit_to_max_iter(model.set_params(max_iter=1), X)
    assert_same_fit(model.set_params(max_iter=500).fit(X[:30, :6]), expected)


@pytest.mark.parametrize("first", [False, True])
def test_curves_keep_their_length_when_early_stopping_changes(first, X, make):
    model = make(max_iter=2, warm_start=True, early_stopping=first, **ENDLESS)
    fit_to_max_iter(model, X)
    fit_to_max_iter(model.set_params(early_stopping=not first), X)
    assert model.loss_curve_.shape == (4,)
    for curve in model.history_.values():
        assert curve.shape == (4,)


@pytest.mark.parametrize("parameters", CONTINUED, ids=str)
def test_partial_fit_is_an_epoch(parameters, X, make):
    parameters = {**parameters, "early_stopping": False}
    whole = fit_to_max_iter(make(max_iter=4, **ENDLESS, **parameters), X)
    parts = make(**ENDLESS, **parameters)
    for n_epochs in range(1, 5):
        assert parts.partial_fit(X).n_iter_ == n_epochs
    assert_same_fit(parts, whole)


def test_partial_fit_learns_from_chunks(digits):
    X, _ = digits
    model = ContractiveAutoencoderTransformer(learning_rate_init=0.01, random_state=0)
    objectives = []
    for _ in range(3):
        for chunk in np.array_split(X, 3):
            model.partial_fit(chunk)
        objectives.append(objective(model, X))
    assert (np.diff(objectives) < 0).all()
    assert model.n_iter_ == 9
    assert model.loss_curve_.shape == (9,)


def test_partial_fit_goes_on_after_fit(X, make):
    model = make().fit(X)
    before = copy.deepcopy(model)
    model.partial_fit(X)
    assert model.n_iter_ == before.n_iter_ + 1
    assert_array_equal(model.loss_curve_[:-1], before.loss_curve_)
    moved = np.abs(weights(model) - weights(before)).max()
    assert 0 < moved < 0.5


def test_partial_fit_needs_no_early_stopping(X, make):
    model = make(early_stopping=True)
    with pytest.raises((AttributeError, ValueError), match="partial_fit"):
        model.partial_fit(X)


SHAPES = [
    {"n_hidden": 4},
    {"activation": "tanh"},
    {"output_activation": "sigmoid"},
    {"tied_weights": False},
]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("parameters", SHAPES, ids=str)
def test_the_model_cannot_change_midway(parameters, method, X, make):
    original = {
        "n_hidden": 5,
        "activation": "sigmoid",
        "output_activation": "identity",
        "tied_weights": True,
    }
    model = make(warm_start=True, **original).fit(X)
    before = copy.deepcopy(model)
    model.set_params(**parameters)
    (name,) = parameters
    with pytest.raises(ValueError, match=name):
        getattr(model, method)(X)
    assert_same_fit(model, before)
    # Neither does it forget how to go on as before.
    model.set_params(**original)
    assert_same_fit(getattr(model, method)(X), getattr(before, method)(X))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_columns_cannot_change_midway(method, X, make):
    model = make(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"X has 7 features.*expecting 8 features"):
        getattr(model, method)(X[:, 1:])
    assert model.n_features_in_ == 8


@emulates_bfloat16
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"precision": "float64"},
        {"precision": "bfloat16"},
        {"lam": 2},
        {"learning_rate_init": 1e-4},
        {"batch_size": 3},
        {"loss": "cross_entropy"},
    ],
    ids=str,
)
@keeps_little
def test_how_to_train_can_change_midway(parameters, method, X, make):
    model = fit_to_max_iter(
        make(max_iter=2, output_activation="sigmoid", warm_start=True, **ENDLESS), X
    )
    model.set_params(max_iter=500, tol=0.3, n_iter_no_change=1, **parameters)
    getattr(model, method)(X)
    assert model.n_iter_ > 2
    assert np.isfinite(weights(model)).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_hidden": 99},
        {"activation": "relu"},
        {"output_activation": "sigmoid"},
        {"loss": "cross_entropy"},
        {"tied_weights": False},
        {"precision": "float64"},
        {"warm_start": True},
    ],
    ids=str,
)
def test_parameters_set_after_fit_are_for_the_next_fit(parameters, X, make):
    def results():
        return [
            model.transform(X),
            model.inverse_transform(codes),
            model.score_samples(X),
            model.jacobian(X),
            model.contraction(X),
            model.get_feature_names_out(),
        ]

    model = make(tied_weights=True).fit(X)
    codes = model.transform(X)
    before = results()
    model.set_params(**parameters)
    for actual, expected in zip(results(), before, strict=True):
        assert_array_equal(actual, expected, strict=True)


# Callbacks, and what interrupts a fit


class Recorder:
    """A scikit-learn callback; ``stop_at`` and ``interrupt_at`` count epochs from 1."""

    def __init__(self, stop_at=None, interrupt_at=None, place="end"):
        self.stop_at = stop_at
        self.interrupt_at = interrupt_at
        self.place = place
        self.events = []
        self.fitted_estimators = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")
        self._interrupt(context, "begin")

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        self.events.append(f"end {context.task_name}")
        assert fitted_estimator is not estimator
        self.fitted_estimators.append(fitted_estimator)
        self._interrupt(context, "end")
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_at

    def _interrupt(self, context, place):
        if (
            place == self.place
            and context.task_name == "epoch"
            and context.task_id + 1 == self.interrupt_at
        ):
            raise KeyboardInterrupt


@needs_callbacks
def test_callbacks_are_called_every_epoch(X, make):
    recorder = Recorder()
    model = make().set_callbacks(recorder)
    model.fit(X)
    epochs = ["begin epoch", "end epoch"] * model.n_iter_
    assert recorder.events == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    # They only watch.
    assert_same_fit(model, make().fit(X))


@needs_callbacks
@pytest.mark.parametrize("early_stopping", [False, True])
def test_callbacks_see_the_estimator_as_if_fit_had_stopped(early_stopping, make):
    X = noise(30)
    settings = {
        "n_hidden": 20,
        "lam": 0,
        "learning_rate_init": 0.03,
        "early_stopping": early_stopping,
        "tied_weights": False,
        **ENDLESS,
    }
    recorder = Recorder()
    model = fit_to_max_iter(make(max_iter=12, **settings).set_callbacks(recorder), X)
    epochs = [1, 2, 12]
    if early_stopping:
        # One at whose end the weights weren't the best so far.
        rises = np.diff(model.history_["validation_loss"]) > 0
        epochs.append(rises.nonzero()[0][0] + 2)
    for n_epochs in epochs:
        seen = recorder.fitted_estimators[n_epochs - 1]
        assert_same_fit(seen, fit_to_max_iter(make(max_iter=n_epochs, **settings), X))
        assert seen.transform(X).shape == (30, 20)


@needs_callbacks
@pytest.mark.parametrize("n_epochs", [1, 3])
def test_a_callback_can_stop_the_fit(n_epochs, X, make):
    # No ConvergenceWarning: it was asked for.
    model = make(**ENDLESS).set_callbacks(Recorder(stop_at=n_epochs)).fit(X)
    expected = fit_to_max_iter(make(max_iter=n_epochs, **ENDLESS), X)
    assert_same_fit(model, expected)
    assert_array_equal(model.transform(X), expected.transform(X))


@needs_callbacks
def test_what_a_callback_stopped_can_go_on(X, make):
    model = make(warm_start=True, **ENDLESS).set_callbacks(Recorder(stop_at=2))
    model.fit(X).fit(X)
    assert_same_fit(model, fit_to_max_iter(make(max_iter=4, **ENDLESS), X))


@needs_callbacks
def test_an_error_in_a_callback_leaves_the_estimator_alone(X, make):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("from the callback")

    callback = Failing()
    model = make().set_callbacks(callback)
    with pytest.raises(RuntimeError, match="from the callback"):
        model.fit(X)
    assert callback.events[-1] == "teardown"
    assert not hasattr(model, "encoder_coefs_")
    assert not hasattr(model, "n_features_in_")


def interrupt_from_a_callback(place):
    def arrange(model, epoch, monkeypatch):
        model.set_callbacks(Recorder(interrupt_at=epoch, place=place))

    return arrange


def interrupt_in_an_epoch(model, epoch, monkeypatch):
    """In the second of the epoch's steps, of which there are four."""
    from skcae.engine.optimizer import Adam

    step = Adam.step
    n_steps = 0

    def interrupted(self):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 4 * (epoch - 1) + 2:
            raise KeyboardInterrupt
        step(self)

    model.set_params(batch_size=15)
    monkeypatch.setattr(Adam, "step", interrupted)


def interrupt_while_printing(model, epoch, monkeypatch):
    def interrupted(text):
        if f"Epoch {epoch}:" in text:
            raise KeyboardInterrupt

    model.set_params(verbose=True)
    monkeypatch.setattr("builtins.print", interrupted)


INTERRUPTIONS = [
    pytest.param(
        interrupt_from_a_callback("begin"), marks=needs_callbacks, id="before an epoch"
    ),
    pytest.param(interrupt_in_an_epoch, id="in an epoch"),
    pytest.param(interrupt_while_printing, id="while printing"),
    pytest.param(
        interrupt_from_a_callback("end"), marks=needs_callbacks, id="after an epoch"
    ),
]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_an_interrupted_fit_keeps_what_it_has(interrupt, X, make, monkeypatch):
    model = make(batch_size=15, **ENDLESS)
    with monkeypatch.context() as patch:
        interrupt(model, 3, patch)
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X)
    # The epochs that ended count, whole, whichever they are.
    assert model.n_iter_ in (2, 3)
    expected = make(batch_size=15, max_iter=model.n_iter_, **ENDLESS)
    assert_same_fit(model, fit_to_max_iter(expected, X))
    assert_array_equal(model.transform(X), expected.transform(X))


@pytest.mark.parametrize("interrupt", INTERRUPTIONS[:2])
@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interruption_before_the_first_epoch_ends(
    interrupt, warm_start, X, make, monkeypatch
):
    model = make(batch_size=15, warm_start=warm_start)
    with monkeypatch.context() as patch:
        interrupt(model, 1, patch)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X)
    # As if it had never begun.
    assert not hasattr(model, "encoder_coefs_")
    assert not hasattr(model, "n_features_in_")
    if hasattr(model, "set_callbacks"):
        model.set_callbacks()
    before = copy.deepcopy(model.fit(X))
    with monkeypatch.context() as patch:
        interrupt(model, 1, patch)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X[:30])
    assert_same_fit(model, before)


def test_an_interrupted_fit_with_early_stopping(X, make, monkeypatch):
    from skcae.engine.training import Trainer

    validate = Trainer.mean_objective
    n_calls = 0

    def interrupted(self, X):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return validate(self, X)

    model = make(early_stopping=True, **ENDLESS)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "mean_objective", interrupted)
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X)
    expected = make(early_stopping=True, max_iter=2, **ENDLESS)
    assert_same_fit(model, fit_to_max_iter(expected, X))


class Propagated(Recorder):
    """A callback that meta-estimators pass on to what they fit."""

    max_propagation_depth = None


@needs_callbacks
@other_steps_lack_callbacks
def test_callbacks_reach_the_estimator_through_a_pipeline(X, make):
    recorder = Propagated(stop_at=2)
    pipeline = make_pipeline(MinMaxScaler(), make(**ENDLESS)).set_callbacks(recorder)
    pipeline.fit(X)
    assert recorder.events.count("end epoch") == pipeline[-1].n_iter_ == 2
    # The pipeline's fit set it up and tears it down: once.
    assert recorder.events.count("setup") == recorder.events.count("teardown") == 1
    expected = make(max_iter=2, **ENDLESS)
    fit_to_max_iter(expected, MinMaxScaler().fit_transform(X))
    assert_same_fit(pipeline[-1], expected)


@needs_callbacks
@other_steps_lack_callbacks
def test_progress_bar_through_a_pipeline(X, make, capfd, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")  # or it abbreviates
    from sklearn.callback import ProgressBar

    pipeline = make_pipeline(MinMaxScaler(), make())
    pipeline.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X)
    out, _ = capfd.readouterr()
    assert "ContractiveAutoencoderTransformer" in out
    assert "100%" in out
    expected = make().fit(MinMaxScaler().fit_transform(X))
    assert_same_fit(pipeline[-1], expected)


@needs_callbacks
def test_callbacks_do_not_get_in_the_way_of_copies(X, make):
    model = make().set_callbacks(Recorder()).fit(X)
    for other in (copy.deepcopy(model), through_a_pickle(model)):
        assert_array_equal(other.transform(X), model.transform(X))
    assert_same_fit(clone(model).fit(X), model)


@pytest.mark.parametrize("fraction, n_samples", [(0.5, 60), (0.2, 50)])
def test_rows_held_out_are_drawn_anew_where_their_number_changes(
    fraction, n_samples, X, make
):
    model = make(early_stopping=True, validation_fraction=0.2, warm_start=True)
    model.fit(X).fit(X)  # the same rows, without a warning
    model.set_params(validation_fraction=fraction)
    with pytest.warns(UserWarning, match="held-out samples are drawn anew") as caught:
        model.fit(X[:n_samples])
    message = str(caught[0].message)
    assert f"{n_samples} and {fraction}, but 60 and 0.2 before" in message
    model.fit(X[:n_samples])  # those again


def test_components_are_hidden_units(make):
    with pytest.raises(
        TypeError, match=r"no parameter 'n_components'\. Use 'n_hidden'"
    ):
        ContractiveAutoencoderTransformer(n_components=3)
    assert "n_components" not in ContractiveAutoencoderTransformer().get_params()


def test_devices_of_pytorch_are_devices(X, make):
    model = make(device=torch.device("cpu")).fit(X)
    assert_same_fit(model, make(device="cpu").fit(X))
