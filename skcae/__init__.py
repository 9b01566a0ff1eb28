"""Contractive autoencoders for scikit-learn."""

from ._classifier import ContractiveAutoencoderClassifier
from ._transformer import ContractiveAutoencoderTransformer
from ._version import __version__

__all__ = [
    "ContractiveAutoencoderClassifier",
    "ContractiveAutoencoderTransformer",
    "__version__",
]
