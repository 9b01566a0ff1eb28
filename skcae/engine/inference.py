"""Functions of a trained network, and their application to blocks of rows."""

import math

import numpy as np
import torch

from .activations import ACTIVATIONS
from .device import has_float64, isolated, memory_errors, threads_for
from .network import Parameters, decode, encode, largest_layer
from .reconstruction import loss_per_sample
from .rows import as_rows, as_tensor
from .sparse import SparseTensor, product


def code(architecture, parameters, x):
    """Return the activations of the last encoder layer."""
    return encode(architecture, parameters, x)[1][-1]


def decoded(architecture, parameters, h):
    """Return the reconstruction from a code h."""
    output = ACTIVATIONS[architecture.output_activation]
    return output.value(decode(architecture, parameters, h))


def reconstruction_loss(loss):
    """Return the function that computes the loss named ``loss``, per sample."""

    def function(architecture, parameters, x):
        h = code(architecture, parameters, x)
        if not isinstance(x, SparseTensor):
            return loss_per_sample(architecture, parameters, h, x, loss)
        # For sparse rows the loss is a difference of larger terms, which needs float64.
        wide = Parameters(*([p.double() for p in group] for group in parameters))
        losses = loss_per_sample(
            architecture, wide, h.double(), x.to(torch.float64), loss
        )
        return losses.to(h.dtype)

    return function


def squared_errors(architecture, parameters, x):
    """Return the squared error of the reconstruction of each feature."""
    h = code(architecture, parameters, x)
    return (x - decoded(architecture, parameters, h)).square()


def code_and_error(directions=None):
    """Return the function that computes the code and, behind it, x − x̂.

    Parameters
    ----------
    directions : ndarray of shape (n_features, n_directions), default=None
        What the error is multiplied by. With these, rows may be sparse.
    """

    def function(architecture, parameters, x):
        h = code(architecture, parameters, x)
        reconstruction = decoded(architecture, parameters, h)
        if directions is None:
            return torch.cat([h, x - reconstruction], dim=1)
        matrix = as_tensor(directions).to(h)
        return torch.cat([h, product(x, matrix) - reconstruction @ matrix], dim=1)

    return function


@isolated
def map_rows(
    function,
    architecture,
    arrays,
    X,
    *,
    device,
    dtype=None,
    entries_per_row=None,
    takes_sparse=False,
):
    """Apply ``function`` to blocks of rows.

    Parameters
    ----------
    function : callable
        ``function(architecture, parameters, x)`` returns a tensor with a row for each
        row of x.
    architecture : Architecture
    arrays : Parameters of ndarray
    X : ndarray, CSR array, Tensor or Rows of shape (n_samples, n_columns)
        Numbers in any format; they are converted block by block.
    device : torch.device
        Where to compute, unless X is a tensor: its rows stay on its device.
    dtype : torch.dtype, default=None
        The format to compute in, unless X is a tensor. None means float32 if X is
        float32, and float64 otherwise. A tensor's floating-point format is kept.
    entries_per_row : int, default=None
        Size of the largest result for one row, including intermediate results. None
        means the width of the widest layer. A dense row itself need not be counted.
    takes_sparse : bool, default=False
        Whether ``function`` accepts a `SparseTensor`, without making any dense array of
        its size.

    Returns
    -------
    result : ndarray of shape (n_samples, ...)
        If X is a tensor, the result is a tensor on the same device.

    Raises
    ------
    FloatingPointError
        If ``function`` decomposes matrices that aren't finite.
    MemoryError
        If there is not enough memory for the parameters or the results.
    """
    X = as_rows(X)
    is_tensor = isinstance(X.X, torch.Tensor)
    if is_tensor:
        device = X.X.device
        wide = torch.float64 if has_float64(device) else torch.float32
        dtype = X.dtype if X.dtype.is_floating_point else wide
    else:
        if dtype is None:
            dtype = torch.float32 if X.dtype == np.float32 else torch.float64
        if dtype == torch.float64 and not has_float64(device):
            device = torch.device("cpu")
    if takes_sparse:
        X = X.kept_sparse(device, dtype)
    widest = max(architecture.sizes)
    if entries_per_row is None:
        entries_per_row = max(architecture.sizes[X.stays_sparse :])
    n_rows = X.at_once(entries_per_row)
    # The products of a row: with a layer's weights, for each vector there is.
    n_vectors = max(1, entries_per_row // widest)
    work = math.prod(largest_layer(architecture)) * n_vectors
    result = None
    sizes = " × ".join(map(str, architecture.sizes))
    with memory_errors(
        f"There is not enough memory for the weights ({sizes}) and the results that "
        f"are computed from the {X.shape[0]} rows of X."
    ):
        parameters = Parameters(
            *([as_tensor(a).to(device, dtype) for a in group] for group in arrays)
        )
        for rows, block in X.tensors(n_rows, dtype, device):
            try:
                with threads_for(len(block) * work):
                    values = function(architecture, parameters, block)
            except torch.linalg.LinAlgError as error:
                raise FloatingPointError(
                    "a decomposition of the encoder's Jacobian doesn't converge"
                ) from error
            if result is None:
                shape = (X.shape[0], *values.shape[1:])
                home = device if is_tensor else torch.device("cpu")
                result = torch.empty(shape, dtype=dtype, device=home)
            result[rows] = values
    return result if is_tensor else result.numpy()
