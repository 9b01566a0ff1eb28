"""Displays of a model: its training, its filters and its geometry."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array, check_random_state
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_is_fitted

from .._classifier import ContractiveAutoencoderClassifier
from .._transformer import ContractiveAutoencoderTransformer
from ..engine.geometry import walk
from ..engine.penalties import PENALTIES
from ..engine.rows import as_array, dense
from ..geometry import contraction_ratio, score_field, singular_values, tangent_bases
from ..sampling import sample
from ._common import (
    ESTIMATOR,
    N_COLUMNS,
    SAMPLES,
    Display,
    LineDisplay,
    as_dense,
    as_images,
    check_indices,
    feature_names,
    first_samples,
    gap_between,
    in_rows,
    largest,
    thinned,
)

# The parameter that multiplies a term of the objective, by the term's name in
# ``history_``.
_WEIGHTS = {name: penalty.weight for name, penalty in PENALTIES.items()}
_WEIGHTS["tangent"] = "tangent_weight"  # of a classifier


def _weight(estimator, name):
    """Return the weight of a term as a number, with "auto" resolved."""
    value = getattr(estimator, name)
    return getattr(estimator, f"{name}_") if value == "auto" else value


class TrainingCurveDisplay(Display):
    """The objective by epoch, and its terms with their weights, which sum to it.

    Use `from_estimator` to create it.

    Parameters
    ----------
    curves : dict of ndarray of shape (n_epochs,)
        Curves by label. `from_estimator` gives the "objective" first. Its terms follow:
        those in ``history_``, multiplied by their weights, such as "lam · contraction",
        and "weight decay" if ``alpha > 0``. The last curve is that of held-out samples,
        if there are any; its label ends in "held out".

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        A line for each curve that has positive values.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import TrainingCurveDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> display = TrainingCurveDisplay.from_estimator(cae)
    >>> display.figure_.savefig("training.pdf")  # doctest: +SKIP
    """

    def __init__(self, curves):
        self.curves = curves

    @classmethod
    @validate_params(
        {
            "estimator": [
                ContractiveAutoencoderTransformer,
                ContractiveAutoencoderClassifier,
            ]
        },
        prefer_skip_nested_validation=False,
    )
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the training curves of a fitted estimator.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer or \
                ContractiveAutoencoderClassifier
            A fitted estimator. The curves of a classifier are those of fine-tuning; its
            ``transformer_`` has those of pretraining.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        ValueError
            If the estimator wasn't trained for an epoch: the result of
            `skcae.stacking.stack` has no curves, but the stacked transformers have.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        if estimator.n_iter_ == 0:
            raise ValueError(
                "estimator must have been trained for at least one epoch. Got a "
                f"{type(estimator).__name__} with n_iter_=0, as `skcae.stacking.stack` "
                "returns it: the transformers that were stacked have the curves."
            )
        history = dict(estimator.history_)
        held_out = history.pop("validation_loss", None)
        terms = {}
        for name, values in history.items():
            label, weight = name.replace("_", "-"), _WEIGHTS.get(name)
            if weight is not None:
                label, values = (
                    f"{weight} · {label}",
                    _weight(estimator, weight) * values,
                )
            terms[label] = values
        curves = {"objective": estimator.loss_curve_, **terms}
        if estimator.alpha > 0:
            # A term is NaN in epochs that didn't compute it.
            known = np.nansum(list(terms.values()), axis=0)
            curves["weight decay"] = estimator.loss_curve_ - known
        if held_out is not None:
            # The validation loss of a classifier is the cross-entropy alone.
            whole = isinstance(estimator, ContractiveAutoencoderTransformer)
            curves[f"{'objective' if whole else 'cross-entropy'}, held out"] = held_out
        return cls(curves).plot(ax)

    def plot(self, ax=None):
        """Draw the curves on a logarithmic scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.

        Returns
        -------
        self : TrainingCurveDisplay
        """
        self._set_axes(ax)
        from matplotlib import rcParams
        from matplotlib.ticker import LogLocator

        self.lines_ = []
        n_terms = 0
        for label, values in self.curves.items():
            if label == "objective":
                # Without a penalty, the curve of the loss lies on top of this one.
                style = {"color": rcParams["text.color"], "linewidth": 3, "alpha": 0.4}
            elif label.endswith("held out"):
                style = {"color": rcParams["text.color"], "linestyle": "--"}
            else:
                style = {"color": f"C{n_terms}"}
                n_terms += 1
            values = np.asarray(values)
            if (values > 0).any():  # A logarithmic scale has only positive values.
                epochs = np.arange(1, len(values) + 1)
                marker = "o" if len(values) == 1 else None
                self.lines_ += self.ax_.plot(
                    epochs, values, label=label, marker=marker, **style
                )
        self.ax_.set(xlabel="epoch", ylabel="mean over samples", yscale="log")
        self._count_along_x()
        if not self.lines_:
            return self
        self.ax_.yaxis.set_major_formatter("{x:g}")
        lowest, highest = self.ax_.dataLim.minposy, self.ax_.dataLim.ymax
        if highest < 1000 * lowest:
            # Numbers at 1, 2, 5, 10, ..., since there are few powers of ten.
            self.ax_.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            self.ax_.yaxis.set_minor_formatter("{x:g}")
        # Above the axes, the legend hides no curve, and layouts leave room for it.
        self.ax_.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            fontsize="small",
            frameon=False,
        )
        return self


class ComponentsDisplay(Display):
    """Filters of the first layer: as images, or as bars by feature.

    Use `from_estimator` to create it.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_features)
        The filters.
    image_shape : tuple of int (height, width), default=None
        Shape of the images; None draws bars.
    feature_names : array-like of shape (n_features,), default=None
        Names of the bars.
    indices : array-like of shape (n_components,), default=None
        Numbers of the hidden units, as labels of the filters. None numbers bars from 0,
        and doesn't label images.

    Attributes
    ----------
    colorbar_ : matplotlib Colorbar
        Scale of the images. Only with ``image_shape``.
    ax_ : matplotlib Axes
        Axes with the filters.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import ComponentsDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> display = ComponentsDisplay.from_estimator(cae, image_shape=(8, 8))
    """

    def __init__(
        self, components, *, image_shape=None, feature_names=None, indices=None
    ):
        self.components = components
        self.image_shape = image_shape
        self.feature_names = feature_names
        self.indices = indices

    @classmethod
    @validate_params(
        ESTIMATOR | {"image_shape": [tuple, list, None]},
        prefer_skip_nested_validation=False,
    )
    def from_estimator(
        cls, estimator, *, image_shape=None, indices=None, ax=None, **kwargs
    ):
        """Plot the filters of a fitted estimator.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        image_shape : tuple of int (height, width), default=None
            Shape of the images, for features that are pixels; None draws bars.
        indices : array-like of int or bool, or slice, default=None
            Hidden units to show: their numbers, a mask or a slice. None shows all units
            as images, but only the ten whose filters have the largest norms as bars.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : ComponentsDisplay

        Raises
        ------
        ValueError
            If ``image_shape`` doesn't fit the number of features, or ``indices`` the
            number of hidden units.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        components = estimator.components_
        if indices is not None:
            indices = check_indices(indices, len(components))
        elif image_shape is None:
            indices = largest(np.linalg.norm(components, axis=1), 10)
        if indices is not None:
            components = components[indices]
        display = cls(
            components,
            image_shape=image_shape,
            feature_names=feature_names(estimator),
            indices=indices,
        )
        return display.plot(ax, **kwargs)

    @validate_params(N_COLUMNS, prefer_skip_nested_validation=True)
    def plot(self, ax=None, *, n_columns=None, cmap="RdBu_r"):
        """Draw the filters, all on one scale.

        If there are more than 30 features, only the 30 with the largest weights get
        bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        n_columns : int, default=None
            Number of images in a row, in [1, inf); None makes about as many rows as
            columns. Bars ignore it.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Diverging colormap of the images. Bars are red where the weight is positive
            and blue where it is negative.

        Returns
        -------
        self : ComponentsDisplay
        """
        if self.image_shape is None:
            self._plot_bars(ax)
            return self
        images = as_images(self.components, self.image_shape)
        n_images, height, width = images.shape
        # The numbers are drawn in transparent rows above the images.
        margin = 0 if self.indices is None else -(-max(height, width) // 4)
        images = np.concatenate(
            [np.full((n_images, margin, width), np.nan), images], axis=1
        )
        grid = in_rows(images, n_columns or int(np.ceil(np.sqrt(n_images))))
        self._set_image_axes(ax, grid.shape)
        centres = self._draw_signed_images(grid, cmap, "weight")
        if self.indices is not None:
            self._number_images(*centres, above=height / 2 + 0.5)
        return self

    def _number_images(self, rows, columns, above):
        size = min(7, 160 / len(columns))
        places = ((x, y) for y in rows for x in columns)
        for number, (x, y) in zip(self.indices, places, strict=False):
            self.ax_.text(x, y - above, number, ha="center", va="center", size=size)

    def _plot_bars(self, ax):
        n_components, n_features = self.components.shape
        sizes = np.abs(self.components)
        longest = sizes.max()
        shown = largest(sizes.max(axis=0), 30)
        components, n_shown = self.components[:, shown], len(shown)
        names = self.feature_names
        names = shown if names is None else np.asarray(names)[shown]
        self._set_axes(ax, (min(0.5 * n_components + 3, 10), 0.2 * n_shown + 1.5))
        from matplotlib.collections import PolyCollection

        # Every unit has a column. The longest bar fills nearly half of it.
        x, y = np.indices(components.shape)
        end = x + 0.45 * components / (longest or 1)
        corners = [[x, y - 0.4], [end, y - 0.4], [end, y + 0.4], [x, y + 0.4]]
        # One artist draws all bars, as there may be thousands.
        bars = PolyCollection(
            np.reshape(corners, (4, 2, -1)).transpose(2, 0, 1),
            facecolors=np.where(components > 0, "C3", "C0").ravel(),
            linewidth=0,
        )
        self.ax_.add_collection(bars)
        columns = np.arange(n_components)
        self.ax_.vlines(
            columns,
            -0.5,
            n_shown - 0.5,
            color="0.8",
            linewidth=min(0.8, 20 / n_components),
            zorder=0,
        )
        indices = columns if self.indices is None else self.indices
        self.ax_.set_xticks(*thinned(columns, indices))
        self.ax_.set_yticks(range(n_shown), names)
        if n_shown < n_features:
            self.ax_.set_ylabel(
                f"{n_shown} of {n_features} features\n(largest weights)"
            )
        self.ax_.set(
            xlabel=f"weight by hidden unit\n(longest bar: {longest:.2g})",
            xlim=(-0.6, n_components - 0.4),
            ylim=(n_shown - 0.5, -0.5),
        )
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)


