"""An outlier detector in the space of a contractive autoencoder."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.neighbors import LocalOutlierFactor
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ._epochs import all_or_nothing
from ._pickles import StampedMixin
from ._pretraining import TRANSFORMERS, Pretraining
from ._validation import validated, validated_weights, without_zeros
from .engine import inference
from .engine.distributed import current_group
from .engine.rows import as_array

# Errors of more features than the first number are projected to as many dimensions as
# the second: that keeps their distances well enough.
_MANY_FEATURES = 256
_N_DIRECTIONS = 64

# Neighbours are looked for among at most as many rows.
_MOST_ROWS = 10_000

# The size of errors, that of codes being 1.
_SIZE_OF_ERRORS = 0.5

# Points nearer to each other than this, rounding that is, are the same.
SAME = 1e-4


class ContractiveAutoencoderDetector(OutlierMixin, StampedMixin, BaseEstimator):
    """Outlier detection: rows unlike their neighbours, as an autoencoder sees them.

    A contractive autoencoder is fitted to all samples. Each sample then has a code
    h(x) and an error of reconstruction x − x̂. Both together, each divided by its size
    over the training samples, are the point ::

        (h / √Σ_j var(h_j),  ½ (x − x̂) / √(mean ‖x − x̂‖²))

    whose local outlier factor [1]_ is the score: how much less dense the points are
    around it than around its neighbours. So a sample is an outlier that the model
    can't reconstruct as its neighbours, and one that it can, but whose code is remote.

    Scale the data before, as for `ContractiveAutoencoderTransformer`.

    Parameters
    ----------
    transformer : ContractiveAutoencoderTransformer, Pipeline, FrozenEstimator or \
            None, default=None
        The autoencoder: a clone of it is fitted. None is one with default parameters. A
        `~sklearn.pipeline.Pipeline` of transformers is fitted layer by layer; see
        `skcae.stacking.stack` for what its steps may be. To use an autoencoder or a
        pipeline that is fitted already, pass it as ``FrozenEstimator(fitted)``; it
        stays as it is.

    contamination : float, default=0.1
        The part of the training samples that are outliers, in (0, 0.5]: where the
        threshold ``offset_`` is.

    n_neighbors : int, default=20
        Number of neighbours whose density is compared, in [1, inf); of fewer samples,
        all others. Fewer find smaller groups of outliers, more are steadier.

    random_state : int, RandomState instance or None, default=None
        Seeds the transformer, unless that has a ``random_state`` of its own, and
        whatever is drawn where there are very many samples or features; see Notes. Pass
        an int for reproducible results.
        See :term:`Glossary <random_state>`.

    Attributes
    ----------
    transformer_ : ContractiveAutoencoderTransformer
        The fitted autoencoder.

    offset_ : float
        The threshold: `decision_function` is `score_samples` minus this. The part
        ``contamination`` of the training samples is below.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of features seen during :term:`fit`. Defined only when X has feature
        names that are all strings.

    See Also
    --------
    sklearn.neighbors.LocalOutlierFactor : The same score, of the samples themselves.
    skcae.displays.OutlierScoreDisplay : The scores and the threshold.
    skcae.displays.FeatureErrorDisplay : Which features of a sample are to blame.

    Notes
    -----
    Neighbours are looked for among the training samples, or 10,000 of them drawn at
    random. Errors of more than 256 features are projected to 64 random directions,
    which keeps distances to about a tenth. A sample that was trained on is no neighbour
    of itself.

    References
    ----------
    .. [1] M. M. Breunig, H.-P. Kriegel, R. T. Ng and J. Sander, "LOF: Identifying
       Density-Based Local Outliers", SIGMOD 2000.

    Examples
    --------
    Images of eights among those of zeros:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.metrics import roc_auc_score
    >>> from skcae import ContractiveAutoencoderDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> detector = ContractiveAutoencoderDetector(random_state=0).fit(X[y == 0])
    >>> others = X[(y == 0) | (y == 8)]
    >>> is_zero = y[(y == 0) | (y == 8)] == 0
    >>> roc_auc_score(is_zero, detector.decision_function(others)) > 0.99
    True
    """

    _parameter_constraints: dict = {
        "transformer": TRANSFORMERS,
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        transformer=None,
        *,
        contamination=0.1,
        n_neighbors=20,
        random_state=None,
    ):
        self.transformer = transformer
        self.contamination = contamination
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the autoencoder, and the threshold, to the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data, which may hold outliers. It is not modified.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, in [0, inf), in the autoencoder's training and in
            the part that ``offset_`` leaves below; only their ratios matter. A sample
            of weight 0 is left out. Neighbours count alike. None is 1 for each.

        Returns
        -------
        self : ContractiveAutoencoderDetector
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, or if the autoencoder's training
            fails. An estimator that was fitted before stays as it was.
        NotImplementedError
            In `skcae.distributed.data_parallel` with more than one process.

        Warns
        -----
        UserWarning
            If more than ``n_neighbors`` samples are the same; and whatever the
            transformer warns of.
        """
        if current_group().size > 1:
            raise NotImplementedError(
                f"{type(self).__name__} can't be fitted in data_parallel. Fit a "
                "ContractiveAutoencoderTransformer there, and pass it as "
                "FrozenEstimator to a detector that is fitted outside."
            )
        with all_or_nothing(self):
            rows = validated(self, as_array(X), order="C", ensure_min_samples=2)
            weights = validated_weights(sample_weight, len(rows))
            if weights is not None and not weights.all():
                X = _safe_indexing(X, np.flatnonzero(weights))
                rows, weights = without_zeros(rows, weights)
            rng = check_random_state(self.random_state)
            seed = rng.randint(np.iinfo(np.int32).max)
            start = Pretraining(self.transformer, X, rows.shape[1], seed)
            self.transformer_ = start.run(X, weights)
            self._fit_neighbors(rows, rng)
            scores = self._scores(rows)
            self.offset_ = _quantile(scores, weights, self.contamination)
        return self

    def _fit_neighbors(self, rows, rng):
        n_features = rows.shape[1]
        self._directions = None
        if n_features > _MANY_FEATURES:
            self._directions = rng.standard_normal((n_features, _N_DIRECTIONS))
            self._directions /= _N_DIRECTIONS**0.5
        if len(rows) > _MOST_ROWS:
            rows = rows.take(np.sort(rng.permutation(len(rows))[:_MOST_ROWS]))
        self._scale = np.ones(1)
        points = self._points(rows)
        n_hidden = self.transformer_._n_features_out
        code, error = points[:, :n_hidden], points[:, n_hidden:]
        size, size_of_error = (
            np.sqrt(size) or 1.0
            for size in (code.var(axis=0).sum(), np.square(error).sum(axis=1).mean())
        )
        self._scale = np.repeat(
            [size, size_of_error / _SIZE_OF_ERRORS], [n_hidden, error.shape[1]]
        )
        n_neighbors = min(self.n_neighbors, len(rows) - 1)
        self._points_known = points / self._scale
        self._neighbors = LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True)
        self._neighbors.fit(self._points_known)

    def _points(self, rows):
        """Return the point of each row: its code and its error, scaled."""
        points = self.transformer_._map_rows(
            inference.code_and_error(self._directions),
            rows,
            entries_per_row=max(self.transformer_._fitted_architecture.sizes),
            takes_sparse=self._directions is not None,
        )
        return points.astype(np.float64) / self._scale

    def _scores(self, rows):
        points = self._points(rows)
        scores = self._neighbors.score_samples(points)
        # Rows of the training set aren't neighbours of themselves.
        distances, index = self._neighbors.kneighbors(points, n_neighbors=1)
        known = distances[:, 0] <= SAME
        scores[known] = self._neighbors.negative_outlier_factor_[index[known, 0]]
        return scores

    def score_samples(self, X):
        """Compute minus the local outlier factor of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            About −1 for samples like their neighbours; the lower, the more of an
            outlier.
        """
        return self._scores(self._validated(X))

    def decision_function(self, X):
        """Compute how far each sample is on the inner side of the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            `score_samples` minus ``offset_``: negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell inliers from outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data, of the training or new.

        Returns
        -------
        is_inlier : ndarray of shape (n_samples,)
            1 for inliers, −1 for outliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def feature_errors(self, X):
        """Compute the squared error of each feature: which ones are to blame.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        errors : ndarray of shape (n_samples, n_features)
            (x_i − x̂_i)². An outlier by its code alone may have no large ones.
        """
        rows = self._validated(X)
        sizes = self.transformer_._fitted_architecture.sizes
        return self.transformer_._map_rows(
            inference.squared_errors, rows, entries_per_row=max(sizes)
        )

    def _validated(self, X):
        check_is_fitted(self)
        return validated(self, as_array(X), reset=False)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "offset_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _quantile(values, weights, part):
    """Return the value below which a part of all values, by their weights, is."""
    order = np.argsort(values)
    weights = np.ones(len(values)) if weights is None else weights[order]
    below = np.cumsum(weights)
    # Between two values, at the middles of their weights.
    middles = (below - weights / 2) / below[-1]
    return float(np.interp(part, middles, values[order]))
