"""How well does the detector tell outliers, beside other detectors?

    python benchmarks/outliers.py --data path/to/mnist.npz

The area under the ROC curve with default settings, on labelled sets in two ways:
"novelty" trains on half of the inliers and judges the other half and the outliers,
"mixed" trains on and judges inliers with one outlier in twenty. Where a set has
classes, each of the first four in turn is the outliers. Tables and series are taken
standardised and scaled to [0, 1]. The series are those of the package sktime, where
that is installed; pyod's AutoEncoder takes part where it is.
"""

import argparse
import contextlib
import importlib.util
import io
import warnings
from pathlib import Path

import numpy as np
import report
from problem import load_data, load_labels
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderDetector

SERIES = ("ACSF1", "ArrowHead", "GunPoint", "ItalyPowerDemand", "OSULeaf")


def series(name):
    """Return the rows and the classes of a set of series, or None."""
    spec = importlib.util.find_spec("sktime")
    if spec is None:
        return None
    folder = Path(spec.origin).parent / "datasets" / "data" / name
    rows, classes = [], []
    for part in ("TRAIN", "TEST"):
        _, _, text = (folder / f"{name}_{part}.ts").read_text().partition("@data\n")
        for line in text.split():
            *dimensions, label = line.split(":")
            rows.append(np.fromstring(",".join(dimensions), sep=","))
            classes.append(label)
    return np.array(rows), np.array(classes)


def labelled(mnist):
    """Yield name, rows, classes and whether to scale the rows."""
    yield "digits", *datasets.load_digits(return_X_y=True), False
    if mnist:
        X = load_data("mnist", 2000, None, mnist)
        yield "mnist, 2000 rows", X, load_labels("mnist", 2000, mnist), False
    for name in ("breast_cancer", "wine", "iris"):
        yield name, *getattr(datasets, f"load_{name}")(return_X_y=True), True
    for name in SERIES:
        found = series(name)
        if found is not None:
            yield name, *found, True


def made_up(seed):
    """Yield name, inliers and outliers."""
    rng = np.random.default_rng(seed)
    dense, loose = (rng.normal(m, s, (300, 10)) for m, s in ((0, 0.2), (6, 2)))
    near = rng.normal(size=(30, 10))
    near *= 1.4 / np.linalg.norm(near, axis=1, keepdims=True)
    yield "near a dense cluster", rng.permutation(np.vstack([dense, loose])), near
    X = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 20))
    X += 0.3 * rng.normal(size=X.shape)
    yield "uniform", X, rng.uniform(X.min(axis=0), X.max(axis=0), (30, 20))
    X = np.tanh(rng.normal(size=(630, 5)) @ rng.normal(size=(5, 30)))
    X += 0.2 * rng.normal(size=X.shape)
    shuffled = np.stack([rng.permutation(column) for column in X[600:].T], axis=1)
    yield "independent features", X[:600], shuffled
    for name in ("breast_cancer", "diabetes"):
        X = rng.permutation(getattr(datasets, f"load_{name}")().data)
        n_outliers = len(X) // 15
        damaged, inliers = X[:n_outliers].copy(), X[n_outliers:]
        for row in damaged:
            features = rng.random(X.shape[1]) < 0.3
            row[features] = X[rng.integers(len(X)), features]
        yield f"{name}, values of other rows", inliers, damaged


def tasks(mnist, quick):
    """Yield set, way, training rows, judged rows, whether outlier, and scaling."""
    for name, X, y, scales in labelled(mnist):
        X = X / X.max() if not scales else X
        rng = np.random.default_rng(1)
        for label in np.unique(y)[: 1 if quick else 4]:
            inliers = X[rng.permutation(np.flatnonzero(y != label))]
            outliers = X[rng.permutation(np.flatnonzero(y == label))]
            for way, *task in both_ways(inliers, outliers):
                yield name, way, *task, scales
    for seed in range(1 if quick else 2):
        for name, inliers, outliers in made_up(seed):
            for way, *task in both_ways(inliers, outliers):
                yield name, way, *task, True


def both_ways(inliers, outliers):
    """Yield the two ways to look at a set: training rows, judged ones, the outliers."""
    train, others = np.split(inliers, [len(inliers) // 2])
    judged = np.vstack([others, outliers])
    yield "novelty", train, judged, np.arange(len(judged)) >= len(others)
    some = outliers[: max(3, len(inliers) // 19)]
    mixed = np.vstack([inliers, some])
    yield "mixed", mixed, mixed, np.arange(len(mixed)) >= len(inliers)


def local_outlier_factor(X, judged):
    if judged is X:
        return -LocalOutlierFactor().fit(X).negative_outlier_factor_
    return -LocalOutlierFactor(novelty=True).fit(X).score_samples(judged)


def pca(X, judged):
    model = PCA(0.9, svd_solver="full").fit(X)
    return np.square(judged - model.inverse_transform(model.transform(judged))).sum(1)


def pyod(X, judged):
    from pyod.models.auto_encoder import AutoEncoder

    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        model = AutoEncoder(verbose=0, random_state=0).fit(X)
    return model.decision_function(judged)


DETECTORS = {
    "skcae": lambda X, judged: (
        -ContractiveAutoencoderDetector(random_state=0).fit(X).score_samples(judged)
    ),
    "IsolationForest": lambda X, judged: (
        -IsolationForest(random_state=0).fit(X).score_samples(judged)
    ),
    "LocalOutlierFactor": local_outlier_factor,
    "PCA (90%)": pca,
    "pyod AutoEncoder": pyod,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="file of MNIST, with x_train and y_train")
    parser.add_argument("--quick", action="store_true", help="one class of each set")
    arguments = parser.parse_args()
    detectors = dict(DETECTORS)
    if importlib.util.find_spec("pyod") is None:
        del detectors["pyod AutoEncoder"]
    warnings.simplefilter("ignore")
    areas = {}
    for name, way, X, judged, is_outlier, scales in tasks(
        arguments.data, arguments.quick
    ):
        for scaler in (StandardScaler(), MinMaxScaler()) if scales else (None,):
            train, test = X, judged
            if scaler is not None:
                train = scaler.fit_transform(X)
                test = train if judged is X else scaler.transform(judged)
            for detector, score in detectors.items():
                area = roc_auc_score(is_outlier, score(train, test))
                areas.setdefault((name, way), {}).setdefault(detector, []).append(area)
    medians = {
        key: [np.median(values[detector]) for detector in detectors]
        for key, values in areas.items()
    }
    for way in ("novelty", "mixed"):
        rows = [[name, *row] for (name, other), row in medians.items() if other == way]
        values = np.array([row[1:] for row in rows], dtype=float)
        rows.append(["median", *np.median(values, axis=0)])
        rows.append(["mean", *values.mean(axis=0)])
        cells = [[name, *(f"{area:.3f}" for area in row)] for name, *row in rows]
        print(report.table([way, *detectors], cells), "\n")


if __name__ == "__main__":
    main()