class ReconstructionDisplay(Display):
    """Inputs above their reconstructions, as images or as rows of a table.

    Of a denoising model, the samples without noise can be shown as a third row.

    Use `from_estimator` to create it.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, height, width) or (n_samples, n_features)
        The samples: images, or rows of a table.
    reconstructions : ndarray of the same shape
        Their reconstructions.
    clean : ndarray of the same shape, default=None
        What the inputs were before they were damaged.
    feature_names : array-like of shape (n_features,), default=None
        Names of the columns of a table; None numbers them from 0.

    Attributes
    ----------
    colorbar_ : matplotlib Colorbar or None
        The scale. None for images whose values all lie within the scale.
    ax_ : matplotlib Axes
        Axes with the images or the table.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import ReconstructionDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(cae, X[:10], image_shape=(8, 8))
    """

    def __init__(self, inputs, reconstructions, clean=None, *, feature_names=None):
        self.inputs = inputs
        self.reconstructions = reconstructions
        self.clean = clean
        self.feature_names = feature_names

    @classmethod
    @validate_params(ESTIMATOR | SAMPLES, prefer_skip_nested_validation=False)
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        clean=None,
        image_shape=None,
        max_samples=30,
        ax=None,
        **kwargs,
    ):
        """Plot samples and their reconstructions by a fitted estimator.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples to show.
        clean : {array-like, sparse matrix} of shape (n_samples, n_features), \
                default=None
            What the samples were before they were damaged, to be shown as well.
        image_shape : tuple of int (height, width), default=None
            Shape of the images, for features that are pixels; None draws a table.
        max_samples : int, default=30
            Number of samples to show, the first ones of X. In [1, inf). None shows
            all.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ValueError
            If X is invalid or ``image_shape`` doesn't fit the number of features.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        X = first_samples(X, max_samples)
        field = score_field(estimator, X)
        inputs = as_dense(X, field.dtype)
        rows = [inputs, inputs + field]
        if clean is not None:
            clean = as_dense(first_samples(clean, max_samples), field.dtype)
            if clean.shape != inputs.shape:
                raise ValueError(
                    "clean must have as many samples and features as X. Got shapes "
                    f"{clean.shape} and {inputs.shape} of what is shown."
                )
            rows.append(clean)
        images = (as_images(part, image_shape) for part in rows)
        display = cls(*images, feature_names=feature_names(estimator))
        return display.plot(ax, **kwargs)

    @validate_params(N_COLUMNS, prefer_skip_nested_validation=True)
    def plot(self, ax=None, *, n_columns=None, cmap=None):
        """Draw the images or the table, on the scale of the inputs.

        Values beyond the scale have the colours of its ends, and a colour bar is added.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        n_columns : int, default=None
            Number of images in a row, in [1, inf). None means ten, or fewer if images
            are wide. A table ignores it.
        cmap : str or matplotlib Colormap, default=None
            Colormap. None is "gray" for images and "viridis" for a table.

        Returns
        -------
        self : ReconstructionDisplay
        """
        labels = ["input", "reconstruction"]
        parts = [self.inputs, self.reconstructions]
        if self.clean is not None:
            labels.append("clean")
            parts.append(self.clean)
        if self.inputs.ndim == 2:
            blocks = np.stack(parts, axis=1)
            self._plot_table(ax, self.inputs, blocks, labels, cmap)
            return self
        n_samples, height, width = self.inputs.shape
        gap = gap_between(height, width)
        n_columns = n_columns or max(1, 10 * height // max(height, width))
        # One tile for each sample: the input above the reconstruction.
        space = np.full((n_samples, gap, width), np.nan)
        stacked = [parts[0]]
        for part in parts[1:]:
            stacked += [space, part]
        tiles = in_rows(np.concatenate(stacked, axis=1), n_columns)
        centres, _ = self._draw_images_on_scale_of(
            self.inputs, ax, tiles, cmap or "gray"
        )
        offsets = (height + gap) * (np.arange(len(parts)) - (len(parts) - 1) / 2)
        rows = np.add.outer(centres, offsets).ravel()
        self.ax_.set_yticks(rows, labels * len(tiles))
        return self


class SingularValueDisplay(LineDisplay):
    """Spectrum of the encoder's Jacobian: mean and quantiles over samples.

    Use `from_estimator` to create it. To compare estimators, draw them on the same
    axes, each with a name.

    Parameters
    ----------
    singular_values : ndarray of shape (n_samples, n_values)
        Singular values of each sample's Jacobian, descending.
    name : str, default=None
        Label of the line; None draws no legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The mean.
    band_ : matplotlib PolyCollection
        The range between the quantiles.
    ax_ : matplotlib Axes
        Axes with the spectrum.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skcae.geometry.singular_values : The values.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import SingularValueDisplay
    >>> X = load_digits().data / 16
    >>> ax = None
    >>> for lam in [0.1, 1]:
    ...     cae = ContractiveAutoencoderTransformer(lam=lam, random_state=0).fit(X)
    ...     display = SingularValueDisplay.from_estimator(
    ...         cae, X, name=f"lam={lam}", ax=ax
    ...     )
    ...     ax = display.ax_
    """

    def __init__(self, singular_values, *, name=None):
        self.singular_values = singular_values
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, X, *, name=None, ax=None, **kwargs):
        """Plot the spectrum of a fitted estimator at some samples.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        name : str, default=None
            Label of the line; None draws no legend.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : SingularValueDisplay

        Raises
        ------
        ValueError
            If X is invalid.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        values = singular_values(estimator, X)
        return cls(values, name=name).plot(ax, **kwargs)

    def plot(self, ax=None, *, quantiles=(0.1, 0.9), **kwargs):
        """Draw the mean of each singular value and a band between two quantiles.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        quantiles : tuple of float, default=(0.1, 0.9)
            Lower and upper end of the band, in [0, 1].
        **kwargs
            Further arguments of matplotlib's ``plot`` for the line.

        Returns
        -------
        self : SingularValueDisplay

        Raises
        ------
        ValueError
            If ``quantiles`` are not two ascending numbers in [0, 1].
        """
        try:
            low, high = map(float, quantiles)
        except (TypeError, ValueError):
            low = high = np.nan
        if not 0 <= low <= high <= 1:
            raise ValueError(
                "quantiles must be two floats in the range [0, 1], the lower one first."
                f" Got {quantiles!r} instead."
            )
        lower, upper = np.quantile(self.singular_values, (low, high), axis=0)
        self._set_axes(ax)
        index = np.arange(1, self.singular_values.shape[1] + 1)
        mean = self.singular_values.mean(axis=0)
        self._draw_line(index, mean, kwargs)
        self.band_ = self.ax_.fill_between(
            index,
            lower,
            upper,
            color=self.line_.get_color(),
            alpha=0.2,
            # For a single value, only the outline of the band has a width.
            linewidth=0 if len(index) > 1 else 6,
        )
        self._count_along_x()
        self.ax_.set(
            xlabel="index",
            ylabel=f"singular value\n(mean, {low:.0%} to {high:.0%} of samples)",
        )
        self._name_line()
        return self


