"""Advice for a training that learned nothing names what can still be changed."""

import numpy as np
import pytest

from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.advice import advice


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe(), "real weights and activations"),
        (
            Recipe(binary_weights=False, normalize="unit"),
            "a smaller batch, inputs scaled to mean 0 and deviation 1 or real activations",
        ),
        (Recipe(binary_weights=False, binary_activations=False, normalize="standard"), "epochs or a smaller batch"),
        (Recipe(algorithm="giff", network="cnn", normalize="standard"), "epochs or a smaller batch"),
    ],
)
def test_what_to_try(recipe, says):
    told = advice(40.0, np.array([60, 40]), "test", recipe.validated())
    assert told.endswith(says) and "the most frequent class, 40.0 %" in told


def test_rare_classes_are_looked_for():
    """A larger rate does not help a training that answers the most frequent class of very unequal ones."""
    told = advice(3.5, np.array([195, 5]), "test", Recipe().validated())
    assert "recall of the rare classes" in told and "class_weight" in told and "larger lr" not in told


def test_nothing_if_something_was_learned():
    assert advice(39.0, np.array([60, 40]), "test", Recipe()) == ""
    assert advice(0.0, np.array([60, 0]), "test", Recipe()) == ""
