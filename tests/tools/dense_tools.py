"""Shapes, ranges and errors that the kernels of dense layers are tested on."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from kernel_tools import pack_active

from tinyfoa_np.kernels.operands import Given
from tinyfoa_np.reference import tinyfoa

seeds = st.integers(0, 2**32 - 1)
threads = st.integers(1, 5)
few = settings(deadline=None, max_examples=25)
more = settings(deadline=None, max_examples=80)


def sizes(most, *edges):
    """1 to ``most``, and sizes at the edges of words, panels, blocks and runs."""
    return st.integers(1, most) | st.sampled_from(edges)


@st.composite
def shapes(draw, inputs, outputs, classes):
    """samples, B, I, O, C: a batch of ``samples`` in a region for B."""
    B = draw(sizes(70, 16, 17, 32, 33))
    return draw(st.integers(1, B)), B, draw(inputs), draw(outputs), draw(classes)


# A pass that only hands over has no classes.
LAYER = shapes(sizes(300, 64, 128, 256), sizes(200, 8, 64, 128), st.integers(0, 12))
# The update walks a neuron's columns in runs that end at multiples of 1,024; to be quick, there are few neurons.
WIDE = shapes(sizes(200, 1023, 1024, 1025, 1200, 2050), st.integers(1, 24), st.integers(1, 12))


@st.composite
def ranges(draw, length):
    """A non-empty range within a length."""
    first = draw(st.integers(0, length - 1))
    return first, draw(st.integers(first + 1, length))


def cut(draw, first, last):
    """first, last and up to three numbers between them, in order."""
    between = draw(st.lists(st.integers(first + 1, last - 1), max_size=3, unique=True)) if last > first + 1 else []
    return [first, *sorted(between), last]


def make_errors(rng, samples, B, O, C, binary):
    """z (B, O), logits (B, C), labels (B,) with their errors (C, B) and masks (O, B / 16) as kernels pass them on."""
    one = np.float32(1)
    edges = np.array([0.0, -0.0, 1.0, -1.0, np.nextafter(one, 0), np.nextafter(one, 2), 1e-30, -1e-30], np.float32)
    z = rng.choice([0.5, 1, 2], (1, O)) * rng.standard_normal((B, O)) + rng.choice([-3, 0, 0, 3], (1, O))
    z = np.where(rng.random((B, O)) < 0.1, rng.choice(edges, (B, O)), z.astype(np.float32))
    a, labels = rng.standard_normal((B, C)), rng.integers(0, C, B)
    error = np.full((C, B), np.nan, np.float32)  # of the other samples, too: they must not be read
    error[:, :samples] = tinyfoa.error(a[:samples], labels[:samples]).T
    mask = (z > 0) & ((z < 1) | (not binary))
    return z, a, labels, error, pack_active(mask.T)


def given_errors(rng, B, O, factor):
    """Errors as another kernel may have computed them: some of a neuron's are zero, or most, or none, or all."""
    open_share = rng.choice([0, 0.1, 0.5, 1], (O, 1))
    dz = (rng.standard_normal((O, B)) * (rng.random((O, B)) < open_share)).astype(np.float32)
    return Given(dz, 0, rng.uniform(0.1, 2, B if factor else 0).astype(np.float32))