class ContractionRatioDisplay(LineDisplay):
    """Contraction curve: how much the encoder contracts distances, by distance.

    Use `from_estimator` to create it. To compare estimators, draw them on the same
    axes, each with a name.

    Parameters
    ----------
    radii : ndarray of shape (n_radii,)
        Distances in the input space.
    ratios : ndarray of shape (n_radii,)
        Contraction ratios.
    name : str, default=None
        Label of the line; None draws no legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skcae.geometry.contraction_ratio : The values.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import ContractionRatioDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> display = ContractionRatioDisplay.from_estimator(cae, X, random_state=0)
    """

    def __init__(self, radii, ratios, *, name=None):
        self.radii = radii
        self.ratios = ratios
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        radii=None,
        n_directions=2,
        random_state=None,
        name=None,
        ax=None,
        **kwargs,
    ):
        """Plot the contraction curve of a fitted estimator around some samples.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        radii : array-like of shape (n_radii,), default=None
            Distances. None means 20 in geometric progression, from 0.01 to 3 times the
            root mean square distance of the samples from their mean. The samples must
            then not all be the same.
        n_directions : int, default=2
            Number of random directions for each sample.
        random_state : int, RandomState instance or None, default=None
            Draws the directions. Pass an int for reproducible results.
        name : str, default=None
            Label of the line; None draws no legend.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of matplotlib's ``plot``.

        Returns
        -------
        display : ContractionRatioDisplay

        Raises
        ------
        ValueError
            If X or another parameter is invalid.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if radii is None:
            rows = check_array(as_array(X), accept_sparse=True, input_name="X")
            rows = dense(rows)
            if (rows == rows[0]).all():
                raise ValueError(
                    "radii must be given if X has no spread to choose them by. Got "
                    f"radii=None and {len(rows)} sample(s), all the same."
                )
            spread = np.sqrt(rows.var(axis=0).sum())
            radii = spread * np.geomspace(0.01, 3, 20)
        ratios = contraction_ratio(
            estimator, X, radii, n_directions=n_directions, random_state=random_state
        )
        return cls(np.asarray(radii), ratios, name=name).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of matplotlib's ``plot``.

        Returns
        -------
        self : ContractionRatioDisplay
        """
        self._set_axes(ax)
        self._draw_line(self.radii, self.ratios, kwargs)
        self.ax_.set(
            xlabel="distance in the input space",
            ylabel="contraction ratio",
            xscale="log",
        )
        # With auto=None, the limits adapt to curves that are added later.
        self.ax_.set_ylim(0, 1.05 * self.ax_.dataLim.ymax, auto=None)
        self._name_line()
        return self


