"""What a pickled estimator says of itself, so that it isn't misread."""

import hashlib
import warnings
from pickle import UnpicklingError

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

from ._version import __version__


class StampedMixin:
    """Pickles hold the version that wrote them and a checksum; loading compares both.

    The checksum is of what the answers are computed from, ``_answers_from``: names of
    attributes that are arrays, strings, numbers or lists of these. A pickle has none of
    its own; a damaged one loads, and would answer wrong.
    """

    _answers_from = ()

    def __getstate__(self):
        state = super().__getstate__()
        checksum = _checksum(state, self._answers_from)
        return {**state, "_skcae_version": __version__, "_skcae_checksum": checksum}

    def __setstate__(self, state):
        version = state.pop("_skcae_version", "unknown")
        checksum = state.pop("_skcae_checksum", None)
        if version != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"skcae {__version__}",
                    original_sklearn_version=f"skcae {version}",
                )
            )
        elif checksum != _checksum(state, self._answers_from):
            raise UnpicklingError(
                f"The {type(self).__name__} in this file is damaged: its fitted "
                "attributes aren't those that were saved."
            )
        super().__setstate__(state)


def _checksum(state, names):
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        _add(digest, state.get(name))
    return digest.hexdigest()


def _add(digest, value):
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        digest.update(f"{len(value)}:".encode())
        for item in value:
            _add(digest, item)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(value.tobytes())
    else:
        # NumPy's own numbers and strings look different from version to version.
        value = value.item() if isinstance(value, np.generic) else value
        digest.update(repr(value).encode())
