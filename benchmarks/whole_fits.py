"""How many epochs do whole fits take, and where do they end?

    python benchmarks/whole_fits.py

Fits until they converge, by learning rate and patience: those of the transformer end at
an objective, those of the classifier at an accuracy. No times, but epochs: what else
runs on the machine doesn't matter. `study.py` is about the way there.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import report
import torch
from contenders import fit_quietly
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from study import tabular

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer

RATES = (0.02, 0.05, 0.1)
SETTINGS = [(0.01, 5), (0.02, 5), (0.05, 5), (0.02, 10)]


def bundled(name):
    """Return a data set that scikit-learn ships."""
    return getattr(datasets, f"load_{name}")()


def tables():
    """Yield the name and the rows of the transformer's data."""
    digits = datasets.load_digits().data / 16
    yield "digits", digits
    yield "50 digits", digits[:50]
    for name in ("breast_cancer", "diabetes"):
        yield name, StandardScaler().fit_transform(bundled(name).data)
    yield "tabular", StandardScaler().fit_transform(tabular())
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 2000))
    yield "200 × 2000", factors + 0.3 * rng.normal(size=factors.shape)
    yield "wine, not scaled", datasets.load_wine().data


def tasks():
    """Yield the name, the rows and the labels of the classifier's data."""
    standard, unit = StandardScaler(), MinMaxScaler()
    X, y = datasets.make_circles(500, noise=0.05, factor=0.5, random_state=0)
    yield "circles", standard.fit_transform(X), y
    X, y = datasets.make_moons(500, noise=0.1, random_state=0)
    yield "moons", standard.fit_transform(X), y
    X, y = datasets.make_hastie_10_2(2000, random_state=0)
    yield "hastie_10_2", unit.fit_transform(X), (y > 0).astype(int)
    X, y = datasets.make_gaussian_quantiles(
        n_samples=1000, n_features=5, random_state=0
    )
    yield "gaussian_quantiles", unit.fit_transform(X), y
    X = np.random.default_rng(0).normal(size=(2000, 20))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    yield "sign of a product", unit.fit_transform(X), y
    for name in ("iris", "wine", "breast_cancer"):
        data = bundled(name)
        yield name, unit.fit_transform(data.data), data.target
    X, y = datasets.load_digits(return_X_y=True)
    yield "digits", X / 16, y
    yield "100 labels", X / 16, y


def by_rate(X, n_seeds, **parameters):
    """Return the mean number of epochs and the objectives, by learning rate."""
    epochs, objectives = [], []
    for rate in RATES:
        fits = [
            ContractiveAutoencoderTransformer(
                learning_rate_init=rate, random_state=seed, **parameters
            )
            for seed in range(n_seeds)
        ]
        for model in fits:
            fit_quietly(model, X)
        epochs.append(float(np.mean([model.n_iter_ for model in fits])))
        reached = [m.lam_ * m.contraction(X).mean() - m.score(X) for m in fits]
        objectives.append(float(np.mean(reached)))
    return epochs, objectives


def by_setting(name, X, y, n_seeds):
    """Return epochs and accuracies on training and test data, by setting."""
    outcomes = []
    for seed in range(n_seeds):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.3, stratify=y, random_state=seed
        )
        if name == "100 labels":
            y_train = np.where(np.arange(len(y_train)) < 100, y_train, -1)
        labelled = y_train != -1
        outcomes.append([])
        for rate, patience in SETTINGS:
            model = ContractiveAutoencoderClassifier(
                learning_rate_init=rate, n_iter_no_change=patience, random_state=seed
            )
            fit_quietly(model, X_train, y_train)
            accuracy = model.score(X_train[labelled], y_train[labelled])
            outcomes[-1].append([model.n_iter_, accuracy, model.score(X_test, y_test)])
    return np.transpose(outcomes, (1, 2, 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = {"environment": report.environment(), "transformer": {}, "classifier": {}}

    print("\nEpochs of the transformer, and the objective over the lowest one\n")
    rows = []
    for (name, X), tied in product(tables(), (True, False)):
        epochs, objectives = by_rate(X, args.seeds, tied_weights=tied)
        name = f"{name}, {'tied' if tied else 'untied'}"
        content["transformer"][name] = {"epochs": epochs, "objectives": objectives}
        least = min(objectives)
        cells = zip(epochs, objectives, strict=True)
        rows.append([name, *(f"{n:.0f}, {o / least:.2f}" for n, o in cells)])
    print(report.table(["", *map(str, RATES)], rows), flush=True)

    print("\nEpochs of the classifier; lowest accuracy in training, mean in the test\n")
    rows = []
    for name, X, y in tasks():
        outcomes = by_setting(name, X, y, args.seeds)
        content["classifier"][name] = outcomes.tolist()
        cells = (
            f"{n.mean():.0f}; {a.min():.2f}, {b.mean():.3f}" for n, a, b in outcomes
        )
        rows.append([name, *cells])
    header = ["", *(f"{rate}, {patience} epochs" for rate, patience in SETTINGS)]
    print(report.table(header, rows), flush=True)
    report.write_json(args.output, "whole_fits", content)


if __name__ == "__main__":
    main()
