"""What are features of series and of spectra worth, beside raw rows and PCA?

    python benchmarks/series.py

The sets are those of the package sktime, which has to be installed: series of the UCR
archive, one of several channels, and the Tecator spectra, whose target is a number.
Each is taken in [0, 1] and standardised. The features are those of default settings,
before a StandardScaler and a logistic regression (a ridge regression for numbers). The
accuracy (R²) is that on clean rows and on rows with normal noise, whose deviation is
half the root of the mean variance of a feature, and a hundredth for spectra; means over
five folds, three times.
"""

import argparse
from pathlib import Path

import numpy as np
import report
import torch
from contenders import fit_quietly
from joblib import Parallel, delayed
from outliers import series
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer

SETS = (
    "ACSF1",
    "ArrowHead",
    "BasicMotions",
    "GunPoint",
    "ItalyPowerDemand",
    "OSULeaf",
    "Tecator",
)
N_COMPONENTS = 64
NOISE = dict.fromkeys(SETS, 0.5) | {"Tecator": 0.01}


def contractive(**parameters):
    return ContractiveAutoencoderTransformer(N_COMPONENTS, random_state=0, **parameters)


def models(n_components):
    return {
        "raw": FunctionTransformer(),
        "PCA, 64": PCA(n_components, random_state=0),
        "PCA, 95%": PCA(0.95, svd_solver="full"),
        "lam=0": contractive(lam=0),
        "default": contractive(),
    }


def scores(X, y, noise, train, test):
    """Return (clean, noisy) of each kind of features."""
    torch.set_num_threads(1)
    rows = X[train]
    deviation = noise * np.sqrt(rows.var(axis=0).mean())
    noise = deviation * np.random.default_rng(len(test)).normal(size=X[test].shape)
    n_components = min(N_COMPONENTS, X.shape[1], len(train) - 1)
    results = []
    for model in models(n_components).values():
        fit_quietly(model, rows)
        final = LogisticRegression(max_iter=500)
        if y.dtype.kind == "f":
            final = RidgeCV(np.logspace(-3, 3, 13))
        final = make_pipeline(StandardScaler(), final)
        fit_quietly(final, model.transform(rows), y[train])
        results.append(
            [final.score(model.transform(X[test] + e), y[test]) for e in (0, noise)]
        )
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one set, two folds")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    content = {"environment": report.environment()}
    table = []
    for name in SETS[3:4] if args.quick else SETS:
        found = series(name)
        if found is None:
            parser.error("the series are those of sktime: pip install sktime")
        X, y = found
        is_number = name == "Tecator"
        y = y.astype(float) if is_number else np.unique(y, return_inverse=True)[1]
        make_folds = RepeatedKFold if is_number else RepeatedStratifiedKFold
        folds = make_folds(
            n_splits=2 if args.quick else 5,
            n_repeats=1 if args.quick else 3,
            random_state=0,
        )
        for scaler in (MinMaxScaler(), StandardScaler()):
            scaled = scaler.fit_transform(X)
            results = Parallel(n_jobs=-1)(
                delayed(scores)(scaled, y, NOISE[name], *fold)
                for fold in folds.split(X, y)
            )
            means = np.mean(results, axis=0)
            kind = "[0, 1]" if isinstance(scaler, MinMaxScaler) else "standardised"
            row = f"{name}, {kind}"
            cells = [f"{clean:.3f} / {noisy:.3f}" for clean, noisy in means]
            table.append([row, f"{X.shape[0]} × {X.shape[1]}", *cells])
            content[row] = results
            print(*table[-1], sep=" | ", flush=True)
    print(report.table(["", "size", *models(1)], table))
    report.write_json(args.output, "series", content)


if __name__ == "__main__":
    main()
