"""The outlier detector."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from checks import run, with_checks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from skcae import ContractiveAutoencoderDetector, ContractiveAutoencoderTransformer
from skcae import _detector as module
from skcae.stacking import stack

unconverged = pytest.mark.filterwarnings(
    "ignore:Maximum iterations:sklearn.exceptions.ConvergenceWarning"
)
useless_autoencoder = pytest.mark.filterwarnings("ignore:The reconstruction explains")
pytestmark = [unconverged, useless_autoencoder]


def make(transformer=None, **parameters):
    if transformer is None:
        transformer = ContractiveAutoencoderTransformer(n_hidden=4, max_iter=20)
    return ContractiveAutoencoderDetector(transformer, random_state=0, **parameters)


@pytest.fixture(scope="module")
def X():
    """120 rows near a plane, and after them 10 off it, of the same spread."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(120, 3)) @ rng.normal(size=(3, 12))
    plane += 0.1 * rng.normal(size=plane.shape)
    off = np.stack([rng.permutation(column) for column in plane.T], axis=1)[:10]
    return np.concatenate([plane, off])


is_inlier = np.arange(130) < 120


@with_checks([ContractiveAutoencoderDetector()])
@pytest.mark.filterwarnings("ignore:Duplicate values are leading:UserWarning")
def test_defaults(estimator, check):
    run(check, estimator)


@pytest.mark.filterwarnings("ignore:Duplicate values are leading:UserWarning")
@with_checks(
    [
        make(contamination=0.3, n_neighbors=5),
        make(
            make_pipeline(
                ContractiveAutoencoderTransformer(n_hidden=4, max_iter=5),
                ContractiveAutoencoderTransformer(
                    n_hidden=3, max_iter=5, output_activation="sigmoid"
                ),
            )
        ),
    ]
)
def test_variants(estimator, check):
    run(check, estimator)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_param_validation,
        estimator_checks.check_dataframe_column_names_consistency,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
def test_more_checks(check):
    run(check, "ContractiveAutoencoderDetector", ContractiveAutoencoderDetector())


def test_outliers_in_the_training_data_and_new_ones(X):
    model = make(contamination=10 / 130).fit(X)
    assert roc_auc_score(is_inlier, model.decision_function(X)) > 0.99
    clean = make().fit(X[:90])
    assert roc_auc_score(is_inlier[90:], clean.score_samples(X[90:])) > 0.99


def points_of(model, X):
    """Return the points by the formula of the docstring, from the training rows."""
    train, transformer = X[:100], model.transformer_

    def parts(rows):
        H = transformer.transform(rows)
        return H, rows - transformer.inverse_transform(H)

    H, error = parts(train)
    scales = np.sqrt([H.var(axis=0).sum(), 4 * np.square(error).sum(axis=1).mean()])
    return np.hstack([part / s for part, s in zip(parts(X), scales, strict=True)])


@pytest.mark.parametrize("n_neighbors", [5, 20])
def test_scores_are_local_outlier_factors(X, n_neighbors):
    model = make(n_neighbors=n_neighbors).fit(X[:100])
    points = points_of(model, X)
    lof = LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True).fit(points[:100])
    scores = model.score_samples(X)
    assert_allclose(scores[:100], lof.negative_outlier_factor_, rtol=1e-6)
    assert_allclose(scores[100:], lof.score_samples(points[100:]), rtol=1e-6)


def test_the_threshold(X):
    for contamination in (0.1, 0.25, 0.5):
        model = make(contamination=contamination).fit(X)
        assert (model.predict(X) == -1).mean() == pytest.approx(contamination, abs=0.01)
        decision = model.decision_function(X)
        assert_allclose(decision, model.score_samples(X) - model.offset_)
        assert_array_equal(model.predict(X), np.where(decision < 0, -1, 1))
        assert_array_equal(clone(model).fit_predict(X), model.predict(X))


def test_float32_rows_of_the_training_are_known(X):
    model = make().fit(X)
    assert_allclose(
        model.score_samples(X.astype(np.float32)), model.score_samples(X), rtol=1e-3
    )


def test_errors_of_features(X):
    model = make().fit(X)
    errors = model.feature_errors(X)
    assert errors.shape == X.shape
    losses = -model.transformer_.score_samples(X)
    assert_allclose(errors.sum(axis=1), losses, rtol=1e-6)
    # The feature that is wrong has the largest error.
    row = X[:1].copy()
    row[0, 5] += 5
    assert model.feature_errors(row).argmax() == 5


