"""Sample weights: no sample, several samples, and all that lies between."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine.rows import spread_by_weight

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The reconstruction"
)


def transformer(**parameters):
    defaults = {"n_hidden": 4, "max_iter": 5, "random_state": 0}
    return ContractiveAutoencoderTransformer(**{**defaults, **parameters})


def classifier(**parameters):
    defaults = {"max_iter": 5, "random_state": 0}
    return ContractiveAutoencoderClassifier(**{**defaults, **parameters})


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).random((40, 8))


@pytest.fixture(scope="module")
def y():
    return np.arange(40) % 2


@pytest.fixture(scope="module")
def weights():
    """Weights of which every fourth is 0."""
    weights = np.random.default_rng(1).random(40)
    weights[::4] = 0
    return weights


def arrays_of(model):
    if isinstance(model, ContractiveAutoencoderClassifier):
        return model.coefs_ + model.intercepts_
    return [array for group in model._arrays for array in group]


def assert_same_model(a, b):
    for one, other in zip(arrays_of(a), arrays_of(b), strict=True):
        assert_array_equal(one, other)
    assert_array_equal(a.loss_curve_, b.loss_curve_)


# scikit-learn's own checks. Weights and repetitions are the same to the last digits
# where all rows are in one batch, and in float64. Otherwise batches differ.
EXACT = {"precision": "float64", "batch_size": 1000}
EXACT_MODELS = [
    transformer(**EXACT),
    transformer(**EXACT, solver="adam", tied_weights=False, alpha=0.01),
    transformer(**EXACT, n_hidden=(6, 3), n_projections=None, gamma=0.0),
    transformer(**EXACT, loss="cross_entropy"),
    classifier(transformer=transformer(**EXACT), batch_size=1000),
    classifier(
        transformer=make_pipeline(
            transformer(**EXACT), transformer(**EXACT, output_activation="sigmoid")
        ),
        batch_size=1000,
        class_weight="balanced",
        alpha=0.01,
    ),
]


@pytest.mark.parametrize("model", EXACT_MODELS, ids=str)
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_sample_weight_equivalence_on_dense_data,
        estimator_checks.check_sample_weight_equivalence_on_sparse_data,
    ],
    ids=lambda check: check.__name__,
)
def test_whole_weights_are_repetitions(model, check):
    check(type(model).__name__, model)


def thin(X):
    """Return sparse rows that stay sparse."""
    return scipy.sparse.hstack([X, scipy.sparse.csr_array((len(X), 1200))], "csr")


MODELS = {
    "transformer": transformer(),
    "early stopping": transformer(early_stopping=True, validation_fraction=0.3),
    "classifier": classifier(transformer=transformer(), early_stopping=True),
    "pipeline": classifier(
        transformer=make_pipeline(
            transformer(), transformer(output_activation="sigmoid")
        )
    ),
}
all_models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@all_models
@pytest.mark.parametrize("convert", [np.asarray, thin], ids=["dense", "sparse"])
def test_a_weight_of_zero_is_no_sample(model, convert, X, y, weights):
    X, some = convert(X), weights > 0
    model.fit(X, y, sample_weight=weights)
    expected = model.__sklearn_clone__().fit(X[some], y[some], weights[some])
    assert_same_model(model, expected)


def test_a_class_without_weight_is_no_class(X):
    y = np.arange(40) % 4 - 1
    model = classifier(transformer=transformer())
    with pytest.warns(match="10 of 30 samples have the label -1"):
        model.fit(X, y, sample_weight=np.array([1, 1, 2, 0])[y + 1])
    assert_array_equal(model.classes_, [0, 1])


@all_models
@pytest.mark.parametrize("weight", [0.5, 3])
def test_equal_weights_are_none(model, weight, X, y):
    expected = model.__sklearn_clone__().fit(X, y)
    assert_same_model(model.fit(X, y, weight), expected)
    assert_same_model(model.fit(X, y, np.full(len(X), weight)), expected)


@all_models
def test_only_ratios_matter(model, X, y, weights):
    expected = model.__sklearn_clone__().fit(X, y, weights)
    assert_same_model(model.fit(X, y, 4 * weights), expected)


def test_partial_fit(X, weights):
    some = weights > 0
    model, expected = transformer(), transformer()
    for _ in range(3):
        model.partial_fit(X, sample_weight=weights)
        expected.partial_fit(X[some], sample_weight=weights[some])
    assert_same_model(model, expected)
    assert not np.array_equal(
        model.transform(X), transformer().partial_fit(X[some]).transform(X)
    )


@pytest.mark.parametrize(
    "parameters",
    [{}, {"n_hidden": (6, 3), "n_projections": None}, {"loss": "cross_entropy"}],
    ids=str,
)
def test_the_reported_objective_is_the_weighted_mean(parameters, X, weights):
    # A rate so small that the start is what all batches see.
    model = transformer(
        learning_rate_init=1e-30, lam=0.3, max_iter=1, batch_size=7, **parameters
    ).fit(X, sample_weight=weights)
    losses = 0.3 * model.contraction(X) - model.score_samples(X)
    mean = np.average(losses, weights=weights)
    assert model.loss_curve_[0] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("convert", [np.asarray, thin], ids=["dense", "sparse"])
def test_held_out_rows_have_weights_too(convert, X, weights):
    X = convert(X)
    model = transformer(early_stopping=True, lam=0.3, validation_fraction=0.3)
    model.fit(X, sample_weight=weights)
    _, (rows, held_out), _ = transformer(**model.get_params())._data(X, weights, False)
    losses = 0.3 * model.contraction(rows.X) - model.score_samples(rows.X)
    mean = np.average(losses, weights=held_out)
    assert model.history_["validation_loss"].min() == pytest.approx(mean, rel=1e-4)


def test_wide_rows_are_trained_in_their_span(weights):
    X = np.random.default_rng(0).normal(size=(40, 2000)) / 40
    model = transformer(early_stopping=True, warm_start=True, lam=0.0)
    model.fit(X, sample_weight=weights)
    assert model._training_state["is_whole"] is False
    _, (rows, held_out), _ = transformer(**model.get_params())._data(X, weights, False)
    mean = np.average(-model.score_samples(rows.X), weights=held_out)
    assert model.history_["validation_loss"].min() == pytest.approx(mean, rel=1e-4)


def test_features_are_those_of_what_weighs_most():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(100, 2)) @ rng.normal(size=(2, 20)) for _ in "ab")
    X = np.concatenate([first, second])
    for heavy, (one, other) in enumerate([(first, second), (second, first)]):
        weights = np.where(np.arange(200) // 100 == heavy, 1, 1e-3)
        model = transformer(n_hidden=2, lam=0, max_iter=60)
        model.fit(X, sample_weight=weights)
        assert model.score(one) > 0.3 * model.score(other)


def test_training_resumes_with_the_same_weights_only(X, weights, capsys):
    parameters = {"warm_start": True, "tol": 0}
    whole = transformer(max_iter=6, **parameters).fit(X, sample_weight=weights)
    model = transformer(max_iter=3, **parameters).fit(X, sample_weight=weights)
    assert_same_model(model.fit(X, sample_weight=weights), whole)
    model.set_params(verbose=True).fit(X, sample_weight=weights[::-1])
    assert "aren't those of the training that was stopped" in capsys.readouterr().out


def test_rows_in_proportion_to_their_weights():
    assert_array_equal(spread_by_weight(np.array([2.0, 0, 3]), 9), [0, 0, 2, 2, 2])
    weights = np.random.default_rng(0).random(50)
    counts = np.bincount(spread_by_weight(weights, 1000), minlength=50)
    assert_allclose(counts, 1000 * weights / weights.sum(), atol=1.001)
    assert counts.sum() == 1000


def test_balanced_classes_are_weighted_as_repeated_ones(X):
    y = np.repeat([0, 1], [30, 10])
    counts = np.where(np.arange(40) % 3 == 0, 3, 1)
    models = [
        classifier(
            transformer=transformer(**EXACT), class_weight="balanced", batch_size=1000
        ).fit(*data)
        for data in ((X, y, counts), (X.repeat(counts, axis=0), y.repeat(counts)))
    ]
    one, other = (model.predict_proba(X) for model in models)
    assert_allclose(one, other, rtol=1e-7)


# scikit-learn's own estimators that pass weights


def test_boosting(X, y):
    base = classifier(transformer=transformer(max_iter=20), max_iter=30)
    model = AdaBoostClassifier(base, n_estimators=3, random_state=0).fit(X, y)
    assert len(model.estimators_) > 1
    assert not np.array_equal(*(m.coefs_[-1] for m in model.estimators_[:2]))


def test_calibration(X, y, weights):
    model = CalibratedClassifierCV(classifier(transformer=transformer()), cv=2)
    probabilities = model.fit(X, y, sample_weight=weights).predict_proba(X)
    assert_allclose(probabilities.sum(axis=1), 1)


def test_metadata_routing(X, y, weights):
    with config_context(enable_metadata_routing=True):
        encoder = transformer().set_fit_request(sample_weight=True)
        last = LogisticRegression().set_fit_request(sample_weight=False)
        scorer = get_scorer("accuracy").set_score_request(sample_weight=False)
        search = GridSearchCV(
            make_pipeline(encoder, last),
            {"contractiveautoencodertransformer__n_hidden": [2, 4]},
            cv=2,
            scoring=scorer,
        ).fit(X, y, sample_weight=weights)
        model = MODELS["pipeline"].__sklearn_clone__().fit(X, y, weights)
    fitted = search.best_estimator_[0]
    expected = transformer(n_hidden=fitted.n_hidden).fit(X, sample_weight=weights)
    assert_same_model(fitted, expected)
    assert_same_model(MODELS["pipeline"].__sklearn_clone__().fit(X, y, weights), model)


def test_fit_transform(X, weights):
    features = transformer().fit_transform(X, sample_weight=weights)
    expected = transformer().fit(X, sample_weight=weights).transform(X)
    assert_array_equal(features, expected)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.ones(39), r"sample_weight\.shape == \(39,\), expected \(40,\)!"),
        (np.ones((40, 1)), "Sample weights must be 1D array or scalar"),
        (np.full(40, np.nan), "Input sample_weight contains NaN"),
        (np.r_[-1, np.ones(39)], "Negative values in data passed to `sample_weight`"),
        (np.zeros(40), "Sample weights must contain at least one non-zero number"),
        (np.r_[1e-30, np.full(39, 1e30)], "in the range of float32.* from 1e-30 to"),
        (np.full(40, 1e300), "in the range of float32.* to 1e\\+300"),
        (np.full(40, "a"), "could not convert|dtype='numeric'"),
    ],
)
@pytest.mark.parametrize("make", [transformer, classifier])
def test_bad_weights(make, weights, message, X, y):
    model = make().fit(X, y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, sample_weight=weights)
    assert vars(model) == before
