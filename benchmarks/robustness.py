"""What the penalty, and tied weights, do for features of noisy digits.

    python benchmarks/robustness.py

Prints, as means over several splits of scikit-learn's digits, what docs/defaults.rst
quotes: reconstruction and penalty on held-out rows, how many activations are saturated,
and the accuracy of a logistic regression on the features of clean and of noisy rows.
"""

import argparse

import numpy as np
import report
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer

NOISE = 0.25  # standard deviation, where features lie in [0, 1]


def evaluate(X, y, make_features, n_splits, scale=True):
    """Return the mean over splits of what one row of a table says."""
    results = []
    splits = StratifiedShuffleSplit(n_splits, test_size=0.3, random_state=0)
    for seed, (train, test) in enumerate(splits.split(X, y)):
        steps = [] if make_features is None else [make_features(seed)]
        steps += [StandardScaler()] if scale else []
        model = make_pipeline(*steps, LogisticRegression(max_iter=2000))
        model.fit(X[train], y[train])
        noise = NOISE * np.random.default_rng(seed).normal(size=X[test].shape)
        row = [np.nan] * 3
        if make_features is not None:
            cae = model[0]
            h = cae.transform(X[test])
            saturated = ((h < 0.05) | (h > 0.95)).mean()
            row = [-cae.score(X[test]), cae.contraction(X[test]).mean(), saturated]
        accuracies = [model.score(X[test] + shift, y[test]) for shift in (0, noise)]
        results.append([*row, *accuracies])
    return np.mean(results, axis=0)


def cae(**parameters):
    return lambda seed: ContractiveAutoencoderTransformer(
        random_state=seed, **parameters
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=5)
    args = parser.parse_args()
    header = ["", "reconstruction", "‖J‖²", "saturated", "clean", "noisy"]

    def show(title, X, y, rows, **kwargs):
        print(f"\n{title}\n")
        lines = [
            [name, *(f"{v:.3f}" for v in evaluate(X, y, make, args.splits, **kwargs))]
            for name, make in rows.items()
        ]
        print(report.table(header, lines), flush=True)

    X, y = load_digits(return_X_y=True)
    X = X / 16
    rows = {"raw pixels": None}
    for tied in (True, False):
        for lam in (0, 0.1, 0.3, 1):
            name = f"{'tied' if tied else 'untied'}, lam={lam}"
            rows[name] = cae(lam=lam, tied_weights=tied)
    show("digits, StandardScaler after the features", X, y, rows)

    for load in (load_digits, load_breast_cancer, load_wine):
        X, y = load(return_X_y=True)
        X = MinMaxScaler().fit_transform(X)
        rows = {"raw": None} | {f"lam={lam}": cae(lam=lam) for lam in (0, 0.1, 1)}
        for scale in (True, False):
            how = "with" if scale else "without"
            title = f"{load.__name__[5:]}, {how} a StandardScaler after the features"
            show(title, X, y, rows, scale=scale)


if __name__ == "__main__":
    main()
