"""The classifier: scikit-learn's suite, the formulas, and what it is good for."""

import functools
import pickle
import re
import warnings
from itertools import count

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from checks import run, with_checks
from scipy.special import expit, log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import make_circles
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import estimator_checks

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine import batches
from skcae.engine import rows as rows_module

unconverged = pytest.mark.filterwarnings(
    "ignore:Maximum iterations:sklearn.exceptions.ConvergenceWarning"
)
useless_autoencoder = pytest.mark.filterwarnings("ignore:The reconstruction explains")
# Most tests with unlabelled samples have fewer of them than labelled ones.
pytestmark = pytest.mark.filterwarnings("ignore:.*they count as unlabelled")
unlearnt_classes = pytest.mark.filterwarnings("ignore:Fine-tuning converged at")

small = functools.partial(ContractiveAutoencoderTransformer, max_iter=5, batch_size=64)

# Some checks want an accuracy, so that fine-tuning needs some epochs; long steps and
# little patience need fewer.
quick = {
    "learning_rate_init": 0.05,
    "tol": 0.02,
    "n_iter_no_change": 2,
    "batch_size": 32,
}
VARIANTS = [
    ContractiveAutoencoderClassifier(small(5), **quick),
    ContractiveAutoencoderClassifier(
        small((5, 4), precision="float64", activation="tanh"),
        tangent_weight=0.01,
        n_tangents=1,
        class_weight="balanced",
        alpha=1e-4,
        corruption="gaussian",
        corruption_level=0.05,
        solver="adam",
        early_stopping=True,
        validation_fraction=0.3,
        **quick,
    ),
]


@useless_autoencoder
@unlearnt_classes
@unconverged
@with_checks(VARIANTS)
def test_checks(estimator, check):
    run(check, estimator)


@unlearnt_classes
@unconverged
@useless_autoencoder
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_dataframe_column_names_consistency,
        estimator_checks.check_inplace_ensure_writeable,
        estimator_checks.check_param_validation,
    ],
    ids=lambda check: check.__name__,
)
def test_more_checks(check):
    run(check, "ContractiveAutoencoderClassifier", clone(VARIANTS[0]))


@pytest.fixture
def make():
    """Return a function that makes a small, seeded classifier that converges soon."""

    def make(transformer=None, **parameters):
        transformer = transformer or ContractiveAutoencoderTransformer(
            6, tol=0.3, n_iter_no_change=1, random_state=0
        )
        settings = quick | {"random_state": 0} | parameters
        return ContractiveAutoencoderClassifier(transformer, **settings)

    return make


@pytest.fixture(scope="session")
def y(X):
    """Three classes of the rows of X."""
    return (X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0.5)


@pytest.fixture
def pretrained(X, make):
    return make().transformer.fit(X)


def same(first, second):
    return all(
        np.array_equal(a, b)
        for a, b in zip(
            first.coefs_ + first.intercepts_,
            second.coefs_ + second.intercepts_,
            strict=True,
        )
    )


def cross_entropy(model, X, y):
    return -np.log(model.predict_proba(X)[np.arange(len(X)), y])


# What it computes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_hidden", [6, (6, 4)])
def test_predictions_are_those_of_the_weights(n_hidden, dtype, X, y, make):
    transformer = small(n_hidden, max_iter=500, tol=0.3, n_iter_no_change=1)
    model = make(transformer).fit(X, y)
    h = X
    for coef, intercept in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        h = expit(h @ coef + intercept)
    z = h @ model.coefs_[-1] + model.intercepts_[-1]
    X = X.astype(dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-9}
    np.testing.assert_allclose(model.decision_function(X), z, **tolerance)
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities, softmax(z, axis=1), **tolerance)
    assert probabilities.dtype == model.decision_function(X).dtype == dtype
    np.testing.assert_array_equal(model.predict(X), model.classes_[z.argmax(axis=1)])


def test_two_classes_have_one_score(X, make):
    y = np.where(X[:, 0] > 0.5, "b", "a")
    model = make(n_iter_no_change=5).fit(X, y)
    score = model.decision_function(X)
    assert score.shape == (60,)
    np.testing.assert_allclose(expit(score), model.predict_proba(X)[:, 1])
    np.testing.assert_array_equal(model.predict(X), np.where(score > 0, "b", "a"))
    assert model.score(X, y) > 0.9


def test_fitted_attributes(X, y, make):
    model = make(tangent_weight=0.1, n_tangents=2, early_stopping=True).fit(X, y)
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    assert [coef.shape for coef in model.coefs_] == [(8, 6), (6, 3)]
    assert [intercept.shape for intercept in model.intercepts_] == [(6,), (3,)]
    assert all(
        type(a) is np.ndarray and a.flags.owndata
        for a in model.coefs_ + model.intercepts_
    )
    assert model.n_iter_ == len(model.loss_curve_)
    assert set(model.history_) == {"cross_entropy", "tangent", "validation_loss"}
    assert all(len(curve) == model.n_iter_ for curve in model.history_.values())
    np.testing.assert_allclose(
        model.loss_curve_,
        model.history_["cross_entropy"] + 0.1 * model.history_["tangent"],
        rtol=1e-5,
    )
    # The pretrained encoder is kept as it was; fine-tuning started from it.
    alone = clone(model.transformer).fit(X)
    for name in ("encoder_coefs_", "encoder_intercepts_", "decoder_intercepts_"):
        for kept, expected in zip(
            getattr(model.transformer_, name), getattr(alone, name), strict=True
        ):
            np.testing.assert_array_equal(kept, expected)
    assert not np.array_equal(model.coefs_[0], alone.encoder_coefs_[0])


