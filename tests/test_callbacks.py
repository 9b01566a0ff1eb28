"""skcae's own callbacks for scikit-learn."""

import pickle
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from callbacks import HAS_CALLBACKS, Callback, other_steps_lack_callbacks
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.callbacks import Checkpoint

pytestmark = pytest.mark.skipif(
    not HAS_CALLBACKS, reason="this version of scikit-learn has no callbacks"
)
SETTINGS = {"n_hidden": 5, "warm_start": True, "random_state": 0}

# A process that dies without a word when the third checkpoint is on its way.
KILLED = """
import os
import signal
import sys

from sklearn.datasets import load_digits

from skcae import ContractiveAutoencoderTransformer
from skcae.callbacks import Checkpoint

n_calls = 0


def fsync(file):
    global n_calls
    n_calls += 1
    if n_calls == 3:
        os.ftruncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)


os.fsync = fsync
cae = ContractiveAutoencoderTransformer(
    n_hidden=5, warm_start=True, random_state=0, **eval(sys.argv[2])
)
cae.set_callbacks(Checkpoint(sys.argv[1])).fit(load_digits().data / 16)
"""


class KeepAll(Checkpoint):
    """Keeps what each checkpoint held."""

    def __init__(self, path):
        super().__init__(path)
        self.contents = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        super().on_fit_task_end(estimator, context, fitted_estimator=fitted_estimator)
        if context.task_name == "epoch":
            self.contents.append(self.path.read_bytes())


def fit(model, X, y=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def assert_same(model, other, X):
    np.testing.assert_array_equal(model.loss_curve_, other.loss_curve_)
    np.testing.assert_array_equal(model.transform(X), other.transform(X))


@pytest.mark.parametrize(
    "settings",
    [{}, {"solver": "adam", "early_stopping": True}],
    ids=["muon", "adam with early stopping"],
)
def test_a_killed_training_goes_on_exactly(settings, digits, tmp_path):
    X = digits[0]
    path = tmp_path / "cae.pickle"
    command = [sys.executable, "-c", KILLED, str(path), repr(settings)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.glob("*.tmp"))) == 1

    model = pickle.loads(path.read_bytes())
    assert model.n_iter_ == 2
    model.set_callbacks(Checkpoint(path)).fit(X)
    whole = ContractiveAutoencoderTransformer(**SETTINGS, **settings).fit(X)
    assert model.n_iter_ > 3
    assert_same(model, whole, X)


def test_each_checkpoint_is_a_fit_that_can_go_on(digits, tmp_path):
    X = digits[0][:300]
    checkpoints = KeepAll(tmp_path / "cae.pickle")
    model = ContractiveAutoencoderTransformer(tol=0.05, **SETTINGS)
    model.set_callbacks(checkpoints).fit(X)
    assert len(checkpoints.contents) == model.n_iter_ >= 8
    for n_epochs in (1, 7, model.n_iter_ - 1):
        resumed = pickle.loads(checkpoints.contents[n_epochs - 1])
        assert resumed.n_iter_ == n_epochs
        assert_same(resumed.fit(X), model, X)
    # The last one is the fit itself.
    assert_same(pickle.loads(checkpoints.contents[-1]), model, X)


def test_a_second_fit_is_saved_with_its_own_state(digits, tmp_path):
    X = digits[0][:300]
    checkpoints = KeepAll(tmp_path / "cae.pickle")
    model = ContractiveAutoencoderTransformer(max_iter=3, tol=0, **SETTINGS)
    fit(fit(model, X).set_callbacks(checkpoints), X)
    resumed = pickle.loads(checkpoints.contents[1])  # of the fifth epoch
    whole = ContractiveAutoencoderTransformer(max_iter=8, tol=0, **SETTINGS)
    assert_same(fit(resumed, X), fit(whole, X), X)


def test_checkpoints_hold_no_callbacks_and_no_rows(digits, tmp_path):
    class Unpicklable(Callback):
        def __reduce__(self):
            raise TypeError("can't be pickled")

        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "epoch":
                assert fitted_estimator._skl_callbacks

    X = digits[0]
    path = tmp_path / "cae.pickle"
    model = ContractiveAutoencoderTransformer(max_iter=2, **SETTINGS)
    model.set_callbacks(Checkpoint(path), Unpicklable())
    fit(model, X)
    assert path.stat().st_size < X.nbytes / 10
    assert not hasattr(pickle.loads(path.read_bytes()), "_skl_callbacks")


class Lock(Callback):
    """Can't be pickled."""

    def setup(self, estimator, context):
        self.lock = threading.Lock()

    def on_fit_task_end(self, estimator, context):
        pass

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize("kind", ["clone", "frozen", "pipeline"])
def test_checkpoints_hold_no_callbacks_of_what_is_inside(kind, digits, tmp_path):
    X, y = digits[0][:300], digits[1][:300]
    path = tmp_path / "cae.pickle"
    cae = ContractiveAutoencoderTransformer(tol=0.1, **SETTINGS).set_callbacks(Lock())
    if kind == "frozen":
        cae = FrozenEstimator(cae.fit(X))
    elif kind == "pipeline":
        cae = make_pipeline(cae)
    model = ContractiveAutoencoderClassifier(cae, max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="can't go on"):
        fit(model.set_callbacks(Checkpoint(path)), X, y)
    saved = pickle.loads(path.read_bytes())
    np.testing.assert_array_equal(saved.predict_proba(X), model.predict_proba(X))
    # The autoencoder that it started from will not be trained on.
    assert not hasattr(model.transformer_, "_skl_callbacks")
    assert model.transformer_._training_state is None


