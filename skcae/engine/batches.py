"""Arrays to batches: shuffled for training, in order for everything else."""

import torch

from .device import has_float64

# Entries of the widest intermediate result of one block of rows.
_BLOCK_ENTRIES = 2**22


def as_tensor(array):
    """Return a tensor that shares the array's memory where PyTorch can share it.

    Read-only, misaligned, non-contiguous and foreign-endian arrays are copied first.
    """
    flags = array.flags
    if not (flags.writeable and flags.aligned and flags.c_contiguous) or (
        not array.dtype.isnative
    ):
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(array)


def _fits(rows, device):
    """Return whether the rows may lie on the device as a whole."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return rows.numel() * rows.element_size() <= free / 2


class ShuffledBatches:
    """The rows of an array in random batches, in the training's number format.

    Iterating gives one epoch: every row once, the last batch smaller where it must be.
    A batch is valid until the next one is asked for; they share one buffer.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Of any real dtype; the cast to ``dtype`` happens batch by batch.
    batch_size : int
    dtype : torch.dtype
    device : torch.device
    generator : torch.Generator
        On the CPU. Each epoch draws one permutation from it.
    """

    def __init__(self, X, *, batch_size, dtype, device, generator):
        rows = as_tensor(X)
        if rows.dtype == torch.float64 and not has_float64(device):
            rows = rows.to(dtype)
        self._rows = rows.to(device) if _fits(rows, device) else rows
        self.n_samples, n_features = rows.shape
        self.batch_size = min(batch_size, self.n_samples)
        self.dtype = dtype
        self.device = device
        self.generator = generator
        shape = (self.batch_size, n_features)
        self._batch = torch.empty(shape, dtype=dtype, device=device)
        self._gathered = self._batch
        if rows.dtype != dtype:
            self._gathered = torch.empty(shape, dtype=rows.dtype, device=device)

    def __iter__(self):
        order = torch.randperm(self.n_samples, generator=self.generator, device="cpu")
        for index in order.to(self._rows.device).split(self.batch_size):
            batch = self._batch[: len(index)]
            if self._rows.device == self.device:
                gathered = self._gathered[: len(index)]
                torch.index_select(self._rows, 0, index, out=gathered)
            else:
                # Pinned memory is copied while the device computes; PyTorch doesn't
                # give it away again before that copy is done.
                gathered = self._rows.index_select(0, index).pin_memory()
            if gathered.data_ptr() != batch.data_ptr():
                batch.copy_(gathered, non_blocking=True)
            yield batch

    def evenly_spaced(self, n_samples):
        """Return about ``n_samples`` rows, the same ones each time, as a copy."""
        rows = self._rows[:: self.n_samples // n_samples + 1]
        return rows.to(self.device, self.dtype, copy=True)

    def sample(self, n_samples):
        """Return at most ``n_samples`` rows drawn without replacement, as a copy."""
        order = torch.randperm(self.n_samples, generator=self.generator, device="cpu")
        index = order[:n_samples].to(self._rows.device)
        return self._rows.index_select(0, index).to(self.device, self.dtype)


def block_rows(entries_per_row):
    """Return how many rows to compute at once so that memory stays bounded."""
    return max(1, _BLOCK_ENTRIES // entries_per_row)


def row_blocks(X, *, dtype, device, n_rows):
    """Yield (slice, tensor) for consecutive blocks of at most ``n_rows`` rows."""
    for start in range(0, len(X), n_rows):
        rows = slice(start, min(start + n_rows, len(X)))
        yield rows, as_tensor(X[rows]).to(dtype).to(device)
