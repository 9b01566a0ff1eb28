"""Labels that spread to samples without one."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import check_grad
from sklearn.base import clone
from sklearn.datasets import load_digits, make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import train_test_split
from sklearn.semi_supervised import LabelSpreading

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae import _spreading as spreading
from skcae.engine import rows as rows_module
from skcae.engine.finetuning import FineTuner

pytestmark = pytest.mark.filterwarnings("ignore:.*they count as unlabelled")


@pytest.fixture
def moons():
    """Two moons of 100 samples each, of which three each have a label."""
    X, y = make_moons(200, noise=0.06, random_state=0)
    few = np.full(200, -1)
    for label in (0, 1):
        few[np.flatnonzero(y == label)[:3]] = label
    return X, y, few


@pytest.fixture
def pretrained(moons):
    return ContractiveAutoencoderTransformer(16, random_state=0).fit(moons[0])


def one_hot(labels):
    return (labels[:, np.newaxis] == np.arange(2)).astype(float)


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_labels_spread_as_the_linear_system_says(share, moons):
    X, _, few = moons
    distances = pairwise_distances(X)
    order = np.argsort(distances, axis=1)[:, 1:8]
    reach = distances[np.arange(200), order[:, -1]]
    edges = np.zeros((200, 200))
    for i, row in enumerate(order):
        edges[i, row] = np.exp(-(distances[i, row] ** 2) / (reach[i] * reach[row]))
    edges = np.maximum(edges, edges.T)
    root = 1 / np.sqrt(edges.sum(axis=1))
    system = np.eye(200) - share * root[:, np.newaxis] * edges * root
    exact = np.linalg.solve(system, one_hot(few))
    graph = spreading.NeighbourGraph(X)
    result = graph.spread(one_hot(few), share)
    expected = exact / exact.sum(axis=1, keepdims=True)
    # Samples that labels hardly reach have no opinion.
    reached = exact.sum(axis=1) > 1e-3
    assert reached.sum() > 50
    assert_allclose(result[reached], expected[reached], atol=1e-2)
    assert graph.distance == pytest.approx(reach.mean())


def test_duplicates_share_their_labels():
    X = np.repeat(np.arange(3.0)[:, np.newaxis], 20, axis=0)
    X[20:40] += 10
    few = np.full(60, -1)
    few[[0, 20]] = 0, 1
    result = spreading.NeighbourGraph(X).spread(one_hot(few))
    assert np.isfinite(result).all()
    assert_allclose(result.sum(axis=1), 1)


def test_a_good_guess_is_trusted(monkeypatch):
    rng = np.random.default_rng(0)
    labels = one_hot(rng.integers(2, size=200))
    good = 0.8 * labels + 0.1
    useless = rng.dirichlet([1, 1], size=200)
    guesses = spreading._safe_log(np.stack([good, useless]))
    weights = spreading._weights_of(guesses, labels)
    assert weights[0] > 1
    assert weights[1] < 0.2
    assert spreading._error(guesses[:1], labels) < spreading._error(guesses[1:], labels)
    losses = []

    def recorded(loss, start, jac, bounds):
        losses.append(loss)
        return original(loss, start, jac=jac, bounds=bounds)

    original = spreading.minimize
    monkeypatch.setattr(spreading, "minimize", recorded)
    spreading._weights_of(guesses, labels)
    value, gradient = (lambda w, i=i: losses[0](w)[i] for i in (0, 1))
    assert check_grad(value, gradient, np.array([0.7, 1.1])) < 1e-3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of LabelSpreading
def test_digits_with_few_labels():
    X, y = load_digits(return_X_y=True)
    results = []
    for seed in range(2):
        X_train, X_test, y_train, y_test = train_test_split(
            X / 16, y, test_size=0.25, stratify=y, random_state=seed
        )
        labelled, _ = train_test_split(
            np.arange(len(y_train)),
            train_size=50,
            stratify=y_train,
            random_state=seed,
        )
        few = np.full(len(y_train), -1)
        few[labelled] = y_train[labelled]
        models = (
            ContractiveAutoencoderClassifier(random_state=seed),
            ContractiveAutoencoderClassifier(random_state=seed, label_spreading=False),
            LabelSpreading(kernel="knn", n_neighbors=7),
        )
        results.append([m.fit(X_train, few).score(X_test, y_test) for m in models])
    spread, alone, graph = np.mean(results, axis=0)
    assert spread > alone + 0.04
    assert spread > graph - 0.02


def test_without_unlabelled_samples_nothing_changes(moons, pretrained):
    X, y, _ = moons
    model = ContractiveAutoencoderClassifier(
        FrozenEstimator(pretrained), random_state=0
    )
    alone = clone(model).set_params(label_spreading=False)
    expected = alone.fit(X, y).predict_proba(X)
    assert_array_equal(model.fit(X, y).predict_proba(X), expected)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, pd.DataFrame, "memory map"])
def test_kinds_of_data(kind, moons, pretrained, tmp_path, monkeypatch):
    X, _, few = moons
    model = ContractiveAutoencoderClassifier(
        FrozenEstimator(pretrained), random_state=0, early_stopping=True
    )
    few = np.where(np.arange(200) % 4 == 0, moons[1], few)
    expected = clone(model).fit(X, few).predict_proba(X)
    if kind == "memory map":
        np.save(tmp_path / "rows.npy", X)
        rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
        # The rows are shuffled as those of an array if all are one run.
        monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 3000)
        assert rows_module.is_out_of_core(rows)
    else:
        rows = kind(X)
    model.fit(rows.to_numpy() if kind is pd.DataFrame else rows, few)
    assert_allclose(model.predict_proba(X), expected, atol=0.2)
    assert (model.predict(X) == expected.argmax(axis=1)).mean() > 0.95


def test_weights_count(moons, pretrained, monkeypatch):
    X, _, few = moons
    seen = []

    def recorded(self, architecture, rows, labels, *args, weights, **kwargs):
        if labels.ndim == 2:
            seen.append((labels, weights))
        original(self, architecture, rows, labels, *args, weights=weights, **kwargs)

    original = FineTuner.__init__
    monkeypatch.setattr(FineTuner, "__init__", recorded)
    sample_weight = np.arange(200) % 3.0  # zeros are left out
    sample_weight[few >= 0] = 1
    ContractiveAutoencoderClassifier(
        FrozenEstimator(pretrained), class_weight={0: 1, 1: 4}, random_state=0
    ).fit(X, few, sample_weight)
    targets, weights = seen[-1]
    kept = sample_weight[sample_weight > 0]
    assert_allclose(targets.sum(axis=1), 1)
    assert_allclose(weights, kept * (targets @ [0.25, 1]))
    labelled = few[sample_weight > 0] >= 0
    assert_array_equal(targets[labelled], one_hot(few[few >= 0]))


def test_many_samples_are_drawn_from(moons, pretrained, monkeypatch):
    X, _, few = moons
    monkeypatch.setattr(spreading, "_MOST_WORK", 2 * 60**2)
    assert spreading.most_samples(2) == 60
    sizes = []
    original = spreading.NeighbourGraph.__init__

    def recorded(self, X):
        sizes.append(len(X))
        original(self, X)

    monkeypatch.setattr(spreading.NeighbourGraph, "__init__", recorded)
    model = ContractiveAutoencoderClassifier(
        FrozenEstimator(pretrained), random_state=0
    )
    model.fit(X, few)
    assert sizes == [60]


def test_interrupts_leave_the_estimator_as_it_was(moons, pretrained, monkeypatch):
    X, y, few = moons
    model = ContractiveAutoencoderClassifier(
        FrozenEstimator(pretrained), random_state=0
    ).fit(X, y)
    before = model.predict_proba(X)
    n_epochs = []
    original = FineTuner.epoch

    def interrupted(self):
        n_epochs.append(1)
        if len(n_epochs) == 5:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(FineTuner, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, few)
    assert_array_equal(model.predict_proba(X), before)
