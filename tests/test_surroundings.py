"""Settings of other code, threads and processes: the same answers, and all left alone.

The engine's own tests do this piece by piece; these are about the estimators.
"""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from threadpoolctl import ThreadpoolController

import skcae
from skcae import (
    ContractiveAutoencoderClassifier,
    ContractiveAutoencoderDetector,
    ContractiveAutoencoderTransformer,
    geometry,
    sampling,
)

pytestmark = pytest.mark.filterwarnings("ignore:The walks have left the data")

SMALL = {
    "n_hidden": 3,
    "lam": 3.0,
    "tol": 0.3,
    "n_iter_no_change": 1,
    "random_state": 0,
}
TRANSFORMERS = [
    ContractiveAutoencoderTransformer(**SMALL),
    ContractiveAutoencoderTransformer(
        **SMALL | {"n_hidden": (5, 3), "precision": "float64"},
        gamma=0.1,
        early_stopping=True,
        solver="adam",
        corruption="gaussian",
        tied_weights=False,
    ),
]
CLASSIFIER = ContractiveAutoencoderClassifier(
    TRANSFORMERS[0],
    tangent_weight=0.1,
    n_tangents=2,
    early_stopping=True,
    validation_fraction=0.3,
    learning_rate_init=0.3,
    tol=0.1,
    n_iter_no_change=4,
    random_state=0,
)


DETECTOR = ContractiveAutoencoderDetector(TRANSFORMERS[0], random_state=0)


def classes(X):
    """Five classes of the rows of X."""
    return np.digitize(X[:, 0], np.quantile(X[:, 0], [0.2, 0.4, 0.6, 0.8]))


def answers(model, X):
    if hasattr(model, "offset_"):
        return [model.decision_function(X), model.predict(X), model.feature_errors(X)]
    if hasattr(model, "predict"):
        return [model.predict_proba(X), model.decision_function(X), model.predict(X)]
    H = model.transform(X)
    return [
        H,
        model.inverse_transform(H),
        model.score_samples(X),
        model.jacobian(X),
        model.contraction(X),
    ]


def results(X):
    """Fit everything there is, and ask for all that it can answer."""
    arrays = []
    for transformer in TRANSFORMERS:
        model = clone(transformer).fit(X)
        arrays += [model.loss_curve_, *model.encoder_coefs_, *answers(model, X)]
        model.set_params(early_stopping=False).partial_fit(X)
        arrays += [model.loss_curve_, *answers(model, X)]
        arrays += [geometry.singular_values(model, X), geometry.score_field(model, X)]
        arrays += [
            sampling.sample(model, X[:20], n_steps=1, sigma=0.01, random_state=0)
        ]
    arrays += answers(clone(DETECTOR).fit(X), X)
    model = clone(CLASSIFIER).fit(X, classes(X))
    return [*arrays, model.loss_curve_, *model.coefs_, *answers(model, X)]


@pytest.fixture(scope="module")
def expected(X):
    return results(X)