@unlearnt_classes
def test_weight_decay_keeps_weights_small(X, y, make):
    free, held = (make(alpha=alpha).fit(X, y) for alpha in (0, 0.1))
    assert np.linalg.norm(held.coefs_[-1]) < 0.5 * np.linalg.norm(free.coefs_[-1])


@unconverged
def test_tangent_weight_lowers_the_sensitivity(X, y, make, pretrained):
    free, held = (
        make(
            FrozenEstimator(pretrained),
            tangent_weight=weight,
            n_tangents=3,
            max_iter=100,
            tol=0,
        ).fit(X, y)
        for weight in (1e-9, 3)
    )
    assert held.history_["tangent"][-1] < 0.8 * free.history_["tangent"][-1]


@pytest.mark.parametrize("corruption, level", [("gaussian", 0.4), ("masking", 0.4)])
def test_corruption_makes_it_robust(corruption, level, digits):
    X_train, X_test, y_train, y_test = train_test_split(
        *digits, train_size=500, random_state=0
    )
    autoencoder = ContractiveAutoencoderTransformer(
        32, tol=0.03, n_iter_no_change=2, random_state=0
    )
    frozen = FrozenEstimator(autoencoder.fit(X_train))
    rng = np.random.default_rng(0)
    corrupted = X_test * (rng.uniform(size=X_test.shape) > level)
    if corruption == "gaussian":
        corrupted = X_test + rng.normal(0, level, X_test.shape)
    plain, robust = (
        ContractiveAutoencoderClassifier(
            frozen,
            corruption=kind,
            corruption_level=level,
            tol=0.01,
            random_state=0,
        ).fit(X_train, y_train)
        for kind in (None, corruption)
    )
    losses = [
        log_loss(y_test, model.predict_proba(corrupted)) for model in (plain, robust)
    ]
    assert losses[1] < 0.9 * losses[0]


def test_as_good_as_a_perceptron_on_digits(digits):
    X_train, X_test, y_train, y_test = train_test_split(
        *digits, train_size=500, random_state=0
    )
    model = ContractiveAutoencoderClassifier(
        ContractiveAutoencoderTransformer(32, tol=0.03, n_iter_no_change=2),
        tol=0.01,
        n_iter_no_change=2,
        random_state=0,
    ).fit(X_train, y_train)
    perceptron = MLPClassifier(
        (32,), learning_rate_init=0.01, max_iter=1000, random_state=0
    )
    expected = perceptron.fit(X_train, y_train).score(X_test, y_test)
    assert model.score(X_test, y_test) > max(0.94, expected - 0.005)


# Unlabelled samples


def test_unlabelled_samples_are_for_the_autoencoder(X, y, make):
    masked = y.copy()
    masked[30:] = -1
    model = make().fit(X, masked)
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    alone = clone(model.transformer).fit(X)
    np.testing.assert_array_equal(
        model.transformer_.encoder_coefs_[0], alone.encoder_coefs_[0]
    )
    # Fine-tuning has seen the labelled ones alone.
    frozen = make(FrozenEstimator(alone), label_spreading=False)
    assert same(frozen.fit(X, masked), clone(frozen).fit(X[:30], y[:30]))
    # Without the others, the weights are different ones.
    assert not same(model, make().fit(X[:30], y[:30]))


@pytest.mark.parametrize("dtype", [float, np.int8])
def test_minus_one_is_no_label_whatever_the_dtype(dtype, X, y, make):
    masked = np.where(np.arange(60) < 40, y, -1)
    model = make().fit(X, masked.astype(dtype))
    assert same(model, make().fit(X, masked))
    assert -1 not in model.classes_


def test_strings_with_minus_one(X, y, make):
    names = np.array(["zero", "one", "two"], dtype=object)[y]
    names[40:] = -1
    model = make().fit(X, names)
    assert list(model.classes_) == ["one", "two", "zero"]
    assert set(model.predict(X)) <= {"zero", "one", "two"}