class Failing(Callback):
    def __init__(self, task, error):
        self.task, self.error = task, error

    def on_fit_task_end(self, estimator, context):
        if context.task_name == self.task:
            raise self.error


@pytest.mark.parametrize("task", ["epoch", "fit"])
@pytest.mark.parametrize(
    "error", [FloatingPointError("by zero"), RuntimeError("out of memory")], ids=repr
)
@pytest.mark.parametrize(
    "model",
    [
        ContractiveAutoencoderTransformer(tol=0.1, **SETTINGS),
        ContractiveAutoencoderClassifier(
            ContractiveAutoencoderTransformer(tol=0.1, **SETTINGS), max_iter=3
        ),
    ],
    ids=lambda model: type(model).__name__,
)
def test_errors_in_callbacks_come_as_they_are(model, error, task, digits):
    X, y = digits[0][:300], digits[1][:300]
    model = clone(model).set_callbacks(Failing(task, error))
    for _ in range(2):
        before = dict(vars(model))
        with pytest.raises(type(error)) as caught:
            fit(model, X, y)
        assert caught.value is error
        if task == "epoch":
            assert vars(model) == before
        else:  # The whole fit is over.
            assert model.loss_curve_ is not before.get("loss_curve_")
        fit(model.set_callbacks(), X, y).set_callbacks(Failing(task, error))


def test_checkpoints_of_a_step_and_of_a_classifier(digits, tmp_path):
    X, y = digits[0][:300], digits[1][:300]
    path = tmp_path / "cae.pickle"
    cae = ContractiveAutoencoderTransformer(tol=0.1, **SETTINGS)
    cae.set_callbacks(Checkpoint(path))
    make_pipeline(MinMaxScaler(), cae).fit(X)
    scaled = MinMaxScaler().fit_transform(X)
    assert_same(pickle.loads(path.read_bytes()), cae, scaled)

    model = ContractiveAutoencoderClassifier(
        ContractiveAutoencoderTransformer(tol=0.1, random_state=0), random_state=0
    )
    model.set_callbacks(Checkpoint(path))
    with pytest.warns(UserWarning, match=r"Classifier .* predict, but .* can't go on"):
        model.fit(X, y)
    saved = pickle.loads(path.read_bytes())
    np.testing.assert_array_equal(saved.predict_proba(X), model.predict_proba(X))


def test_the_remaining_epochs_and_those_after_convergence(digits, tmp_path):
    X = digits[0][:300]
    checkpoints = KeepAll(tmp_path / "cae.pickle")
    model = ContractiveAutoencoderTransformer(max_iter=5, tol=0, **SETTINGS)
    fit(model.set_callbacks(checkpoints), X)
    resumed = pickle.loads(checkpoints.contents[1])
    resumed.set_params(max_iter=5 - resumed.n_iter_)
    assert_same(fit(resumed, X), model, X)
    assert resumed.n_iter_ == 5

    converged = ContractiveAutoencoderTransformer(tol=0.1, **SETTINGS)
    converged.set_callbacks(checkpoints).fit(X)
    again = pickle.loads(checkpoints.contents[-1]).fit(X)
    assert again.n_iter_ > converged.n_iter_
    n_before = converged.n_iter_
    np.testing.assert_array_equal(again.loss_curve_[:n_before], converged.loss_curve_)


def test_training_that_could_not_go_on(X, make, tmp_path):
    checkpoint = Checkpoint(tmp_path / "cae.pickle")
    model = make().set_callbacks(checkpoint)
    with pytest.raises(ValueError, match=r"warm_start=True, .* Got warm_start=False"):
        model.fit(X)
    assert not hasattr(model, "encoder_coefs_")


@other_steps_lack_callbacks
def test_what_has_no_epochs(X, make, tmp_path):
    model = make_pipeline(MinMaxScaler(), make(warm_start=True))
    model.set_callbacks(Checkpoint(tmp_path / "cae.pickle"))
    with pytest.raises(ValueError, match=r"pipeline's step, .* Got Pipeline instead"):
        model.fit(X)


def test_a_folder_that_does_not_exist(X, make, tmp_path):
    path = tmp_path / "missing" / "cae.pickle"
    model = make(warm_start=True).set_callbacks(Checkpoint(path))
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*missing.*cae"):
        model.fit(X)
    assert not hasattr(model, "encoder_coefs_")


def test_a_path_that_is_a_folder(X, make, tmp_path):
    model = make(warm_start=True).set_callbacks(Checkpoint(tmp_path))
    with pytest.raises(
        IsADirectoryError, match=r"must be that of a file\. .* a folder"
    ):
        model.fit(X)
    assert not hasattr(model, "encoder_coefs_")


def test_a_folder_that_is_read_only(X, make, tmp_path, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(f"Permission denied: {str(self)!r}")

    # Not by the folder's mode, which doesn't bind root.
    monkeypatch.setattr("pathlib.Path.touch", denied)
    path = tmp_path / "cae.pickle"
    model = make(warm_start=True).set_callbacks(Checkpoint(path))
    with pytest.raises(PermissionError, match=r"cae\.pickle"):
        model.fit(X)
    assert not hasattr(model, "encoder_coefs_")


def test_a_file_that_can_not_be_written(X, make, tmp_path, monkeypatch):
    path = tmp_path / "cae.pickle"
    model = make(warm_start=True).set_callbacks(Checkpoint(path))
    fit(model, X)
    before = path.read_bytes()

    def full(file):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        model.fit(X)
    assert path.read_bytes() == before
    assert [path] == list(tmp_path.iterdir())
