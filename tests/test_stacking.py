"""One transformer of several that were fitted one after the other."""

import pickle

import numpy as np
import pandas as pd
import pytest
from callbacks import Callback, needs_callbacks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.geometry import tangent_bases
from skcae.stacking import stack


@pytest.fixture
def fitted(make, X):
    """Return a function that fits a pipeline of transformers of these settings."""

    def fitted(*steps, rows=X):
        return make_pipeline(*(make(**step) for step in steps)).fit(rows)

    return fitted


SIGMOID = {"output_activation": "sigmoid"}
LINEAR = {"activation": "identity"}
LAYERS = {
    "two": [{"n_hidden": 6}, {"n_hidden": 4, **SIGMOID}],
    "three": [
        {"n_hidden": 6, **SIGMOID, "tied_weights": False},
        {"n_hidden": 5, **SIGMOID},
        {"n_hidden": 4, **SIGMOID},
    ],
    "linear": [{"n_hidden": 6, **LINEAR}, {"n_hidden": 4, **LINEAR}],
    "deep": [{"n_hidden": (7, 6)}, {"n_hidden": (5, 4), **SIGMOID}],
    "one": [{"loss": "cross_entropy", **SIGMOID}],
}
ignore_warnings = pytest.mark.filterwarnings("ignore:Maximum iterations")
all_layers = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


@all_layers
def test_it_computes_what_the_pipeline_computes(layers, fitted, X):
    pipeline = fitted(*layers)
    stacked = stack(pipeline)
    hidden = pipeline.transform(X)
    assert_allclose(stacked.transform(X), hidden, rtol=1e-12)
    decoded = pipeline.inverse_transform(hidden)
    assert_allclose(stacked.inverse_transform(hidden), decoded, rtol=1e-12)
    jacobians = np.eye(X.shape[1])
    rows = X
    for _, step in pipeline.steps:
        jacobians = step.jacobian(rows) @ jacobians
        rows = step.transform(rows)
    assert_allclose(stacked.jacobian(X), jacobians, rtol=1e-10, atol=1e-14)
    if stacked.loss == "squared_error":
        errors = ((decoded - X) ** 2).sum(axis=1)
        assert_allclose(stacked.score_samples(X), -errors, rtol=1e-10)


@all_layers
@pytest.mark.filterwarnings("ignore:The reconstruction explains")
def test_it_is_a_fitted_transformer(layers, fitted, X):
    columns = [f"pixel {i}" for i in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=columns)
    stacked = stack(fitted(*layers, rows=frame))
    assert_array_equal(stacked.feature_names_in_, columns)
    sizes = [coefs.shape[1] for coefs in stacked.encoder_coefs_]
    assert stacked.n_hidden == tuple(sizes)
    assert stacked.tied_weights == all(s.get("tied_weights", True) for s in layers)
    assert len(stacked.get_feature_names_out()) == sizes[-1]
    restored = pickle.loads(pickle.dumps(stacked))
    assert_array_equal(restored.transform(frame), stacked.transform(frame))
    # From the start, of the same shape.
    again = clone(stacked).fit(frame)
    assert [c.shape for c in again.encoder_coefs_] == [
        c.shape for c in stacked.encoder_coefs_
    ]


@all_layers
@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_training_as_a_whole_goes_on_from_the_layers(layers, fitted, X):
    pipeline = fitted(*layers)
    before = pipeline.transform(X)
    stacked = stack(pipeline)
    assert stacked.n_iter_ == len(stacked.loss_curve_) == 0
    loss = -stacked.score(X)
    stacked.set_params(warm_start=True, lam=0, tol=0, max_iter=20)
    stacked.set_params(learning_rate_init=0.001)
    stacked.fit(X)
    assert stacked.n_iter_ == len(stacked.history_["reconstruction"]) > 0
    assert -stacked.score(X) < loss
    assert stacked.history_["reconstruction"][0] < 2 * loss
    # The layers have kept theirs.
    assert_array_equal(pipeline.transform(X), before)


def test_it_is_what_was_fitted_whatever_the_parameters_are_now(fitted, X):
    pipeline = fitted(*LAYERS["two"], rows=X.astype(np.float32))
    expected = pipeline.transform(X.astype(np.float32))
    now = {"n_hidden": 2, "activation": "tanh", "tied_weights": False}
    for _, step in pipeline.steps:
        step.set_params(output_activation="identity", loss="squared_error", **now)
    stacked = stack(pipeline)
    assert_array_equal(stacked.transform(X.astype(np.float32)), expected)
    assert (stacked.activation, stacked.tied_weights) == ("sigmoid", True)


