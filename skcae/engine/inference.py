"""What a trained network computes, row by row: rows in, NumPy arrays out."""

import numpy as np
import torch

from .activations import ACTIVATIONS
from .batches import block_rows, row_blocks
from .device import has_float64, isolated
from .losses import LOSSES
from .network import Parameters, decode, encode


def code(architecture, parameters, x):
    """Return the activations of the last encoder layer."""
    return encode(architecture, parameters, x)[1][-1]


def decoded(architecture, parameters, h):
    """Return the reconstruction that belongs to a code."""
    output = ACTIVATIONS[architecture.output_activation]
    return output.value(decode(architecture, parameters, h))


def reconstruction_loss(loss):
    """Return the function that computes the loss named ``loss``, per sample."""

    def function(architecture, parameters, x):
        z = decode(architecture, parameters, code(architecture, parameters, x))
        output = ACTIVATIONS[architecture.output_activation]
        return LOSSES[loss].per_sample(z, x, output)

    return function


@isolated
def map_rows(function, architecture, arrays, X, *, device, entries_per_row=None):
    """Apply ``function`` to blocks of rows, in the floating-point format of ``X``.

    It is float64 where X has none.

    Parameters
    ----------
    function : callable
        ``function(architecture, parameters, x)`` returns a tensor with a row for each
        row of x.
    architecture : Architecture
    arrays : Parameters of ndarray
    X : ndarray or CSR array of shape (n_samples, n_columns)
        float32, float64 or integers.
    device : torch.device
    entries_per_row : int, default=None
        Size of the largest intermediate result for one row; None is the widest layer.

    Returns
    -------
    result : ndarray of shape (n_samples, ...)
        Of the dtype of ``X`` or float64.
    """
    result_dtype = X.dtype if X.dtype.kind == "f" else np.dtype(np.float64)
    dtype = {4: torch.float32, 8: torch.float64}[result_dtype.itemsize]
    if dtype == torch.float64 and not has_float64(device):
        device = torch.device("cpu")
    parameters = Parameters(
        *(
            [torch.tensor(a, dtype=dtype, device="cpu").to(device) for a in group]
            for group in arrays
        )
    )
    n_rows = block_rows(entries_per_row or max(architecture.sizes))
    result = None
    for rows, block in row_blocks(X, dtype=dtype, device=device, n_rows=n_rows):
        values = function(architecture, parameters, block).cpu().numpy()
        if result is None:
            result = np.empty((X.shape[0], *values.shape[1:]), dtype=result_dtype)
        result[rows] = values
    return result
