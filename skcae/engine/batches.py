"""Rows to batches: shuffled for training, in order for everything else.

Rows are a NumPy array, a SciPy sparse array in CSR format or a `RowSubset`. Never more
of them than a batch, block or window is copied, cast or made dense at a time.
"""

import math
import mmap

import numpy as np
import torch

from .device import copy_without_waiting, has_float64, isolated

# Entries of the widest intermediate result of one block of rows.
_BLOCK_ENTRIES = 2**22

# A memory map larger than a window is shuffled window by window. Each is filled with
# runs of consecutive rows from random places: long enough to be read without seeking,
# and hundreds to a window, so that rows stored side by side are well spread. Each row
# of a window takes memory of its own, however short it is.
_WINDOW_BYTES = 2**28
_RUN_BYTES = 2**20
WINDOW_ROWS = 2**22
_RUN_ROWS = 2**14


def as_array(X):
    """Return a tensor's values as an array, which shares its memory if that can be.

    Anything but a tensor is returned as it is. Raises TypeError for what has no rows to
    share: sparse tensors and lazy frames.
    """
    X = detached(X)
    if not isinstance(X, torch.Tensor):
        return X
    if X.dtype == torch.bfloat16:
        X = X.double()  # NumPy has no such format.
    return X.numpy(force=True)


def detached(X):
    """Return a tensor without its graph, and anything else as it is.

    Raises TypeError as `as_array` does.
    """
    # Without a word to the contrary NumPy would make an array of one object of it.
    if type(X).__name__ == "LazyFrame":
        raise TypeError(
            "A LazyFrame was passed, but its rows are required. Use '.collect()' to "
            "convert to a DataFrame."
        )
    if not isinstance(X, torch.Tensor):
        return X
    if X.layout != torch.strided:
        raise TypeError(
            "A sparse tensor was passed, but dense data is required. Use '.to_dense()' "
            "to convert to a dense tensor, or pass a scipy sparse array."
        )
    return X.detach()


def as_tensor(array):
    """Return a tensor that shares the array's memory where PyTorch can share it.

    Read-only, misaligned, non-contiguous and foreign-endian arrays are copied first. A
    tensor is returned as it is.
    """
    if isinstance(array, torch.Tensor):
        return array
    flags = array.flags
    shareable = flags.writeable and flags.aligned and flags.c_contiguous
    # A single row or column is contiguous whatever its stride is.
    if not (shareable and array.dtype.isnative and min(array.strides, default=0) >= 0):
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(array)


def dense(rows):
    """Return sparse rows as an array, and others as they are."""
    return rows.toarray() if hasattr(rows, "toarray") else rows


class RowSubset:
    """Some rows of an array, read from it when they are asked for.

    Parameters
    ----------
    source : ndarray of shape (n_rows, n_features)
    index : ndarray of shape (n_runs,)
        Which runs of consecutive rows, ascending, so that they are read in the order of
        the source.
    run_rows : int, default=1
        Number of rows of a run; the last one of the source may have fewer.
    """

    def __init__(self, source, index, run_rows=1):
        self.source = source
        self.index = index
        self.run_rows = run_rows
        n_samples = len(index) * run_rows
        if len(index) and (index[-1] + 1) * run_rows > len(source):
            n_samples -= (index[-1] + 1) * run_rows - len(source)
        self.shape = (int(n_samples), source.shape[1])
        self.dtype = source.dtype

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.shape[0]))
        runs, offsets = np.divmod(rows, self.run_rows)
        return self.source[self.index[runs] * self.run_rows + offsets]


def take_rows(X, index):
    """Return the rows that ``index`` names, as a copy.

    Of a memory map it is a `RowSubset`, and they are in ascending order, if a copy were
    larger than a window.
    """
    n_bytes = len(index) * X.shape[1] * X.dtype.itemsize
    if is_out_of_core(X) and n_bytes > _WINDOW_BYTES:
        return RowSubset(X, np.sort(index))
    return X[index]


def is_out_of_core(X):
    """Return whether X is a memory map (or a view of one) larger than a window."""
    if isinstance(X, RowSubset):
        return is_out_of_core(X.source)
    base = X
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap) and X.nbytes > _WINDOW_BYTES


