"""The estimator where it is used: pipelines, searches, columns, copies, files."""

import copy
import importlib
import io
import pickle
import pickletools
import pkgutil
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from callbacks import Callback, needs_callbacks, other_steps_lack_callbacks
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import skcae
from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer

pd = pytest.importorskip("pandas")


def make_classifier(**parameters):
    return Pipeline(
        [
            ("scale", MinMaxScaler()),
            ("cae", ContractiveAutoencoderTransformer(random_state=0, **parameters)),
            ("rescale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )


@pytest.fixture(scope="module")
def frame(X):
    return pd.DataFrame(X, columns=[f"column {i}" for i in range(X.shape[1])])


def test_features_before_a_classifier(digits):
    X_train, X_test, y_train, y_test = train_test_split(*digits, random_state=0)
    model = make_classifier(lam=1).fit(X_train, y_train)
    raw = clone(model).set_params(cae="passthrough").fit(X_train, y_train)

    # 0.98 against 0.96 on clean rows, 0.92 against 0.82 on noisy ones, when measured.
    assert model.score(X_test, y_test) > 0.95
    noisy = X_test + np.random.default_rng(0).normal(scale=0.2, size=X_test.shape)
    assert model.score(noisy, y_test) > raw.score(noisy, y_test) + 0.03


def test_without_rescaling_the_untuned_pipeline_is_good_too(digits):
    model = make_pipeline(
        MinMaxScaler(),
        ContractiveAutoencoderTransformer(random_state=0),
        LogisticRegression(max_iter=1000),
    )
    X_train, X_test, y_train, y_test = train_test_split(*digits, random_state=0)
    assert model.fit(X_train, y_train).score(X_test, y_test) > 0.93


@pytest.mark.usefixtures("usual_schedules")
def test_a_search_gives_the_same_in_one_and_in_two_processes(digits):
    X, y = digits[0][:300], digits[1][:300]
    grid = {"cae__lam": [0, 1], "cae__n_hidden": [4, 32]}
    searches = [
        GridSearchCV(make_classifier(tol=0.05), grid, cv=3, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)
    # Four units can't tell ten digits apart as well as 32 do.
    assert searches[0].best_params_["cae__n_hidden"] == 32
    coefs = [search.best_estimator_["cae"].encoder_coefs_[0] for search in searches]
    np.testing.assert_array_equal(*coefs)


def test_parallel_workers_share_the_cores(digits):
    def fit_and_count_threads():
        ContractiveAutoencoderTransformer(max_iter=500).fit(digits[0][:100])
        return torch.get_num_threads()

    counts = Parallel(n_jobs=2)(delayed(fit_and_count_threads)() for _ in range(2))
    assert sum(counts) <= max(joblib.cpu_count(), 2)


def test_a_search_by_reconstruction(X, make):
    # Without a scorer and a classifier, `score` is what to maximise.
    grid = {"n_hidden": [1, 8], "lam": [0.01]}
    search = GridSearchCV(make(tol=0.01), grid, cv=3).fit(X)
    assert search.best_params_["n_hidden"] == 8
    assert (search.cv_results_["mean_test_score"] < 0).all()
    np.testing.assert_array_equal(
        search.transform(X), search.best_estimator_.transform(X)
    )
    scores = cross_val_score(search.best_estimator_, X, cv=3)
    assert scores.mean() == pytest.approx(search.best_score_)


def test_cross_val_score(digits):
    X, y = digits[0][:500], digits[1][:500]
    scores = cross_val_score(make_classifier(tol=0.05), X, y, cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.8


def test_feature_union(X, make):
    union = FeatureUnion([("cae", make()), ("pca", PCA(2))]).fit(X)
    features = union.transform(X)
    assert features.shape == (len(X), 5 + 2)
    np.testing.assert_array_equal(features[:, :5], make().fit(X).transform(X))
    assert union.get_feature_names_out()[0] == (
        "cae__contractiveautoencodertransformer0"
    )


def test_column_transformer(frame, make):
    chosen = list(frame.columns[:3])
    columns = ColumnTransformer([("cae", make(), chosen)], remainder="passthrough")
    features = columns.fit_transform(frame)
    expected = make().fit_transform(frame[chosen])
    np.testing.assert_array_equal(features[:, :5], expected)
    np.testing.assert_array_equal(features[:, 5:], frame.iloc[:, 3:])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library, frame, make):
    frames = pytest.importorskip(library)
    model = make().set_output(transform=library).fit(frame)
    features = model.transform(frame)
    assert isinstance(features, frames.DataFrame)
    assert list(features.columns) == list(model.get_feature_names_out())
    expected = make().fit(frame).transform(frame)
    np.testing.assert_array_equal(features.to_numpy(), expected)
    if library == "pandas":
        assert features.index.equals(frame.index)


def test_feature_names_are_kept_and_checked(frame, make):
    model = make().fit(frame)
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.rename(columns={"column 0": "other"}))
    with pytest.raises(ValueError, match="same order"):
        model.transform(frame[frame.columns[::-1]])


def test_names_are_forgotten_with_the_data(frame, X, make):
    model = make().fit(frame).fit(X)
    assert not hasattr(model, "feature_names_in_")
    model.partial_fit(X)
    with pytest.warns(UserWarning, match="fitted without feature names"):
        model.transform(frame)


@pytest.mark.parametrize(
    "dtype", ["Float64", "double[pyarrow]", pd.SparseDtype(float, 0)], ids=str
)
def test_columns_of_pandas_own_types_are_data(dtype, frame, X, make):
    rows = frame.astype(dtype)
    model = make().fit(rows)
    np.testing.assert_array_equal(model.transform(rows), make().fit_transform(X))
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)


def test_polars_frames_are_data(frame, X, make):
    pl = pytest.importorskip("polars")
    rows = pl.DataFrame(X, schema=list(frame.columns))
    model = make().fit(rows)
    np.testing.assert_array_equal(model.transform(rows), make().fit_transform(X))
    # scikit-learn 1.6 can't read the names of a recent polars.
    scaler = MinMaxScaler().fit(rows)
    names = getattr(scaler, "feature_names_in_", None)
    np.testing.assert_array_equal(getattr(model, "feature_names_in_", None), names)


def test_column_names_go_through_a_pipeline(frame, make):
    steps = make_pipeline(MinMaxScaler(), make()).set_output(transform="pandas")
    features = steps.fit_transform(frame)
    assert list(features.columns) == list(steps.get_feature_names_out(frame.columns))
    restored = steps.inverse_transform(features.to_numpy())
    assert restored.shape == frame.shape


def test_codes_lead_back_to_the_data(digits):
    X = digits[0]
    model = ContractiveAutoencoderTransformer(lam=0.01, random_state=0).fit(X)
    restored = model.inverse_transform(model.transform(X))
    errors = np.sum((X - restored) ** 2, axis=1)
    np.testing.assert_allclose(model.score_samples(X), -errors, rtol=1e-9)
    total_variance = X.var(axis=0).sum()
    assert errors.mean() < 0.05 * total_variance


def test_clone_is_unfitted_and_fits_alike(X, make):
    model = make(lam=0.3).fit(X)
    copied = clone(model)
    assert not hasattr(copied, "encoder_coefs_")
    assert copied.get_params() == model.get_params()
    np.testing.assert_array_equal(copied.fit(X).transform(X), model.transform(X))


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, through_pickle, through_joblib]
)
@pytest.mark.parametrize("tied_weights", [True, False])
def test_copies_answer_alike(copied, tied_weights, X, make):
    model = make(tied_weights=tied_weights).fit(X)
    twin = copied(model)
    for method in ("transform", "score_samples", "contraction", "jacobian"):
        np.testing.assert_array_equal(
            getattr(twin, method)(X), getattr(model, method)(X)
        )
    np.testing.assert_array_equal(twin.loss_curve_, model.loss_curve_)


