"""Figures of a fitted contractive autoencoder, after scikit-learn's displays.

``from_estimator`` computes and draws; the constructor only stores arrays, which
``plot`` can draw again, elsewhere or otherwise.
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

# Parameters that multiply a term of the objective, by the term's name in ``history_``.
_WEIGHTS = {name: penalty.weight for name, penalty in PENALTIES.items()}
_WEIGHTS["tangent"] = "tangent_weight"  # of a classifier


def _weight(estimator, name):
    """Return the weight of a term, of which "auto" is a rule, as a number."""
    value = getattr(estimator, name)
    return getattr(estimator, f"{name}_") if value == "auto" else value


def _as_images(X, image_shape):
    """Return the rows of X as images: its last axis becomes two. None leaves them."""
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
    """Return the first n rows of whatever an estimator accepts; None is all."""
    if n is None:
        return X
    if hasattr(X, "tocsr"):  # Some sparse formats have no slices.
        return X.tocsr()[:n]
    # Of anything else, the estimator says why it isn't data.
    return _safe_indexing(X, slice(0, n)) if np.ndim(X) == 2 else X


def _feature_names(estimator):
    """Return the names of an estimator's features, made up where it knows none."""
    made_up = [f"x{i}" for i in range(estimator.n_features_in_)]
    return getattr(estimator, "feature_names_in_", made_up)


def _as_dense(X, dtype):
    """Return rows that the estimator has accepted as an array, to show them."""
    return np.asarray(dense(as_array(X)), dtype=dtype)


def _largest(values, n):
    """Return the indices of the n largest values, ascending."""
    return np.sort(np.argsort(-values, kind="stable")[:n])


def _check_indices(indices, n_units):
    """Return the numbers of the hidden units that the indices select."""
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
    """Return images in rows of at most n_columns; transparent ones fill the last."""
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
        """Put ticks at whole numbers from 1 only, at one of them if need be."""
        from matplotlib.ticker import MaxNLocator

        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        self.ax_.set_xlim(left=0.5, auto=None)

    def _set_image_axes(self, ax, shape):
        """Make axes for images of shape (n_rows, n_columns, height, width)."""
        n_rows, n_columns, height, width = shape
        gap = _gap(height, width)
        pixels = np.array([n_columns * (width + gap), n_rows * (height + gap)])
        # Inches of a pixel: all images fit on a page, unless they are so many that
        # neither they nor their labels could be made out.
        limits = sorted([0.3 / min(height, width), 0.8 / max(height, width)])
        size = np.clip(8 / pixels.max(), *limits)
        figsize = np.maximum(pixels * size + (2, 0.8), (3.5, 1.8))
        # Where the shape of axes is fixed, "constrained" may cut off what is left of
        # them.
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
        # One image of all of them: drawn at once, on whatever axes the user has.
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
        # A few large entries would leave the others pale.
        limit = np.nanquantile(np.abs(images), 0.99)
        artist, *centres = self._draw_images(
            images, is_table=is_table, cmap=cmap, vmin=-limit, vmax=limit
        )
        self._add_colorbar(artist, label, "both", images.shape[-1], is_table)
        return centres

    def _draw_images_on_scale_of(self, inputs, ax, images, cmap, *, is_table=False):
        """Make axes, draw images on the scale of the inputs, say if they exceed it.

        A table has a colour bar in any case.
        """
        vmin, vmax = inputs.min(), inputs.max()
        low, high = np.nanmin(images), np.nanmax(images)
        # Less than one of 256 shades isn't seen.
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
        """Add a colour bar to images, or to a table, of that width."""
        # Beside the images, and as tall as they are: they may leave some of the place
        # free that their axes were given.
        _, right, *_ = artist.get_extent()
        width = width / (40 if is_table else 4)
        place = (right + width / 2, 0, width, 1)
        bar = self.ax_.inset_axes(place, transform=self.ax_.get_xaxis_transform())
        self.colorbar_ = self.figure_.colorbar(
            artist, cax=bar, label=label, extend=extend
        )


class _LineDisplay(_Display):
    def _draw_line(self, x, y, kwargs):
        """Draw a line, or a point if there is but one."""
        defaults = {"label": self.name, "marker": "o" if len(x) == 1 else None}
        (self.line_,) = self.ax_.plot(x, y, **defaults | kwargs)

    def _name_line(self):
        # Matplotlib's names for lines without one begin with an underscore.
        if not self.line_.get_label().startswith("_"):
            self.ax_.legend()


