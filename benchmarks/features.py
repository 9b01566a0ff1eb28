"""What are the features of default fits worth, on tables of many kinds?

    python benchmarks/features.py --data mnist.npz

For each table, standardised and in [0, 1]: how much of held-out rows is explained,
beside PCA with as many components; and the accuracy of a logistic regression on
standardised features, on clean rows and on rows with normal noise, whose deviation is
0.9 times the root of the mean variance of a feature. Three folds, one where there are
more than 1,000 rows.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import report
import torch
from contenders import fit_quietly
from problem import load_mnist
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer

LARGE = 1000
FEATURES = ("raw", "PCA", "lam=0", "default")


def gene_like(n_samples, n_features, seed=0):
    """Return log-counts with a part of low rank, and the classes of the rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n_samples)
    factors = rng.normal(size=(n_samples, 10))
    factors[:, :4] += 1.5 * np.eye(4)[y]
    loadings = rng.normal(size=(10, n_features)) / np.sqrt(10)
    rates = np.exp(factors @ loadings + rng.normal(0, 0.7, n_features))
    return np.log1p(rng.poisson(rates)).astype(float), y


def tables(mnist, quick):
    """Yield the name, the rows and the labels of each table."""
    for name in ("digits", "breast_cancer", "wine", "iris"):
        yield name, *getattr(datasets, f"load_{name}")(return_X_y=True)
    yield (
        "synthetic",
        *datasets.make_classification(
            2000, 50, n_informative=10, n_classes=4, random_state=0
        ),
    )
    if quick:
        return
    X, y = load_mnist(mnist)
    rows = np.random.default_rng(0).permutation(60_000)[:3000]
    yield "MNIST, 3,000 rows", X[rows], y[rows]
    yield "gene-like, 200 × 8,000", *gene_like(200, 8000)
    yield "gene-like, 150 × 20,000", *gene_like(150, 20_000)


def explained(model, X, train):
    residual = X - model.inverse_transform(model.transform(X))
    return 1 - (residual**2).sum() / ((X - train.mean(axis=0)) ** 2).sum()


def measure(X, y, parameters):
    """Return the means over folds: name → (explained, clean, noisy), and others."""
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    outcomes, others = [], []
    for train, test in folds[: 1 if len(X) > LARGE else 3]:
        rows, held_out = X[train], X[test]
        deviation = 0.9 * np.sqrt(rows.var(axis=0).mean())
        noise = deviation * np.random.default_rng(1).normal(size=held_out.shape)
        n_components = min(64, X.shape[1], len(rows) - 1)
        plain, default = (
            ContractiveAutoencoderTransformer(random_state=0, **parameters | extra)
            for extra in ({"lam": 0}, {})
        )
        fit_quietly(plain, rows)
        start = time.process_time()
        fit_quietly(default, rows)
        seconds = time.process_time() - start
        models = (
            FunctionTransformer(check_inverse=False).fit(rows),
            PCA(n_components, random_state=0).fit(rows),
            plain,
            default,
        )
        fold = []
        for model in models:
            regression = make_pipeline(
                StandardScaler(), LogisticRegression(max_iter=500)
            ).fit(model.transform(rows), y[train])
            accuracies = [
                regression.score(model.transform(part), y[test])
                for part in (held_out, held_out + noise)
            ]
            fold.append([explained(model, held_out, rows), *accuracies])
        H = plain.transform(held_out)
        saturated = ((H < 0.01) | (H > 0.99)).mean()
        outcomes.append(fold)
        others.append([saturated, default.lam_, default.n_iter_, seconds])
    return np.mean(outcomes, axis=0), np.mean(others, axis=0)


def misses(outcome, saturated, n_samples):
    """Return what the defaults miss of what they are to reach."""
    (_, *raw), pca, plain, default = outcome
    clean, noisy = (0.03, 0.025) if n_samples < 500 else (0.015, 0.01)
    checks = {
        "lam=0 explains 0.8 of PCA's": plain[0] >= 0.8 * pca[0],
        "the default explains 0.6": default[0] >= 0.6 * pca[0],
        "a fifth saturated": saturated <= 0.2,
        "PCA's accuracy": default[1] >= pca[1] - 0.01,
        "clean": default[1] >= raw[0] - clean,
        "noisy": default[2] >= max(raw[1], pca[2], plain[2]) - noisy,
    }
    return [name for name, passed in checks.items() if not passed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="mnist.npz with x_train; default openml.org")
    parser.add_argument("--untied", action="store_true")
    parser.add_argument("--solver", default="muon")
    parser.add_argument("--quick", action="store_true", help="small tables alone")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    parameters = {"tied_weights": not args.untied, "solver": args.solver}
    content = {"environment": report.environment(), "parameters": parameters}
    rows = []
    for name, X, y in tables(args.data, args.quick):
        for scaler in (MinMaxScaler(), StandardScaler()):
            scaled = scaler.fit_transform(X)
            outcome, others = measure(scaled, y, parameters)
            saturated, lam, n_epochs, seconds = others
            missed = misses(outcome, saturated, len(X))
            kind = "[0, 1]" if isinstance(scaler, MinMaxScaler) else "standardised"
            name_of_row = f"{name}, {kind}"
            shares = " / ".join(f"{value:.2f}" for value in outcome[1:, 0])
            cells = [f"{clean:.3f} / {noisy:.3f}" for _, clean, noisy in outcome]
            cells += [shares, f"{lam:.2g}", f"{n_epochs:.0f}, {seconds:.2f} s"]
            rows.append([name_of_row, *cells, "; ".join(missed) or "nothing"])
            content[name_of_row] = {
                "outcome": outcome.tolist(),
                "others": others.tolist(),
                "missed": missed,
            }
            print(name_of_row, *rows[-1][1:], sep=" | ", flush=True)
    header = ["", *FEATURES, "explained", "lam_", "epochs", "missed"]
    print(report.table(header, rows))
    report.write_json(args.output, "features", content)


if __name__ == "__main__":
    main()
