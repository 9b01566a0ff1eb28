"""Settings and data shared by the tests of the estimator."""

import os

# scikit-learn's check of array API dispatch runs only if SciPy is imported with this
# setting, so it comes before every other import.
os.environ["SCIPY_ARRAY_API"] = "1"

# With device="auto" the tests, and the processes that they start, are of the CPU on any
# machine. For those in test_gpu.py, name a GPU: CUDA_VISIBLE_DEVICES=0 pytest ...
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from skcae import ContractiveAutoencoderTransformer, _epochs
from skcae.engine import batches
from skcae.engine import rows as rows_module


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Keep small operations from waiting for threads where cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def short_schedules():
    """Let training converge early: most tests ask for little progress."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_epochs, "_LEAST_STEPS", 16)
        patch.setattr(_epochs, "_LEAST_EPOCHS", 1)
        yield


@pytest.fixture
def usual_schedules(monkeypatch):
    """Let training converge when it does in other processes."""
    monkeypatch.setattr(_epochs, "_LEAST_STEPS", 160)
    monkeypatch.setattr(_epochs, "_LEAST_EPOCHS", 5)


@pytest.fixture(scope="session")
def digits():
    """All 1797 digits and their labels; read-only, in [0, 1]."""
    X, y = load_digits(return_X_y=True)
    X /= 16
    X.flags.writeable = False
    return X, y


@pytest.fixture(scope="session")
def X():
    """60 rows of 8 features in (0, 1) around a surface of 2 dimensions; read-only.

    Enough structure for training to lower the objective, few enough rows to be fast,
    and values that every loss accepts.
    """
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 8))
    X = 1 / (1 + np.exp(-hidden - 0.1 * rng.normal(size=(60, 8))))
    X.flags.writeable = False
    return X


@pytest.fixture
def make():
    """Return a function that makes a small, seeded estimator.

    Its tolerance is so wide that training converges within a few epochs.
    """

    def make(**parameters):
        small = {"n_hidden": 5, "tol": 0.3, "n_iter_no_change": 1, "random_state": 0}
        return ContractiveAutoencoderTransformer(**small | parameters)

    return make


@pytest.fixture
def mapped(tmp_path):
    """Return a function that writes an array to a file and maps it."""

    def mapped(X, mode="r"):
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode=mode)

    return mapped


@pytest.fixture
def small_windows(monkeypatch):
    """Make windows of 20 rows of 8 float64, of five runs."""
    monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 20 * 64)
    monkeypatch.setattr(batches, "_RUN_BYTES", 4 * 64)