def test_minus_one_and_one_are_classes(X, y, make):
    sign = np.where(y > 0, 1, -1)
    model = make().fit(X, sign)
    np.testing.assert_array_equal(model.classes_, [-1, 1])
    assert same(model, make().fit(X, (sign + 1) // 2))
    # As strings they are classes without a warning, too.
    for other in ("1", "+1"):
        signs = np.where(y > 0, other, "-1")
        assert list(make().fit(X, signs).classes_) == sorted(["-1", other])


@pytest.mark.parametrize("n_unlabelled", [0, 1, 29, 30, 59])
def test_few_unlabelled_samples_are_suspicious(n_unlabelled, X, make, capsys):
    # Of the classes -1, 0 and 1, the first would be lost without a word.
    y = np.arange(60) % 2
    y[:n_unlabelled] = -1
    if n_unlabelled == 59:
        y[-2:] = 0, 1
        n_unlabelled = 58
    model = make(verbose=True)
    message = f"{n_unlabelled} of 60 samples have the label -1"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    texts = [str(warning.message) for warning in caught]
    found = [text for text in texts if "count as unlabelled" in text]
    assert len(found) == (0 < n_unlabelled < 30)
    assert all(text.startswith(message) for text in found)
    assert capsys.readouterr().out.startswith(message)


@pytest.mark.parametrize("other", [0, 3, "a"])
def test_minus_one_beside_another_label_is_no_label(other, X, make):
    y = np.full(60, -1, dtype=object if other == "a" else int)
    y[:4] = other
    with pytest.raises(ValueError, match=r"one class only: .* -1 marks"):
        make().fit(X, y)


@unlearnt_classes
@pytest.mark.parametrize("dtype", [str, object])
@pytest.mark.parametrize("others", [["a", "b"], ["a"]], ids=str)
def test_minus_one_in_quotes_is_a_class_but_suspicious(others, dtype, X, y, make):
    classes = ["-1", *others]
    strings = np.array(classes, dtype=dtype)[y % len(classes)]
    with pytest.warns(UserWarning, match=r"number -1, in an array of dtype object"):
        model = make().fit(X, strings)
    assert list(model.classes_) == classes


def test_unlabelled_samples_help(digits):
    X, y = digits
    scores = []
    for seed in range(2):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, train_size=600, stratify=y, random_state=seed
        )
        few, _ = train_test_split(
            np.arange(len(y_train)), train_size=50, stratify=y_train, random_state=seed
        )
        masked = np.full_like(y_train, -1)
        masked[few] = y_train[few]
        model = ContractiveAutoencoderClassifier(
            ContractiveAutoencoderTransformer(
                32, lam=1, tol=0.02, n_iter_no_change=2, learning_rate_init=0.01
            ),
            random_state=seed,
            **quick,
        )
        few_alone = clone(model).fit(X_train[few], y_train[few])
        scores.append(
            [m.score(X_test, y_test) for m in (few_alone, model.fit(X_train, masked))]
        )
    without, with_unlabelled = np.mean(scores, axis=0)
    assert with_unlabelled > without


# Where it starts


def test_frozen_transformer_is_not_fitted(X, y, make, pretrained):
    before = pickle.dumps(pretrained)
    model = make(FrozenEstimator(pretrained)).fit(X, y)
    assert pickle.dumps(pretrained) == before
    assert same(model, make().fit(X, y))
    # What becomes of it later is of no concern.
    assert model.transformer_ is not pretrained
    predictions = model.predict_proba(X)
    before = pickle.dumps(model.transformer_)
    pretrained.encoder_coefs_[0][:] = 0
    pretrained.set_params(n_hidden=3, activation="tanh").fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), predictions)
    assert pickle.dumps(model.transformer_) == before


def test_only_what_was_learnt_is_kept_of_a_frozen_transformer(X, y, make):
    transformer = make().transformer.set_params(warm_start=True, tol=0, max_iter=3)
    if hasattr(transformer, "set_callbacks"):
        transformer.set_callbacks(Recorder())
    with pytest.warns(ConvergenceWarning):
        transformer.fit(X)
    before = pickle.dumps(transformer)
    model = make(FrozenEstimator(transformer)).fit(X, y)
    assert pickle.dumps(transformer) == before
    assert transformer._training_state is not None
    assert model.transformer_._training_state is None
    assert not hasattr(model.transformer_, "_skl_callbacks")


@pytest.mark.parametrize("name, value", [("precision", "half"), ("lam", -1)])
def test_frozen_transformers_parameters_are_validated(
    name, value, X, y, make, pretrained
):
    frozen = FrozenEstimator(pretrained.set_params(**{name: value}))
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        make(frozen).fit(X, y)


def test_frozen_transformer_must_fit_the_data(X, y, make, pretrained):
    model = make(FrozenEstimator(pretrained))
    with pytest.raises(ValueError, match="X has 7 features"):
        model.fit(X[:, 1:], y)
    with pytest.raises(NotFittedError):
        make(FrozenEstimator(ContractiveAutoencoderTransformer())).fit(X, y)
    with pytest.raises(ValueError, match="FrozenEstimator of either"):
        make(FrozenEstimator(MinMaxScaler().fit(X))).fit(X, y)


def test_transformer_is_cloned(X, y, make):
    model = make()
    model.fit(X, y)
    assert not hasattr(model.transformer, "encoder_coefs_")
    assert model.transformer_ is not model.transformer


def test_transformers_own_seed_comes_first(X, y, make):
    seeds = []
    for transformer_seed in (None, 5):
        transformer = small(3, max_iter=500, random_state=transformer_seed, tol=0.3)
        model = make(transformer).fit(X, y)
        seeds.append(model.transformer_.random_state)
    assert seeds[0] is not None
    assert seeds[1] == 5


# Class weights