class TrainingCurveDisplay(_Display):
    """The objective by epoch, and its terms with their weights, which sum to it.

    Use `from_estimator` to create it.

    Parameters
    ----------
    curves : dict of ndarray of shape (n_epochs,)
        Curves by label. The first of those of `from_estimator` is the "objective". Its
        terms follow: those in ``history_``, times the parameter that is their weight,
        as in "lam · contraction", and "weight decay" where ``alpha > 0``. The last ones
        are those of held-out samples, where there are such; their labels end in "held
        out".

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
            A fitted estimator. Of a classifier it is the fine-tuning; the pretraining
            is that of its ``transformer_``.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        ValueError
            If the estimator wasn't trained as a whole: what `skcae.stacking.stack`
            returns has no curves, the transformers that it stacked have.
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
            # NaN is a term of a later call only.
            known = np.nansum(list(terms.values()), axis=0)
            curves["weight decay"] = estimator.loss_curve_ - known
        if held_out is not None:
            # That of a classifier is of the cross-entropy alone.
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
                # Wide and light: without a penalty it lies under the loss.
                style = {"color": rcParams["text.color"], "linewidth": 3, "alpha": 0.4}
            elif label.endswith("held out"):
                style = {"color": rcParams["text.color"], "linestyle": "--"}
            else:
                style = {"color": f"C{n_terms}"}
                n_terms += 1
            values = np.asarray(values)
            if (values > 0).any():  # There is no other place on a logarithmic scale.
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
            # Numbers at 1, 2, 5, 10, ...: powers of ten alone would be too few.
            self.ax_.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            self.ax_.yaxis.set_minor_formatter("{x:g}")
        # Above the axes it hides no curve, and layouts leave room for it.
        self.ax_.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            fontsize="small",
            frameon=False,
        )
        return self


class ComponentsDisplay(_Display):
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
        Which hidden units the filters belong to, as labels; None numbers bars from 0
        and leaves images without.

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
            Hidden units to show: their numbers, a mask or a slice. None shows all as
            images, and as bars the ten whose filters have the largest norms.
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

        Of more than 30 features, only the 30 with the largest weights get bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        n_columns : int, default=None
            Number of images in a row, in [1, inf); None makes about as many rows as
            columns. Bars have no use for it.
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
        # Numbers stand in transparent rows on top of the images.
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

        # Every unit has a column of its own; the longest bar fills half of one.
        x, y = np.indices(components.shape)
        end = x + 0.45 * components / (longest or 1)
        corners = [[x, y - 0.4], [end, y - 0.4], [end, y + 0.4], [x, y + 0.4]]
        # One artist for all bars: there may be thousands.
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
        The scale, if values lie outside or these are rows of a table.
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
        """Plot samples and what a fitted estimator makes of them.

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

        Values beyond that have the colours of its ends; there is a colour bar then.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a figure.
        n_columns : int, default=None
            Number of images in a row, in [1, inf); None takes ten, or
            fewer wide ones. A table has no use for it.
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
    axes with a name each.

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
            If ``quantiles`` are not two in that range, in that order.
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
            # The band of a single value would have no width.
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
    axes with a name each.

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
            Distances. None takes 20 in geometric progression, from 0.01 to 3 times the
            root mean square distance of the samples from their mean; these must not
            all be the same.
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
                    "radii must be given where X has no spread to take them from. Got "
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
        # Without auto=None, curves that are added later could lie outside.
        self.ax_.set_ylim(0, 1.05 * self.ax_.dataLim.ymax, auto=None)
        self._name_line()
        return self


# Walks that measure the effect of the noise, and the variance that they may have.
_N_TRIAL_WALKS = 100
_KEPT_VARIANCE = 1.1


def _bounded_walks(estimator, X, n_steps, random_state):
    """Return the paths of walks that keep the range and the variance of their starts.

    They have the shape (n_walks, n_steps + 1, n_features).
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
        The scale, if values lie outside or these are rows of a table.
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
            The samples to start from: a row of images, or a block of a table, for
            each.
        image_shape : tuple of int (height, width), default=None
            Shape of the images, for features that are pixels; None draws a table.
        max_samples : int, default=30
            Number of samples to show, the first ones of X. In [1, inf). None shows
            all.
        n_steps : int, default=10
            Number of steps of a walk. In [1, inf).
        every : int, default=1
            Number of steps between two states that are shown. In [1, inf). The last
            one is that after the last step in any case.
        sigma : float, default=None
            Standard deviation of the noise in the walks of `skcae.sampling.sample`. In
            [0, inf). None keeps each state of a walk between the smallest and the
            largest value of the samples, since a decoder without bounds leads away from
            them. It then takes the noise with which the walks' last states have about
            as much variance as the samples, and 1 where the samples have none. With a
            small ``lam`` reconstruction alone may gain more variance than that; the
            noise is then the least there is, 0.01.
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

        Values beyond that have the colours of its ends; there is a colour bar then.

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

    They are images, or rows of a table. Use `from_estimator` to create it.

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
            The samples to show: a row of images, or a block of a table, for each.
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
        """Draw a row for each sample: the sample, then its tangents, on one scale.

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
        # Two layers: each is transparent where the other has its images.
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
        # Where images are small, the word is wider than one: it ends where that does.
        columns[0] += (self.samples.shape[2] - 1) / 2
        self.ax_.set_xticks(*_thinned(columns, labels))
        self.ax_.get_xticklabels()[0].set_horizontalalignment("right")
        return self
