"""A trained model: saved, loaded, asked, and written for other programs."""

from .model import Model, load, save

__all__ = ["Model", "load", "save"]