@unconverged
def test_class_weight_is_the_number_of_copies(X, y, make):
    # With all rows in one batch, in float64: what differs is the order of a sum.
    cae = small(6, max_iter=50, precision="float64", random_state=0).fit(X)
    settings = {"batch_size": 1000, "max_iter": 30, "tol": 0, "solver": "adam"}
    settings |= {"alpha": 0.01, "tangent_weight": 0.1, "n_tangents": 2}
    copies = np.repeat(np.arange(60), np.array([1, 3, 2])[y])
    expected = make(FrozenEstimator(cae), **settings).fit(X[copies], y[copies])
    actual = make(FrozenEstimator(cae), class_weight={1: 3, 2: 2}, **settings)
    actual.fit(X, y)
    for a, b in zip(actual.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(actual.loss_curve_, expected.loss_curve_, rtol=1e-9)


@unlearnt_classes
def test_balanced_classes(X, make):
    y = np.zeros(60, dtype=int)
    y[:5] = 1
    balanced = make(class_weight="balanced").fit(X, y)
    assert same(balanced, make(class_weight={0: 60 / 110, 1: 6}).fit(X, y))
    patient = make(n_iter_no_change=5, batch_size=8)
    n_found = [
        clone(patient).set_params(class_weight=weight).fit(X, y).predict(X).sum()
        for weight in (None, "balanced")
    ]
    assert n_found[0] < n_found[1]
    # Those without a label don't count.
    y[30:] = -1
    y[5] = 2
    expected = make(class_weight={0: 30 / 72, 1: 2, 2: 10}).fit(X, y)
    assert same(make(class_weight="balanced").fit(X, y), expected)


@unlearnt_classes
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("scale", [1e-50, 1e50, 1e308, 5e-300])
def test_only_ratios_of_class_weights_matter(scale, early_stopping, X, y, make):
    expected, actual = (
        make(
            class_weight={0: s, 1: 0.5 * s, 2: 0.25 * s}, early_stopping=early_stopping
        ).fit(X, y)
        for s in (1, scale)
    )
    assert same(actual, expected)
    for name, curve in expected.history_.items():
        np.testing.assert_allclose(actual.history_[name], curve, rtol=1e-6)


def test_held_out_samples_have_class_weights(X, y, make, pretrained):
    frozen = FrozenEstimator(pretrained)
    # Without learning, the loss is log 3 for each; so it learns one epoch first.
    settings = {"early_stopping": True, "max_iter": 3, "tol": 0}
    with pytest.warns(ConvergenceWarning):
        model = make(frozen, class_weight={2: 50.0}, **settings).fit(X, y)
    rng = np.random.RandomState(0)
    seed = rng.randint(np.iinfo(np.int32).max)
    _, held_out = train_test_split(
        np.arange(60), test_size=0.1, stratify=y, random_state=seed
    )
    weights = np.where(y == 2, 50.0, 1.0)[held_out]
    losses = cross_entropy(model, X[held_out], y[held_out])
    expected = np.average(losses, weights=weights)
    assert abs(losses.mean() - expected) > 0.01 * expected
    lowest = model.history_["validation_loss"].min()
    assert lowest == pytest.approx(expected, rel=1e-5)


# Stopping


@pytest.fixture
def fit_with_losses(X, y, make, monkeypatch):
    """Return a function that fits with these losses on the held-out samples."""
    from skcae.engine.finetuning import FineTuner

    def fit(losses, **parameters):
        left = iter(losses)
        monkeypatch.setattr(FineTuner, "mean_objective", lambda *_: next(left))
        return make(early_stopping=True, **parameters).fit(X, y)

    return fit


def test_improvements_by_less_than_tol_do_not_count(fit_with_losses):
    # However large they are relative to a loss below 1.
    losses = 0.5 ** np.arange(1, 100)
    model = fit_with_losses(losses, tol=0.5, n_iter_no_change=3)
    # Of windows of eight epochs the first sets the best loss, which none can improve by
    # as much; after three more the rate falls for as many epochs.
    assert model.n_iter_ == 2 * (1 + 3) * 8


@unconverged
def test_early_stopping_returns_the_first_of_the_best(fit_with_losses):
    best, more = [1.0, 0.5], [0.5, 0.5005, 0.9]
    expected = fit_with_losses(best, max_iter=2)
    assert same(fit_with_losses(best + more, max_iter=5), expected)


@unlearnt_classes
@unconverged
def test_early_stopping_returns_the_best_epoch(X, make):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=60)  # nothing to learn, so that it overfits
    model = make(early_stopping=True, max_iter=99, learning_rate_init=0.2, tol=0)
    model.fit(X, y)
    losses = model.history_["validation_loss"]
    assert losses.argmin() < len(losses) - 1
    # Training that ends at the best epoch leaves the very same parameters.
    until = clone(model).set_params(max_iter=int(losses.argmin()) + 1)
    assert same(model, until.fit(X, y))
    assert until.history_["validation_loss"][-1] == losses.min()


@unlearnt_classes
def test_held_out_samples_are_stratified_and_labelled(X, y, make, monkeypatch):
    from skcae.engine.finetuning import FineTuner

    seen = []
    original = FineTuner.mean_objective

    def mean_objective(self, data):
        seen.append(data)
        return original(self, data)

    monkeypatch.setattr(FineTuner, "mean_objective", mean_objective)
    masked = np.where(np.arange(60) % 4 == 0, -1, y)
    make(early_stopping=True, validation_fraction=0.4).fit(X, masked)
    rows, labels, _ = seen[0]
    assert len(rows) == 18
    labelled = masked != -1
    counts = np.bincount(masked[labelled]) * 0.4
    assert abs(np.bincount(labels, minlength=3) - counts).max() <= 1
    where = [np.flatnonzero((row == X).all(axis=1))[0] for row in rows]
    np.testing.assert_array_equal(masked[where], labels)


