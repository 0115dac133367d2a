"""Trained models: saving, loading, prediction, and export to other programs."""

from .model import Model, load, save

__all__ = ["Model", "load", "save"]