def test_weights(X):
    weights = np.where(is_inlier, 1.0, 0)
    model, expected = make().fit(X, sample_weight=weights), make().fit(X[is_inlier])
    assert_array_equal(model.score_samples(X), expected.score_samples(X))
    assert model.offset_ == expected.offset_
    # Of twice as many rows, twice as many are below the threshold.
    weights = np.where(np.arange(130) % 2, 1.0, 2.0)
    model = make(contamination=0.2).fit(X, sample_weight=weights)
    below = weights[model.predict(X) == -1].sum() / weights.sum()
    assert below == pytest.approx(0.2, abs=0.015)
    other = make(contamination=0.2).fit(X)
    assert not np.allclose(
        model.transformer_.encoder_coefs_[0], other.transformer_.encoder_coefs_[0]
    )


def test_fitted_transformers(X):
    transformer = ContractiveAutoencoderTransformer(4, random_state=0).fit(X)
    before = pickle.dumps(transformer)
    model = make(FrozenEstimator(transformer)).fit(X[:100])
    assert pickle.dumps(transformer) == before
    assert_array_equal(model.transformer_.transform(X), transformer.transform(X))
    pipeline = make_pipeline(
        ContractiveAutoencoderTransformer(6, max_iter=5, random_state=0),
        ContractiveAutoencoderTransformer(
            3, max_iter=5, output_activation="sigmoid", random_state=0
        ),
    ).fit(X)
    model = make(FrozenEstimator(pipeline)).fit(X)
    assert_array_equal(model.transformer_.transform(X), stack(pipeline).transform(X))


def test_a_search_over_the_transformer(X):
    search = GridSearchCV(
        make_pipeline(StandardScaler(), make()),
        {"contractiveautoencoderdetector__transformer__n_hidden": [2, 4]},
        scoring=lambda model, X, y: roc_auc_score(y, model.decision_function(X)),
        cv=2,
        error_score="raise",
    )
    order = np.random.default_rng(0).permutation(130)
    search.fit(X[order], is_inlier[order])
    assert search.best_score_ > 0.9


def test_many_rows_and_many_features(X, monkeypatch):
    whole = make().fit(X)
    monkeypatch.setattr(module, "_MOST_ROWS", 60)
    part = make().fit(X)
    assert len(part._neighbors.negative_outlier_factor_) == 60
    assert roc_auc_score(is_inlier, part.score_samples(X)) > 0.95
    monkeypatch.undo()
    wide = np.hstack([X, np.zeros((130, 500))])
    projected = make().fit(wide)
    assert projected._neighbors.n_features_in_ == 4 + 64
    correlation = np.corrcoef(projected.score_samples(wide), whole.score_samples(X))
    assert correlation[0, 1] > 0.8


def test_sparse_rows_are_never_made_dense(monkeypatch):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array(
        (100, 3000), density=0.01, format="csr", random_state=rng
    )
    expected = make().fit(X).score_samples(X)

    def fail(*args, **kwargs):
        raise AssertionError("sparse rows were made dense")

    with monkeypatch.context() as patch:
        patch.setattr(scipy.sparse.csr_array, "toarray", fail)
        assert_array_equal(make().fit(X).score_samples(X), expected)
    assert make().fit(X).feature_errors(X).shape == (100, 3000)


def test_memory_maps(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_array_equal(make().fit(mapped).predict(mapped), make().fit(X).predict(X))


def test_few_and_equal_rows():
    X = np.random.default_rng(0).random((5, 3))
    assert make().fit(X).score_samples(X).shape == (5,)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        make().fit(X[:1])
    equal = np.ones((30, 3))
    model = make().fit(equal)
    assert_allclose(model.score_samples(equal), -1)
    assert (model.score_samples(np.full((1, 3), 7.0)) < -1).all()


def test_pickles_compute_the_same(X):
    model = make().fit(X)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.decision_function(X), model.decision_function(X))


def test_a_failed_fit_changes_nothing(X):
    model = make().fit(X)
    before = model.decision_function(X)
    model.set_params(transformer__learning_rate_init=1e30)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(1000 * X)
    assert_array_equal(model.decision_function(X), before)


@pytest.mark.parametrize("contamination", [0, 0.6, -0.1])
def test_bad_contamination(contamination, X):
    with pytest.raises(ValueError, match="'contamination' parameter"):
        make(contamination=contamination).fit(X)


def test_bad_transformers(X):
    with pytest.raises(ValueError, match="All steps of transformer must be"):
        make(make_pipeline(StandardScaler())).fit(X)
    with pytest.raises(ValueError, match="FrozenEstimator of either"):
        make(FrozenEstimator(StandardScaler().fit(X))).fit(X)
