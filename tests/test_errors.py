"""Bad input: scikit-learn's exception types, messages that name what is wrong."""

import copy
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from scipy.special import xlog1py, xlogy
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from skcae import (
    ContractiveAutoencoderClassifier,
    ContractiveAutoencoderTransformer,
    _transformer,
    geometry,
)

METHODS = [
    "transform",
    "inverse_transform",
    "score_samples",
    "score",
    "jacobian",
    "contraction",
]


def fitted_state(model):
    return {name for name in vars(model) if name.endswith("_")}


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_hidden", 0),
        ("n_hidden", 2.5),
        ("lam", -0.1),
        ("lam", np.nan),
        ("lam", np.inf),
        ("lam", "large"),
        ("gamma", -1),
        ("sigma", 0),
        ("alpha", -1e-9),
        ("corruption", "salt"),
        ("corruption_level", -0.5),
        ("n_projections", 0),
        ("solver", "sgd"),
        ("activation", "cubic"),
        ("output_activation", "relu"),
        ("loss", "hinge"),
        ("tied_weights", "yes"),
        ("learning_rate_init", 0),
        ("learning_rate_init", -1e-3),
        ("batch_size", 0),
        ("batch_size", "all"),
        ("max_iter", 0),
        ("tol", -1e-9),
        ("n_iter_no_change", 0),
        ("early_stopping", None),
        ("validation_fraction", 0),
        ("validation_fraction", 1),
        ("precision", "float16"),
        ("device", 0),
        ("warm_start", "no"),
        ("random_state", "seed"),
        ("verbose", "loud"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_invalid_parameters(name, value, method, X):
    model = ContractiveAutoencoderTransformer(**{name: value})
    pattern = rf"The '{name}' parameter .* must be .* Got .*{value}"
    with pytest.raises(InvalidParameterError, match=pattern):
        getattr(model, method)(X)
    assert not fitted_state(model)


def test_every_parameter_has_a_constraint():
    model = ContractiveAutoencoderTransformer()
    assert set(model._parameter_constraints) == set(model.get_params())


@pytest.mark.parametrize(
    "device, message",
    [
        ("nonsense", "device must be 'auto', .* Got 'nonsense' instead"),
        ("cpu:7", "device='cpu:7' is not available"),
        ("cuda:99", "device='cuda:99' is not available"),
        ("meta", "Got 'meta' instead"),
    ],
)
def test_invalid_devices(device, message, X, make):
    with pytest.raises(ValueError, match=message):
        make(device=device).fit(X)
    with pytest.raises(ValueError, match=message):
        make().fit(X).set_params(device=device).transform(X)


def test_cross_entropy_needs_a_sigmoid(X, make):
    with pytest.raises(ValueError, match=r"requires output_activation .*'identity'"):
        make(loss="cross_entropy", output_activation="identity").fit(X)


@pytest.mark.parametrize(
    "loss, expected", [("cross_entropy", "sigmoid"), ("squared_error", "identity")]
)
def test_the_loss_chooses_the_output_activation(loss, expected, X, make):
    model = make(loss=loss).fit(X)
    assert model.output_activation == "auto"
    given = make(loss=loss, output_activation=expected).fit(X)
    assert_array_equal(
        model.inverse_transform(model.transform(X)),
        given.inverse_transform(given.transform(X)),
    )


@pytest.mark.parametrize("outside", [-0.25, 1.5])
def test_cross_entropy_needs_the_unit_interval(outside, X, make):
    model = make(loss="cross_entropy", output_activation="sigmoid")
    bad = X.copy()
    bad[3, 2] = outside
    message = rf"loss='cross_entropy' requires X in the range \[0, 1\].* {outside}"
    with pytest.raises(ValueError, match=message):
        model.fit(bad)
    model.fit(X)
    with pytest.raises(ValueError, match=message):
        model.score_samples(bad)
    assert np.isfinite(model.transform(bad)).all()


BAD_DATA = {
    "nan": (lambda X: np.where(X > 0.5, np.nan, X), "contains NaN"),
    "infinity": (lambda X: np.where(X > 0.5, np.inf, X), "contains infinity"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "strings": (lambda X: X.astype(str).astype(object) + "a", "could not convert"),
    "one dimension": (lambda X: X[0], "Expected 2D array, got 1D array"),
    "three dimensions": (lambda X: X[None], "expected <= 2|Expected 2D|with dim 3"),
    "no rows": (lambda X: X[:0], r"0 sample\(s\)"),
    "no columns": (lambda X: X[:, :0], r"0 feature\(s\)"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
@pytest.mark.parametrize("method", ["fit", "partial_fit", *METHODS])
def test_bad_data(kind, method, X, make):
    spoil, message = BAD_DATA[kind]
    model = make()
    if method not in ("fit", "partial_fit"):
        model.fit(X)
    rows = X[:, :5] if method == "inverse_transform" else X
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(model, method)(spoil(rows))


@pytest.mark.parametrize("method", METHODS)
def test_wrong_number_of_columns(method, X, make):
    model = make().fit(X)
    expected = 5 if method == "inverse_transform" else X.shape[1]
    message = rf"X has 4 features, but .* is expecting {expected} features as input"
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(X[:, :4])


@pytest.mark.parametrize("method", METHODS)
def test_before_fit(method, X):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(ContractiveAutoencoderTransformer(), method)(X)


@pytest.mark.parametrize("scale", [1e30, 1e300])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_huge_values_are_explained(scale, early_stopping, X, make):
    model = make(early_stopping=early_stopping)
    message = r"Training diverged: .* largest absolute value in X .* Scale X"
    with pytest.raises(ValueError, match=message):
        model.fit(scale * X)
    assert not fitted_state(model)


def test_a_huge_learning_rate_is_explained(X, make):
    model = make(activation="identity", learning_rate_init=1e30)
    with pytest.raises(ValueError, match=r"or lower learning_rate_init \(1e\+30\)"):
        model.fit(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_refit_that_fails_changes_nothing(method, warm_start, X, make):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    model = make(warm_start=warm_start).fit(frame)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="diverged"):
        getattr(model, method)(1e30 * frame)
    with pytest.raises(ValueError):
        getattr(model, method)(frame.iloc[:, :3] * np.nan)
    assert vars(model) == before


@pytest.mark.parametrize("name, value", [("n_hidden", 7), ("activation", "tanh")])
def test_a_continued_training_keeps_its_architecture(name, value, X, make):
    model = make().fit(X).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"{name}.* can't change"):
        model.partial_fit(X)


def test_partial_fit_is_not_there_with_early_stopping(make):
    model = make(early_stopping=True)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = model.partial_fit


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("n_hidden", 0, [r"an int in the range [1, inf)"]),
        ("lam", np.nan, [r"a float in the range [0.0, inf)"]),
        ("activation", "cubic", ["'sigmoid'", "'tanh'", "'relu'"]),
        ("output_activation", "relu", ["'identity'", "'sigmoid'"]),
        ("loss", "hinge", ["'squared_error'", "'cross_entropy'"]),
        ("learning_rate_init", 0, ["a float in the range (0.0, inf)"]),
        ("batch_size", 0, ["'auto'", "an int in the range [1, inf)"]),
        ("max_iter", 0, ["an int in the range [1, inf)"]),
        ("validation_fraction", 1.0, ["a float in the range (0.0, 1.0)"]),
        ("precision", "float16", ["'float32'", "'float64'", "'bfloat16'"]),
        ("warm_start", "no", ["'bool'"]),
    ],
)
def test_messages_say_what_is_allowed(name, value, allowed, X):
    with pytest.raises(InvalidParameterError) as error:
        ContractiveAutoencoderTransformer(**{name: value}).fit(X)
    message = str(error.value)
    assert all(text in message for text in allowed)
    assert message.endswith(f"Got {value!r} instead.")


def test_more_kinds_of_bad_data(X, make):
    with pytest.raises(ValueError, match="contains NaN"):
        make().fit(np.where(X > 0.5, None, X.astype(object)))
    with pytest.raises(TypeError, match="must be a string or a real number"):
        make().fit([[{}, 1], [2, 3]])
    # Numbers are numbers, also as objects and as text that reads so.
    expected = make().fit(X).transform(X)
    assert_array_equal(make().fit(X.astype(object)).transform(X), expected)


def test_the_target_is_not_looked_at(X, make):
    y = np.full(60, "?", dtype=object)
    model = make().fit(X, y)
    assert_array_equal(model.transform(X), make().fit(X).transform(X))
    assert model.score(X, y) == model.score(X)
    assert_array_equal(make().fit_transform(X, y), model.transform(X))
    make().partial_fit(X, y)


# What makes a fit fail: other parameters, other data.
FAILURES = {
    "diverged": ({"learning_rate_init": 1e30}, lambda X: X),
    "huge values": ({}, lambda X: 1e300 * X),
    "huge values, fewer columns": ({}, lambda X: 1e30 * X[:, 1:]),
    "nan": ({}, lambda X: X[:, 1:] * np.nan),
    "one dimension": ({}, lambda X: X[:, 0]),
    "invalid parameter": ({"n_hidden": 0}, lambda X: X[:, 1:]),
    "no such device": ({"device": "nonsense"}, lambda X: X[:, 1:]),
    "not in [0, 1]": (
        {"loss": "cross_entropy", "output_activation": "sigmoid"},
        lambda X: X[:, 1:] + 1,
    ),
    "no sigmoid": (
        {"loss": "cross_entropy", "output_activation": "identity"},
        lambda X: X[:, 1:],
    ),
    "nothing to train on": ({"early_stopping": True}, lambda X: X[:1, 1:]),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_a_first_fit_that_fails_leaves_nothing(failure, method, X, make):
    parameters, spoil = FAILURES[failure]
    model = make(activation="identity", **parameters)
    if not hasattr(model, method):
        method = "fit"
    before = set(vars(model))
    with pytest.raises(ValueError):
        getattr(model, method)(spoil(X))
    assert set(vars(model)) == before
    with pytest.raises(NotFittedError):
        model.transform(X)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_refit_that_fails_leaves_the_fit_before(failure, warm_start, X, make):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    original = make(activation="identity", max_iter=2, tol=0).get_params()
    model = ContractiveAutoencoderTransformer(**original)
    with pytest.warns(ConvergenceWarning):
        model.fit(frame)
    before = copy.deepcopy(model)

    parameters, spoil = FAILURES[failure]
    model.set_params(warm_start=warm_start, **parameters)
    # An array has no names, so that a fresh fit begins with deleting them.
    with pytest.raises(ValueError):
        model.fit(spoil(X))
    model.set_params(**original)

    assert model.n_features_in_ == 8
    assert_array_equal(model.feature_names_in_, list("abcdefgh"))
    assert model.n_iter_ == 2
    assert_array_equal(model.transform(frame), before.transform(frame))
    # It also goes on as if nothing had happened.
    for continued in (model, before):
        continued.set_params(warm_start=True)
        with pytest.warns(ConvergenceWarning):
            continued.fit(frame)
    assert_array_equal(model.transform(frame), before.transform(frame))
    assert_array_equal(model.loss_curve_, before.loss_curve_)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_values_too_large_for_any_precision(precision, X, make):
    with pytest.raises(ValueError, match=r"1e\+300.* Scale X"):
        make(precision=precision).fit(np.where(X.max() == X, 1e300, X))


@pytest.mark.parametrize("value", [1e25, 1e39])
def test_huge_values_among_the_held_out_rows(value, X, make):
    _, held_out = train_test_split(
        np.arange(60), test_size=0.1, random_state=np.random.RandomState(0)
    )
    bad = X.copy()
    bad[held_out[0], 0] = value
    model = make(early_stopping=True, validation_fraction=0.1, max_iter=5)
    # Training never sees that row, but which weights are best can't be told either.
    with pytest.raises(ValueError, match="Scale X"):
        model.fit(bad)
    assert not fitted_state(model)


def test_huge_values_after_fit_do_not_warn(X, make):
    # They saturate the units; that the error of the reconstruction is infinite then is
    # for the caller to see. A RuntimeWarning would be an error here.
    model = make().fit(X)
    for scale, dtype in [(1e300, np.float64), (1e38, np.float32)]:
        rows = (scale * X).astype(dtype)
        assert np.isin(model.transform(rows), [0, 1]).all()
        assert (model.score_samples(rows) == -np.inf).all()
        assert np.isfinite(model.contraction(rows)).all()


NOTHING_LEARNT = r"explains \d\.\d% of the varia(nce|tion).*: the features keep next to"


@pytest.mark.parametrize(
    "parameters, advice, cure",
    [
        (
            {"lam": 1e6},
            r"lam is \d\.?\d*e\+\d\d times the .* of lam='auto'",
            {"lam": "auto"},
        ),
        ({"alpha": 10.0}, r"lower alpha \(10\.0\)", {"alpha": 1e-6}),
        ({"gamma": 1e9, "sigma": 0.5}, r"lower gamma \(1", {"gamma": 1e-3}),
    ],
    ids=["lam", "alpha", "gamma"],
)
def test_a_model_that_keeps_nothing_says_why(parameters, advice, cure, X, make):
    model = make(tol=1e-2, n_iter_no_change=2, **parameters)
    with pytest.warns(UserWarning, match=f"{NOTHING_LEARNT}.* order: {advice}"):
        model.fit(X)
    model.set_params(**cure).fit(X)  # A warning would be an error.


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("factor", [1e-27, 1e-3, 1e3, 1e9])
def test_the_scale_of_the_data_is_no_matter(factor, tied, X, make):
    # A warning that the features keep nothing would be an error.
    model = make(tied_weights=tied, precision="float64").fit(factor * (X - X.mean(0)))
    rows = factor * (X - X.mean(0))
    Y = model.inverse_transform(model.transform(rows))
    assert ((Y - rows) ** 2).sum() < 0.5 * (rows**2).sum()


@pytest.mark.filterwarnings("ignore:Maximum iterations")
@pytest.mark.filterwarnings("ignore:The reconstruction explains")
@pytest.mark.parametrize("corruption", [None, "gaussian"])
def test_what_rounding_takes_is_told(corruption, X, make):
    seconds = 1.7e9 + 60 * X  # float32 keeps multiples of 128 of such numbers
    model = make(max_iter=2, corruption=corruption)
    message = (
        r"precision='float32' .* loses 100% of its variance.* Scale X, with {}, or use "
        r"precision='float64'"
    )
    for fit in (model.fit, clone(model).partial_fit):
        names = "StandardScaler or MinMaxScaler"
        with pytest.warns(UserWarning, match=message.format(names)):
            fit(seconds)
        # What doesn't centre doesn't help.
        names = r"StandardScaler after X\.toarray\(\)"
        with pytest.warns(UserWarning, match=message.format(names)):
            fit(csr_array(seconds))
    # A warning would be an error.
    clone(model).fit(StandardScaler().fit_transform(seconds))
    model.set_params(precision="float64").fit(seconds)


@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_a_cross_entropy_as_of_a_constant_warns(X, make):
    model = make(loss="cross_entropy", output_activation="sigmoid")
    model.fit(X)  # A warning would be an error.
    model.set_params(lam=100, tol=0, max_iter=500)
    with pytest.warns(UserWarning, match=NOTHING_LEARNT):
        model.fit(X)
    constant = np.broadcast_to(X.mean(axis=0), X.shape)
    cross_entropy = -(xlogy(X, constant) + xlog1py(1 - X, -constant)).sum(axis=1).mean()
    assert model.history_["reconstruction"][-1] > 0.99 * cross_entropy


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("value", [0, 0.3, 1])
@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_constant_data_are_no_cause_for_a_warning(value, loss, make):
    model = make(loss=loss, output_activation="sigmoid", max_iter=2)
    model.fit(np.full((20, 4), value))


BEYOND = {
    "standardised": (lambda X: (X - X.mean(axis=0)) / X.std(axis=0), r"-\d.* to \d"),
    "one value": (lambda X: np.where(X.max() == X, 1.5, X), r"\d.* to 1\.5"),
    "pixels": (lambda X: (255 * X).astype(np.uint8), r"\d+ to 2\d\d"),
    "sparse": (lambda X: csr_array(-1 * (X > 0.9)), r"-1.* to 0"),
}


@pytest.mark.parametrize("kind", BEYOND)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"early_stopping": True}, {"corruption": "masking"}, {"lam": 1e4}],
    ids=str,
)
def test_data_that_a_sigmoid_cannot_reconstruct_warn(kind, parameters, X, make):
    change, values = BEYOND[kind]
    message = (
        r"beyond \[0, 1\], the range of output_activation='sigmoid'. Got X with "
        rf"values from {values}.*; scale X, with MinMaxScaler .*'identity'"
    )
    model = make(output_activation="sigmoid", validation_fraction=0.5, **parameters)
    with pytest.warns(UserWarning, match=message) as record:
        model.fit(change(X))
    assert len(record) == 1


