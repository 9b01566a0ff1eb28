"""Files of skops: an estimator without the risks of a pickle."""

import numpy as np
import pytest
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderDetector

skops = pytest.importorskip("skops.io")

# The whole list, as the documentation promises.
TRUSTED = ["skcae._transformer.ContractiveAutoencoderTransformer"]

warnings_of_short_fits = pytest.mark.filterwarnings("ignore:Maximum iterations")


def through_skops(model):
    data = skops.dumps(model)
    assert skops.get_untrusted_types(data=data) == TRUSTED
    return skops.loads(data, trusted=TRUSTED)


def assert_identical(one, other):
    """Compare values, types and shapes, through all containers."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_identical(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        for a, b in zip(one, other, strict=True):
            assert_identical(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)
    else:
        assert one == other


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tied_weights", [True, False])
def test_a_copy_answers_alike(tied_weights, dtype, X, make):
    X = X.astype(dtype)
    model = make(tied_weights=tied_weights).fit(X)
    twin = through_skops(model)
    assert_identical(vars(twin), vars(model))
    for method in ("transform", "score_samples", "contraction", "jacobian"):
        np.testing.assert_array_equal(
            getattr(twin, method)(X), getattr(model, method)(X), strict=True
        )
    H = model.transform(X)
    np.testing.assert_array_equal(
        twin.inverse_transform(H), model.inverse_transform(H), strict=True
    )


@warnings_of_short_fits
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_stopped_training_resumes(early_stopping, X, make):
    model = make(warm_start=True, early_stopping=early_stopping, max_iter=2, tol=0).fit(
        X
    )
    assert model._training_state is not None
    twin = through_skops(model)
    assert_identical(vars(twin), vars(model))
    np.testing.assert_array_equal(twin.fit(X).transform(X), model.fit(X).transform(X))


def test_chunks_go_on(X, make):
    model = make().partial_fit(X)
    twin = through_skops(model)
    np.testing.assert_array_equal(
        twin.partial_fit(X).transform(X), model.partial_fit(X).transform(X)
    )


def test_parameters_of_other_types(X, make):
    parameters = {
        "n_hidden": np.int64(3),
        "lam": np.float32(0.5),
        "random_state": np.random.RandomState(0),
    }
    model = make(**parameters).fit(X)
    np.testing.assert_array_equal(through_skops(model).transform(X), model.transform(X))


def test_column_names(X, make):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    model = make().fit(frame)
    twin = through_skops(model.set_output(transform="pandas"))
    pd.testing.assert_frame_equal(twin.transform(frame), model.transform(frame))


def test_unfitted(make):
    assert through_skops(make(lam=3)).get_params() == make(lam=3).get_params()


@pytest.mark.parametrize("where", ["bytes", "file"])
def test_pipeline(where, digits, make, tmp_path):
    X, y = digits[0][:300], digits[1][:300]
    model = make_pipeline(
        MinMaxScaler(), make(), StandardScaler(), LogisticRegression()
    ).fit(X, y)
    if where == "bytes":
        twin = through_skops(model)
    else:
        skops.dump(model, tmp_path / "model.skops")
        twin = skops.load(tmp_path / "model.skops", trusted=TRUSTED)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("frozen", [False, True])
def test_classifier(frozen, X, make):
    y = np.where(X[:, 0] > 0.5, "a", "b")
    transformer = FrozenEstimator(make().fit(X)) if frozen else make()
    model = ContractiveAutoencoderClassifier(transformer, tol=0.3, random_state=0)
    data = skops.dumps(model.fit(X, y))
    trusted = ["skcae._classifier.ContractiveAutoencoderClassifier", *TRUSTED]
    assert skops.get_untrusted_types(data=data) == trusted
    twin = skops.loads(data, trusted=trusted)
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(
            getattr(twin, method)(X), getattr(model, method)(X), strict=True
        )


def test_detector(X, make):
    model = ContractiveAutoencoderDetector(make(), random_state=0).fit(X)
    data = skops.dumps(model)
    trusted = ["skcae._detector.ContractiveAutoencoderDetector", *TRUSTED]
    twin = skops.loads(data, trusted=skops.get_untrusted_types(data=data))
    assert set(trusted) <= set(skops.get_untrusted_types(data=data))
    np.testing.assert_array_equal(twin.decision_function(X), model.decision_function(X))


def test_nothing_is_trusted_unasked(X, make):
    data = skops.dumps(make().fit(X))
    with pytest.raises(TypeError, match=r"skcae\._transformer"):
        skops.loads(data)


def test_another_version_warns(X, make, monkeypatch):
    monkeypatch.setattr("skcae._pickles.__version__", "0.0.1")
    data = skops.dumps(make().fit(X))
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match=r"0\.0\.1"):
        skops.loads(data, trusted=TRUSTED)