def test_the_rows_held_out_stay_the_same(fitted, X):
    settings = {"early_stopping": True, "random_state": None}
    pipeline = fitted(*({**step, **settings} for step in LAYERS["two"]))
    stacked = stack(pipeline)
    assert list(stacked.history_) == list(pipeline[0].history_)
    stacked.set_params(warm_start=True).fit(X)
    assert stacked._split == pipeline[0]._split


@needs_callbacks
def test_callbacks_stay_with_the_steps(fitted, X):
    class Count(Callback):
        n_calls = 0

        def on_fit_task_end(self, estimator, context, **_):
            Count.n_calls += 1

    pipeline = fitted(*LAYERS["two"])
    pipeline[0].set_callbacks(Count())
    stack(pipeline).set_params(warm_start=True).fit(X)
    assert Count.n_calls == 0
    pipeline[0].fit(X)
    assert Count.n_calls > 0


def test_partial_fit_goes_on_from_the_layers(fitted, X):
    stacked = stack(fitted(*LAYERS["two"])).set_params(learning_rate_init=0.005)
    loss = -stacked.score(X)
    for _ in range(20):
        stacked.partial_fit(X)
    assert stacked.n_iter_ == 20
    assert -stacked.score(X) < loss


@pytest.fixture
def y(X):
    return X[:, 0] > X[:, 1]


def classifier(transformer, **parameters):
    settings = {"random_state": 0, "max_iter": 30} | parameters
    return ContractiveAutoencoderClassifier(transformer, **settings)


@ignore_warnings
@all_layers
def test_a_classifier_pretrains_a_pipeline(layers, make, fitted, X, y):
    pipeline = make_pipeline(*(make(**step) for step in layers))
    model = classifier(pipeline).fit(X, y)
    trained = fitted(*layers)
    assert_array_equal(model.transformer_.transform(X), stack(trained).transform(X))
    before = pickle.dumps(trained)
    for same in [trained, stack(trained)]:
        expected = classifier(FrozenEstimator(same)).fit(X, y).decision_function(X)
        assert_array_equal(model.decision_function(X), expected)
    assert pickle.dumps(trained) == before
    assert not hasattr(pipeline[0], "encoder_coefs_")


@ignore_warnings
def test_its_seed_is_that_of_steps_without_one(make, X, y):
    pipeline = make_pipeline(*(make(**s, random_state=None) for s in LAYERS["two"]))
    first, again, other = (
        classifier(pipeline, random_state=seed).fit(X, y).transformer_.transform(X)
        for seed in (0, 0, 1)
    )
    assert_array_equal(first, again)
    assert not np.allclose(first, other)


@ignore_warnings
def test_a_search_sets_the_parameters_of_steps(make, X, y):
    pipeline = make_pipeline(*(make(**step) for step in LAYERS["two"]))
    grid = {"transformer__contractiveautoencodertransformer-2__n_hidden": [3, 4]}
    search = GridSearchCV(classifier(pipeline), grid, cv=2).fit(X, y)
    (n_hidden,) = search.best_params_.values()
    assert search.best_estimator_.transformer_.n_hidden == (6, n_hidden)


@ignore_warnings
def test_tangents_are_those_of_all_layers(make, X, y):
    pipeline = make_pipeline(*(make(**step) for step in LAYERS["two"]))
    model = classifier(pipeline, max_iter=500, tangent_weight=1e-3, n_tangents=2).fit(
        X, y
    )
    assert model.score(X, y) > 0.9
    used = model.transformer_
    shapes = [coefs.shape for coefs in model.coefs_[:-1]]
    assert shapes == [coefs.shape for coefs in used.encoder_coefs_]
    expected = np.linalg.svd(used.jacobian(X[:3]))[2][:, :2]
    products = tangent_bases(used, X[:3], 2) @ expected.transpose(0, 2, 1)
    assert_allclose(np.abs(products), np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-6)


