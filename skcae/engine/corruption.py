"""Random corruptions of the input, as in denoising autoencoders.

``CORRUPTIONS`` is the only list of corruptions: the tests read it. To add one, add one
entry: a function ``corrupt(x, level, out, generator)`` that fills ``out`` with a
corrupted copy of the batch x, of the same shape, and returns it. It draws random
numbers on the generator's device, in a format that doesn't depend on ``out``, so that
they depend on the generator alone. ``KEEP_ZEROS`` names the corruptions that leave
zeros as they are. ``ISOTROPIC`` names those that treat all directions alike.
"""

import torch

from .device import copy_without_waiting
from .sparse import SparseTensor

_BITS = 16


def fill_normal(out, scale, generator):
    """Fill ``out`` with draws from a normal distribution, of mean zero.

    Parameters
    ----------
    out : Tensor
    scale : float
        Standard deviation, >= 0.
    generator : torch.Generator

    Returns
    -------
    out : Tensor
    """
    if out.dtype == torch.float32 and out.device.type == generator.device.type:
        return out.normal_(0, scale, generator=generator)
    draws = torch.empty(out.shape, dtype=torch.float32, device=generator.device)
    return copy_without_waiting(draws.normal_(0, scale, generator=generator), out)


def gaussian(x, level, out, generator):
    """Add normal noise of standard deviation ``level`` to every feature.

    It is the "additive isotropic Gaussian noise" of Vincent, Larochelle, Lajoie, Bengio
    and Manzagol (JMLR 2010), and the DAE-g of Rifai et al. (ICML 2011).

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
    level : float
        At least 0.
    out : Tensor of shape (n_samples, n_features)
        Not x.
    generator : torch.Generator

    Returns
    -------
    out : Tensor of shape (n_samples, n_features)
    """
    return fill_normal(out, level, generator).add_(x)


def masking(x, level, out, generator):
    """Set every feature to zero with probability ``level``, independently.

    It is the "masking noise" of Vincent et al. (JMLR 2010), and the DAE-b of Rifai et
    al. (ICML 2011).

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
    level : float
        In [0, 1); rounded to a multiple of 2⁻¹⁶.
    out : Tensor of shape (n_samples, n_features)
        Not x.
    generator : torch.Generator

    Returns
    -------
    out : Tensor of shape (n_samples, n_features)
    """
    # Drawing random numbers takes most of the time. Four features share the 64 bits of
    # one draw. This is three to seven times as fast as drawing a uniform number, or
    # calling `bernoulli_`, for each feature.
    n_words = -(-out.numel() * _BITS // 64)
    words = torch.empty(n_words, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[: out.numel()].view(out.shape)
    threshold = min(round(level * 2**_BITS), 2**_BITS - 1) - 2 ** (_BITS - 1)
    if out.device == bits.device:
        torch.ge(bits, threshold, out=out)
    else:
        copy_without_waiting(bits >= threshold, out)
    return out.mul_(x)


CORRUPTIONS = {"gaussian": gaussian, "masking": masking}

# Sparse rows can stay sparse with these. None is no corruption.
KEEP_ZEROS = {None, "masking"}

# The distribution of these is invariant under rotations of the space.
ISOTROPIC = {None, "gaussian"}


def check_corruption(name, level):
    """Raise ValueError if the level is out of the corruption's range."""
    if name == "masking" and level >= 1:
        raise ValueError(
            "corruption='masking' requires corruption_level to be in the range [0, 1). "
            f"Got {level!r} instead."
        )


def make_corruption(name, level, shape, *, dtype, device, generator):
    """Return the function that corrupts batches of at most this shape.

    Parameters
    ----------
    name : str or None
        A key of ``CORRUPTIONS``; None leaves batches as they are.
    level : float
    shape : tuple of int or None
        Shape of the buffer for corrupted batches. None if batches are sparse.
    dtype, device
        Those of the batches.
    generator : torch.Generator

    Returns
    -------
    corrupt : callable
        ``corrupt(x)`` uses ``generator`` and the buffer. ``corrupt(x, other)`` uses
        another generator, and new memory.
    """
    if name is None:
        return lambda x, generator=None: x
    function, own_generator = CORRUPTIONS[name], generator
    buffer = None if shape is None else torch.empty(shape, dtype=dtype, device=device)

    def corrupt(x, generator=None):
        if isinstance(x, SparseTensor):
            return x.with_values(corrupt(x.values, generator or own_generator))
        if generator is None:
            return function(x, level, buffer[: len(x)], own_generator)
        return function(x, level, torch.empty_like(x), generator)

    return corrupt