def test_data_that_a_sigmoid_can_reconstruct_do_not_warn(X, make):
    # A warning would be an error.
    make(output_activation="sigmoid").fit(X)
    make(output_activation="sigmoid").fit(csr_array(X > 0.5))
    make().fit(3 * X - 1)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_does_not_leave_the_unit_interval(dtype, loss, X, make):
    model = make(loss=loss, output_activation="sigmoid")
    X = X.astype(dtype)
    X[0, 0], X[1, 0] = 1 + np.finfo(dtype).eps, -np.finfo(dtype).eps
    assert np.isfinite(model.fit(X).score(X))


def test_a_huge_lam_is_explained(X, make):
    with pytest.raises(ValueError, match=r"lam=1e\+300.* or lower .*lam"):
        make(lam=1e300).fit(X)


def test_partial_fit_checks_parameters_every_time(X, make):
    model = make().partial_fit(X).set_params(lam=-1)
    with pytest.raises(InvalidParameterError, match="'lam'"):
        model.partial_fit(X)


def test_an_architecture_error_says_what_was_given_and_how_to_start_anew(X, make):
    model = make(warm_start=True).fit(X).set_params(n_hidden=7)
    message = (
        r"n_hidden can't change.* Got 7, but the model was fitted with 5.*"
        r"warm_start=False"
    )
    with pytest.raises(ValueError, match=message):
        model.fit(X)