def _layout(row_bytes):
    """Return the number of rows of a run, and of runs of a window."""
    run_rows = min(max(1, _RUN_BYTES // row_bytes), _RUN_ROWS)
    window_rows = min(_WINDOW_BYTES // row_bytes, WINDOW_ROWS)
    return run_rows, max(1, window_rows // run_rows)


def _belongs_on(device, X):
    """Return whether to copy X to the device as a whole."""
    if device.type == "cpu" or not isinstance(X, np.ndarray):
        return False
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return X.nbytes <= free / 2


class ShuffledBatches:
    """The rows of an array in random batches, in the training's number format.

    Iterating gives one epoch: every row once, the last batch smaller where it must be.
    A batch is valid until the next one is asked for; they share one buffer.

    Their order is a random permutation of all rows, the same whatever the format and
    the device, if nothing else draws from the generator; but large memory maps
    (`is_out_of_core`) are read window by window, and shuffled within them.

    Parameters
    ----------
    X : ndarray, CSR array or RowSubset of shape (n_samples, n_features)
        Of any real dtype; the cast to ``dtype`` happens batch by batch.
    batch_size : int
    dtype : torch.dtype
    device : torch.device
    generator : torch.Generator
        On the CPU. Each epoch draws its permutations from it.
    n_batches : int, default=None
        Divide the rows evenly into so many batches, whatever ``batch_size`` is. Some
        are empty if there are fewer rows.
    in_step_with : ShuffledBatches, default=None
        Take the rows as these batches of as many others are taken, window by window if
        need be, so that those that belong together stay together. Both need generators
        of one seed. A memory map is read as an array then.

    Attributes
    ----------
    n_samples : int
    batch_size : int
        Number of rows of the largest batch.
    n_batches : int
    """

    def __init__(
        self,
        X,
        *,
        batch_size,
        dtype,
        device,
        generator,
        n_batches=None,
        in_step_with=None,
    ):
        self.n_samples, n_features = X.shape
        self._evenly = n_batches is not None
        if self._evenly:
            batch_size = -(-self.n_samples // n_batches)
        self.batch_size = min(batch_size, self.n_samples)
        self.n_batches = n_batches or -(-self.n_samples // self.batch_size)
        self.dtype = dtype
        self.device = device
        self.generator = generator
        self._out_of_core = in_step_with is None and is_out_of_core(X)
        native = X.dtype.newbyteorder("=")
        # The rows of a run and the runs of a window, if there are windows.
        self._layout = in_step_with._layout if in_step_with else None
        if self._out_of_core:
            self._layout = _layout(n_features * native.itemsize)
            self._window = np.empty((math.prod(self._layout), n_features), native)
        elif isinstance(X, np.ndarray):
            # Otherwise each batch would copy everything.
            X = np.require(X, native, ["C", "A"])
        shape = (self.batch_size, n_features)
        # A batch is gathered as it is, before the cast and the way to the device.
        self._host = np.empty(shape, native)
        self._gathered = torch.from_numpy(self._host)
        if not self._out_of_core and _belongs_on(device, X):
            X = self._moved(X)
            self._gathered = torch.empty(shape, dtype=X.dtype, device=device)
        self._rows = X
        self._batch = self._gathered
        if self._gathered.device.type != device.type or self._gathered.dtype != dtype:
            self._batch = torch.empty(shape, dtype=dtype, device=device)

    def _moved(self, X):
        """Return all rows as a tensor on the device, in their own format if it can."""
        dtype = self._gathered.dtype
        if dtype == torch.float64 and not has_float64(self.device):
            dtype = self.dtype
        rows = torch.empty(X.shape, dtype=dtype, device=self.device)
        n_rows = block_rows(X.shape[1])
        for block, values in row_blocks(
            X, dtype=dtype, device=self.device, n_rows=n_rows
        ):
            rows[block] = values
        return rows

    def __iter__(self):
        sizes = self._sizes()
        size = next(sizes)
        start = 0
        for window, order in self._windows():
            if torch.is_tensor(window):
                order = torch.from_numpy(order)
                order = copy_without_waiting(
                    order, torch.empty_like(order, device=window.device)
                )
            while len(order):
                index = order[: size - start]
                order = order[len(index) :]
                stop = start + len(index)
                self._gather(window, index, slice(start, stop))
                if stop == size:
                    yield self._finished(size)
                    size = next(sizes, None)
                    stop = 0
                start = stop

    def _sizes(self):
        """Yield the number of rows of each batch of an epoch."""
        start = 0
        for i in range(1, self.n_batches + 1):
            stop = min(i * self.batch_size, self.n_samples)
            if self._evenly:
                stop = i * self.n_samples // self.n_batches
            yield stop - start
            start = stop

    def _permutation(self, n):
        order = np.empty(n, dtype=np.int64)
        out = torch.from_numpy(order)
        torch.randperm(n, generator=self.generator, out=out, device="cpu")
        return order

    def _windows(self):
        """Yield (array, numbers of its rows in the order to take them) for an epoch."""
        if self._layout is None:
            yield self._rows, self._permutation(self.n_samples)
            return
        run_rows, window_runs = self._layout
        order = self._permutation(-(-self.n_samples // run_rows))
        for first in range(0, len(order), window_runs):
            runs = np.sort(order[first : first + window_runs])
            if not self._out_of_core:
                rows = (runs[:, np.newaxis] * run_rows + np.arange(run_rows)).ravel()
                rows = rows[rows < self.n_samples]
                yield self._rows, rows[self._permutation(len(rows))]
                continue
            stop = 0
            for run in runs:
                rows = self._rows[run * run_rows : (run + 1) * run_rows]
                start, stop = stop, stop + len(rows)
                self._window[start:stop] = rows
            yield self._window[:stop], self._permutation(stop)

    def _gather(self, window, index, rows):
        """Write the rows that ``index`` names to the rows ``rows`` of the batch."""
        if torch.is_tensor(window):
            torch.index_select(window, 0, index, out=self._gathered[rows])
        elif isinstance(window, np.ndarray):
            # Indices are in bounds; "raise" would buffer the result.
            window.take(index, axis=0, out=self._host[rows], mode="clip")
        else:
            window[index].toarray(out=self._host[rows])

    def _finished(self, n_rows):
        """Return the batch of the first ``n_rows`` gathered rows."""
        batch = self._batch[:n_rows]
        if self._gathered is not self._batch:
            copy_without_waiting(self._gathered[:n_rows], batch)
        return batch

    def evenly_spaced(self, n_samples):
        """Return about ``n_samples`` rows, the same ones each time, as a copy."""
        return self._copied(evenly_spaced(self.n_samples, n_samples))

    def sample(self, n_samples):
        """Return at most ``n_samples`` rows drawn without replacement, as a copy."""
        if self._out_of_core:
            # A permutation of the rows may be larger than memory too.
            size = (n_samples,)
            index = torch.randint(
                self.n_samples, size, generator=self.generator, device="cpu"
            )
            return self._copied(index.unique().numpy())
        return self._copied(self._permutation(self.n_samples)[:n_samples])

    def _copied(self, rows):
        rows = as_tensor(dense(self._rows[rows]))
        return rows.to(self.dtype, copy=True).to(self.device)


def evenly_spaced(n_rows, n_samples):
    """Return the slice that takes about ``n_samples`` of so many rows."""
    return slice(None, None, n_rows // n_samples + 1)


def variance_of_rounding(rows, eps):
    """Return the variance that errors of some ``eps`` may come to in equal rows."""
    return (16 * eps) ** 2 * rows.square().sum(dim=1).mean()


@isolated
def lost_in_rounding(X, dtype):
    """Return the part of the variance of X that is lost where it is rounded to dtype.

    It is the variance of the rounding error over that of X, both summed over features,
    of at most 1000 evenly spaced rows; and 0 where these differ by no more than
    rounding errors in X itself may come to.
    """
    own = np.finfo(X.dtype).eps if X.dtype.kind == "f" else 0.0
    if own >= torch.finfo(dtype).eps:
        return 0.0
    rows = X[evenly_spaced(X.shape[0], min(1000, block_rows(X.shape[1])))]
    rows = as_tensor(dense(rows)).double()
    variance = rows.var(dim=0, correction=0).sum()
    if not variance > variance_of_rounding(rows, own):
        return 0.0
    error = rows.to(dtype).double() - rows
    return (error.var(dim=0, correction=0).sum() / variance).item()


def block_rows(entries_per_row):
    """Return how many rows to compute at once so that memory stays bounded."""
    return max(1, _BLOCK_ENTRIES // entries_per_row)


def row_blocks(X, *, dtype, device, n_rows):
    """Yield (slice, tensor) for consecutive blocks of at most ``n_rows`` rows."""
    for start in range(0, X.shape[0], n_rows):
        rows = slice(start, min(start + n_rows, X.shape[0]))
        yield rows, as_tensor(dense(X[rows])).to(dtype).to(device)
