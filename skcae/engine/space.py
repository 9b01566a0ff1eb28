"""The space in which a model is trained: that of all features, or a smaller one.

All that training does to the first layer's weights and the last one's, and to the
output's bias, happens in the span of the rows. (With Gaussian noise it does on average:
the noise has a part outside, with mean zero.) Squared error and penalties stay the same
if the space is rotated. So a model of rows that span little of their space can be
trained on their coordinates there, and its parameters taken back.

    space = choose_space(rows, n_hidden, ...)
    space.architecture(whole)   the architecture of a model in the space
    space.rows(rows)            the training rows in the space, as `Rows`
    space.held_out(rows)        other rows in the space, and their part outside of it
    space.lift(parameters)      parameters in the space, mapped to all features
    space.project(parameters)   parameters for all features, mapped to the space
"""

import numpy as np
import torch

from .rows import WIDE, Rows, as_tensor, belongs_on
from .sparse import SparseTensor, squared_norms

# Number of epochs in which a smaller space must save more than its basis costs.
_N_EPOCHS = 60


class Whole:
    """The space of all features."""

    is_whole = True

    def architecture(self, whole):
        """Return the architecture of a model in this space."""
        return whole

    def rows(self, rows):
        """Return the training rows in this space."""
        return rows

    def held_out(self, rows):
        """Return other rows in this space, and the ‖x⊥‖² of each outside of it."""
        return rows, 0.0

    def lift(self, parameters):
        """Map the `Parameters` of a model in this space to all features."""
        return parameters

    def project(self, parameters):
        """Map the `Parameters` of a model for all features to this space."""
        return parameters


WHOLE = Whole()


class _Subspace(Whole):
    """A space of ``size`` dimensions; `_to_whole` and `_from_whole` map columns."""

    is_whole = False

    def architecture(self, whole):
        return whole._replace(sizes=(self.size, *whole.sizes[1:]))

    def lift(self, parameters):
        return self._mapped(parameters, self._to_whole)

    def project(self, parameters):
        return self._mapped(parameters, self._from_whole)

    def _mapped(self, parameters, function):
        """Apply ``function`` to all parameters that have an entry for each feature."""
        first, *weights = parameters.encoder_weights
        *decoder_weights, last = parameters.decoder_weights
        *decoder_biases, c = parameters.decoder_biases
        return parameters._replace(
            encoder_weights=[function(first), *weights],
            decoder_weights=[*decoder_weights, function(last.T).T],
            decoder_biases=[*decoder_biases, function(c[:, None])[:, 0]],
        )


class RowSpace(_Subspace):
    """The span of fewer rows than there are features, with an orthonormal basis Q.

    Parameters
    ----------
    rows : Rows of shape (n_samples, n_features)
        Rows that don't stay sparse.
    dtype, device
        Those of the basis.
    """

    def __init__(self, rows, dtype, device):
        x = as_tensor(rows[:]).to(dtype).to(device)
        self._basis, triangle = torch.linalg.qr(x.T)
        # Since Xᵀ = Q R, the coordinates X Q are Rᵀ.
        self._coordinates = Rows(triangle.T.contiguous().cpu().numpy())
        self.size = len(triangle)

    def rows(self, rows):
        return self._coordinates

    def held_out(self, rows):
        basis = self._basis
        coordinates, outside = [], []
        for _, x in rows.tensors(rows.at_once(), basis.dtype, basis.device):
            coordinates.append(x @ basis)
            rest = torch.addmm(x, coordinates[-1], basis.T, alpha=-1)
            outside.append(squared_norms(rest))
        coordinates, outside = (
            torch.cat(blocks).cpu().numpy() for blocks in (coordinates, outside)
        )
        return Rows(coordinates), outside

    def _to_whole(self, columns):
        return self._basis @ columns

    def _from_whole(self, columns):
        return self._basis.T @ columns


class Columns(_Subspace):
    """The space of the features that some of the sparse rows have entries for.

    Parameters
    ----------
    rows : Rows of shape (n_samples, n_features)
        Rows that stay sparse.
    """

    def __init__(self, rows):
        self._n_features = rows.shape[1]
        self._index = np.unique(rows.X.indices)
        self.size = len(self._index)

    def rows(self, rows):
        return type(rows)(rows.X[:, self._index])

    def held_out(self, rows):
        inside = self.rows(rows)
        norms, inner = (squared_norms(SparseTensor(part.X)) for part in (rows, inside))
        return inside, (norms - inner).clamp(min=0).numpy()

    def _to_whole(self, columns):
        result = columns.new_zeros(self._n_features, columns.shape[1])
        return result.index_copy_(0, torch.from_numpy(self._index).long(), columns)

    def _from_whole(self, columns):
        return columns[torch.from_numpy(self._index).long()]


def choose_space(rows, n_hidden, dtype, device):
    """Return the space in which to train on the rows, if it may be a smaller one.

    For rows that stay sparse it is the space of the features for which they have
    entries, if these are at most half of all features.

    For n other rows of d features it is their span, if d is at least 1024 and at least
    2 n, and if the span saves multiplications: 60 epochs of two products with n_hidden
    columns must save more than the 4 d n² that the basis takes.

    Otherwise it is the space of all features.

    Parameters
    ----------
    rows : Rows of shape (n_samples, n_features)
    n_hidden : int
        Number of units of the first layer.
    dtype, device
        Those of the parameters.
    """
    n_samples, n_features = rows.shape
    if rows.stays_sparse:
        columns = Columns(rows)
        return columns if 0 < 2 * columns.size <= n_features else WHOLE
    if rows.out_of_core or (rows.sparse and n_samples > rows.n_together()):
        return WHOLE
    if n_features < max(WIDE, 2 * n_samples):
        return WHOLE
    # The basis takes as much room as the rows, and so does its computation.
    nbytes = 2 * n_samples * n_features * dtype.itemsize
    if device.type != "cpu" and not belongs_on(device, nbytes):
        return WHOLE
    saved = _N_EPOCHS * 2 * n_samples * n_hidden * (n_features - n_samples)
    if 4 * n_features * n_samples**2 > saved:
        return WHOLE
    return RowSpace(rows, dtype, device)