def test_precisions_that_a_device_lacks(X, make, monkeypatch):
    monkeypatch.setattr(_transformer, "has_float64", lambda device: False)
    message = r"precision='float64' is not available on this device \(cpu\)"
    with pytest.raises(ValueError, match=message):
        make(precision="float64").fit(X)


@pytest.mark.parametrize(
    "n_hidden",
    [
        *((), (4, 0), (4, -1), (4, 2.5), [4, "3"], (True, 2), [[4, 3]]),
        *(True, np.array(5), np.array(2.5), np.array([[4, 3]]), {4: 1}, {4, 3}),
    ],
    ids=repr,
)
def test_invalid_layers(n_hidden, X, make):
    message = (
        r"n_hidden must be an int in the range \[1, inf\) or a non-empty sequence of "
        rf"such ints. Got {re.escape(repr(n_hidden))} instead"
    )
    with pytest.raises(ValueError, match=message):
        make(n_hidden=n_hidden).fit(X)


@pytest.mark.parametrize("level", [1, 1.5])
def test_masking_everything(level, X, make):
    message = rf"corruption_level to be in the range \[0, 1\). Got {level} instead"
    with pytest.raises(ValueError, match=message):
        make(corruption="masking", corruption_level=level).fit(X)
    make(corruption="gaussian", corruption_level=level).fit(X)


