"""What displays share: checks, layouts, images, tables and lines."""

from numbers import Integral

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval

from .._transformer import ContractiveAutoencoderTransformer
from ..engine.rows import as_array, dense

ESTIMATOR = {"estimator": [ContractiveAutoencoderTransformer]}
N_COLUMNS = {"n_columns": [Interval(Integral, 1, None, closed="left"), None]}
SAMPLES = {
    "image_shape": [tuple, list, None],
    "max_samples": [Interval(Integral, 1, None, closed="left"), None],
}


def as_images(X, image_shape):
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


def first_samples(X, n):
    """Return the first n rows of whatever an estimator accepts; None is all."""
    return X if n is None else taken(X, slice(0, n))


def taken(X, index):
    """Return the rows that ``index`` names, of whatever an estimator accepts."""
    if hasattr(X, "tocsr"):  # Some sparse formats have no slices.
        return X.tocsr()[index]
    # Of anything else, the estimator says why it isn't data.
    return _safe_indexing(X, index) if np.ndim(X) == 2 else X


def feature_names(estimator):
    """Return the names of an estimator's features; without names, x0, x1, ..."""
    made_up = [f"x{i}" for i in range(estimator.n_features_in_)]
    return getattr(estimator, "feature_names_in_", made_up)


def as_dense(X, dtype):
    """Return rows that the estimator has validated as a dense array, to show them."""
    return np.asarray(dense(as_array(X)), dtype=dtype)


def largest(values, n):
    """Return the indices of the n largest values, ascending."""
    return np.sort(np.argsort(-values, kind="stable")[:n])


def check_indices(indices, n_units):
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


def in_rows(images, n_columns):
    """Arrange images in rows of n_columns; transparent images fill the last row."""
    n_columns = min(n_columns, len(images))
    n_rows = -(-len(images) // n_columns)
    grid = np.full((n_rows * n_columns, *images.shape[1:]), np.nan)
    grid[: len(images)] = images
    return grid.reshape(n_rows, n_columns, *images.shape[1:])


def gap_between(height, width):
    """Return the number of transparent pixels between two images."""
    return max(1, round(max(height, width) / 14))


def thinned(ticks, labels, n=25):
    """Return at most n ticks and their labels: every k-th, evenly spaced."""
    every = -(-len(ticks) // n)
    return ticks[::every], labels[::every]


class Display:
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
        gap = gap_between(height, width)
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
        gap = 1 if is_table else gap_between(height, width)
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
            *thinned(range(n_features), names, 40), rotation=90, fontsize="small"
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


class LineDisplay(Display):
    def _draw_line(self, x, y, kwargs):
        """Draw a line, or a marker if there is only one point."""
        defaults = {"label": self.name, "marker": "o" if len(x) == 1 else None}
        (self.line_,) = self.ax_.plot(x, y, **defaults | kwargs)

    def _name_line(self):
        # Matplotlib's default labels begin with an underscore.
        if not self.line_.get_label().startswith("_"):
            self.ax_.legend()
