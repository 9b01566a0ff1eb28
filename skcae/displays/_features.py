"""Displays of features: what they show, and what they are worth."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_array, check_random_state
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import HasMethods, Interval, validate_params
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..engine.rows import as_array, dense
from ._common import ESTIMATOR, Display

# More classes than this are told apart by a colour bar, not by a legend.
_MOST_CLASSES = 20


class CodeDisplay(Display):
    """Codes in two dimensions, coloured by label or by value.

    Use `from_estimator` to create it.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        The codes.
    values : ndarray of shape (n_samples,), default=None
        Labels or numbers that the points are coloured by.
    axis_labels : tuple of str, default=("", "")
        Names of the two dimensions.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        The points of each label, or all of them.
    colorbar_ : matplotlib Colorbar or None
        The scale, if values are numbers.
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import CodeDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X / 16)
    >>> display = CodeDisplay.from_estimator(cae, X / 16, y)
    """

    def __init__(self, points, values=None, *, axis_labels=("", "")):
        self.points = points
        self.values = values
        self.axis_labels = axis_labels

    @classmethod
    @validate_params(
        {
            "estimator": [HasMethods("transform")],
            "reducer": [HasMethods("fit_transform"), None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(cls, estimator, X, values=None, *, reducer=None, ax=None):
        """Plot the codes of samples.

        Parameters
        ----------
        estimator : estimator with ``transform``
            A fitted transformer, of this library or not, or a pipeline.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        values : array-like of shape (n_samples,), default=None
            Labels or numbers to colour the points by.
        reducer : transformer, default=None
            What takes the codes to two dimensions: a clone of it is fitted to them.
            None is `~sklearn.decomposition.PCA`; codes of two units are shown as they
            are.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.

        Returns
        -------
        display : CodeDisplay

        Raises
        ------
        ValueError
            If X is invalid, if there aren't as many values as samples, or if the
            reducer doesn't return two dimensions.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        codes = check_array(estimator.transform(X))
        if values is not None:
            values = column_or_1d(values)
            check_consistent_length(codes, values)
        if reducer is None and codes.shape[1] == 2:
            return cls(codes, values, axis_labels=("unit 0", "unit 1")).plot(ax)
        reducer = PCA(2) if reducer is None else clone(reducer)
        points = np.asarray(reducer.fit_transform(codes))
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(
                "reducer must return two dimensions. Got an array of shape "
                f"{points.shape} from {reducer!r} instead."
            )
        parts = getattr(reducer, "explained_variance_ratio_", (None, None))
        labels = tuple(
            f"{type(reducer).__name__} {i + 1}"
            + ("" if part is None else f" ({part:.0%} of the variance)")
            for i, part in enumerate(parts)
        )
        return cls(points, values, axis_labels=labels).plot(ax)

    def plot(self, ax=None, *, cmap=None, **kwargs):
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        cmap : str or matplotlib Colormap, default=None
            Colours of the values. None is "tab10" or "tab20" for labels, "viridis" for
            numbers.
        **kwargs
            Further arguments of matplotlib's ``scatter``.

        Returns
        -------
        self : CodeDisplay
        """
        self._set_axes(ax)
        import matplotlib as mpl

        options = {"s": 12, "linewidths": 0, "alpha": 0.8, **kwargs}
        values, self.colorbar_ = self.values, None
        names = [] if values is None else np.unique(values)
        if 0 < len(names) <= _MOST_CLASSES and _are_labels(values):
            colors = mpl.colormaps[cmap or ("tab10" if len(names) <= 10 else "tab20")]
            step = 1 if colors.N <= _MOST_CLASSES else colors.N // len(names)
            self.points_ = [
                self.ax_.scatter(
                    *self.points[values == name].T,
                    color=[colors(step * i)],
                    label=str(name),
                    **options,
                )
                for i, name in enumerate(names)
            ]
            # Beside the points, not on them.
            self.ax_.legend(
                loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, frameon=False
            )
        else:
            color = {} if values is None else {"c": values, "cmap": cmap or "viridis"}
            self.points_ = [self.ax_.scatter(*self.points.T, **color, **options)]
            if values is not None:
                self.colorbar_ = self.figure_.colorbar(self.points_[0], ax=self.ax_)
        self.ax_.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])
        return self


def _are_labels(values):
    return type_of_target(values) in ("binary", "multiclass")


class RobustnessDisplay(Display):
    """Scores of estimators on noisy samples, by the size of the noise.

    Use `from_estimators` to create it.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
        Standard deviations of the noise, in those of a feature.
    scores : dict of ndarray of shape (n_levels, n_repeats)
        Scores by the estimators' names.
    score_name : str, default="score"
        Label of the scores' axis.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The mean score of each estimator.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import RobustnessDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> cae = ContractiveAutoencoderTransformer(lam=1, random_state=0)
    >>> models = {
    ...     name: make_pipeline(
    ...         features, StandardScaler(), LogisticRegression(max_iter=1000)
    ...     ).fit(X[::2] / 16, y[::2])
    ...     for name, features in [("raw", None), ("PCA", PCA(32)), ("lam=1", cae)]
    ... }
    >>> display = RobustnessDisplay.from_estimators(
    ...     models, X[1::2] / 16, y[1::2], random_state=0
    ... )
    """

    def __init__(self, levels, scores, *, score_name="score"):
        self.levels = levels
        self.scores = scores
        self.score_name = score_name

    @classmethod
    @validate_params(
        {
            "estimators": [dict],
            "scorer": [callable, None],
            "n_repeats": [Interval(Integral, 1, None, closed="left")],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimators(
        cls,
        estimators,
        X,
        y=None,
        *,
        levels=(0, 0.25, 0.5, 0.75, 1, 1.25, 1.5),
        scorer=None,
        n_repeats=3,
        random_state=None,
        ax=None,
    ):
        """Score fitted estimators on samples with normal noise, and plot the scores.

        Parameters
        ----------
        estimators : dict of str to estimator
            Fitted estimators by name, such as pipelines that end in the same
            classifier. All get the same noisy samples.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples that none of them has seen.
        y : array-like of shape (n_samples,), default=None
            Their labels or targets.
        levels : array-like, default=(0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)
            Standard deviations of the noise, in [0, inf), in units of the root of the
            mean variance of the features of X.
        scorer : callable, default=None
            ``scorer(estimator, X, y)`` returns a score. None is the estimators' own
            ``score``.
        n_repeats : int, default=3
            How often noise is drawn at each level, in [1, inf).
        random_state : int, RandomState instance or None, default=None
            Draws the noise. Pass an int for reproducible results.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.

        Returns
        -------
        display : RobustnessDisplay

        Raises
        ------
        ValueError
            If X or ``levels`` are invalid, or ``estimators`` are none.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimators")
        if not estimators:
            raise ValueError("estimators must have at least one item. Got none.")
        levels = check_array(levels, ensure_2d=False, input_name="levels", dtype=float)
        if levels.ndim != 1 or levels.min() < 0:
            raise ValueError(
                "levels must be a list of numbers in the range [0, inf). Got "
                f"{levels.tolist()!r} instead."
            )
        rows = dense(check_array(as_array(X), accept_sparse="csr", input_name="X"))
        unit = np.sqrt(rows.var(axis=0).mean())
        rng = check_random_state(random_state)
        scores = {name: np.empty((len(levels), n_repeats)) for name in estimators}
        for repeat in range(n_repeats):
            noise = rng.standard_normal(rows.shape)
            for i, level in enumerate(levels):
                noisy = rows + level * unit * noise
                for name, estimator in estimators.items():
                    scores[name][i, repeat] = (
                        estimator.score(noisy, y)
                        if scorer is None
                        else scorer(estimator, noisy, y)
                    )
        return cls(levels, scores).plot(ax)

    def plot(self, ax=None, **kwargs):
        """Draw the mean scores, with bands from the least to the greatest.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of matplotlib's ``plot``.

        Returns
        -------
        self : RobustnessDisplay
        """
        self._set_axes(ax)
        self.lines_ = []
        for name, scores in self.scores.items():
            options = {"label": name, "marker": "o", "markersize": 3, **kwargs}
            (line,) = self.ax_.plot(self.levels, scores.mean(axis=1), **options)
            self.ax_.fill_between(
                self.levels,
                scores.min(axis=1),
                scores.max(axis=1),
                color=line.get_color(),
                alpha=0.15,
                linewidth=0,
            )
            self.lines_.append(line)
        self.ax_.set(
            xlabel="noise, in standard deviations of a feature", ylabel=self.score_name
        )
        self.ax_.legend()
        return self


