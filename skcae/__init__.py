"""Contractive autoencoders for scikit-learn."""

import importlib

from ._classifier import ContractiveAutoencoderClassifier
from ._detector import ContractiveAutoencoderDetector
from ._transformer import ContractiveAutoencoderTransformer
from ._version import __version__

__all__ = [
    "ContractiveAutoencoderClassifier",
    "ContractiveAutoencoderDetector",
    "ContractiveAutoencoderTransformer",
    "__version__",
]

# Each submodule is imported on first access.
_SUBMODULES = {
    "callbacks",
    "displays",
    "distributed",
    "export",
    "geometry",
    "losses",
    "sampling",
    "stacking",
}


def __getattr__(name):
    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__():
    return sorted(_SUBMODULES | set(globals()))
