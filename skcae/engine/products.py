"""Matrix products, by the fastest of the libraries that PyTorch comes with."""

import functools
import math

import torch

# With fewer multiplications oneDNN takes longer to start than it saves; with one of the
# three sizes smaller, to copy what it can't read transposed.
_ONEDNN_WORK = 2**20
_ONEDNN_SIZE = 64


def pytorch_product(a, b, plus=None, *, beta=1, alpha=1, out=None, scratch=None):
    """Return alpha · a @ b + beta · plus, as `torch.addmm` does.

    Parameters
    ----------
    a : Tensor of shape (n, k)
    b : Tensor of shape (k, m)
    plus : Tensor of shape (n, m) or (m,), default=None
        None is zero, with alpha 1.
    beta, alpha : float
    out : Tensor of shape (n, m), default=None
        Where to write the result; may be ``plus``.
    scratch : Tensor of shape (n, m), default=None
        Where to write the result, if that saves an allocation.

    Returns
    -------
    result : Tensor of shape (n, m)
    """
    out = scratch if out is None else out
    if plus is None:
        return torch.mm(a, b, out=out)
    return torch.addmm(plus, a, b, beta=beta, alpha=alpha, out=out)


def onednn_product(a, b, plus=None, *, beta=1, alpha=1, out=None, scratch=None):
    """Return the same as `pytorch_product`, by oneDNN, which has no use for scratch.

    k must be at least 1.
    """
    is_bias = plus is not None and plus.dim() == 1 and beta == alpha == 1
    bias = plus.contiguous() if is_bias else None
    result = torch.ops.mkldnn._linear_pointwise.default(a, b.T, bias, "none", [], "")
    if plus is not None and not is_bias:
        result = result if alpha == 1 else result.mul_(alpha)
        return torch.add(result, plus, alpha=beta, out=result if out is None else out)
    return result if out is None else out.copy_(result)


@functools.cache
def _has_slow_mkl():
    """Return whether MKL leaves AVX-512 unused here while oneDNN doesn't.

    That is so on AMD's processors: there oneDNN takes half of the time. PyTorch has no
    public function that calls it for float32; this one is what its compiler emits. A
    PyTorch that can't tell, or hasn't got it, goes without.
    """
    cpu = getattr(torch.cpu, "get_capabilities", dict)()
    return (
        str(cpu.get("cpu_name", "")).startswith("AMD")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def fastest_product(tensor, sizes):
    """Return the function for products of matrices like ``tensor``.

    Parameters
    ----------
    tensor : Tensor
    sizes : tuple of int
        (n, k, m) of the largest product, in any order.
    """
    is_onednns = (
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and math.prod(sizes) >= _ONEDNN_WORK
        and min(sizes) >= _ONEDNN_SIZE
        and torch.backends.mkldnn.enabled
        and _has_slow_mkl()
    )
    return onednn_product if is_onednns else pytorch_product
