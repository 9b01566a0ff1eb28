"""Operations on rows that may be dense or sparse; sparse rows are not made dense."""

import numpy as np
import scipy.sparse
import torch
from torch.autograd.function import once_differentiable


class SparseTensor:
    """A sparse matrix on the CPU that multiplies tensors.

    The functions of this module accept it in place of a tensor. SciPy computes the
    products, since PyTorch's own sparse tensors don't multiply on all platforms and
    warn that they are in beta.

    Parameters
    ----------
    csr : CSR array of float32 or float64 of shape (m, n)
        Without duplicate entries.
    """

    device = torch.device("cpu")

    def __init__(self, csr):
        self.csr = csr
        self.shape = torch.Size(csr.shape)
        self.dtype = self.values.dtype

    @property
    def values(self):
        """The stored entries, as a tensor that must not be changed."""
        data = self.csr.data
        # PyTorch warns about read-only arrays, such as those in joblib's workers.
        return torch.from_numpy(data if data.flags.writeable else data.copy())

    def with_values(self, values):
        """Return the same matrix with other ``values``."""
        csr = self.csr
        return SparseTensor(
            type(csr)((values.numpy(), csr.indices, csr.indptr), shape=csr.shape)
        )

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return SparseTensor(self.csr[index])

    def to(self, target, copy=False):
        """Return the matrix in the number format ``target``.

        If ``target`` is a device, return the matrix itself, which stays on the CPU.
        """
        if isinstance(target, torch.device) or target == self.dtype:
            return self
        return self.with_values(self.values.to(target))

    def cpu(self):
        """Return the matrix itself."""
        return self


class _Product(torch.autograd.Function):
    """X W, differentiable with respect to W."""

    @staticmethod
    def forward(ctx, weight, x):
        ctx.x = x
        return torch.from_numpy(x.csr @ weight.detach().numpy())

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return transposed_product(ctx.x, gradient), None


def product(x, weight, bias=None, out=None):
    """Return x W + b, or x W without a bias; differentiable with respect to W and b."""
    if isinstance(x, SparseTensor):
        result = _Product.apply(weight, x)
        result = result if bias is None else result + bias
        return result if out is None else out.copy_(result)
    if bias is None:
        return torch.mm(x, weight, out=out)
    return torch.addmm(bias, x, weight, out=out)


def transposed_product(x, b, out=None):
    """Return xᵀ B, where B is a matrix or a vector."""
    if isinstance(x, SparseTensor):
        result = torch.from_numpy(x.csr.T @ b.numpy())
        return result if out is None else out.copy_(result)
    return (torch.mv if b.dim() == 1 else torch.mm)(x.T, b, out=out)


def add_transposed_product(out, x, b, alpha=1):
    """Add alpha · xᵀ B to the matrix ``out``."""
    if isinstance(x, SparseTensor):
        out.add_(transposed_product(x, b), alpha=alpha)
    else:
        out.addmm_(x.T, b, alpha=alpha)


def concatenated(parts):
    """Return one matrix of the rows of all ``parts``."""
    if isinstance(parts[0], SparseTensor):
        return SparseTensor(
            scipy.sparse.vstack([part.csr for part in parts], format="csr")
        )
    return torch.cat(parts)


def mean_row(x):
    """Return the mean of the rows, of shape (n_features,)."""
    if isinstance(x, SparseTensor):
        sums = np.asarray(x.csr.sum(axis=0, dtype=np.float64)).ravel()
        return torch.from_numpy(sums / len(x)).to(x.dtype)
    return x.mean(dim=0)


def squared_norms(x):
    """Return ‖x_n‖² of each row, of shape (n_samples,).

    Of sparse rows they are float64, as differences are taken of them.
    """
    if isinstance(x, SparseTensor):
        return _squared_sums(x, axis=1)
    return x.square().sum(dim=1)


def _squared_sums(x, axis):
    """Return sums of the squares of a sparse matrix, in float64."""
    squares = x.with_values(x.values.double().square()).csr
    return torch.from_numpy(np.asarray(squares.sum(axis=axis)).ravel())


def total_variance(x):
    """Return the variance of the rows, summed over the features: a scalar tensor."""
    if isinstance(x, SparseTensor):
        # A column may have a mean that is far larger than its deviation.
        means = mean_row(x.to(torch.float64))
        variances = _squared_sums(x, axis=0) / len(x) - means.square()
        return variances.clamp(min=0).sum().to(x.dtype)
    return x.var(dim=0, correction=0).sum()


class Centred:
    """Rows less their mean. For sparse rows, products are corrected for the mean.

    Parameters
    ----------
    x : Tensor or SparseTensor of shape (n_samples, n_features)

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
    """

    def __init__(self, x):
        self.mean = mean_row(x)
        self._is_sparse = isinstance(x, SparseTensor)
        self._x = x if self._is_sparse else x - self.mean

    def product(self, weight):
        """Return (x − x̄) W."""
        result = product(self._x, weight)
        return result - self.mean @ weight if self._is_sparse else result

    def transposed_product(self, b):
        """Return (x − x̄)ᵀ B."""
        result = transposed_product(self._x, b)
        return (
            result.addr_(self.mean, b.sum(0), alpha=-1) if self._is_sparse else result
        )

    def variance(self):
        """Return the variance, summed over the features: a scalar tensor."""
        if self._is_sparse:
            return total_variance(self._x)
        return squared_norms(self._x).mean()
