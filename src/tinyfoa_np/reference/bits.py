"""Signs and activations packed 64 to a word, and dot products by counting bits.

The order of bits is the same everywhere: input i is bit ``i % 64`` of word ``i // 64``, lowest bit first. Bits beyond
the last input and neurons beyond the last one are zero; every function here relies on this and preserves it.

With binary activations, a layer's inputs are h in {0, 1}^I (times a scale). With binary weights, w is in {-1, +1}^I,
stored as a bit that is 1 for +1. Their dot product needs no multiplication and has two forms:

    AND    sum h w = 2 popcount(h & w) - popcount(h)
           inputs that are on: those with weight +1 minus those with weight -1

    XNOR   the paper multiplies +-1 by +-1: with g = 2 h - 1, sum g w = I - 2 popcount(h ^ w), equal bits minus
           different ones. As h = (g + 1) / 2, and the row sum of w is 2 popcount(w) - I,
           sum h w = (sum g w + sum w) / 2 = popcount(w) - popcount(h ^ w)

Byte inputs are treated as eight such rows of bits, one per power of two.
"""

from __future__ import annotations

import numpy as np

WORD = 64  # inputs per word
PANEL = 8  # neurons per panel: eight words side by side fill a 512-bit register

_PLACES = np.arange(WORD, dtype=np.uint64)
_ONES_IN_BYTE = np.array([byte.bit_count() for byte in range(256)], dtype=np.int64)