@pytest.mark.parametrize("name", ["lam", "gamma", "alpha"])
def test_a_huge_weight_is_explained(name, X, make):
    with pytest.raises(ValueError, match=rf"{name}=1e\+300 is too large"):
        make(**{name: 1e300}).fit(X)


@pytest.mark.parametrize(
    "parameters",
    [{"alpha": 1e300}, {"gamma": 1.0, "sigma": 1e300}, {"corruption_level": 1e300}],
)
def test_divergence_names_what_is_in_use(parameters, make, X):
    if "corruption_level" in parameters:
        parameters = {"corruption": "gaussian", **parameters}
    with pytest.raises(ValueError, match="Training diverged") as caught:
        make(**parameters).fit(X)
    for name, value in parameters.items():
        if name != "corruption":
            assert f"{name} ({value})" in str(caught.value)


def test_what_is_zero_need_not_be_lowered(make, X):
    with pytest.raises(ValueError, match=r"lower learning_rate_init \(1e\+40\)\."):
        make(lam=0, learning_rate_init=1e40).fit(X)
    message = (
        r"order: lower gamma \(100\) or alpha \(0\.5\); or lower learning_rate_init "
        r"\(0\.05\) or raise n_hidden \(5\)\."
    )
    with pytest.warns(UserWarning, match=message):
        make(lam=0, gamma=100, alpha=0.5, tol=0.1).fit(X)


