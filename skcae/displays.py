"""Figures of a fitted contractive autoencoder, in the style of scikit-learn's displays.

``from_estimator`` computes and draws. The constructor only stores arrays. ``plot`` can
draw them again, on other axes or with other options.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import _safe_indexing, check_array, check_random_state
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_is_fitted

from ._classifier import ContractiveAutoencoderClassifier
from ._transformer import ContractiveAutoencoderTransformer
from .engine.geometry import walk
from .engine.penalties import PENALTIES
from .engine.rows import as_array, dense
from .geometry import contraction_ratio, score_field, singular_values, tangent_bases
from .sampling import sample

__all__ = [
    "ComponentsDisplay",
    "ContractionRatioDisplay",
    "ReconstructionDisplay",
    "SamplingDisplay",
    "SingularValueDisplay",
    "TangentDisplay",
    "TrainingCurveDisplay",
]

_ESTIMATOR = {"estimator": [ContractiveAutoencoderTransformer]}
_N_COLUMNS = {"n_columns": [Interval(Integral, 1, None, closed="left"), None]}
_SAMPLES = {
    "image_shape": [tuple, list, None],
    "max_samples": [Interval(Integral, 1, None, closed="left"), None],
}

# The parameter that multiplies a term of the objective, by the term's name in
# ``history_``.
_WEIGHTS = {name: penalty.weight for name, penalty in PENALTIES.items()}
_WEIGHTS["tangent"] = "tangent_weight"  # of a classifier


def _weight(estimator, name):
    """Return the weight of a term as a number, with "auto" resolved."""
    value = getattr(estimator, name)
    return getattr(estimator, f"{name}_") if value == "auto" else value


def _as_images(X, image_shape):
    """Reshape the last axis of X to ``image_shape``, unless that is None."""
    if image_shape is None:
        return X
    are_sizes = all(isinstance(n, Integral) and n >= 1 for n in image_shape)
    if not are_sizes or len(image_shape) != 2 or np.prod(image_shape) != X.shape[-1]:
        raise ValueError(
            "image_shape must be two ints in the range [1, inf), a height and a width, "
            f"whose product is the number of features, {X.shape[-1]}. Got "
            f"{image_shape!r} instead."
        )
    return X.reshape(*X.shape[:-1], *image_shape)


def _first_samples(X, n):
    """Return the first n rows of anything an estimator accepts; None means all rows."""
    if n is None:
        return X
    if hasattr(X, "tocsr"):  # Some sparse formats don't support slices.
        return X.tocsr()[:n]
    # If X isn't two-dimensional, the estimator will raise an error that says so.
    return _safe_indexing(X, slice(0, n)) if np.ndim(X) == 2 else X


def _feature_names(estimator):
    """Return the names of an estimator's features; without names, x0, x1, ..."""
    made_up = [f"x{i}" for i in range(estimator.n_features_in_)]
    return getattr(estimator, "feature_names_in_", made_up)


def _as_dense(X, dtype):
    """Return rows that the estimator has validated as a dense array, to show them."""
    return np.asarray(dense(as_array(X)), dtype=dtype)


def _largest(values, n):
    """Return the indices of the n largest values, ascending."""
    return np.sort(np.argsort(-values, kind="stable")[:n])


def _check_indices(indices, n_units):
    """Return the numbers of the hidden units that ``indices`` selects."""
    try:
        selected = indices if isinstance(indices, slice) else np.asarray(indices)
        numbers = np.arange(n_units)[selected]
    except (IndexError, TypeError, ValueError):
        numbers = np.array([])
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError(
            f"indices must be a list of ints in the range [{-n_units}, {n_units}), a "
            f"mask of {n_units} bools, or a slice, and select at least one hidden unit."
            f" Got {indices!r} instead."
        )
    return numbers


