"""What all contenders share: the data, the initial weights and the objective."""

import numpy as np
from scipy.special import expit

LEARNING_RATE = 1e-3
LAM = 0.1


def load_data(name, n_samples, n_features, mnist=None):
    """Return float32 data in [0, 1] of shape (n_samples, n_features).

    Parameters
    ----------
    name : {"mnist", "digits", "random"}
    n_samples, n_features : int
        Of "random"; the others keep their features and give at most their rows.
    mnist : path, default=None
        File ``mnist.npz`` with ``x_train``; None fetches MNIST from openml.org.
    """
    if name == "random":
        rng = np.random.default_rng(0)
        return rng.random((n_samples, n_features), dtype=np.float32)
    if name == "digits":
        from sklearn.datasets import load_digits

        return (load_digits().data[:n_samples] / 16).astype(np.float32)
    if mnist is not None:
        with np.load(mnist) as arrays:
            images = arrays["x_train"][:n_samples]
    else:
        from sklearn.datasets import fetch_openml

        X, _ = fetch_openml(
            "mnist_784", version=1, as_frame=False, parser="liac-arff", return_X_y=True
        )
        images = X[: min(n_samples, 60_000)]
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def glorot(n_features, n_hidden, seed):
    """Return initial W, b, V, c (Glorot and Bengio, 2010): the same for everybody."""
    rng = np.random.default_rng(seed)
    bound = np.sqrt(6 / (n_features + n_hidden))
    shapes = (n_features, n_hidden), (n_hidden, n_features)
    W, V = (rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes)
    return W, np.zeros(n_hidden, np.float32), V, np.zeros(n_features, np.float32)


def objective(weights, X, lam):
    """Return mean(‖x − x̂‖² + lam · ‖J‖²_F) over all rows, for any contender."""
    W, b, V, c = weights
    column_norms = np.square(W).sum(axis=0)
    total = 0.0
    for start in range(0, len(X), 5000):
        x = X[start : start + 5000]
        h = expit(x @ W + b)
        total += np.square(h @ V + c - x).sum(dtype=np.float64)
        slopes = np.square(h * (1 - h))
        total += lam * (slopes @ column_norms).sum(dtype=np.float64)
    return total / len(X)