def test_a_pickle_opens_in_another_process(X, make, tmp_path):
    model = make().fit(X)
    joblib.dump((model, X), tmp_path / "model.joblib")
    code = "import joblib, sys; m, X = joblib.load(sys.argv[1]); print(m.score(X))"
    command = [sys.executable, "-c", code, str(tmp_path / "model.joblib")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(answer.stdout) == pytest.approx(model.score(X), rel=1e-12)


def test_the_fitted_state_is_numpy_and_plain_python(X, make):
    def leaves(value):
        if isinstance(value, dict):
            for item in value.values():
                yield from leaves(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from leaves(item)
        else:
            yield value

    model = make(max_iter=2, tol=0, early_stopping=True)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X)
    plain = (np.ndarray, np.generic, str, int, float, bool, type(None))
    assert all(isinstance(leaf, plain) for leaf in leaves(model.__getstate__()))


def test_a_pickle_needs_numpy_and_the_estimator_only(X, make):
    # What is neither of these (the engine, torch) could change under old pickles.
    data = pickle.dumps(make().partial_fit(X), protocol=2)
    modules = {
        argument.split()[0]
        for opcode, argument, _ in pickletools.genops(data)
        if opcode.name == "GLOBAL"
    }
    assert "skcae._transformer" in modules
    modules.remove("skcae._transformer")
    assert {module.split(".")[0] for module in modules} <= {"numpy", "_codecs"}


def test_another_version_warns(X, make, monkeypatch):
    monkeypatch.setattr("skcae._pickles.__version__", "0.0.1")
    data = pickle.dumps(make().fit(X))
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match="0.0.1") as record:
        pickle.loads(data)
    assert skcae.__version__ in str(record[0].message)