def assert_identical(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def global_state():
    """All that one might change for everyone."""
    return {
        "NumPy's seed": pickle.dumps(np.random.get_state()),
        "PyTorch's seed": torch.get_rng_state().tolist(),
        "Python's seed": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "denormal numbers": np.float32(torch.tensor(1e-40, device="cpu").item()),
        "PyTorch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "threads": [
            (pool["filepath"], pool["num_threads"])
            for pool in ThreadpoolController().info()
        ],
        "running threads": threading.active_count(),
        "NumPy's errors": np.geterr(),
        "warnings": list(warnings.filters),
        "scikit-learn": sklearn.get_config(),
        "environment": dict(os.environ),
        "Ctrl-C": signal.getsignal(signal.SIGINT),
        "tracing": sys.gettrace(),
        "directory": os.getcwd(),
    }


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def other_seeds():
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@contextmanager
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SURROUNDINGS = {
    "nothing": nullcontext,
    "default dtype": default_dtype,
    "default device": default_device,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic algorithms": deterministic_algorithms,
    "seeds": other_seeds,
    "warnings are errors": warnings_are_errors,
    "NumPy's errors are raised": lambda: np.errstate(all="raise"),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_settings_of_other_code(name, X, expected):
    with SURROUNDINGS[name]():
        before = global_state()
        actual = results(X)
        after = global_state()
    assert after == before
    assert_identical(actual, expected)


def test_threads_share_an_estimator(X):
    models = [clone(model).fit(X) for model in TRANSFORMERS]
    models.append(clone(CLASSIFIER).fit(X, classes(X)))
    models.append(clone(DETECTOR).fit(X))
    parts = [X[i : i + 20] for i in range(40)]
    for model in models:
        expected = [answers(model, part) for part in parts]
        with ThreadPoolExecutor(8) as threads:
            actual = list(threads.map(lambda part: answers(model, part), parts))  # noqa: B023
        for one, other in zip(actual, expected, strict=True):
            assert_identical(one, other)


def test_threads_fit_side_by_side(X, expected):
    before = global_state()
    with ThreadPoolExecutor(4) as threads:
        fits = list(threads.map(results, [X] * 8))
    assert global_state() == before
    for actual in fits:
        assert_identical(actual, expected)


# Processes

SCRIPT = """
import multiprocessing
import sys
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer

warnings.simplefilter("ignore")
digits, y = load_digits(return_X_y=True)
digits, y = digits[:500] / 16, y[:500]
noise = np.random.default_rng(0).uniform(size=(400, 64))


def fit_small():
    # Some pixels are always zero, so that rounding alone decides on some directions.
    model = ContractiveAutoencoderTransformer(
        max_iter=5, early_stopping=True, random_state=0
    )
    return ContractiveAutoencoderClassifier(
        model, max_iter=5, tangent_weight=0.1, random_state=0
    ).fit(digits, y)


def fit_large():
    # With batches so large that threads share them.
    return ContractiveAutoencoderTransformer(
        100, batch_size=400, max_iter=5, random_state=0
    ).fit(noise)


def answer(small, large):
    return {
        "threads": torch.get_num_threads(),
        "small": fit_small().predict_proba(digits),
        "small, as it was": small.predict_proba(digits),
        "large": fit_large().transform(noise),
        "large, as it was": large.transform(noise),
    }


if __name__ == "__main__":
    models = fit_small(), fit_large()
    expected = answer(*models)
    assert expected["threads"] == 2
    for method in sys.argv[1:]:
        with multiprocessing.get_context(method).Pool(1) as pool:
            actual = pool.apply_async(answer, models).get(timeout=100)
        for name in expected:
            if method == "fork" and "large" in name:
                # With one thread in place of two, rounding differs.
                np.testing.assert_allclose(
                    actual[name], expected[name], rtol=0, atol=1e-5, err_msg=name
                )
            else:
                np.testing.assert_array_equal(actual[name], expected[name], name)
        print(method)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_processes_after_a_fit(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = [str(Path(skcae.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, tmp_path / "script.py", "fork", "spawn"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.split() == ["fork", "spawn"], result.stderr


FORK = """
import os
import pickle
import signal
import sys
import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer

warnings.simplefilter("ignore")
torch.set_num_threads(2)
X = np.random.default_rng(0).uniform(size=(1000, 64))  # so large that threads share it


def fit_transformer():
    # Batches so large that threads share them.
    return ContractiveAutoencoderTransformer(
        200, batch_size=400, max_iter=2, random_state=0
    ).fit(X)


def fit_classifier():
    transformer = ContractiveAutoencoderTransformer(
        200, batch_size=400, max_iter=1, random_state=0
    )
    return ContractiveAutoencoderClassifier(
        transformer, batch_size=400, max_iter=2, random_state=0
    ).fit(X, X[:, 0] > 0.5)


if sys.argv[1] == "prepare":
    models = fit_transformer(), fit_classifier()
    with open(sys.argv[2], "wb") as file:
        pickle.dump(models, file)
    sys.exit()
with open(sys.argv[2], "rb") as file:
    transformer, classifier = pickle.load(file)
KMeans(10, n_init=1, max_iter=3, random_state=0).fit(X)
actions = {
    "fit": fit_transformer,
    "fit_classifier": fit_classifier,
    "transform": lambda: transformer.transform(X),
    "predict": lambda: classifier.predict(X),
}
for name, action in actions.items():
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # ends it if it hangs
        action()
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(name)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_processes_after_openmp_was_used_elsewhere(tmp_path):
    paths = [str(Path(skcae.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    for step in ("prepare", "fork"):
        result = subprocess.run(
            [sys.executable, "-c", FORK, step, tmp_path / "models.pickle"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "OMP_NUM_THREADS": "2",
                "OMP_WAIT_POLICY": "passive",  # busy cores slow it down less
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
    expected = ["fit", "fit_classifier", "transform", "predict"]
    assert result.stdout.split() == expected, result.stderr


THREADS = """
import sys
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from skcae import ContractiveAutoencoderTransformer

warnings.simplefilter("ignore")
X = load_digits().data[:400] / 16
for n_threads in (1, 2):
    torch.set_num_threads(n_threads)
    # Pixels that are always zero leave some directions of the start to rounding.
    model = ContractiveAutoencoderTransformer(64, max_iter=3, random_state=0).fit(X)
    assert torch.get_num_threads() == n_threads
    np.save(sys.argv[n_threads], model.encoder_coefs_[0])
"""


def test_number_of_threads_of_pytorch(tmp_path):
    paths = [tmp_path / "1.npy", tmp_path / "2.npy"]
    subprocess.run([sys.executable, "-c", THREADS, *paths], check=True, timeout=300)
    np.testing.assert_array_equal(*map(np.load, paths))
