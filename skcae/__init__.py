"""Contractive autoencoders for scikit-learn."""

from ._transformer import ContractiveAutoencoderTransformer
from ._version import __version__

__all__ = ["ContractiveAutoencoderTransformer", "__version__"]
