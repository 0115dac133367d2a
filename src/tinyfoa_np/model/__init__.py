"""Trained models: saving, loading, prediction, and export to other programs."""

from .model import Model, load
from .writing import save

__all__ = ["Model", "load", "save"]
