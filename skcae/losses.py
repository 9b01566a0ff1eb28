"""Losses for PyTorch users who train an encoder of their own."""

from .engine.modules import contractive_penalty

__all__ = ["contractive_penalty"]
