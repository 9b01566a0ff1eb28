"""ONNX models against the estimator: what onnxruntime computes is what we compute."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import (
    ContractiveAutoencoderClassifier,
    ContractiveAutoencoderDetector,
    ContractiveAutoencoderTransformer,
)
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.network import Architecture
from skcae.export import _ONNX_ACTIVATIONS, decoder_to_onnx, register_onnx_converter

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_onnx_converter()


@pytest.fixture(scope="module")
def X():
    """37 rows of 6 features of both signs, some large enough to saturate; float32."""
    X = np.random.default_rng(0).normal(size=(37, 6)) * [0.1, 1, 1, 3, 10, 30]
    return X.astype(np.float32)


def network(sizes, activation="sigmoid", output_activation="identity"):
    """Return an estimator with random weights, as if fitted, of any depth."""
    model = ContractiveAutoencoderTransformer(n_hidden=sizes[1])
    rng = np.random.default_rng(0)

    def layers(sizes):
        shapes = list(pairwise(sizes))
        coefs = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]
        return coefs, [rng.normal(size=fan_out) for _, fan_out in shapes]

    model.encoder_coefs_, model.encoder_intercepts_ = layers(sizes)
    model.decoder_coefs_, model.decoder_intercepts_ = layers(sizes[::-1])
    model.n_features_in_ = sizes[0]
    model._architecture = tuple(Architecture(sizes, activation, output_activation))
    return model


def classifier(sizes, activation="sigmoid", classes=None):
    """Return a classifier with random weights, as if fitted."""
    autoencoder = network(sizes, activation)
    model = ContractiveAutoencoderClassifier()
    model.coefs_ = autoencoder.encoder_coefs_
    model.intercepts_ = autoencoder.encoder_intercepts_
    model._activation = activation
    model.n_features_in_ = sizes[0]
    model.classes_ = np.arange(sizes[-1]) if classes is None else np.asarray(classes)
    return model


def run(model, *inputs):
    """Return what onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def assert_same(actual, expected, dtype=np.float32):
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_every_activation_has_an_onnx_form():
    assert set(_ONNX_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("sizes", [(6, 5), (6, 1), (6, 7, 4, 3)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_transform(activation, sizes, X):
    model = network(sizes, activation)
    converted = skl2onnx.to_onnx(model, X[:1])
    for n_rows in (1, 37):
        (H,) = run(converted, X[:n_rows])
        assert_same(H, model.transform(X[:n_rows]))


@pytest.mark.parametrize("sizes", [(6, 5), (1, 5), (6, 7, 4, 3)], ids=str)
@pytest.mark.parametrize("output_activation", ["identity", "sigmoid"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_inverse_transform(activation, output_activation, sizes, X):
    model = network(sizes, activation, output_activation)
    converted = decoder_to_onnx(model)
    H = model.transform(X[:, : sizes[0]])
    for n_rows in (1, 37):
        (restored,) = run(converted, H[:n_rows])
        assert_same(restored, model.inverse_transform(H[:n_rows]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pre_activations_far_from_zero(activation):
    model = network((1, 1), activation)
    model.encoder_coefs_ = [np.ones((1, 1))]
    model.encoder_intercepts_ = [np.zeros(1)]
    largest = np.float32(1e30)
    a = np.r_[0, np.geomspace(1e-30, largest, 200), np.inf].astype(np.float32)
    a = np.r_[-a[:-1], a[:-1]][:, np.newaxis]
    (h,) = run(skl2onnx.to_onnx(model, a[:1]), a)
    assert_same(h, model.transform(a))


@pytest.mark.parametrize("tied_weights", [True, False])
def test_fitted_models(tied_weights, digits):
    X = digits[0].astype(np.float32)
    model = ContractiveAutoencoderTransformer(
        tied_weights=tied_weights, tol=0.01, random_state=0
    ).fit(X)
    H = model.transform(X)
    assert_same(run(skl2onnx.to_onnx(model, X[:1]), X)[0], H)
    assert_same(run(decoder_to_onnx(model), H)[0], model.inverse_transform(H))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rescale", [[StandardScaler()], []], ids=["scaled", "plain"])
def test_pipelines_with_a_classifier(rescale, dtype, digits):
    X, y = digits[0].astype(dtype) * 16, digits[1]
    model = make_pipeline(
        MinMaxScaler(),
        ContractiveAutoencoderTransformer(tol=0.01, random_state=0),
        *rescale,
        LogisticRegression(max_iter=1000),
    ).fit(X, y)
    converted = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    for rows in (slice(1), slice(37), slice(None)):
        labels, probabilities = run(converted, X[rows])
        np.testing.assert_array_equal(labels, model.predict(X[rows]))
        assert_same(probabilities, model.predict_proba(X[rows]), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_column_transformer(dtype, digits):
    X = digits[0][:300].astype(dtype)
    small = ContractiveAutoencoderTransformer(2, tol=0.1, random_state=0)
    model = ColumnTransformer(
        [
            ("left", clone(small), [2, 3, 11, 10]),
            ("right", make_pipeline(MinMaxScaler(), small), [5, 4]),
        ],
        remainder="passthrough",
    ).fit(X)
    assert_same(run(skl2onnx.to_onnx(model, X[:1]), X)[0], model.transform(X), dtype)


def test_columns_may_come_one_by_one(X):
    from skl2onnx.common.data_types import (
        DoubleTensorType,
        FloatTensorType,
        Int64TensorType,
    )

    model = network((3, 2))
    b = np.arange(37)[:, np.newaxis]
    expected = model.transform(np.hstack([X[:, :2], b.astype(np.float32)]))
    for Type, dtype in [(FloatTensorType, np.float32), (DoubleTensorType, np.float64)]:
        types = [("a", Type([None, 2])), ("b", Int64TensorType([None, 1]))]
        converted = skl2onnx.to_onnx(model, initial_types=types)
        (H,) = run(converted, X[:, :2].astype(dtype), b)
        assert_same(H, expected, dtype)


@pytest.mark.parametrize("dtype, returned", [(np.float64,) * 2, (np.int64, np.float32)])
def test_other_inputs_are_computed_in_float32(dtype, returned, X):
    model = network((6, 5))
    X = X.astype(dtype)
    (H,) = run(skl2onnx.to_onnx(model, X[:1]), X)
    expected = model.transform(X.astype(np.float32))
    assert_same(H, expected, returned)
    np.testing.assert_array_equal(H, H.astype(np.float32))


@pytest.mark.parametrize("target_opset", [9, 13, 18])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_older_operators(activation, target_opset, X):
    model = network((6, 5), activation)
    (H,) = run(skl2onnx.to_onnx(model, X[:1], target_opset=target_opset), X)
    assert_same(H, model.transform(X))
    (restored,) = run(decoder_to_onnx(model, target_opset=target_opset), H)
    assert_same(restored, model.inverse_transform(H))


# The classifier

LABELS = {
    "int64": [-3, 0, 7],
    "int8": np.array([-3, 0, 7], dtype=np.int8),
    "uint8": np.array([0, 3, 7], dtype=np.uint8),
    "whole floats": [-3.0, 0.0, 7.0],
    "str": ["a", "b", "ç"],
    "object": np.array(["a", "b", "ç"], dtype=object),
    "two": [2, 5],
    "two bool": [False, True],
    "two str": ["no", "yes"],
}
labels = pytest.mark.parametrize("classes", LABELS.values(), ids=LABELS)


@labels
def test_classifier(classes, X):
    model = classifier((6, 5, len(classes)), classes=classes)
    converted = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    for n_rows in (1, 37):
        predicted, probabilities = run(converted, X[:n_rows])
        np.testing.assert_array_equal(predicted, model.predict(X[:n_rows]))
        assert_same(probabilities, model.predict_proba(X[:n_rows]))
        assert probabilities.shape == (n_rows, len(classes))


@labels
def test_probabilities_by_label(classes, X):
    model = classifier((6, 5, len(classes)), classes=classes)
    expected = model.predict_proba(X)
    predicted, dictionaries = run(skl2onnx.to_onnx(model, X[:1]), X)
    np.testing.assert_array_equal(predicted, model.predict(X))
    assert [list(d) for d in dictionaries] == [list(model.classes_)] * 37
    assert_same(np.float32([list(d.values()) for d in dictionaries]), expected)
    predicted, *columns = run(
        skl2onnx.to_onnx(model, X[:1], options={"zipmap": "columns"}), X
    )
    np.testing.assert_array_equal(predicted, model.predict(X))
    assert_same(np.column_stack(columns), expected)


def test_other_options_of_classifiers(X):
    model = classifier((6, 5, 3), classes=["a", "b", "c"])
    options = {"zipmap": False, "output_class_labels": True}
    predicted, _, classes = run(skl2onnx.to_onnx(model, X[:1], options=options), X)
    np.testing.assert_array_equal(predicted, model.predict(X))
    np.testing.assert_array_equal(classes, model.classes_)
    options = {"zipmap": False, "nocl": True}
    numbers, _ = run(skl2onnx.to_onnx(model, X[:1], options=options), X)
    np.testing.assert_array_equal(model.classes_[numbers], model.predict(X))


@pytest.mark.parametrize("dtype, returned", [(np.float64,) * 2, (np.int64, np.float32)])
@pytest.mark.parametrize("zipmap", [True, False, "columns"])
def test_other_inputs_of_classifiers(zipmap, dtype, returned, X):
    model = classifier((6, 5, 3))
    X = X.astype(dtype)
    converted = skl2onnx.to_onnx(model, X[:1], options={"zipmap": zipmap})
    predicted, *probabilities = run(converted, X)
    if zipmap == "columns":
        probabilities = [np.column_stack(probabilities)]
    elif zipmap:
        # Dictionaries are of Python's floats.
        probabilities = [
            np.array([list(d.values()) for d in probabilities[0]], returned)
        ]
    X = X.astype(np.float32)
    np.testing.assert_array_equal(predicted, model.predict(X))
    assert_same(*probabilities, model.predict_proba(X), returned)


@pytest.mark.parametrize("target_opset", [9, 13, None])
@pytest.mark.parametrize("sizes", [(6, 5, 2), (6, 7, 4, 3)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_classifiers_of_all_kinds(activation, sizes, target_opset, X):
    model = classifier(sizes, activation)
    predicted, probabilities = run(
        skl2onnx.to_onnx(
            model, X[:1], options={"zipmap": False}, target_opset=target_opset
        ),
        X,
    )
    np.testing.assert_array_equal(predicted, model.predict(X))
    assert_same(probabilities, model.predict_proba(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("named", [False, True])
def test_fitted_classifier_in_a_pipeline(named, dtype, digits):
    X, y = digits[0][:300].astype(dtype) * 16, digits[1][:300]
    y = np.array([f"digit {i}" for i in y]) if named else y
    model = make_pipeline(
        MinMaxScaler(),
        ContractiveAutoencoderClassifier(
            ContractiveAutoencoderTransformer(16, tol=0.1), tol=0.1, random_state=0
        ),
    ).fit(X, y)
    converted = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    predicted, probabilities = run(converted, X)
    np.testing.assert_array_equal(predicted, model.predict(X))
    assert_same(probabilities, model.predict_proba(X), dtype)


QUICK_CLASSIFIER = ContractiveAutoencoderClassifier(
    ContractiveAutoencoderTransformer(2, tol=0.3, random_state=0),
    learning_rate_init=0.1,
    tol=0.1,
    random_state=0,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stack_over_a_classifier(dtype, X):
    y = X[:, 0] > 0
    X = StandardScaler().fit_transform(X.astype(dtype))
    model = StackingClassifier([("cae", QUICK_CLASSIFIER)], cv=2).fit(X, y)
    options = {StackingClassifier: {"zipmap": False}}
    _, probabilities = run(skl2onnx.to_onnx(model, X[:1], options=options), X)
    assert_same(probabilities, model.predict_proba(X), dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_calibration_of_a_classifier(n_classes, X):
    X = StandardScaler().fit_transform(X)
    y = np.digitize(X[:, 0], [0, 0.7][: n_classes - 1])
    model = CalibratedClassifierCV(QUICK_CLASSIFIER, cv=2).fit(X, y)
    converted = skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": False}})
    _, probabilities = run(converted, X)
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_of_a_classifier(n_classes, X):
    model = classifier((6, 5, n_classes))
    options = {"zipmap": False, "raw_scores": True}
    _, scores = run(skl2onnx.to_onnx(model, X[:1], options=options), X)
    expected = model.decision_function(X)
    if n_classes == 2:
        expected = np.column_stack([-expected, expected])
    assert_same(scores, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_extra", [0, 300])
def test_fitted_detector_in_a_pipeline(n_extra, dtype, digits):
    X = digits[0].astype(dtype) * 16
    if n_extra:  # errors are projected
        X = np.hstack([X, X[:, :1] * np.ones(n_extra, dtype)])
    model = make_pipeline(
        MinMaxScaler(),
        ContractiveAutoencoderDetector(
            ContractiveAutoencoderTransformer(8, tol=0.1), random_state=0
        ),
    ).fit(X[:200])
    converted = skl2onnx.to_onnx(model, X[:1])
    labels, scores = run(converted, X[:400])
    decision = model.decision_function(X[:400])
    np.testing.assert_allclose(scores[:, 0], decision, atol=1e-3)
    assert scores.dtype == dtype
    certain = np.abs(decision) > 1e-3
    np.testing.assert_array_equal(labels[certain], model.predict(X[:400])[certain])


@pytest.mark.parametrize("classes", [[0.5, 1.5], np.array(["a", 1], dtype=object)])
def test_labels_without_an_onnx_form(classes, X):
    with pytest.raises(ValueError, match="integers or strings"):
        skl2onnx.to_onnx(
            classifier((6, 5, 2), classes=classes), X[:1], options={"zipmap": False}
        )


def test_the_number_of_rows_is_open(X):
    for model in (
        skl2onnx.to_onnx(network((6, 5)), X[:1]),
        decoder_to_onnx(network((6, 5))),
    ):
        for value in (*model.graph.input, *model.graph.output):
            n_rows, n_columns = value.type.tensor_type.shape.dim
            assert not n_rows.HasField("dim_value")
            assert n_columns.dim_value in (5, 6)


def test_only_a_transformer_has_a_decoder(X):
    pipeline = make_pipeline(MinMaxScaler(), network((6, 5)))
    for model in (pipeline, classifier((6, 5, 3))):
        with pytest.raises(ValueError, match=r"'estimator' parameter of decoder_to_on"):
            decoder_to_onnx(model)


def test_unfitted(X):
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(ContractiveAutoencoderTransformer(), X[:1])
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(
            ContractiveAutoencoderClassifier(), X[:1], options={"zipmap": False}
        )
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(ContractiveAutoencoderDetector(), X[:1])
    with pytest.raises(NotFittedError):
        decoder_to_onnx(ContractiveAutoencoderTransformer())


def test_without_the_optional_packages(monkeypatch, X):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    for call in (register_onnx_converter, lambda: decoder_to_onnx(network((6, 5)))):
        with pytest.raises(ImportError, match=r'requires skl2onnx.*"\.\[onnx\]"'):
            call()