def pack(bits: np.ndarray) -> np.ndarray:
    """Pack rows of bits into words.

    Parameters
    ----------
    bits : ndarray of bool, (B, I)

    Returns
    -------
    ndarray of uint64, (B, ceil(I / 64))

    Examples
    --------
    >>> pack(np.array([[True, False, True]]))
    array([[5]], dtype=uint64)
    """
    count, inputs = bits.shape
    words = -(-inputs // WORD)
    padded = np.zeros((count, words * WORD), dtype=np.uint64)
    padded[:, :inputs] = bits
    packed: np.ndarray = np.bitwise_or.reduce(padded.reshape(count, words, WORD) << _PLACES, axis=2)
    return packed


def unpack(words: np.ndarray, inputs: int) -> np.ndarray:
    """Unpack words into rows of bits: the inverse of :func:`pack`.

    Parameters
    ----------
    words : ndarray of uint64, (B, ceil(I / 64))
    inputs : int
        I, the number of bits that are inputs.

    Returns
    -------
    ndarray of bool, (B, I)
    """
    bits = (words[:, :, None] >> _PLACES) & np.uint64(1)  # (B, words, 64)
    return bits.reshape(len(words), -1)[:, :inputs].astype(bool)


def pack_panels(signs: np.ndarray) -> np.ndarray:
    """Pack signs of weights, eight neurons side by side.

    Panel p, word w, lane l of the result holds inputs 64 w to 64 w + 63 of neuron 8 p + l, so that one input word can
    be combined with eight neurons at once.

    Parameters
    ----------
    signs : ndarray of bool or of any number type, (O, I)
        True for +1. For numbers, the sign is taken; the sign of 0 is +1.

    Returns
    -------
    ndarray of uint64, (ceil(O / 8), ceil(I / 64), 8)
    """
    rows = pack(signs if signs.dtype == bool else signs >= 0)  # (O, words)
    outputs, words = rows.shape
    panels = -(-outputs // PANEL)
    padded = np.zeros((panels * PANEL, words), dtype=np.uint64)
    padded[:outputs] = rows
    return np.ascontiguousarray(padded.reshape(panels, PANEL, words).transpose(0, 2, 1))


def panel_rows(panels: np.ndarray, outputs: int) -> np.ndarray:
    """Extract the packed rows of a layer's neurons from its panels.

    Parameters
    ----------
    panels : ndarray of uint64, (ceil(O / 8), ceil(I / 64), 8)
    outputs : int
        O, the number of rows that are neurons.

    Returns
    -------
    ndarray of uint64, (O, ceil(I / 64))
    """
    return panels.transpose(0, 2, 1).reshape(-1, panels.shape[1])[:outputs]


def unpack_panels(panels: np.ndarray, outputs: int, inputs: int) -> np.ndarray:
    """Unpack panels into signs: the inverse of :func:`pack_panels`.

    Parameters
    ----------
    panels : ndarray of uint64, (ceil(O / 8), ceil(I / 64), 8)
    outputs, inputs : int
        O and I.

    Returns
    -------
    ndarray of bool, (O, I)
        True for +1.
    """
    return unpack(panel_rows(panels, outputs), inputs)


def turn(bits: np.ndarray) -> np.ndarray:
    """Pack columns of bits, 32 samples to a word, as the gradient of binary inputs reads them.

    Parameters
    ----------
    bits : ndarray of bool, (B, I)

    Returns
    -------
    ndarray of uint32, (ceil(B / 32), I)
        Bit s % 32 of [s // 32, i] is input i of sample s; bits beyond the last sample are 0.
    """
    samples, inputs = bits.shape
    padded = np.zeros((-(-samples // 32) * 32, inputs), dtype=np.uint32)
    padded[:samples] = bits
    turned: np.ndarray = np.bitwise_or.reduce(
        padded.reshape(-1, 32, inputs) << np.arange(32, dtype=np.uint32)[:, None], axis=1
    )
    return turned


def sum_in_fours(terms: np.ndarray) -> np.ndarray:
    """Sum over samples in the order of numerics version 2.

    Samples 4 g to 4 g + 3 are added in order, starting from +0; then these group sums are added in order. Where the
    inputs are bits, the gradients of weights (dz where the bit is set) and of biases (dz) are summed in this order.

    Parameters
    ----------
    terms : ndarray of float32, (B, ...)

    Returns
    -------
    ndarray of float32, (...)

    Examples
    --------
    >>> sum_in_fours(np.array([2**24, 1, 1, 1, 1, 1, 1, 1, -(2**24)], dtype=np.float32))
    np.float32(4.0)
    """
    total = np.zeros(terms.shape[1:], terms.dtype)
    for start in range(0, len(terms), 4):
        group = np.zeros(terms.shape[1:], terms.dtype)
        for term in terms[start : start + 4]:
            group = group + term
        total = total + group
    return total


def bits_gradient(dz: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Gradient dz^T x of weights with binary inputs, bit-identical to the kernels' sum.

    Parameters
    ----------
    dz : ndarray of float32, (B, O)
    bits : ndarray of bool, (B, I)

    Returns
    -------
    ndarray of float32, (O, I)
    """
    return sum_in_fours(np.where(bits[:, None, :], dz[:, :, None], np.float32(0)))


def popcount(words: np.ndarray) -> np.ndarray:
    """Count the bits set along the last axis.

    Parameters
    ----------
    words : ndarray of uint64, (..., words)

    Returns
    -------
    ndarray of int64, (...)
    """
    counts: np.ndarray = _ONES_IN_BYTE[np.ascontiguousarray(words).view(np.uint8)].sum(axis=-1)
    return counts


def and_dot(h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Dot products of 0/1 activations and +-1 weights, in AND form.

    Parameters
    ----------
    h : ndarray of uint64, (B, words)
        Packed activations.
    w : ndarray of uint64, (O, words)
        Packed signs of the weights, one neuron per row.

    Returns
    -------
    ndarray of int64, (B, O)
        sum_i h_bi w_oi, an exact count.
    """
    dots: np.ndarray = 2 * popcount(h[:, None, :] & w[None, :, :]) - popcount(h)[:, None]
    return dots


def xnor_dot(h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Dot products as in :func:`and_dot`, in XNOR form, corrected by the row sums of `w`.

    Parameters and result as in :func:`and_dot`. Bits beyond the last input are zero in both words, so they are equal
    and the number of inputs cancels.
    """
    dots: np.ndarray = popcount(w)[None, :] - popcount(h[:, None, :] ^ w[None, :, :])
    return dots


def byte_dot(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Dot products of bytes and +-1 weights: the AND form on each bit plane k of the bytes, times 2^k.

    The pixels stay bytes. If the network sees scale * byte + offset, its dot product is scale times this result, plus
    offset times the row sum of the weights, 2 popcount(w) - I.

    Parameters
    ----------
    x : ndarray of uint8, (B, I)
    w : ndarray of uint64, (O, ceil(I / 64))
        Packed signs of the weights, one neuron per row.

    Returns
    -------
    ndarray of int64, (B, O)
        sum_i x_bi w_oi, exact.
    """
    planes = [pack((x >> k) & 1 == 1) for k in range(8)]  # (B, words) each
    dots: np.ndarray = np.sum([and_dot(plane, w) << k for k, plane in enumerate(planes)], axis=0)
    return dots
