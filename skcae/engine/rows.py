"""Kinds of rows: arrays, large memory maps and sparse rows, with one interface.

`as_rows` returns the `Rows` object for an array. The other modules use its methods, so
that they don't depend on the kind of array. No kind copies, casts or makes dense more
than a block of rows at a time.
"""

import math
import mmap

import numpy as np
import torch

from .device import has_float64, isolated
from .sparse import SparseTensor, squared_norms, total_variance

# Number of entries of the largest intermediate result for one block of rows.
_BLOCK_ENTRIES = 2**22

# A larger memory map is read window by window. A smaller one is treated as an array in
# memory.
_WINDOW_BYTES = 2**28

# The largest size of a dense sample of rows, in float64, for the initial parameters and
# for statistics.
_SAMPLE_BYTES = 2**28

# Sparse rows of higher density, or with fewer features, are made dense, since products
# then take less time.
_LARGEST_DENSITY = 1 / 32
WIDE = 1024


def as_array(X):
    """Return a tensor's values as an array, which shares its memory if possible.

    Anything but a tensor is returned as it is. Raises TypeError for sparse tensors and
    lazy frames.
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
    # NumPy would turn a lazy frame into an array of one object, without an error.
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
    """Return a tensor that shares the array's memory if PyTorch can share it.

    Read-only, misaligned, non-contiguous and foreign-endian arrays are copied. Tensors,
    including `SparseTensor`, are returned as they are.
    """
    if isinstance(array, (torch.Tensor, SparseTensor)):
        return array
    flags = array.flags
    shareable = flags.writeable and flags.aligned and flags.c_contiguous
    # A single row or column is contiguous whatever its stride is.
    if not (shareable and array.dtype.isnative and min(array.strides, default=0) >= 0):
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(array)


def cast(array, dtype):
    """Return an array in the number format that a dtype of PyTorch names."""
    return np.asarray(array, dtype=str(dtype).removeprefix("torch."))


def dense(rows):
    """Return sparse rows as an array, and other rows as they are."""
    return rows.toarray() if hasattr(rows, "toarray") else rows


def is_out_of_core(X):
    """Return whether X is a memory map (or a view of one) larger than a window."""
    base = X
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap) and X.nbytes > _WINDOW_BYTES


def block_rows(entries_per_row):
    """Return how many rows to compute at once so that memory stays bounded."""
    return max(1, _BLOCK_ENTRIES // entries_per_row)


def as_rows(X):
    """Return the `Rows` of an array, a CSR array or a tensor, or X if it is `Rows`."""
    if isinstance(X, Rows):
        return X
    if hasattr(X, "indptr"):
        return SparseRows(X)
    return MappedRows(X) if is_out_of_core(X) else Rows(X)


class Rows:
    """Rows that are in memory: an array or a tensor.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_samples, n_features)
        Numbers in any format.

    Attributes
    ----------
    X : ndarray or Tensor
    shape : tuple of int
    dtype : dtype
    out_of_core : bool
        Whether the rows may be larger than memory.
    sparse : bool
        Whether the rows are stored as a sparse matrix.
    stays_sparse : bool
        Whether indexing returns a `SparseTensor` instead of dense rows.
    """

    out_of_core = False
    sparse = False
    stays_sparse = False

    def __init__(self, X):
        self.X = X
        self.shape = tuple(X.shape)
        self.dtype = X.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        """Return the rows that a slice or an array selects, dense."""
        return self.X[index]

    def take(self, index):
        """Return a copy of the `Rows` that ``index``, an ascending array, selects."""
        return Rows(self.X[index])

    def blocks(self):
        """Yield consecutive blocks of rows, as they are stored."""
        yield self.X

    def extremes(self):
        """Return the least and the greatest value."""
        lows, highs = zip(*((b.min(), b.max()) for b in self.blocks()), strict=True)
        return min(lows), max(highs)

    def at_once(self, entries_per_row=1):
        """Return how many rows to compute at once so that memory stays bounded.

        ``entries_per_row`` is the size of the largest result for one row. The size of a
        dense row itself is taken into account.
        """
        return block_rows(max(entries_per_row, self.shape[1]))

    def kept_sparse(self, device, dtype):
        """Return `Rows` that stay sparse if products on the device then take less time.

        ``dtype`` is that of the products. Otherwise the rows are returned as they are.
        """
        return self

    def evenly_spaced(self, n_samples):
        """Return about ``n_samples`` rows, the same ones in each call.

        There are fewer if they are dense and would take more than 256 MiB in float64.
        """
        n_samples = min(n_samples, self.n_together())
        return self[:: len(self) // n_samples + 1]

    def sample(self, n_samples, generator):
        """Return at most ``n_samples`` rows drawn without replacement.

        There are fewer of them where they are dense and would take more than 256 MiB.
        Where these are all rows, nothing is drawn.
        """
        n_samples = min(n_samples, self.n_together())
        if n_samples >= len(self):
            return self[:]
        return self[permutation(len(self), generator)[:n_samples]]

    def n_together(self):
        """Return how many rows a sample may have so that memory stays bounded."""
        return max(1, _SAMPLE_BYTES // (8 * self.shape[1]))

    def identity(self):
        """Return data that identify the rows: all rows, or some of a memory map."""
        return self.X

    def tensors(self, n_rows, dtype, device):
        """Yield (slice, tensor) for consecutive blocks of at most ``n_rows`` rows."""
        for start in range(0, len(self), n_rows):
            rows = slice(start, min(start + n_rows, len(self)))
            yield rows, as_tensor(self[rows]).to(dtype).to(device)

    def moved(self, dtype, device):
        """Return all rows as a tensor on the GPU, or None if they have to stay here.

        Rows in memory are moved to a GPU that has enough memory for them. They keep
        their own format if the device has it, and get ``dtype`` otherwise.
        """
        if self.sparse or self.out_of_core or not belongs_on(device, self.X.nbytes):
            return None
        own = as_tensor(self.X[:0]).dtype
        if own != torch.float64 or has_float64(device):
            dtype = own
        result = torch.empty(self.shape, dtype=dtype, device=device)
        for rows, block in self.tensors(self.at_once(), dtype, device):
            result[rows] = block
        return result


class SparseRows(Rows):
    """Rows of a CSR array."""

    sparse = True

    def __init__(self, X):
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        super().__init__(X)

    def __getitem__(self, index):
        return self.X[index].toarray()

    def take(self, index):
        return type(self)(self.X[index])

    def kept_sparse(self, device, dtype):
        is_thin = self.X.nnz <= _LARGEST_DENSITY * self.shape[0] * self.shape[1]
        is_thin &= self.shape[1] >= WIDE
        if is_thin and device.type == "cpu" and dtype.itemsize >= 4:
            return _RowsThatStaySparse(self.X)
        return self

    def extremes(self):
        return self.X.data.min(initial=0), self.X.data.max(initial=0)


class _RowsThatStaySparse(SparseRows):
    """Sparse rows whose indexing returns a `SparseTensor`."""

    stays_sparse = True

    def __getitem__(self, index):
        rows = self.X[index]
        return SparseTensor(rows if rows.dtype.kind == "f" else rows.astype(float))

    def at_once(self, entries_per_row=1):
        return block_rows(entries_per_row)

    def n_together(self):
        return math.inf


class MappedRows(Rows):
    """Rows of a memory map that may be larger than memory, or some of them.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        A memory map, or a view of one.
    index : ndarray of shape (n_samples,), default=None
        The indices of the rows, ascending, so that rows are read in the order of the
        file. None means all rows.
    """

    out_of_core = True

    def __init__(self, X, index=None):
        super().__init__(X)
        self.index = index
        if index is not None:
            self.shape = (len(index), X.shape[1])

    def __getitem__(self, index):
        return self.X[index if self.index is None else self.index[index]]

    def take(self, index):
        """Return a copy, or `MappedRows` if a copy would be larger than a window."""
        rows = index if self.index is None else self.index[index]
        if len(rows) * self.shape[1] * self.dtype.itemsize > _WINDOW_BYTES:
            return MappedRows(self.X, rows)
        return Rows(self.X[rows])

    def blocks(self):
        n_rows = self.at_once()
        return (self[start : start + n_rows] for start in range(0, len(self), n_rows))

    def sample(self, n_samples, generator):
        # A permutation of all rows may be larger than memory.
        index = torch.randint(
            len(self),
            (min(n_samples, self.n_together()),),
            generator=generator,
            device="cpu",
        )
        return self[index.unique().numpy()]

    def identity(self):
        return self.evenly_spaced(1000)


def spread_by_weight(weights, n_samples):
    """Return numbers of about ``n_samples`` rows, in proportion to their weights.

    They ascend, and are the same ones each time. Where weights are whole numbers, each
    row comes as often as its weight says, if that is no more than ``n_samples``.
    """
    counts = weights
    if (counts != np.floor(counts)).any() or counts.sum() > n_samples:
        steps = np.cumsum(weights) * (n_samples / weights.sum())
        counts = np.diff(np.rint(steps), prepend=0)
    return np.repeat(np.arange(len(weights)), counts.astype(np.int64))


def belongs_on(device, nbytes):
    """Return whether to copy an array of this size to the device as a whole."""
    if device.type == "cpu":
        return False
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes <= free / 2


def split_numbers(n, n_held_out, generator):
    """Return the numbers below ``n`` in two ascending arrays, split at random."""
    held_out = np.zeros(n, dtype=bool)
    held_out[permutation(n, generator)[:n_held_out]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def permutation(n, generator):
    """Return the numbers below ``n`` in random order, as an array of int64."""
    order = np.empty(n, dtype=np.int64)
    out = torch.from_numpy(order)
    torch.randperm(n, generator=generator, out=out, device="cpu")
    return order


def variance_of_rounding(rows, eps):
    """Return the variance that rounding errors of some ``eps`` give to equal rows."""
    return (16 * eps) ** 2 * squared_norms(rows).mean()


@isolated
def lost_in_rounding(X, dtype):
    """Return the fraction of the variance of X that is lost by rounding to ``dtype``.

    It is the variance of the rounding error divided by that of X, both summed over
    features, for at most 1000 evenly spaced rows. It is 0 if the rows differ by no more
    than possible rounding errors in X itself.
    """
    X = as_rows(X)
    own = np.finfo(X.dtype).eps if X.dtype.kind == "f" else 0.0
    if own >= torch.finfo(dtype).eps:
        return 0.0
    X = X.kept_sparse(torch.device("cpu"), torch.float64)
    rows = X.evenly_spaced(min(1000, X.at_once()))
    rows = as_tensor(rows).to(torch.float64)
    variance = total_variance(rows)
    if not variance > variance_of_rounding(rows, own):
        return 0.0
    if X.stays_sparse:
        values = rows.values
        error = rows.with_values(values.to(dtype).double() - values)
    else:
        error = rows.to(dtype).double() - rows
    return (total_variance(error) / variance).item()
