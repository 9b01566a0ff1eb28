"""What all contenders share: the data, the initial weights and the objective."""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, log_softmax

LEARNING_RATE = 1e-3
LAM = 0.1


def load_data(name, n_samples, n_features, mnist=None):
    """Return float32 data in [0, 1] of shape (n_samples, n_features).

    Parameters
    ----------
    name : {"mnist", "digits", "random", "sparse"}
        "sparse" rows are a CSR array of 72 entries each.
    n_samples, n_features : int
        Of "random" and "sparse"; the others keep their features and give at most
        their rows.
    mnist : path, default=None
        As for `load_mnist`.
    """
    if name == "random":
        rng = np.random.default_rng(0)
        return rng.random((n_samples, n_features), dtype=np.float32)
    if name == "sparse":
        rng = np.random.default_rng(0)
        # Features are as frequent as words are.
        places = (n_features ** rng.random((n_samples, 72)) - 1).astype(int)
        rows = np.repeat(np.arange(n_samples), 72)
        values = rng.random(places.size, dtype=np.float32) / 8
        shape = n_samples, n_features
        X = csr_array((values, (rows, places.ravel())), shape=shape)
        X.sum_duplicates()
        return X
    if name == "digits":
        from sklearn.datasets import load_digits

        return (load_digits().data[:n_samples] / 16).astype(np.float32)
    X, _ = load_mnist(mnist)
    return X[: min(n_samples, 60_000)]


def load_labels(name, n_samples, mnist=None):
    """Return the labels 0 to 9 of what `load_data` returns; arbitrary for "random"."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits().target[:n_samples]
    if name == "mnist":
        return load_mnist(mnist)[1][: min(n_samples, 60_000)]
    return np.arange(n_samples) % 10


def load_mnist(path=None):
    """Return all 70,000 images and labels, the 10,000 of the test set last.

    The images are float32 in [0, 1], of shape (70000, 784).

    Parameters
    ----------
    path : path, default=None
        File ``mnist.npz`` with ``x_train``, ``y_train``, ``x_test`` and ``y_test``;
        None fetches MNIST from openml.org.
    """
    if path is not None:
        with np.load(path) as arrays:
            X, y = (
                np.concatenate([arrays[f"{part}_train"], arrays[f"{part}_test"]])
                for part in "xy"
            )
    else:
        from sklearn.datasets import fetch_openml

        X, y = fetch_openml(
            "mnist_784", version=1, as_frame=False, parser="liac-arff", return_X_y=True
        )
    X = X.reshape(len(X), -1).astype(np.float32)
    X /= 255
    return X, y.astype(np.int64)


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
    for start in range(0, X.shape[0], 500):
        x = X[start : start + 500]
        if hasattr(x, "toarray"):
            x = x.toarray()
        h = expit(x @ W + b)
        total += np.square(h @ V + c - x).sum(dtype=np.float64)
        slopes = np.square(h * (1 - h))
        total += lam * (slopes @ column_norms).sum(dtype=np.float64)
    return total / X.shape[0]


def cross_entropy(weights, X, y):
    """Return the mean cross-entropy of a classifier's labels over all rows."""
    W, b, U, c = weights
    total = 0.0
    for start in range(0, len(X), 5000):
        rows = slice(start, start + 5000)
        log_output = log_softmax(expit(X[rows] @ W + b) @ U + c, axis=1)
        total -= log_output[np.arange(len(log_output)), y[rows]].sum(dtype=np.float64)
    return total / len(X)
