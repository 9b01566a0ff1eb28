"""Class probabilities of samples without a label, from those that have one.

Two guesses are combined: that of a graph of nearest neighbours, along which labels
spread, and that of a network that was trained on the labelled samples. How far each is
trusted is measured on labelled samples that are held out.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax, softmax
from sklearn.neighbors import NearestNeighbors

_N_NEIGHBORS = 7
_N_FOLDS = 5

# How much of its neighbours' labels a sample takes, and how often.
_SHARE = 0.9
_N_ITERATIONS = 100

# The same in later rounds, in which each sample has probabilities of its own.
_SHARE_OF_ROUNDS = 0.5
_N_ROUNDS = 2

# The search for neighbours takes n_samples² · n_features multiplications. This many are
# those of 60,000 images of MNIST, a minute of one core.
_MOST_WORK = 3e12

# The least probability, so that logarithms are finite.
_LEAST = 1e-4

# The weights of the two guesses are found as if this had been seen before: equal ones.
_PRIOR_WEIGHT = 0.5
_LARGEST_WEIGHT = 3.0


def most_samples(n_features):
    """Return how many samples may take part."""
    return int(np.sqrt(_MOST_WORK / n_features))


class NeighbourGraph:
    """Labels spread along the edges between nearest neighbours.

    The weights of the edges are exp(−d² / (r r')), where r and r' are the distances of
    the two samples from their farthest neighbours (Zelnik-Manor and Perona,
    "Self-Tuning Spectral Clustering", NIPS 2004). Labels spread as in Zhou et al.,
    "Learning with Local and Global Consistency", NIPS 2003.

    Parameters
    ----------
    X : {ndarray, CSR array} of shape (n_samples, n_features)

    Attributes
    ----------
    distance : float
        Mean distance from the farthest of the neighbours.
    """

    def __init__(self, X):
        n_samples = X.shape[0]
        n_neighbors = min(_N_NEIGHBORS, n_samples - 1)
        search = NearestNeighbors(n_neighbors=n_neighbors).fit(X)
        distances, neighbours = search.kneighbors()
        distances = distances.astype(np.float64)
        self.distance = distances[:, -1].mean()
        # Of samples that are there several times the distance may be zero.
        reach = np.maximum(distances[:, -1], np.finfo(np.float64).tiny ** 0.5)
        with np.errstate(over="ignore"):
            ratios = distances**2 / (reach[:, np.newaxis] * reach[neighbours])
        starts = np.arange(0, n_samples * n_neighbors + 1, n_neighbors)
        edges = csr_array(
            (np.exp(-ratios).ravel(), neighbours.ravel(), starts),
            shape=(n_samples, n_samples),
        )
        edges = edges.maximum(edges.T)
        degrees = np.asarray(edges.sum(axis=1)).ravel()
        root = 1 / np.sqrt(np.maximum(degrees, _LEAST))
        edges.data *= np.repeat(root, np.diff(edges.indptr)) * root[edges.indices]
        self._edges = edges

    def spread(self, labels, share=_SHARE):
        """Return the class probabilities of all samples.

        Parameters
        ----------
        labels : ndarray of shape (n_samples, n_classes)
            1 for the class of a sample with a label, 0 elsewhere; or probabilities.
        share : float
            How much a sample takes from its neighbours, in (0, 1).
        """
        reached = labels
        for _ in range(_N_ITERATIONS):
            reached = share * (self._edges @ reached) + labels
        total = reached.sum(axis=1, keepdims=True)
        n_classes = labels.shape[1]
        equal = np.full_like(reached, 1 / n_classes)
        return np.divide(reached, total, out=equal, where=total > _LEAST**3)


def spread_labels(X, labels, train, rng):
    """Return the class probabilities of all samples, and the noise to learn them with.

    Parameters
    ----------
    X : {ndarray, CSR array} of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples, n_classes)
        1 for the class of a sample with a label, 0 elsewhere.
    train : callable
        ``train(index, targets, level)`` trains a network on samples with these class
        probabilities and with normal noise of this level, and returns a function of
        such an index that returns class probabilities.
    rng : numpy.random.RandomState

    Returns
    -------
    targets : ndarray of shape (n_samples, n_classes)
        Those of samples with a label are ``labels``.
    level : float
        The level of noise to train with.
    """
    labelled = np.flatnonzero(labels.any(axis=1))
    everything = np.arange(len(labels))
    graph = NeighbourGraph(X)
    network = train(labelled, labels[labelled], 0.0)
    guesses = _safe_log(np.stack([graph.spread(labels), network(everything)]))
    held_out = _held_out(graph, labels, labelled, train, rng)
    weights = _weights_of(held_out, labels[labelled])

    def combined(weights, guesses):
        targets = softmax(np.tensordot(weights, guesses, axes=1), axis=1)
        targets[labelled] = labels[labelled]
        return targets

    targets = combined(weights, guesses)
    scale = graph.distance / np.sqrt(X.shape[1])
    level = 0.5 * scale
    errors = [_error(guess[np.newaxis], labels[labelled]) for guess in held_out]
    if errors[0] >= errors[1]:
        return targets, level
    # Where the graph knows more than the network, what a network learns from both is
    # better than the network was; it takes its place twice.
    for _ in range(_N_ROUNDS):
        learnt = _safe_log(train(everything, targets, level)(everything))
        level = 1.5 * scale
        targets = combined([weights[0], 1.0], [guesses[0], learnt])
        spread = _safe_log(graph.spread(targets, _SHARE_OF_ROUNDS))
        targets = combined([weights[0], 1.0], [spread, learnt])
    return targets, level


def _held_out(graph, labels, labelled, train, rng):
    """Return the logarithms of the two guesses for labelled samples, held out."""
    n_folds = min(_N_FOLDS, len(labelled))
    # Each class is dealt out in a random order.
    classes = labels[labelled].argmax(axis=1)
    order = rng.permutation(len(labelled))
    order = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(len(labelled), dtype=int)
    folds[order] = np.arange(len(labelled)) % n_folds
    guesses = np.empty((2, len(labelled), labels.shape[1]))
    for fold in range(n_folds):
        test = folds == fold
        known = labels.copy()
        known[labelled[test]] = 0
        rest = labelled[~test]
        guesses[0, test] = graph.spread(known)[labelled[test]]
        guesses[1, test] = train(rest, labels[rest], 0.0)(labelled[test])
    return _safe_log(guesses)


def _safe_log(probabilities):
    n_classes = probabilities.shape[-1]
    least = min(_LEAST, 0.1 / n_classes)
    return np.log((1 - n_classes * least) * probabilities + least)


def _error(guesses, labels):
    """Return the cross-entropy of labels, with the weights that fit best."""
    z = np.tensordot(_weights_of(guesses, labels), guesses, axes=1)
    return -(labels * log_softmax(z, axis=1)).sum()


def _weights_of(guesses, labels):
    """Return the weights a, b for which p ∝ exp(a log p₁ + b log p₂) fits best."""
    prior = np.full(len(guesses), _PRIOR_WEIGHT)

    def loss(weights):
        z = np.tensordot(weights, guesses, axes=1)
        errors = softmax(z, axis=1) - labels
        gradient = [(errors * guess).sum() for guess in guesses]
        deviation = weights - prior
        value = -(labels * log_softmax(z, axis=1)).sum() + deviation @ deviation
        return value, np.array(gradient) + 2 * deviation

    bounds = [(0, _LARGEST_WEIGHT)] * len(guesses)
    return minimize(loss, prior, jac=True, bounds=bounds).x
