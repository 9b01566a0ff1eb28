"""Displays of an outlier detector."""

from numbers import Integral

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._detector import ContractiveAutoencoderDetector
from ._common import (
    SAMPLES,
    Display,
    as_dense,
    as_images,
    feature_names,
    gap_between,
    in_rows,
    taken,
)

_DETECTOR = {"estimator": [ContractiveAutoencoderDetector, Pipeline]}


def _split(estimator):
    """Return the steps before a detector, or None, and the detector."""
    steps, detector = None, estimator
    if isinstance(estimator, Pipeline):
        steps, detector = estimator[:-1], estimator[-1]
    if not isinstance(detector, ContractiveAutoencoderDetector):
        raise ValueError(
            "estimator must be a ContractiveAutoencoderDetector, or a Pipeline that "
            f"ends in one. Got {estimator!r} instead."
        )
    return steps if steps else None, detector


def _feature_names(steps, detector):
    """Return the names of the features of a detector after the steps of a pipeline."""
    if steps is not None and not hasattr(detector, "feature_names_in_"):
        try:
            return steps.get_feature_names_out()
        except AttributeError:
            pass  # A step doesn't name what it makes.
    return feature_names(detector)


class OutlierScoreDisplay(Display):
    """Histogram of the scores of samples, and the threshold.

    Use `from_estimator` to create it.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        What the detector's ``score_samples`` returned: the lower, the more of an
        outlier.
    offset : float
        The threshold.
    labels : ndarray of shape (n_samples,), default=None
        Groups of samples that get histograms of their own.

    Attributes
    ----------
    bars_ : list of matplotlib BarContainer
        A histogram for each group.
    line_ : matplotlib Line2D
        The threshold.
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderDetector
    >>> from skcae.displays import OutlierScoreDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ContractiveAutoencoderDetector(random_state=0).fit(X[y < 5] / 16)
    >>> display = OutlierScoreDisplay.from_estimator(detector, X / 16, y < 5)
    """

    def __init__(self, scores, offset, *, labels=None):
        self.scores = scores
        self.offset = offset
        self.labels = labels

    @classmethod
    @validate_params(_DETECTOR, prefer_skip_nested_validation=True)
    def from_estimator(cls, estimator, X, labels=None, *, ax=None, **kwargs):
        """Plot the scores that a fitted detector gives to samples.

        Parameters
        ----------
        estimator : ContractiveAutoencoderDetector or Pipeline
            A fitted detector, or a fitted pipeline that ends in one.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        labels : array-like of shape (n_samples,), default=None
            Groups of samples that get histograms of their own, such as what is known
            of them.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : OutlierScoreDisplay

        Raises
        ------
        ValueError
            If X is invalid, there aren't as many labels as samples, or the pipeline
            doesn't end in such a detector.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        _, detector = _split(estimator)
        scores = estimator.score_samples(X)
        if labels is not None:
            labels = column_or_1d(labels)
            check_consistent_length(scores, labels)
        return cls(scores, detector.offset_, labels=labels).plot(ax, **kwargs)

    @validate_params(
        {"bins": [Interval(Integral, 1, None, closed="left")]},
        prefer_skip_nested_validation=True,
    )
    def plot(self, ax=None, *, bins=40):
        """Draw the histogram, and the threshold as a line.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        bins : int, default=40
            Number of bars, in [1, inf). The lowest scores, up to a hundredth of all,
            share the first one.

        Returns
        -------
        self : OutlierScoreDisplay
        """
        self._set_axes(ax)
        # A few scores far below would leave all others in one bar.
        low = min(np.quantile(self.scores, 0.01), self.offset)
        scores = np.maximum(self.scores, low)
        edges = np.linspace(low, max(scores.max(), self.offset), bins + 1)
        groups = {None: scores}
        if self.labels is not None:
            names = np.unique(self.labels)
            groups = {str(name): scores[self.labels == name] for name in names}
        self.bars_ = [
            self.ax_.hist(values, edges, label=name, alpha=1 if name is None else 0.6)[
                2
            ]
            for name, values in groups.items()
        ]
        n_below = (self.scores < self.offset).sum()
        self.line_ = self.ax_.axvline(
            self.offset,
            color="black",
            linestyle="--",
            label=f"threshold: {n_below} of {len(scores)} below",
        )
        self.ax_.set(xlabel="score (low: outlier)", ylabel="number of samples")
        # The scores of outliers, which are few, are on the left.
        self.ax_.legend(loc="upper left")
        return self


class FeatureErrorDisplay(Display):
    """Squared errors of the features of samples: which ones are to blame.

    Use `from_estimator` to create it.

    Parameters
    ----------
    errors : ndarray of shape (n_samples, height, width) or (n_samples, n_features)
        What the detector's ``feature_errors`` returned, as images or as rows of a
        table.
    inputs : ndarray of the same shape, default=None
        The samples, which are shown above the errors if these are images.
    feature_names : array-like of shape (n_features,), default=None
        Names of the columns of a table; None numbers them from 0.
    sample_names : array-like of shape (n_samples,), default=None
        Names of the rows of a table; None numbers them from 0.

    Attributes
    ----------
    colorbar_ : matplotlib Colorbar
        The scale of the errors.
    ax_ : matplotlib Axes
        Axes with the images or the table.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcae import ContractiveAutoencoderDetector
    >>> from skcae.displays import FeatureErrorDisplay
    >>> X = load_wine().data
    >>> model = make_pipeline(
    ...     StandardScaler(), ContractiveAutoencoderDetector(random_state=0)
    ... ).fit(X)
    >>> display = FeatureErrorDisplay.from_estimator(model, X)
    """

    def __init__(self, errors, inputs=None, *, feature_names=None, sample_names=None):
        self.errors = errors
        self.inputs = inputs
        self.feature_names = feature_names
        self.sample_names = sample_names

    @classmethod
    @validate_params(_DETECTOR | SAMPLES, prefer_skip_nested_validation=False)
    def from_estimator(
        cls, estimator, X, *, image_shape=None, max_samples=10, ax=None, **kwargs
    ):
        """Plot the errors of the samples that are most of outliers.

        Parameters
        ----------
        estimator : ContractiveAutoencoderDetector or Pipeline
            A fitted detector, or a fitted pipeline that ends in one. Of a pipeline the
            features are those that its last step gets.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data. The rows of a table have the names of its index, if it is a DataFrame,
            and their numbers otherwise.
        image_shape : tuple of int (height, width), default=None
            Shape of the images, for features that are pixels; None draws a table.
        max_samples : int, default=10
            Number of samples to show: those with the lowest scores, the lowest first.
            In [1, inf). None shows all.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : FeatureErrorDisplay

        Raises
        ------
        ValueError
            If X is invalid, ``image_shape`` doesn't fit the number of features, or the
            pipeline doesn't end in such a detector.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        steps, detector = _split(estimator)
        order = np.argsort(estimator.score_samples(X), kind="stable")[:max_samples]
        sample_names = np.asarray(X.index)[order] if hasattr(X, "iloc") else order
        X = taken(X, order)
        if steps is not None:
            X = steps.transform(X)
        errors = detector.feature_errors(X)
        images = (
            as_images(rows, image_shape) for rows in (errors, as_dense(X, errors.dtype))
        )
        names = _feature_names(steps, detector)
        return cls(*images, feature_names=names, sample_names=sample_names).plot(
            ax, **kwargs
        )

    def plot(self, ax=None, *, cmap="magma"):
        """Draw the images or the table.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        cmap : str or matplotlib Colormap, default="magma"
            Colormap of the errors.

        Returns
        -------
        self : FeatureErrorDisplay
        """
        is_table = self.errors.ndim == 2
        if is_table:
            blocks = self.errors[None, None]
            self._set_table_axes(ax, blocks.shape)
        else:
            blocks = self.errors
            if self.inputs is not None:
                # On the scale of the errors, each sample has the same largest value.
                inputs = self.inputs - self.inputs.min()
                inputs = inputs * (self.errors.max() / (inputs.max() or 1))
                space = np.full(
                    (len(blocks), gap_between(*blocks.shape[1:]), 1), np.nan
                )
                space = np.broadcast_to(space, (*space.shape[:2], blocks.shape[2]))
                blocks = np.concatenate([inputs, space, blocks], axis=1)
            blocks = in_rows(blocks, 10)
            self._set_image_axes(ax, blocks.shape)
        artist, centres, _ = self._draw_images(
            blocks, is_table=is_table, cmap=cmap, vmin=0, vmax=self.errors.max()
        )
        self._add_colorbar(
            artist, "squared error", "neither", blocks.shape[-1], is_table
        )
        if is_table:
            names = self.sample_names
            names = range(len(self.errors)) if names is None else names
            self._label_table(centres, names, self.errors.shape[1])
            self.ax_.set_ylabel("sample, the lowest score first")
        return self