def test_a_class_too_small_to_hold_out_of_is_named(X, make):
    pytest.importorskip("sklearn", "1.9", reason="train_test_split names no classes")
    labels = np.array(["dog", "cat"] * 29 + ["emu", "cat"])
    with pytest.raises(ValueError, match=r"each class: .*\['emu'\]"):
        make(early_stopping=True).fit(X, labels)


def test_defaults_learn_what_no_linear_model_can():
    # The loss stays at that of the classes' frequencies for ten epochs.
    X, y = make_circles(500, noise=0.05, factor=0.5, random_state=0)
    X = StandardScaler().fit_transform(X)
    for seed in range(2):
        model = ContractiveAutoencoderClassifier(random_state=seed).fit(X, y)
        assert model.score(X, y) > 0.95


@pytest.mark.parametrize("class_weight", [None, {0: 1, 1: 3}])
@pytest.mark.parametrize(
    "n_trained, n_watched, parameters, names",
    [
        ([52, 8], [52, 8], {}, r"tol \(0\.02\)"),
        ([52, 8], [52, 8], {"alpha": 1e-6}, r"tol \(0\.02\) or alpha \(1e-06\)"),
        ([52, 8], [52, 8], {"corruption": "gaussian"}, r"tol .* or corruption_level"),
        (
            [52, 8],
            [52, 8],
            {"tangent_weight": 1e-6, "n_tangents": 1, "alpha": 1e-6},
            r"tol .*, alpha .* or tangent_weight \(1e-06\)",
        ),
        # 30% of the rows, rounded to whole ones of each class.
        ([36, 6], [16, 2], {"early_stopping": True, "validation_fraction": 0.3}, "tol"),
    ],
)
def test_classes_that_are_not_learnt_warn(
    n_trained, n_watched, parameters, names, class_weight, X, y, make
):
    weights = [1, 1] if class_weight is None else [1, 3]
    trained, watched = (np.multiply(weights, n) for n in (n_trained, n_watched))
    expected = log_loss(
        [0, 1], np.tile(trained / trained.sum(), (2, 1)), sample_weight=watched
    )
    model = make(class_weight=class_weight, n_iter_no_change=5, **parameters)
    with pytest.warns(UserWarning, match="Fine-tuning converged") as warned:
        # Nothing tells the samples apart.
        model.fit(np.tile(X[0], (60, 1)), np.repeat([0, 1], [52, 8]))
    (reached, constant) = re.search(
        rf"cross-entropy of ([\d.]+)(?: of held-out samples)?; .* have ([\d.]+)\. "
        rf".*learning_rate_init \(0.05\) or n_iter_no_change \(5\), .* lower {names}",
        str(warned[0].message),
    ).groups()
    assert float(constant) == pytest.approx(expected, abs=0.0006)
    assert float(reached) == pytest.approx(expected, rel=0.05)
    # No warning, which would be an error, where they are learnt.
    model.set_params(n_iter_no_change=20, class_weight=None).fit(X, y)


@pytest.mark.filterwarnings("ignore:The least populated")
def test_a_class_of_which_nothing_is_left_to_train_on_is_named(X, make):
    labels = np.repeat(["dog", "emu", "cat"], [29, 2, 29])
    model = make(early_stopping=True, validation_fraction=0.8)
    with pytest.raises(ValueError, match=r"validation_fraction=0.8 .* \['emu'\]"):
        model.fit(X, labels)


def test_max_iter_warns(X, y, make):
    with pytest.warns(ConvergenceWarning, match=r"\(2\) of fine-tuning"):
        model = make(max_iter=2).fit(X, y)
    assert model.n_iter_ == 2


def test_verbose_prints_each_epoch(X, y, make, capsys):
    model = make(verbose=True, early_stopping=True).fit(X, y)
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith("0 of 60 samples")
    assert len(lines) == model.n_iter_
    assert lines[0].startswith("Epoch 1: ")
    for name in ("cross_entropy", "objective", "validation_loss", "learning_rate"):
        assert f"{name} = " in lines[0]
    assert last == f"Stopped after {model.n_iter_} epochs: convergence"


def test_silent_unless_verbose(X, y, make, capsys):
    make().fit(X, y)
    assert capsys.readouterr() == ("", "")


class Interrupt:
    """Raises at the n-th epoch of fine-tuning."""

    def __init__(self, monkeypatch, n, error):
        from skcae.engine.finetuning import FineTuner

        original, epochs = FineTuner.epoch, count()

        def epoch(tuner):
            if next(epochs) == n:
                raise error
            return original(tuner)

        monkeypatch.setattr(FineTuner, "epoch", epoch)