# Number of trial walks that measure the effect of the noise, and the largest variance
# of their ends relative to that of their starts.
_N_TRIAL_WALKS = 100
_KEPT_VARIANCE = 1.1


def _bounded_walks(estimator, X, n_steps, random_state):
    """Return the paths of walks that keep the range and the variance of their starts.

    The paths have the shape (n_walks, n_steps + 1, n_features).
    """
    X = estimator._validate_rows(X)
    starts = as_dense(X, X.dtype)
    low, high = starts.min(), starts.max()
    seeds = check_random_state(random_state).randint(2**31 - 1, size=n_steps)

    def states(rows, sigma):
        yield rows
        for seed in seeds:
            step = walk(1, sigma, int(seed), False)
            entries = max(estimator._fitted_architecture.sizes)
            rows = estimator._map_rows(step, rows, entries_per_row=entries)
            rows = rows.clip(low, high)
            yield rows

    trial = np.resize(starts, (_N_TRIAL_WALKS, starts.shape[1]))
    sigma = 1.0
    if (trial != trial[0]).any():
        allowed = _KEPT_VARIANCE * trial.var(axis=0).sum()
        least, most = 0.01, 100.0
        for _ in range(8):
            sigma = np.sqrt(least * most)
            *_, last = states(trial, sigma)
            if last.var(axis=0).sum() <= allowed:
                least = sigma
            else:
                most = sigma
    return np.stack(list(states(starts, sigma)), axis=1)