def test_the_scalers_of_sparse_rows_take_them(make, X):
    sparse = csr_array(X)
    with pytest.warns(UserWarning, match=r"beyond \[0, 1\].* with MaxAbsScaler say"):
        make(output_activation="sigmoid").fit(2 * sparse)
    with pytest.raises(ValueError, match=r"range \[0, 1\].* with MaxAbsScaler say"):
        make(loss="cross_entropy", output_activation="sigmoid").fit(2 * sparse)
    with pytest.raises(ValueError, match=r"with MinMaxScaler after X\.toarray\(\) say"):
        make(loss="cross_entropy", output_activation="sigmoid").fit(-1 * sparse)
    with pytest.raises(ValueError, match=r"diverged.* with MaxAbsScaler say"):
        make(learning_rate_init=1e40).fit(sparse)


@pytest.mark.parametrize("method", ["singular_values", "tangent_bases"])
def test_jacobians_that_are_not_finite(method, make, X):
    model = make(n_hidden=(4, 3)).fit(X)
    # As where pre-activations overflow in opposite directions.
    model.encoder_intercepts_[0][0] = np.nan
    arguments = {"n_components": 2} if method == "tangent_bases" else {}
    with pytest.raises(ValueError, match=r"X is too large.* Scale X"):
        getattr(geometry, method)(model, X, **arguments)


def test_tangents_that_are_not_finite(make, X):
    model = ContractiveAutoencoderClassifier(
        FrozenEstimator(make().fit(X)), tangent_weight=1, n_tangents=2
    )
    with pytest.raises(ValueError, match=r"X is too large.* Scale X"):
        model.fit(1e39 * X, np.arange(len(X)) % 2)
    assert fitted_state(model) == set()


def test_a_diverged_fit_names_no_number_of_an_earlier_one(X):
    model = ContractiveAutoencoderTransformer(tol=0.3, random_state=0).fit(X)
    model.set_params(learning_rate_init=1e30)
    with pytest.raises(ValueError, match="diverged") as error:
        model.fit(1000 * X)
    assert "lam" not in str(error.value)
    with pytest.raises(ValueError, match=r"lam \(3\.0\)"):
        model.set_params(lam=3.0).fit(1000 * X)