def test_interrupt_keeps_the_last_epoch(X, y, make, monkeypatch):
    Interrupt(monkeypatch, 2, KeyboardInterrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        model = make().fit(X, y)
    assert model.n_iter_ == 2
    assert model.predict(X).shape == (60,)


@pytest.mark.parametrize(
    "n, error", [(0, KeyboardInterrupt), (0, MemoryError), (3, MemoryError)]
)
def test_failed_fit_changes_nothing(n, error, X, y, make, monkeypatch):
    model = make()
    Interrupt(monkeypatch, n, error)
    with pytest.raises(error):
        model.fit(X, y)
    assert vars(model).keys() == model.get_params(deep=False).keys()
    monkeypatch.undo()
    model.fit(X, y)
    before = dict(vars(model))
    Interrupt(monkeypatch, n, error)
    with pytest.raises(error):
        model.fit(X[:50, :4], np.where(y[:50] > 0, "a", "b"))
    assert vars(model) == before


class Recorder:
    """Keeps what it is given at the end of each task, by the task's name."""

    def __init__(self):
        self.seen = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **kwargs):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, y=None):
        self.seen.append((context.task_name, X, y))

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize(
    "kind", [np.asarray, pd.DataFrame, scipy.sparse.coo_array, "memory map"]
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_callbacks_get_the_labelled_rows(
    kind, early_stopping, X, y, make, mapped, small_windows
):
    pytest.importorskip("sklearn.callback")
    kind = mapped if kind == "memory map" else kind
    has_label = np.arange(60) % 3 > 0
    recorder = Recorder()
    model = make(early_stopping=early_stopping).set_callbacks(recorder)
    model.fit(kind(X), np.where(has_label, y, -1))
    assert {name for name, *_ in recorder.seen} == {"fit", "epoch"}
    for _, rows, labels in recorder.seen:
        assert isinstance(rows, pd.DataFrame) == (kind is pd.DataFrame)
        rows = rows.toarray() if scipy.sparse.issparse(rows) else np.asarray(rows)
        np.testing.assert_array_equal(rows, X[has_label])
        np.testing.assert_array_equal(labels, y[has_label])


def test_rows_are_copied_once_and_for_callbacks_that_ask(X, y, make, monkeypatch):
    pytest.importorskip("sklearn.callback")
    n_copies = []
    original = ContractiveAutoencoderClassifier._labelled_rows

    def counted(*args):
        n_copies.append(1)
        return original(*args)

    monkeypatch.setattr(ContractiveAutoencoderClassifier, "_labelled_rows", counted)

    class AsksForNothing(Recorder):
        def on_fit_task_end(self, estimator, context):
            self.seen.append(context.task_name)

    y = np.where(np.arange(60) % 3 > 0, y, -1)
    make().set_callbacks(AsksForNothing()).fit(X, y)
    assert not n_copies
    recorder = Recorder()
    make().set_callbacks(recorder).fit(X, y)
    assert len(recorder.seen) > 2
    assert len(n_copies) == 1


def test_callbacks_see_the_epochs(X, y, make):
    pytest.importorskip("sklearn.callback")

    class Stop:
        def setup(self, estimator, context):
            self.n_epochs = 0

        def on_fit_task_begin(self, estimator, context, **kwargs):
            pass

        def on_fit_task_end(self, estimator, context, **kwargs):
            if context.task_name != "epoch":
                return False
            self.n_epochs += 1
            return self.n_epochs == 3

        def teardown(self, estimator, context):
            pass

    model = make(tol=0)
    model.set_callbacks(Stop())
    assert model.fit(X, y).n_iter_ == 3


# Seeds


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tangent_weight": 0.1, "n_tangents": 2},
        {"corruption": "gaussian"},
        {"corruption": "masking"},
    ],
    ids=str,
)
def test_seeds_are_bit_equal(settings, X, y, make):
    transformer = small(3, max_iter=500, tol=0.3, n_iter_no_change=1)
    first, second, other = (
        make(transformer, early_stopping=True, random_state=seed, **settings).fit(X, y)
        for seed in (1, 1, 2)
    )
    assert same(first, second)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert not same(first, other)


# Errors


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.zeros(60, dtype=int), "one class"),
        (np.full(60, "a"), "one class"),
        (np.full(60, -1), "no labels"),
        (np.linspace(0, 1, 60), "continuous"),
        (np.zeros((60, 2)), "1d array"),
    ],
)
def test_labels_that_cannot_be_learned(labels, message, X, make):
    model = make()
    with pytest.raises(ValueError, match=message):
        model.fit(X, labels)
    assert vars(model).keys() == model.get_params(deep=False).keys()


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"class_weight": {"a": 2.0}}, "class_weight"),
        ({"class_weight": {0: -1}}, r"class_weight .* range \(0, inf\)"),
        ({"class_weight": {0: 0}}, r"class_weight .* range \(0, inf\)"),
        ({"class_weight": {0: np.inf}}, r"class_weight .* range \(0, inf\)"),
        ({"class_weight": {0: 10**400}}, "class_weight .* too large"),
        ({"class_weight": {1: "a"}}, "class_weight .* convert"),
        ({"class_weight": {1: None}}, r"class_weight .* range \(0, inf\)"),
        ({"class_weight": {1: 1e-60}}, "class_weight .* ratios"),
        ({"class_weight": {1: 1e-60}, "early_stopping": True}, "class_weight"),
        ({"class_weight": "equal"}, "class_weight"),
        ({"tangent_weight": 0.1, "n_tangents": 7}, "at most 6"),
        ({"tangent_weight": -1}, "tangent_weight"),
        ({"tangent_weight": 0.1, "transformer__n_hidden": 0}, "n_hidden"),
        ({"transformer__precision": "half"}, "precision"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "validation_fraction"),
        ({"n_tangents": 0}, "n_tangents"),
        ({"device": "abacus"}, "device"),
        ({"alpha": 1e38}, "alpha"),
        ({"corruption": "salt"}, "corruption"),
        ({"corruption_level": -0.1}, "corruption_level"),
        ({"corruption": "masking", "corruption_level": 1}, r"range \[0, 1\)"),
        (
            {"corruption": "gaussian", "corruption_level": 1e300},
            r"lower .*corruption_level \(1e\+300\)",
        ),
        ({"learning_rate_init": 1e38, "solver": "adam"}, "lower learning_rate_init"),
        ({"transformer": MinMaxScaler()}, "transformer"),
    ],
)
def test_bad_parameters(parameters, message, X, y, make):
    model = make().set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