# Submodules


def public_submodules():
    return sorted(
        module.name
        for module in pkgutil.iter_modules(skcae.__path__)
        if not module.name.startswith("_") and module.name != "engine"
    )


def test_submodules_are_attributes(monkeypatch):
    names = public_submodules()
    assert {"displays", "geometry"} <= set(names) <= set(dir(skcae))
    assert set(skcae.__all__) <= set(dir(skcae))
    for name in names:
        module = importlib.import_module(f"skcae.{name}")
        # The import has set the attribute.
        monkeypatch.delattr(skcae, name)
        assert getattr(skcae, name) is module


def test_submodules_are_imported_when_they_are_needed():
    code = (
        "import sys, skcae; dir(skcae); before = set(sys.modules); "
        "skcae.displays; print(*before); print(*sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    before, after = map(set, map(str.split, answer.stdout.splitlines()))
    assert before.isdisjoint({"matplotlib", "onnx", "skl2onnx"})
    assert before.isdisjoint({"skcae.displays", "skcae.export", "skcae.sampling"})
    assert "skcae.displays" in after


def test_other_names_are_no_attributes():
    for name in ("nonsense", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"'skcae' has no attribute '{name}'"):
            getattr(skcae, name)


# scikit-learn's callbacks


@needs_callbacks
@other_steps_lack_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_progress_bar_through_a_search(n_jobs, digits, capfd, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "300")  # or it abbreviates
    from sklearn.callback import ProgressBar

    X, y = digits[0][:100], digits[1][:100]
    search = GridSearchCV(
        make_classifier(tol=0.1), {"cae__lam": [0, 1]}, cv=2, n_jobs=n_jobs
    )
    expected = clone(search).fit(X, y)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    lines = capfd.readouterr().out.splitlines()
    own = [line for line in lines if "ContractiveAutoencoderTransformer - fit" in line]
    # Two candidates in two folds, and the best of them again.
    assert len(own) == 2 * 2 + 1
    assert all("100%" in line for line in own)
    np.testing.assert_array_equal(
        search.decision_function(X), expected.decision_function(X)
    )


def monitored(model, *data, scoring):
    """Fit with a ScoringMonitor; return the rows that it recorded of epochs."""
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring=scoring)
    model.set_callbacks(monitor).fit(*data)
    return [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]


@needs_callbacks
def test_a_monitor_records_scores(digits):
    X, y = digits[0][:200], digits[1][:200]
    model = ContractiveAutoencoderTransformer(lam=0.1, tol=0.1, random_state=0)
    # scikit-learn 1.9 records nothing without y, and fails for a single function.
    rows = monitored(model, X, y, scoring={"loss": lambda model, X, y: model.score(X)})
    losses = [row["loss"] for row in rows]
    assert len(losses) == model.n_iter_
    assert losses[-1] == model.score(X)
    # Measured after the epoch, they are close to what training met at its end.
    np.testing.assert_allclose(
        losses[-1], -model.history_["reconstruction"][-1], rtol=0.1
    )

    model = ContractiveAutoencoderClassifier(model, tol=0.1, random_state=0)
    rows = monitored(model, X, y, scoring=["accuracy", "neg_log_loss"])
    assert len(rows) == model.n_iter_
    assert rows[-1]["accuracy"] == model.score(X, y)
    assert rows[-1]["neg_log_loss"] > rows[0]["neg_log_loss"]


class StopAt(Callback):
    """Ends a training as soon as the objective is low enough."""

    def __init__(self, goal):
        self.goal = goal

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name != "epoch":
            return False
        return fitted_estimator.loss_curve_[-1] < self.goal


@needs_callbacks
@pytest.mark.parametrize("kind", ["transformer", "classifier"])
def test_a_callback_watches_the_loss(kind, digits):
    from sklearn.callback import FitCallback

    X, y = digits[0][:200], digits[1][:200]
    model = ContractiveAutoencoderTransformer(tol=0.01, random_state=0)
    if kind == "classifier":
        model = ContractiveAutoencoderClassifier(model, tol=0, random_state=0)
        model.set_params(max_iter=10)
        with pytest.warns(UserWarning, match="fine-tuning reached"):
            model.fit(X, y)
    whole = model.fit(X, y).loss_curve_ if kind == "transformer" else model.loss_curve_
    goal = (whole.min() + whole[0]) / 2
    callback = StopAt(goal)
    assert isinstance(callback, FitCallback)
    model.set_callbacks(callback).fit(X, y)
    assert 1 < model.n_iter_ < len(whole)
    np.testing.assert_array_equal(model.loss_curve_, whole[: model.n_iter_])
    assert model.loss_curve_[-1] < goal <= model.loss_curve_[:-1].min()
