"""Shuffle, dropout masks, wrong labels and initial parameters: the random numbers of the kernels in plain NumPy."""

import numpy as np

from tinyfoa_np.reference import random

MASK, WRONG = 5, 6  # purposes that the reference has no use for


def shuffled(count, seed):
    """The order of so many samples: Fisher and Yates, from the end."""
    order, words = list(range(count)), random.blocks(0, count, seed=seed, layer=0, purpose=random.SHUFFLE)[:, 0]
    for k in range(count - 1, 0, -1):
        other = int(words[k]) * (k + 1) >> 32
        order[k], order[other] = order[other], order[k]
    return np.array(order)


def dropout_bits(samples, width, kept, *, step, layer, seed):
    """(samples, width) bool, True with probability kept / 65536: sixteen bits of a word decide on each.

    Rows are whole words of 64; eight elements come from a block, the low half of a word before the high one.
    """
    words = -(-width // 64)
    lanes = random.blocks(step << 32, samples * words * 8, seed=seed, layer=layer, purpose=MASK)  # (blocks, 4)
    halves = np.stack([lanes & 0xFFFF, lanes >> 16], axis=-1)
    return halves.reshape(samples, words * 64)[:, :width] < kept


def wrong_labels(labels, classes, *, epoch, first, seed):
    """A label for each sample that is not its own: one of C - 1, from its own on one higher."""
    words = random.blocks((epoch << 32) + first, len(labels), seed=seed, layer=0, purpose=WRONG)[:, 0]
    others = words.astype(np.int64) * (classes - 1) >> 32
    return others + (others >= labels)


def bounded(outputs, inputs, bound, *, seed, layer, purpose=random.WEIGHT):
    """(O, I), uniform in +-bound."""
    return random.uniform(0, outputs * inputs, bound, seed=seed, layer=layer, purpose=purpose).reshape(outputs, inputs)


def normal_weights(outputs, inputs, deviation, *, seed, layer):
    """(O, I), normal."""
    flat = random.normal(0, outputs * inputs, deviation, seed=seed, layer=layer, purpose=random.WEIGHT)
    return flat.reshape(outputs, inputs)