class SamplingDisplay(Display):
    """Random walks along the learned manifold, as images or as rows of a table.

    Use `from_estimator` to create it.

    Parameters
    ----------
    paths : ndarray of shape (n_walks, n_states, height, width) or \
            (n_walks, n_states, n_features)
        States of the walks: images, or rows of a table.
    steps : ndarray of shape (n_states,)
        Number of steps that led to each state.
    feature_names : array-like of shape (n_features,), default=None
        Names of the columns of a table; None numbers them from 0.

    Attributes
    ----------
    colorbar_ : matplotlib Colorbar or None
        The scale. None for images whose values all lie within the scale.
    ax_ : matplotlib Axes
        Axes with the images or the table.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skcae.sampling.sample : The walks.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import SamplingDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(
    ...     lam=1, output_activation="sigmoid", loss="cross_entropy", random_state=0
    ... ).fit(X)
    >>> display = SamplingDisplay.from_estimator(
    ...     cae, X[:5], image_shape=(8, 8), random_state=0
    ... )
    """

    def __init__(self, paths, steps, *, feature_names=None):
        self.paths = paths
        self.steps = steps
        self.feature_names = feature_names

    @classmethod
    @validate_params(
        ESTIMATOR
        | SAMPLES
        | {
            "n_steps": [Interval(Integral, 1, None, closed="left")],
            "every": [Interval(Integral, 1, None, closed="left")],
            "sigma": [Interval(Real, 0, None, closed="left"), None],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=False,
    )
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        image_shape=None,
        max_samples=30,
        n_steps=10,
        every=1,
        sigma=None,
        random_state=None,
        ax=None,
        **kwargs,
    ):
        """Plot random walks that start from some samples.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples to start from. Each gets a row of images, or a block of a table.
        image_shape : tuple of int (height, width), default=None
            Shape of the images, for features that are pixels; None draws a table.
        max_samples : int, default=30
            Number of samples to show, the first ones of X. In [1, inf). None shows
            all.
        n_steps : int, default=10
            Number of steps of a walk. In [1, inf).
        every : int, default=1
            Number of steps between two states that are shown, in [1, inf). The state
            after the last step is always shown.
        sigma : float, default=None
            Standard deviation of the noise in the walks of `skcae.sampling.sample`, in
            [0, inf).

            With None, the values of each state are clipped to the range of the samples,
            since walks with an unbounded decoder may leave it. The standard deviation,
            between 0.01 and 100, is then chosen such that the walks' last states have
            about as much variance as the samples; it is 1 if the samples have none.
            With a small ``lam``, reconstruction alone may increase the variance beyond
            that; the standard deviation is then about 0.01.
        random_state : int, RandomState instance or None, default=None
            Draws the noise. Pass an int for reproducible results.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : SamplingDisplay

        Raises
        ------
        ValueError
            If X or another parameter is invalid.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        X = first_samples(X, max_samples)
        if sigma is None:
            path = _bounded_walks(estimator, X, n_steps, random_state)
        else:
            path = sample(
                estimator,
                X,
                n_steps=n_steps,
                sigma=sigma,
                return_path=True,
                random_state=random_state,
            )
        steps = np.append(np.arange(0, n_steps, every), n_steps)
        paths = as_images(path[:, steps], image_shape)
        display = cls(paths, steps, feature_names=feature_names(estimator))
        return display.plot(ax, **kwargs)

    def plot(self, ax=None, *, cmap=None):
        """Draw the images or the table, on the scale of the starting points.

        Values beyond the scale have the colours of its ends, and a colour bar is added.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        cmap : str or matplotlib Colormap, default=None
            Colormap. None is "gray" for images and "viridis" for a table.

        Returns
        -------
        self : SamplingDisplay
        """
        starts = self.paths[:, 0]
        if self.paths.ndim == 3:
            labels = [f"step {n}" for n in self.steps]
            self._plot_table(ax, starts, self.paths, labels, cmap)
            return self
        _, columns = self._draw_images_on_scale_of(
            starts, ax, self.paths, cmap or "gray"
        )
        self.ax_.set_xticks(*thinned(columns, self.steps))
        self.ax_.set_xlabel("step")
        return self


class TangentDisplay(Display):
    """Samples and the tangents of the learned manifold at them.

    They are shown as images or as rows of a table. Use `from_estimator` to create the
    display.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, height, width) or (n_samples, n_features)
        The samples: images, or rows of a table.
    tangents : ndarray of shape (n_samples, n_components, height, width) or \
            (n_samples, n_components, n_features)
        Unit vectors that span the tangent space at each sample.
    feature_names : array-like of shape (n_features,), default=None
        Names of the columns of a table; None numbers them from 0.

    Attributes
    ----------
    colorbar_ : matplotlib Colorbar
        Scale of the tangents.
    ax_ : matplotlib Axes
        Axes with the images.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skcae.geometry.tangent_bases : The tangents.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.displays import TangentDisplay
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(lam=1, random_state=0).fit(X)
    >>> display = TangentDisplay.from_estimator(cae, X[:5], image_shape=(8, 8))
    """

    def __init__(self, samples, tangents, *, feature_names=None):
        self.samples = samples
        self.tangents = tangents
        self.feature_names = feature_names

    @classmethod
    @validate_params(ESTIMATOR | SAMPLES, prefer_skip_nested_validation=False)
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        image_shape=None,
        max_samples=30,
        n_components=6,
        ax=None,
        **kwargs,
    ):
        """Plot samples and their tangents.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples to show. Each gets a row of images, or a block of a table.
        image_shape : tuple of int (height, width), default=None
            Shape of the images, for features that are pixels; None draws a table.
        max_samples : int, default=30
            Number of samples to show, the first ones of X. In [1, inf). None shows
            all.
        n_components : int, default=6
            Number of tangents of a sample.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        **kwargs
            Further arguments of `plot`.

        Returns
        -------
        display : TangentDisplay

        Raises
        ------
        ValueError
            If X or another parameter is invalid.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        X = first_samples(X, max_samples)
        tangents = tangent_bases(estimator, X, n_components)
        samples = as_dense(X, tangents.dtype)
        display = cls(
            as_images(samples, image_shape),
            as_images(tangents, image_shape),
            feature_names=feature_names(estimator),
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax=None, *, cmap=None, tangent_cmap="RdBu_r"):
        """Draw each sample, followed by its tangents; all tangents share one scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        cmap : str or matplotlib Colormap, default=None
            Colormap of the samples. None is "gray" for images and "viridis" for a
            table.
        tangent_cmap : str or matplotlib Colormap, default="RdBu_r"
            Diverging colormap of the tangents.

        Returns
        -------
        self : TangentDisplay
        """
        n_samples, n_components = self.tangents.shape[:2]
        # Samples and tangents are two layers: each is transparent in the other's place.
        samples, tangents = np.full(
            (2, n_samples, n_components + 1, *self.samples.shape[1:]), np.nan
        )
        samples[:, 0] = self.samples
        tangents[:, 1:] = self.tangents
        if self.samples.ndim == 2:
            samples, tangents = samples[:, None], tangents[:, None]
            self._set_table_axes(ax, samples.shape)
            self._draw_images(samples, is_table=True, cmap=cmap or "viridis")
            rows, _ = self._draw_signed_images(
                tangents, tangent_cmap, "unit tangent", is_table=True
            )
            numbers = (f"tangent {i}" for i in range(1, n_components + 1))
            self._label_table(rows, ["sample", *numbers], tangents.shape[-1])
            return self
        self._set_image_axes(ax, samples.shape)
        self._draw_images(samples, cmap=cmap or "gray")
        _, columns = self._draw_signed_images(tangents, tangent_cmap, "unit tangent")
        labels = ["sample", *range(1, n_components + 1)]
        # The word "sample" may be wider than a small image. It is aligned with the
        # image's right edge.
        columns[0] += (self.samples.shape[2] - 1) / 2
        self.ax_.set_xticks(*thinned(columns, labels))
        self.ax_.get_xticklabels()[0].set_horizontalalignment("right")
        return self
