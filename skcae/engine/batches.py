"""Rows in random batches, in the number format and on the device of the training."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from . import rows as rows_module
from .device import copy_without_waiting
from .rows import as_rows, permutation

# A window of a large memory map is filled with runs of consecutive rows from random
# places. A run is long enough for efficient reading. A window has hundreds of runs, so
# that neighbouring rows of the file are well spread.
_RUN_BYTES = 2**20

# Each row also has an index of 8 bytes in the order of its window.
_PLACE_BYTES = 8


@dataclass(eq=False)
class Batch:
    """Some rows, and the values that belong to them.

    Attributes
    ----------
    x : Tensor or SparseTensor of shape (n_samples, n_features)
    target : Tensor of shape (n_samples,), default=None
        The class indices of the rows. None means that the target is x itself.
    weights : Tensor of shape (n_samples,), default=None
        None means 1 for each row.
    tangents : Tensor of shape (n_samples, n_tangents, n_features), default=None
    """

    x: torch.Tensor
    target: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    tangents: torch.Tensor | None = None

    def __len__(self):
        return len(self.x)


class _Buffer:
    """Memory where the rows of a batch are gathered, cast and moved to the device."""

    def __init__(self, shape, source, dtype, device):
        """Make room for batches of ``shape`` from rows like ``source``."""
        if torch.is_tensor(source):
            self._gathered = torch.empty(shape, dtype=source.dtype, device=device)
        else:
            self._host = np.empty(shape, source.dtype.newbyteorder("="))
            self._gathered = torch.from_numpy(self._host)
        self._batch = self._gathered
        if self._gathered.device.type != device.type or self._gathered.dtype != dtype:
            self._batch = torch.empty(shape, dtype=dtype, device=device)

    def gather(self, source, index, rows):
        """Write the rows of ``source`` that ``index`` names to the rows ``rows``."""
        if torch.is_tensor(source):
            index = torch.from_numpy(index)
            index = copy_without_waiting(
                index, torch.empty_like(index, device=source.device)
            )
            torch.index_select(source, 0, index, out=self._gathered[rows])
        elif isinstance(source, np.ndarray):
            # Indices are in bounds, and mode="raise" would buffer the result.
            source.take(index, axis=0, out=self._host[rows], mode="clip")
        else:
            source[index].toarray(out=self._host[rows])

    def batch(self, n_rows):
        """Return the first ``n_rows`` rows that were gathered."""
        batch = self._batch[:n_rows]
        if self._gathered is not self._batch:
            copy_without_waiting(self._gathered[:n_rows], batch)
        return batch


class _SparseBuffer:
    """As `_Buffer`, for rows that stay sparse; one call gathers a whole batch."""

    def __init__(self, dtype):
        self._dtype = dtype

    def gather(self, source, index, rows):
        self._batch = source[index].to(self._dtype)

    def batch(self, n_rows):
        return self._batch


class ShuffledBatches:
    """The rows of an array in random batches, in the training's number format.

    Iterating gives the `Batch` objects of one epoch. Every row occurs once; the last
    batch may be smaller. A batch is valid until the next one is requested, since all
    batches share one buffer.

    The order is a random permutation of all rows. It doesn't depend on the format or
    the device, if nothing else draws from the generator. Large memory maps are the
    exception: they are read window by window, and shuffled within each window.

    Parameters
    ----------
    X : ndarray, CSR array or Rows of shape (n_samples, n_features)
        Rows of any real dtype; they are cast to ``dtype`` batch by batch. Batches are
        dense, unless the rows stay sparse; see `Rows.kept_sparse`.
    target, weights, tangents : ndarray, default=None
        As in `Batch`, for all rows, in the dtype of the batches. They are held in
        memory.
    batch_size : int
    dtype : torch.dtype
    device : torch.device
    generator : torch.Generator
        On the CPU. Each epoch draws its permutations from it.
    n_batches : int, default=None
        Divide the rows evenly into this number of batches, whatever ``batch_size`` is.
        Some batches are empty if there are fewer rows.

    Attributes
    ----------
    n_samples : int
    stays_sparse : bool
        Whether the rows of a batch are a `SparseTensor`.
    batch_size : int
        Number of rows of the largest batch.
    n_batches : int
    """

    def __init__(
        self,
        X,
        target=None,
        weights=None,
        tangents=None,
        *,
        batch_size,
        dtype,
        device,
        generator,
        n_batches=None,
    ):
        self._rows = rows = as_rows(X)
        self.n_samples, n_features = rows.shape
        self.stays_sparse = rows.stays_sparse
        self._evenly = n_batches is not None
        if self._evenly:
            batch_size = -(-self.n_samples // n_batches)
        self.batch_size = min(batch_size, self.n_samples)
        self.n_batches = n_batches or -(-self.n_samples // self.batch_size)
        self.dtype = dtype
        self.device = device
        self.generator = generator
        if rows.out_of_core:
            itemsize = rows.dtype.itemsize
            self._layout = _layout(n_features * itemsize + _PLACE_BYTES)
            self._window = np.empty(
                (math.prod(self._layout), n_features), rows.dtype.newbyteorder("=")
            )
            self._source = self._window
        elif rows.stays_sparse:
            self._source = rows
        else:
            self._source = rows.moved(dtype, device)
            if self._source is None:
                self._source = rows.X
            if isinstance(self._source, np.ndarray):
                # Otherwise gathering each batch would copy the whole array.
                native = rows.dtype.newbyteorder("=")
                self._source = np.require(self._source, native, ["C", "A"])
        self._columns = {
            name: column
            for name, column in zip(
                ("target", "weights", "tangents"),
                (target, weights, tangents),
                strict=True,
            )
            if column is not None
        }
        shape = (self.batch_size, n_features)
        self._buffers = {
            "x": _SparseBuffer(dtype)
            if rows.stays_sparse
            else _Buffer(shape, self._source, dtype, device)
        }
        for name, column in self._columns.items():
            shape = (self.batch_size, *column.shape[1:])
            own = torch.from_numpy(column[:0]).dtype
            self._buffers[name] = _Buffer(shape, column, own, device)

    def __iter__(self):
        sizes = self._sizes()
        size = next(sizes)
        start = 0
        for places, order in self._windows():
            while len(order):
                index = order[: size - start]
                order = order[len(index) :]
                stop = start + len(index)
                part = slice(start, stop)
                self._buffers["x"].gather(self._source, index, part)
                if self._columns:
                    numbers = index if places is None else places[index]
                    for name, column in self._columns.items():
                        self._buffers[name].gather(column, numbers, part)
                if stop == size:
                    yield self._finished(size)
                    size = next(sizes, None)
                    stop = 0
                start = stop

    def _finished(self, n_rows):
        """Return the batch of the first ``n_rows`` gathered rows."""
        x = self._buffers["x"].batch(n_rows)
        if not self._columns:
            return Batch(x)
        names = self._columns
        return Batch(x, **{name: self._buffers[name].batch(n_rows) for name in names})

    def _sizes(self):
        """Yield the number of rows of each batch of an epoch."""
        start = 0
        for i in range(1, self.n_batches + 1):
            stop = min(i * self.batch_size, self.n_samples)
            if self._evenly:
                stop = i * self.n_samples // self.n_batches
            yield stop - start
            start = stop

    def _windows(self):
        """Yield (row numbers, random order of the rows) for each window.

        If all rows are one window, the row numbers are None.
        """
        if not self._rows.out_of_core:
            yield None, permutation(self.n_samples, self.generator)
            return
        run_rows, window_runs = self._layout
        order = permutation(-(-self.n_samples // run_rows), self.generator)
        for first in range(0, len(order), window_runs):
            runs = np.sort(order[first : first + window_runs])
            stop = 0
            for run in runs:
                rows = self._rows[run * run_rows : (run + 1) * run_rows]
                start, stop = stop, stop + len(rows)
                self._window[start:stop] = rows
            places = None
            if self._columns:
                places = (runs[:, np.newaxis] * run_rows + np.arange(run_rows)).ravel()
                places = places[places < self.n_samples]
            yield places, permutation(stop, self.generator)


def _layout(row_bytes):
    """Return the number of rows in a run, and the number of runs in a window."""
    run_rows = max(1, _RUN_BYTES // row_bytes)
    window_rows = rows_module._WINDOW_BYTES // row_bytes
    return run_rows, max(1, window_rows // run_rows)