def test_cheap_errors_come_before_the_training(X, y, make, monkeypatch):
    monkeypatch.setattr(ContractiveAutoencoderTransformer, "fit", pytest.fail)
    for parameters in [
        {"class_weight": {"a": 2.0}},
        {"tangent_weight": 0.1, "n_tangents": 7},
        {"device": "abacus"},
        {"early_stopping": True, "validation_fraction": 0.01},
        {"corruption": "masking", "corruption_level": 1},
    ]:
        with pytest.raises(ValueError):
            make(**parameters).fit(X, y)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
def test_rows_too_large_to_compute_with(method, X, y, make):
    transformer = small(6, activation="gelu", max_iter=500, tol=0.3, random_state=0)
    model = make(transformer).fit(X, y)
    # Beyond what any order of a sum's terms could keep finite.
    model.coefs_ = [100 * coefs for coefs in model.coefs_]
    huge = (1e38 * X).astype(np.float32)
    with pytest.raises(ValueError, match="Scale X"):
        getattr(model, method)(huge)


def test_log_probabilities_stay_finite(X, y, make):
    model = make().fit(X, y)
    np.testing.assert_allclose(
        model.predict_log_proba(X), np.log(model.predict_proba(X)), rtol=1e-9
    )
    assert model.predict_log_proba(X.astype(np.float32)).dtype == np.float32
    model.coefs_[-1] *= 1e4
    assert (model.predict_proba(X) == 0).any()
    expected = log_softmax(model.decision_function(X), axis=1)
    np.testing.assert_allclose(model.predict_log_proba(X), expected, rtol=1e-9)


# Kinds of X


@pytest.fixture(scope="session")
def sparse_X(X):
    """The rows of X with half of the entries zero."""
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.5, X, 0)
    X.flags.writeable = False
    return X


@pytest.mark.parametrize(
    "dtype, n_labels, parameters",
    [
        (np.float32, 60, {}),
        (np.float64, 50, {"early_stopping": True}),
        (np.uint8, 60, {"tangent_weight": 0.1, "n_tangents": 2}),
    ],
)
def test_sparse_rows_are_dense_rows(dtype, n_labels, parameters, sparse_X, y, make):
    X = (sparse_X * 9).astype(dtype)
    y = np.where(np.arange(60) < n_labels, y, -1)
    dense, sparse = (
        make(**parameters).fit(rows, y) for rows in (X, scipy.sparse.csr_array(X))
    )
    assert same(dense, sparse)
    for method in ("predict", "predict_proba", "decision_function"):
        rows = scipy.sparse.csr_array(X)
        result, expected = getattr(dense, method)(rows), getattr(dense, method)(X)
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected, strict=True)


@pytest.mark.parametrize("format", ["csc_matrix", "coo_array", "csr_matrix"])
def test_other_sparse_formats(format, sparse_X, y, make, pretrained):
    rows = getattr(scipy.sparse, format)(sparse_X)
    model = make(FrozenEstimator(pretrained)).fit(rows, y)
    assert same(model, make(FrozenEstimator(pretrained)).fit(sparse_X, y))
    np.testing.assert_array_equal(model.predict(rows), model.predict(sparse_X))


def test_sparse_rows_never_become_dense_as_a_whole(
    sparse_X, y, make, pretrained, monkeypatch
):
    n_rows = []
    toarray = scipy.sparse.csr_array.toarray

    def recorded(rows, *args, **kwargs):
        n_rows.append(rows.shape[0])
        return toarray(rows, *args, **kwargs)

    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", recorded)
    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 80)
    S = scipy.sparse.csr_array(sparse_X)
    make(
        FrozenEstimator(pretrained),
        batch_size=7,
        tangent_weight=0.1,
        n_tangents=2,
        early_stopping=True,
    ).fit(S, y).predict_proba(S)
    assert max(n_rows) == 10


def test_tensors_are_arrays(X, y, make, pretrained):
    model = make(FrozenEstimator(pretrained))
    expected = clone(model).fit(X, y)
    tensor = torch.tensor(X, requires_grad=True)
    assert same(model.fit(tensor, torch.tensor(y)), expected)
    np.testing.assert_array_equal(model.predict(tensor), expected.predict(X))


def test_large_memory_maps_of_one_run(X, y, make, pretrained, mapped, monkeypatch):
    # Their rows are shuffled as those of an array are.
    rows = mapped(X)
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 1000)
    assert rows_module.is_out_of_core(rows)
    model = make(FrozenEstimator(pretrained))
    assert same(clone(model).fit(rows, y), model.fit(X, y))