def _in_rows(images, n_columns):
    """Arrange images in rows of n_columns; transparent images fill the last row."""
    n_columns = min(n_columns, len(images))
    n_rows = -(-len(images) // n_columns)
    grid = np.full((n_rows * n_columns, *images.shape[1:]), np.nan)
    grid[: len(images)] = images
    return grid.reshape(n_rows, n_columns, *images.shape[1:])


def _gap(height, width):
    """Return the number of transparent pixels between two images."""
    return max(1, round(max(height, width) / 14))


def _thinned(ticks, labels, n=25):
    """Return at most n ticks and their labels: every k-th, evenly spaced."""
    every = -(-len(ticks) // n)
    return ticks[::every], labels[::every]


class _Display:
    def _set_axes(self, ax, figsize=None, layout="constrained"):
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=figsize, layout=layout)
        self.ax_ = ax
        self.figure_ = ax.figure

    def _count_along_x(self):
        """Put ticks only at whole numbers from 1 on, and at least one tick."""
        from matplotlib.ticker import MaxNLocator

        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        self.ax_.set_xlim(left=0.5, auto=None)

    def _set_image_axes(self, ax, shape):
        """Make axes for images of shape (n_rows, n_columns, height, width)."""
        n_rows, n_columns, height, width = shape
        gap = _gap(height, width)
        pixels = np.array([n_columns * (width + gap), n_rows * (height + gap)])
        # The size of a pixel in inches. All images fit on a page, unless there are so
        # many that the images and their labels would be illegible.
        limits = sorted([0.3 / min(height, width), 0.8 / max(height, width)])
        size = np.clip(8 / pixels.max(), *limits)
        figsize = np.maximum(pixels * size + (2, 0.8), (3.5, 1.8))
        # If axes have a fixed aspect, "constrained" may cut off their labels on the
        # left.
        self._set_axes(ax, figsize, "compressed")

    def _set_table_axes(self, ax, shape):
        """Make axes for blocks of rows, of shape (n_blocks, 1, n_rows, n_features)."""
        n_blocks, _, n_rows, n_features = shape
        figsize = np.clip(0.3 * n_features, 2, 9) + 3, 0.2 * n_blocks * (n_rows + 1) + 2
        self._set_axes(ax, figsize)

    def _draw_images(self, images, *, is_table=False, **kwargs):
        """Draw images of shape (n_rows, n_columns, height, width); NaN is transparent.

        The blocks of a table are images that may be stretched.

        Returns the artist, and the centres of the rows and of the columns.
        """
        n_rows, n_columns, height, width = images.shape
        # All images are tiles of one large image, so that any axes can show them.
        gap = 1 if is_table else _gap(height, width)
        tiles = np.full((n_rows, height + gap, n_columns, width + gap), np.nan)
        tiles[:, :height, :, :width] = images.transpose(0, 2, 1, 3)
        mosaic = tiles.reshape(n_rows * (height + gap), n_columns * (width + gap))
        artist = self.ax_.imshow(
            mosaic[:-gap, :-gap],
            interpolation="nearest",
            aspect="auto" if is_table else "equal",
            **kwargs,
        )
        self.ax_.set(xticks=[], yticks=[])
        self.ax_.spines[:].set_visible(False)
        self.ax_.tick_params(
            length=0, top=True, labeltop=True, bottom=False, labelbottom=False
        )
        self.ax_.xaxis.set_label_position("top")
        centres = (
            np.arange(n) * (size + gap) + (size - 1) / 2
            for n, size in [(n_rows, height), (n_columns, width)]
        )
        return artist, *centres

    def _draw_signed_images(self, images, cmap, label, *, is_table=False):
        """Draw images on a scale symmetric about zero, with a colour bar."""
        # The scale ignores the largest 1% of entries; otherwise most would look pale.
        limit = np.nanquantile(np.abs(images), 0.99)
        artist, *centres = self._draw_images(
            images, is_table=is_table, cmap=cmap, vmin=-limit, vmax=limit
        )
        self._add_colorbar(artist, label, "both", images.shape[-1], is_table)
        return centres

    def _draw_images_on_scale_of(self, inputs, ax, images, cmap, *, is_table=False):
        """Make axes and draw images on the scale of the inputs.

        There is a colour bar if values exceed that scale, and always for a table.
        """
        vmin, vmax = inputs.min(), inputs.max()
        low, high = np.nanmin(images), np.nanmax(images)
        # A difference of less than one of 256 shades isn't visible.
        shade = (vmax - vmin) / 256
        exceeds = (low < vmin - shade, high > vmax + shade)
        make_axes = self._set_table_axes if is_table else self._set_image_axes
        make_axes(ax, images.shape)
        artist, *centres = self._draw_images(
            images, is_table=is_table, cmap=cmap, vmin=vmin, vmax=vmax
        )
        self.colorbar_ = None
        if any(exceeds) or is_table:
            label = "value"
            if any(exceeds):
                label += f"\n({low:.2g} to {high:.2g})"
            extend = {
                (True, True): "both",
                (True, False): "min",
                (False, True): "max",
                (False, False): "neither",
            }[exceeds]
            label = label.replace("-", "\N{MINUS SIGN}")
            self._add_colorbar(artist, label, extend, images.shape[-1], is_table)
        return centres

    def _plot_table(self, ax, inputs, blocks, labels, cmap):
        """Draw blocks of shape (n_samples, n_rows, n_features) on the inputs' scale."""
        centres, _ = self._draw_images_on_scale_of(
            inputs, ax, blocks[:, None], cmap or "viridis", is_table=True
        )
        self._label_table(centres, labels, blocks.shape[-1])

    def _label_table(self, centres, labels, n_features):
        """Name the rows of each block of a table, and its features."""
        offsets = np.arange(len(labels)) - (len(labels) - 1) / 2
        rows = np.add.outer(centres, offsets).ravel()
        self.ax_.set_yticks(rows, list(labels) * len(centres), fontsize="small")
        names = self.feature_names
        names = range(n_features) if names is None else names
        self.ax_.set_xticks(
            *_thinned(range(n_features), names, 40), rotation=90, fontsize="small"
        )

    def _add_colorbar(self, artist, label, extend, width, is_table):
        """Add a colour bar to images, or to a table, whose tiles have this width."""
        # The colour bar is placed relative to the images, since these may not fill
        # their axes.
        _, right, *_ = artist.get_extent()
        width = width / (40 if is_table else 4)
        place = (right + width / 2, 0, width, 1)
        bar = self.ax_.inset_axes(place, transform=self.ax_.get_xaxis_transform())
        self.colorbar_ = self.figure_.colorbar(
            artist, cax=bar, label=label, extend=extend
        )


class _LineDisplay(_Display):
    def _draw_line(self, x, y, kwargs):
        """Draw a line, or a marker if there is only one point."""
        defaults = {"label": self.name, "marker": "o" if len(x) == 1 else None}
        (self.line_,) = self.ax_.plot(x, y, **defaults | kwargs)

    def _name_line(self):
        # Matplotlib's default labels begin with an underscore.
        if not self.line_.get_label().startswith("_"):
            self.ax_.legend()


class TrainingCurveDisplay(_Display):
    """The objective by epoch, and its weighted terms, which sum to it.

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


class ComponentsDisplay(_Display):
    """Filters of the first layer, as images or as bars for the features.

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
        _ESTIMATOR | {"image_shape": [tuple, list, None]},
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
            indices = _check_indices(indices, len(components))
        elif image_shape is None:
            indices = _largest(np.linalg.norm(components, axis=1), 10)
        if indices is not None:
            components = components[indices]
        display = cls(
            components,
            image_shape=image_shape,
            feature_names=_feature_names(estimator),
            indices=indices,
        )
        return display.plot(ax, **kwargs)

    @validate_params(_N_COLUMNS, prefer_skip_nested_validation=True)
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
        images = _as_images(self.components, self.image_shape)
        n_images, height, width = images.shape
        # The numbers are drawn in transparent rows above the images.
        margin = 0 if self.indices is None else -(-max(height, width) // 4)
        images = np.concatenate(
            [np.full((n_images, margin, width), np.nan), images], axis=1
        )
        grid = _in_rows(images, n_columns or int(np.ceil(np.sqrt(n_images))))
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
        shown = _largest(sizes.max(axis=0), 30)
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
        self.ax_.set_xticks(*_thinned(columns, indices))
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


class ReconstructionDisplay(_Display):
    """Inputs above their reconstructions, as images or as rows of a table.

    Use `from_estimator` to create it.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, height, width) or (n_samples, n_features)
        The samples: images, or rows of a table.
    reconstructions : ndarray of the same shape
        Their reconstructions.
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

    def __init__(self, inputs, reconstructions, *, feature_names=None):
        self.inputs = inputs
        self.reconstructions = reconstructions
        self.feature_names = feature_names

    @classmethod
    @validate_params(_ESTIMATOR | _SAMPLES, prefer_skip_nested_validation=False)
    def from_estimator(
        cls, estimator, X, *, image_shape=None, max_samples=30, ax=None, **kwargs
    ):
        """Plot samples and their reconstructions by a fitted estimator.

        Parameters
        ----------
        estimator : ContractiveAutoencoderTransformer
            A fitted estimator.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples to show.
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
        X = _first_samples(X, max_samples)
        field = score_field(estimator, X)
        inputs = _as_dense(X, field.dtype)
        images = (_as_images(rows, image_shape) for rows in (inputs, inputs + field))
        display = cls(*images, feature_names=_feature_names(estimator))
        return display.plot(ax, **kwargs)

    @validate_params(_N_COLUMNS, prefer_skip_nested_validation=True)
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
        if self.inputs.ndim == 2:
            blocks = np.stack([self.inputs, self.reconstructions], axis=1)
            self._plot_table(ax, self.inputs, blocks, labels, cmap)
            return self
        n_samples, height, width = self.inputs.shape
        gap = _gap(height, width)
        n_columns = n_columns or max(1, 10 * height // max(height, width))
        # One tile for each sample: the input above the reconstruction.
        space = np.full((n_samples, gap, width), np.nan)
        tiles = np.concatenate([self.inputs, space, self.reconstructions], axis=1)
        tiles = _in_rows(tiles, n_columns)
        centres, _ = self._draw_images_on_scale_of(
            self.inputs, ax, tiles, cmap or "gray"
        )
        offset = (height + gap) / 2
        rows = np.ravel([centres - offset, centres + offset], order="F")
        self.ax_.set_yticks(rows, labels * len(tiles))
        return self


class SingularValueDisplay(_LineDisplay):
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


class ContractionRatioDisplay(_LineDisplay):
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
    starts = _as_dense(X, X.dtype)
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


class SamplingDisplay(_Display):
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
        _ESTIMATOR
        | _SAMPLES
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
        X = _first_samples(X, max_samples)
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
        paths = _as_images(path[:, steps], image_shape)
        display = cls(paths, steps, feature_names=_feature_names(estimator))
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
        self.ax_.set_xticks(*_thinned(columns, self.steps))
        self.ax_.set_xlabel("step")
        return self


class TangentDisplay(_Display):
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
    @validate_params(_ESTIMATOR | _SAMPLES, prefer_skip_nested_validation=False)
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
        X = _first_samples(X, max_samples)
        tangents = tangent_bases(estimator, X, n_components)
        samples = _as_dense(X, tangents.dtype)
        display = cls(
            _as_images(samples, image_shape),
            _as_images(tangents, image_shape),
            feature_names=_feature_names(estimator),
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
        self.ax_.set_xticks(*_thinned(columns, labels))
        self.ax_.get_xticklabels()[0].set_horizontalalignment("right")
        return self