class PenaltySweepDisplay(Display):
    """The loss and the contraction by lam, and a score where there is one.

    Use `from_estimator` or `from_search` to create it.

    Parameters
    ----------
    lams : ndarray of shape (n_lams,)
        Values of ``lam``, ascending.
    curves : dict of ndarray of shape (n_lams,)
        Positive values by label, drawn on a logarithmic scale.
    scores : ndarray of shape (n_lams, n_scores), default=None
        Scores, drawn on a scale of their own.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        A line for each curve, and one for the mean score.
    ax_ : matplotlib Axes
        Axes with the curves; of the scores, if there are no others.
    score_ax_ : matplotlib Axes or None
        Axes with the scores.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import PenaltySweepDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0)
    >>> display = PenaltySweepDisplay.from_estimator(
    ...     cae, X[::2], X[1::2], lams=[0.01, 0.1, 1, 10]
    ... )
    """

    def __init__(self, lams, curves, scores=None):
        self.lams = lams
        self.curves = curves
        self.scores = scores

    @classmethod
    @validate_params(
        {
            **ESTIMATOR,
            "lams": ["array-like", Interval(Integral, 2, None, closed="left")],
            "scorer": [callable, None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls, estimator, X, X_test=None, *, lams=7, scorer=None, ax=None, **kwargs
    ):
        """Fit clones of an estimator with several lam, and plot what comes of it.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            What to clone; it need not be fitted.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        X_test : {array-like, sparse matrix} of shape (n_samples, n_features), \
                default=None
            What to compute loss and contraction of. None is X.
        lams : array-like of float or int, default=7
            Values of ``lam``, in (0, inf); or how many to take from 0.1 to 1000 times
            that of ``lam="auto"``, in [2, inf).
        scorer : callable, default=None
            ``scorer(fitted)`` returns a score, or several, to be drawn as well: of a
            classifier on the features, say.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : PenaltySweepDisplay

        Raises
        ------
        ValueError
            If the data or ``lams`` are invalid, or a fit fails.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if isinstance(lams, Integral):
            start = clone(estimator).set_params(lam="auto", max_iter=1, tol=np.inf)
            lams = start.fit(X).lam_ * np.geomspace(0.1, 1000, lams)
        lams = np.sort(check_array(lams, ensure_2d=False, input_name="lams"))
        if lams.ndim != 1 or lams.min() <= 0:
            raise ValueError(
                "lams must be a list of numbers in the range (0, inf). Got "
                f"{lams.tolist()!r} instead."
            )
        X_test = X if X_test is None else X_test
        losses, contractions, scores = [], [], []
        for lam in lams:
            fitted = clone(estimator).set_params(lam=float(lam)).fit(X)
            losses.append(-fitted.score(X_test))
            contractions.append(fitted.contraction(X_test).mean())
            if scorer is not None:
                scores.append(np.ravel(scorer(fitted)))
        curves = {
            "reconstruction": np.array(losses),
            "contraction": np.array(contractions),
        }
        return cls(lams, curves, np.array(scores) if scores else None).plot(
            ax, **kwargs
        )

    @classmethod
    @validate_params(
        {"search": [HasMethods(["fit", "get_params"])]},
        prefer_skip_nested_validation=True,
    )
    def from_search(cls, search, *, ax=None, **kwargs):
        """Plot the scores of a search over lam, of the best for each.

        Parameters
        ----------
        search : GridSearchCV or the like
            A fitted search, over ``lam`` or a parameter whose name ends in ``__lam``.
            Candidates such as ``"auto"`` or 0 aren't shown.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : PenaltySweepDisplay

        Raises
        ------
        ValueError
            If the search isn't over one such parameter, or has no number above 0 for
            it.
        """
        check_matplotlib_support(f"{cls.__name__}.from_search")
        results = getattr(search, "cv_results_", {})
        names = [
            name for name in results if name == "param_lam" or name.endswith("__lam")
        ]
        if len(names) != 1:
            raise ValueError(
                "search must be fitted, over lam or one parameter whose name ends in "
                f"__lam. Got {search!r} instead."
            )
        lams = np.array(results[names[0]])
        are_numbers = np.array([isinstance(lam, Real) and lam > 0 for lam in lams])
        if not are_numbers.any():
            raise ValueError(
                "search must be over numbers in the range (0, inf) for lam. Got "
                f"{lams.tolist()!r} instead."
            )
        folds = [
            np.asarray(values)
            for name, values in results.items()
            if name.startswith("split") and name.endswith("_test_score")
        ]
        folds = np.stack(folds, axis=1)
        values = np.unique(lams[are_numbers].astype(float))
        scores = []
        for value in values:
            rows = folds[[isinstance(lam, Real) and lam == value for lam in lams]]
            scores.append(rows[rows.mean(axis=1).argmax()])
        return cls(values, {}, np.array(scores)).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the curves, and the scores with a band from least to greatest.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of matplotlib's ``plot``.

        Returns
        -------
        self : PenaltySweepDisplay
        """
        self._set_axes(ax)
        self.lines_, self.score_ax_ = [], None
        options = {"marker": "o", "markersize": 3, **kwargs}
        for name, values in self.curves.items():
            self.lines_ += self.ax_.plot(self.lams, values, label=name, **options)
        self.ax_.set(xlabel="lam", xscale="log")
        if self.curves:
            self.ax_.set(ylabel=", ".join(self.curves), yscale="log")
        if self.scores is not None:
            self.score_ax_ = self.ax_.twinx() if self.curves else self.ax_
            color = f"C{len(self.curves)}"
            self.lines_ += self.score_ax_.plot(
                self.lams,
                self.scores.mean(axis=1),
                label="score",
                **{"color": color, **options},
            )
            self.score_ax_.fill_between(
                self.lams,
                self.scores.min(axis=1),
                self.scores.max(axis=1),
                color=self.lines_[-1].get_color(),
                alpha=0.15,
                linewidth=0,
            )
            self.score_ax_.set_ylabel("score")
        self.ax_.legend(handles=self.lines_)
        return self
