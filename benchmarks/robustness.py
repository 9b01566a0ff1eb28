"""What the penalty, and tied weights, do for features of noisy digits.

    python benchmarks/robustness.py

Prints, as means over several splits, what docs/tied_weights.md and docs/defaults.md
quote: reconstruction and penalty on held-out rows, the penalty relative to the variance
of the features, how many activations are saturated, and the accuracy of a logistic
regression on the features of clean and of noisy rows.
"""

import argparse

import numpy as np
import report
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from skcae import ContractiveAutoencoderTransformer

NOISE = 0.25  # standard deviation, where features lie in [0, 1]
LINEAR = LogisticRegression(max_iter=2000)


def evaluate(X, y, make_features, n_splits, scale=True, classifier=LINEAR):
    """Return the mean over splits of what one row of a table says."""
    results = []
    splits = StratifiedShuffleSplit(n_splits, test_size=0.3, random_state=0)
    for seed, (train, test) in enumerate(splits.split(X, y)):
        layers = make_features(seed)
        steps = [*layers, StandardScaler()] if scale else layers
        model = make_pipeline(*steps, clone(classifier))
        model.fit(X[train], y[train])
        noise = NOISE * np.random.default_rng(seed).normal(size=X[test].shape)
        accuracies = [model.score(X[test] + shift, y[test]) for shift in (0, noise)]
        results.append([*describe(layers, X[test]), *accuracies])
    return np.mean(results, axis=0)


def describe(layers, X):
    """Return reconstruction, penalty, that over the variance, and saturation."""
    if not all(hasattr(layer, "jacobian") for layer in layers) or not layers:
        return [np.nan] * 4
    reconstruction = -layers[0].score(X) if len(layers) == 1 else np.nan
    h, jacobian = X, np.eye(X.shape[1])
    for layer in layers:
        jacobian = layer.jacobian(h) @ jacobian
        h = layer.transform(h)
    contraction = np.square(jacobian).sum(axis=(1, 2)).mean()
    saturated = ((h < 0.05) | (h > 0.95)).mean()
    return [reconstruction, contraction, contraction / h.var(axis=0).sum(), saturated]


def nothing(seed):
    return []


def cae(*layers):
    """Return what makes the layers of a stack, by the parameters of each."""
    return lambda seed: [
        ContractiveAutoencoderTransformer(random_state=seed, **layer)
        for layer in layers
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=5)
    args = parser.parse_args()
    header = ["", "reconstruction", "‖J‖²", "/ variance", "saturated", "clean", "noisy"]

    def show(title, X, y, rows, **kwargs):
        print(f"\n{title}\n")
        lines = [
            [name, *(f"{v:.3f}" for v in evaluate(X, y, make, args.splits, **kwargs))]
            for name, make in rows.items()
        ]
        print(report.table(header, lines), flush=True)

    X, y = load_digits(return_X_y=True)
    X = MinMaxScaler().fit_transform(X)
    rows = {"raw pixels": nothing}
    for tied in (True, False):
        for lam in (0, 0.1, 0.3, 1):
            name = f"{'tied' if tied else 'untied'}, lam={lam}"
            rows[name] = cae({"lam": lam, "tied_weights": tied})
    for lam in (0, 0.1, 1):
        rows[f"(64, 32), lam={lam}"] = cae({"lam": lam, "n_hidden": (64, 32)})
    for lam in (0.1, 1):
        first, second = {"lam": 1}, {"lam": lam, "n_hidden": 32}
        rows[f"64 with lam=1, then 32 with lam={lam}"] = cae(first, second)
    show("digits, StandardScaler after the features", X, y, rows)

    for load in (load_digits, load_breast_cancer, load_wine):
        X, y = load(return_X_y=True)
        X = MinMaxScaler().fit_transform(X)
        rows = {"raw": nothing} | {f"lam={v}": cae({"lam": v}) for v in (0, 0.1, 1)}
        for scale in (True, False):
            how = "with" if scale else "without"
            title = f"{load.__name__[5:]}, {how} a StandardScaler after the features"
            show(title, X, y, rows, scale=scale)

    X, y = load_digits(return_X_y=True)
    rows = {"raw": nothing, "PCA": lambda seed: [PCA(0.95)]}
    rows |= {f"lam={v}": cae({"lam": v}) for v in (0, 1)}
    for classifier in (SVC(), KNeighborsClassifier()):
        for scale in (True, False):
            how = "with" if scale else "without"
            title = f"digits, {classifier}, {how} a StandardScaler"
            show(title, X / 16, y, rows, scale=scale, classifier=classifier)


if __name__ == "__main__":
    main()