@unconverged
@pytest.mark.parametrize("dtype", ["f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_unlabelled", [0, 15])
def test_large_memory_maps(
    n_unlabelled,
    early_stopping,
    order,
    dtype,
    X,
    y,
    make,
    pretrained,
    mapped,
    monkeypatch,
):
    # Small enough for 40 rows of float32 to be more than one.
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 15 * 64)
    monkeypatch.setattr(batches, "_RUN_BYTES", 3 * 64)
    X = X.astype(dtype, order=order)
    some = np.where(np.arange(60) < n_unlabelled, -1, y)
    settings = {"batch_size": 8, "max_iter": 30, "tol": 0, "label_spreading": False}
    model = make(
        FrozenEstimator(pretrained), early_stopping=early_stopping, **settings
    ).fit(mapped(X), some)
    # An order of its own, and each row with its label.
    other = clone(model).fit(X, some)
    assert not same(model, other)
    loss, other_loss = (cross_entropy(m, X, y).mean() for m in (model, other))
    assert loss == pytest.approx(other_loss, rel=0.1)
    expected = model.predict_proba(X.astype("f8"))
    np.testing.assert_allclose(model.predict_proba(mapped(X)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{}, {"early_stopping": True}, {"tangent_weight": 0.1, "n_tangents": 2}],
    ids=str,
)
def test_labelled_rows_of_a_large_memory_map(
    settings, X, y, make, pretrained, mapped, small_windows
):
    has_label = np.arange(60) % 3 > 0
    model = make(FrozenEstimator(pretrained), label_spreading=False, **settings)
    some = clone(model).fit(mapped(X), np.where(has_label, y, -1))
    assert same(some, model.fit(mapped(X[has_label]), y[has_label]))


@unlearnt_classes
@pytest.mark.parametrize("early_stopping", [False, True])
def test_few_labels_in_a_large_memory_map(
    early_stopping, X, y, make, pretrained, mapped, small_windows
):
    # So few rows are read once, into memory.
    y = np.where(np.arange(60) % 4 == 0, y, -1)
    settings = {"early_stopping": early_stopping, "validation_fraction": 0.3}
    model = make(FrozenEstimator(pretrained), label_spreading=False, **settings)
    assert same(clone(model).fit(mapped(X), y), model.fit(X, y))


# Among other tools


def test_pipeline_and_grid_search(digits):
    X, y = digits[0][:200], digits[1][:200]
    search = GridSearchCV(
        make_pipeline(
            MinMaxScaler(),
            ContractiveAutoencoderClassifier(
                small(16, max_iter=500, tol=0.1, n_iter_no_change=1),
                random_state=0,
                **quick,
            ),
        ),
        {"contractiveautoencoderclassifier__transformer__lam": [0.1, 1]},
        cv=2,
    ).fit(X, y)
    assert search.best_score_ > 0.8
    best = search.best_estimator_[-1]
    assert (
        best.transformer_.lam
        == search.best_params_["contractiveautoencoderclassifier__transformer__lam"]
    )


def test_pickle(X, y, make):
    model = make().fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert b"torch" not in pickle.dumps(model)


def test_feature_names(X, y, make):
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    model = make().fit(frame, y)
    assert list(model.feature_names_in_) == list("abcdefgh")
    assert list(model.transformer_.feature_names_in_) == list("abcdefgh")
    model.predict(frame)
    with pytest.warns(UserWarning, match="valid feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("hgfedcba")])
    frozen = make(FrozenEstimator(model.transformer_))
    assert same(frozen.fit(frame, y), model)


@useless_autoencoder
def test_images_in_bytes(digits):
    X, y = (digits[0][:300] * 16).astype(np.uint8), digits[1][:300]
    models = [
        ContractiveAutoencoderClassifier(
            small(8, random_state=0, max_iter=500, tol=0.3), tol=0.3, random_state=0
        ).fit(rows, y)
        for rows in (X, X.astype(np.float32))
    ]
    assert same(*models)


@unlearnt_classes
def test_loss_is_the_cross_entropy(X, y, make):
    # With a learning rate too small to change anything.
    model = make(learning_rate_init=1e-30).fit(X, y)
    np.testing.assert_allclose(model.loss_curve_, np.log(3), rtol=1e-6)
    expected = -log_softmax(model.decision_function(X), axis=1)
    np.testing.assert_allclose(
        cross_entropy(model, X, y), expected[np.arange(60), y], rtol=1e-9
    )


def test_an_unknown_label_in_the_class_weights(make, digits):
    X, y = digits[0][:60], digits[1][:60] % 2
    make(class_weight={-1: 5, 0: 2, 1: 1}).fit(X, y)
    model = make(class_weight={-1: 5, 0: 2})
    with pytest.raises(ValueError, match=r"keys, which are \[0, 1\]\. Got \{-1: 5, "):
        model.fit(X, y)


@pytest.mark.parametrize("missing", [None, 3])
def test_labels_of_several_types(missing, make, digits):
    y = np.array(["a", "b", missing] * 20, dtype=object)
    with pytest.raises(ValueError, match="the number -1 of samples without a label"):
        make().fit(digits[0][:60], y)


def test_a_difference_of_scores_that_is_infinite(make, digits):
    X, y = digits[0][:60], digits[1][:60] % 2
    model = make().fit(X, y)
    model.coefs_[-1][:] = 0
    model.intercepts_[-1][:] = [2e38, -2e38]
    with pytest.raises(ValueError, match="scores are infinite"):
        model.decision_function(X.astype(np.float32))
