"""Validation of data, and parts of error messages, for all estimators."""

from functools import partial, wraps
from numbers import Real

import numpy as np
from sklearn import get_config
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import check_non_negative, validate_data

from ._compat import get_namespace
from .engine.losses import LOSSES
from .engine.rows import (
    as_array,
    as_rows,
    detached,
    is_out_of_core,
    split_numbers,
)

# Data of other types are converted to the first of these, as a whole. `_checked` makes
# an exception for large memory maps.
TYPES = (np.float64, np.float32, np.uint8)


def validated(estimator, X, *y, **kwargs):
    """Return the `Rows` of X, and y if it is given, as scikit-learn validates them."""
    return _checked(partial(validate_data, estimator), estimator, X, *y, **kwargs)


def validated_codes(estimator, X, **kwargs):
    """Return the `Rows` of X, whose columns aren't the features of the fitted data."""
    function = partial(check_array, input_name="X", estimator=estimator)
    return _checked(function, estimator, X, **kwargs)


def _checked(function, estimator, X, *y, dtype=TYPES, order=None, **kwargs):
    """Validate X, and y if it is given, by one of scikit-learn's functions.

    A large memory map of numbers keeps its type and order; it is converted later, batch
    by batch. It is checked for NaN and infinite values block by block, since for
    float16 the check needs another byte for each entry.
    """
    by_block = is_out_of_core(X)
    if by_block and X.dtype.kind in "biuf" and X.dtype.itemsize <= 8:
        dtype = order = None
    result = function(
        X,
        *y,
        accept_sparse="csr",
        dtype=dtype,
        order=order,
        ensure_all_finite=not by_block,
        **kwargs,
    )
    X, *labels = result if y else (result,)
    rows = as_rows(X)
    if by_block:
        for block in rows.blocks():
            # scikit-learn 1.6 doesn't recognise foreign-endian numbers as floats.
            block = block.astype(block.dtype.newbyteorder("="), copy=False)
            assert_all_finite(
                block, estimator_name=type(estimator).__name__, input_name="X"
            )
    return (rows, *labels) if y else rows


def array_or_tensor(X):
    """Return X as an array or a tensor, and the dtypes that it may have.

    A tensor becomes an array, unless scikit-learn's array API dispatch is on. Results
    are then tensors on the same device.
    """
    if not get_config()["array_api_dispatch"] or isinstance(X, np.ndarray):
        return as_array(X), TYPES
    X = detached(X)
    xp, _ = get_namespace(X)
    return X, [getattr(xp, dtype.__name__) for dtype in TYPES]


def plain(value):
    """Return a parameter's value in a form that is the same for equal numbers."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def validated_weights(sample_weight, n_samples):
    """Return ``sample_weight`` as an array of float64, or None.

    The rules and the words are those of scikit-learn's private function for it.
    """
    if sample_weight is None:
        return None
    sample_weight = as_array(sample_weight)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, sample_weight, dtype=float)
    weights = check_array(
        sample_weight,
        ensure_2d=False,
        allow_nd=True,
        dtype=np.float64,
        input_name="sample_weight",
    )
    if weights.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_samples,)}!"
        )
    check_non_negative(weights, "`sample_weight`")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    least, most = weights[weights > 0].min(), weights.max()
    bounds = np.finfo(np.float32)
    if least < bounds.tiny or most > bounds.max or least < bounds.tiny * most:
        raise ValueError(
            "sample_weight must be weights that are, with their ratios, in the range "
            f"of float32. Got weights from {least} to {most}."
        )
    return weights


def without_zeros(rows, weights):
    """Return the rows whose weights aren't 0, and these weights."""
    if weights is None or weights.all():
        return rows, weights
    kept = np.flatnonzero(weights)
    return rows.take(kept), weights[kept]


def scalers(rows):
    """Return the names of scikit-learn's scalers for such rows, for a message."""
    return "MaxAbsScaler" if rows.sparse else "StandardScaler or MinMaxScaler"


def unit_scaler(rows, dense="MinMaxScaler"):
    """Return the name of a scaler to [0, 1]: ``dense``, unless the rows are sparse."""
    if not rows.sparse:
        return dense
    low, _ = rows.extremes()
    return "MaxAbsScaler" if low >= 0 else "MinMaxScaler after X.toarray()"


def beyond_unit_interval(rows):
    """Return "from <least> to <greatest value>" if that isn't in [0, 1], else None."""
    low, high = rows.extremes()
    # Rounding in a scaler is not an error.
    xp, _ = get_namespace(low)
    is_float = xp.isdtype(low.dtype, "real floating")
    tolerance = 8 * xp.finfo(low.dtype).eps if is_float else 0
    if low < -tolerance or high > 1 + tolerance:
        return f"from {low} to {high}"
    return None


def check_range(rows, loss):
    """Raise ValueError if the loss requires rows in [0, 1] but these aren't."""
    if LOSSES[loss].unit_interval and (values := beyond_unit_interval(rows)):
        scaler = unit_scaler(rows, dense="MinMaxScaler(clip=True)")
        raise ValueError(
            f"loss={loss!r} requires X in the range [0, 1]. Got values {values}; scale "
            f"X, with {scaler} say."
        )


def split(n_samples, fraction, generator):
    """Return the numbers of the rows to train on and of those to hold out."""
    n_held_out = int(np.ceil(fraction * n_samples))
    if n_held_out >= n_samples:
        raise ValueError(
            f"early_stopping=True with validation_fraction={fraction!r} holds out "
            f"{n_held_out} samples, and leaves none to train on of n_samples="
            f"{n_samples} in X."
        )
    return split_numbers(n_samples, n_held_out, generator)


def hinting(**names):
    """Make an estimator's ``__init__`` suggest its own names for unknown parameters.

    Parameters
    ----------
    **names : str
        The right names, by the names of other estimators.
    """

    def decorate(init):
        @wraps(init)
        def __init__(self, *args, **kwargs):
            for wrong, right in names.items():
                if wrong in kwargs:
                    raise TypeError(
                        f"{type(self).__name__} has no parameter {wrong!r}. Use "
                        f"{right!r} instead."
                    )
            init(self, *args, **kwargs)

        return __init__

    return decorate