@pytest.mark.parametrize(
    "steps, parameters, message",
    [
        ([{}, MinMaxScaler()], {}, "All steps of transformer .* 'minmaxscaler'"),
        ([{}, "passthrough"], {}, "All steps of transformer .* 'passthrough'"),
        ([{}, {}], {}, "output_activation of step"),
        ([{}, {"lam": -1}], {}, "The 'lam' parameter"),
        ([{}, {"n_hidden": [3, 0]}], {}, "n_hidden must be"),
        ([{}, {"device": "abacus"}], {}, "device"),
        (
            [{}, {"corruption": "masking", "corruption_level": 2}],
            {},
            r"range \[0, 1\)",
        ),
        (
            [
                LINEAR,
                {"loss": "cross_entropy", **LINEAR, "output_activation": "identity"},
            ],
            {},
            "loss='cross_entropy' requires",
        ),
        (
            LAYERS["two"],
            {"tangent_weight": 1, "n_tangents": 5},
            r"n_tangents must be at most 4, .* \(8, 6, 4\)",
        ),
    ],
)
def test_errors_come_before_the_training(
    steps, parameters, message, make, X, y, monkeypatch
):
    def fit(self, X, y=None):
        pytest.fail("trained")

    monkeypatch.setattr(ContractiveAutoencoderTransformer, "fit", fit)
    steps = [make(**step) if isinstance(step, dict) else step for step in steps]
    with pytest.raises(ValueError, match=message):
        classifier(make_pipeline(*steps), **parameters).fit(X, y)


def test_a_frozen_pipeline_has_to_be_fitted(make, X, y):
    with pytest.raises(NotFittedError):
        classifier(FrozenEstimator(make_pipeline(make()))).fit(X, y)
    with pytest.raises(ValueError, match="All steps of transformer must be"):
        classifier(FrozenEstimator(make_pipeline(MinMaxScaler()))).fit(X, y)


@ignore_warnings
def test_fine_tuning_has_the_precision_of_the_first_step(make, X, y):
    for precision, other in [("float64", "float32"), ("float32", "float64")]:
        first, second = LAYERS["two"]
        pipeline = make_pipeline(
            make(**first, precision=precision), make(**second, precision=other)
        )
        model = classifier(pipeline).fit(X, y)
        assert {str(coefs.dtype) for coefs in model.coefs_} == {precision}


@ignore_warnings
def test_samples_without_a_label_pretrain_a_pipeline(make, fitted, X, y):
    pipeline = make_pipeline(*(make(**step) for step in LAYERS["two"]))
    y = np.where(np.arange(len(y)) < len(y) // 2, y, -1)
    model = classifier(pipeline).fit(X, y)
    expected = stack(fitted(*LAYERS["two"])).transform(X)
    assert_array_equal(model.transformer_.transform(X), expected)


def test_parameters_that_became_invalid_raise(fitted):
    pipeline = fitted(*LAYERS["two"])
    pipeline[0].set_params(gamma="x")
    with pytest.raises(ValueError, match="The 'gamma' parameter"):
        stack(pipeline)


def test_a_pipeline_that_is_not_fitted_raises(make, fitted):
    with pytest.raises(NotFittedError):
        stack(make_pipeline(make()))


@pytest.mark.parametrize(
    "steps, message",
    [
        (
            [{}, {"activation": "tanh", "output_activation": "sigmoid"}],
            r"activation of step '\S+-2' must be 'sigmoid', the activation of step "
            r"'\S+-1'. Got 'tanh' instead",
        ),
        (
            [{}, {}],
            r"output_activation of step '\S+-2' must be 'sigmoid'.* Got 'identity'",
        ),
        (
            [{"activation": "tanh"}, {"activation": "tanh"}],
            r"must be one of \['identity', 'sigmoid'\].* Got 'tanh' in step '\S+-1'",
        ),
    ],
    ids=["activation", "output_activation", "tanh"],
)
def test_steps_of_different_kinds_raise(steps, message, fitted):
    with pytest.raises(ValueError, match=message):
        stack(fitted(*steps))


def test_no_steps_raise(fitted):
    with pytest.raises(ValueError, match="pipeline has no steps"):
        stack(fitted({})[1:])


def test_other_steps_raise(make, X):
    pipeline = make_pipeline(MinMaxScaler(), make()).fit(X)
    message = r"must be Contractive\S+. Got 'minmaxscaler': MinMaxScaler\(\) instead"
    with pytest.raises(ValueError, match=message):
        stack(pipeline)
    scaled = MinMaxScaler().fit_transform(X)
    assert_array_equal(stack(pipeline[1:]).transform(scaled), pipeline.transform(X))


def test_steps_that_were_fitted_apart_raise(fitted, X):
    pipeline = fitted(*LAYERS["two"])
    pipeline.steps[1] = ("second", pipeline.steps[1][1].fit(X[:, :3]))
    with pytest.raises(ValueError, match=r"'second' was fitted to 3 features.* 6"):
        stack(pipeline)
