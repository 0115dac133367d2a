"""The closed forms behind the memory columns of the TinyFoA paper (Huang and Aminifar, AAAI 2025).

The paper prints figures, not formulas. These formulas were derived from the figures, and reproduce every memory cell of
its Tables 1, 2 and 3 to the printed digits, except one that is truncated instead of rounded (Table 3, gradient step of
BP: 10.487 MB, printed as 10.48). A batch is one sample. Weights, biases, activations and gradients take 4 bytes each.
Binary weights and activations take a bit each, but only for reading: a step that changes weights holds them in full.

Fully connected (Tables 1 and 2)
    Only the matrices between hidden layers count: not the first layer, the classifier or a fixed projection. BP and
    DRTP hold all of them, PEPITA holds all in forward and trains one at a time, FF and TinyFoA hold one: here the
    largest, (I, O). Vertical training divides trained weights by M^2, biases by M.

    ======== ============================= ====================================== ===============================
    system   forward                       gradient                               update
    ======== ============================= ====================================== ===============================
    bp       all W, b and activations      dW, W, all b and activations           W, dW, b, db
    drtp     as bp                         dW, all activations                    as bp
    pepita   all W, their b, activations   one dW, all activations                one W, dW, b
    ff       W, b, 2 activations (I and O) dW, 2 activations (I), 3 (O)           W, dW, b
    tinyfoa  W, b, activations (I and O)   dW, both activations                   W, dW, b
    ======== ============================= ====================================== ===============================

    FF has two activations because it processes a positive and a negative sample. TinyFoA's b are bits if its W are;
    the other systems' are not. With vertical training, TinyFoA's gradient step also counts b and db of the slice, and
    BP's counts W, in the form it uses, of the slice.

Locally connected (Table 3)
    A layer's weights are counted for one input channel, O x positions x taps; biases and batch norm are not counted. BP
    holds every layer, TinyFoA the largest one with its two activations. Gradient: dW and activations, for BP also W in
    the form it uses. Update: W and dW. Vertical training divides W in the update, and dW, by M.

Computation
    ``comp``, in MFLOP x bytes of one inference, is the same for all systems. Per weight it counts a multiplication and
    an addition of 4 bytes with real numbers, an addition of 4 bytes if either side is binary, and an operation on one
    bit if both are. The printed 96.0, 48.0 and 1.5 are for four hidden layers of 2000, also for PEPITA, whose memory
    is that of three.

Not counted: the optimizer's moments, batches of more than one sample, the input samples, the fixed projection, labels,
logits, scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

#: the columns of the tables, in order
STEPS = ("forward", "gradient", "update")
FULLY_CONNECTED = ("tinyfoa", "bp", "drtp", "pepita", "ff")
LOCALLY_CONNECTED = ("tinyfoa", "bp")

#: bytes of each quantity, by step
Figure = dict[str, dict[str, int]]


def fully_connected(
    system: str,
    widths: Sequence[int],
    *,
    binary_weights: bool = False,
    binary_activations: bool = False,
    slices: int = 1,
) -> Figure:
    """The bytes counted in Tables 1 and 2 for a fully connected network.

    Parameters
    ----------
    system : str
        One of :data:`FULLY_CONNECTED`.
    widths : sequence of int
        Neurons of the hidden layers, lowest first; at least two. The tables' are (2000,) * 4, PEPITA's (2000,) * 3.
    binary_weights, binary_activations : bool
        BW and BA.
    slices : int
        M of vertical training; 1 for none.

    Returns
    -------
    dict of str to dict of str to int
        For each of :data:`STEPS`, the bytes of each quantity; fractions of an element are rounded up.

    Raises
    ------
    ValueError
        If the system is unknown, or there is no matrix between hidden layers.

    Examples
    --------
    >>> figure = fully_connected("tinyfoa", (2000,) * 4, binary_weights=True, binary_activations=True, slices=2)
    >>> [f"{megabytes(figure[step]):.2f}" for step in STEPS]
    ['0.50', '4.01', '8.00']
    """
    matrices = list(pairwise(widths))
    if system not in FULLY_CONNECTED:
        raise ValueError(f"system is {system!r}: it must be one of {', '.join(FULLY_CONNECTED)}")
    if not matrices:
        raise ValueError("the tables count matrices between hidden layers: at least two widths are needed")
    inputs, outputs = max(matrices, key=prod)
    if system == "tinyfoa":
        return tinyfoa_layer(
            inputs, outputs, binary_weights=binary_weights, binary_activations=binary_activations, slices=slices
        )
    weights, biases = sum(map(prod, matrices)), sum(widths)
    if system in ("bp", "drtp"):
        activations = {"activations": _used(biases, binary_activations)}
        trained, gradients = _part(weights, slices**2), {"gradients": 4 * _part(weights, slices**2)}
        used = {"weights": _used(trained, binary_weights), "biases": 4 * biases} if system == "bp" else {}
        return {
            "forward": {"weights": _used(weights, binary_weights), "biases": 4 * biases, **activations},
            "gradient": {**gradients, **used, **activations},
            "update": {"weights": 4 * trained, **gradients, "biases": 8 * _part(biases, slices)},
        }
    trained = _part(inputs * outputs, slices**2)
    update = {"weights": 4 * trained, "gradients": 4 * trained, "biases": 4 * _part(outputs, slices)}
    if system == "ff":
        held, seen, differentiated = inputs * outputs, 2 * (inputs + outputs), 2 * inputs + 3 * outputs
        forward_biases = outputs
    else:
        held, seen, differentiated = weights, sum(widths), sum(widths)
        forward_biases = sum(widths[1:])
    return {
        "forward": {
            "weights": _used(held, binary_weights),
            "biases": 4 * forward_biases,
            "activations": _used(seen, binary_activations),
        },
        "gradient": {"gradients": 4 * trained, "activations": _used(differentiated, binary_activations)},
        "update": update,
    }


def tinyfoa_layer(
    inputs: int, outputs: int, *, binary_weights: bool = True, binary_activations: bool = True, slices: int = 1
) -> Figure:
    """The bytes counted in Tables 1 and 2 for one layer (I, O) trained with TinyFoA; see :func:`fully_connected`."""
    trained, biases = _part(inputs * outputs, slices**2), 4 * _part(outputs, slices)
    activations = {"inputs": _used(inputs, binary_activations), "outputs": _used(outputs, binary_activations)}
    sliced = {"biases": biases, "bias gradients": biases} if slices > 1 else {}
    return {
        "forward": {
            "weights": _used(inputs * outputs, binary_weights),
            "biases": _used(outputs, binary_weights),
            **activations,
        },
        "gradient": {"gradients": 4 * trained, **sliced, **activations},
        "update": {"weights": 4 * trained, "gradients": 4 * trained, "biases": biases},
    }


def locally_connected(
    system: str,
    channels: Sequence[int],
    *,
    positions: int = 28 * 28,
    taps: int = 3 * 3,
    binary_weights: bool = False,
    binary_activations: bool = False,
    slices: int = 1,
) -> Figure:
    """The bytes counted in Table 3 for a locally connected network.

    Parameters
    ----------
    system : str
        One of :data:`LOCALLY_CONNECTED`.
    channels : sequence of int
        Channels of the hidden layers, lowest first; at least two. The table's are (16, 32, 64, 64).
    positions, taps : int
        Pixels per channel, and weights per pixel.
    binary_weights, binary_activations, slices
        As in :func:`fully_connected`.

    Returns
    -------
    dict of str to dict of str to int
        As :func:`fully_connected`.

    Raises
    ------
    ValueError
        If the system is unknown, or there are fewer than two layers.
    """
    if system not in LOCALLY_CONNECTED:
        raise ValueError(f"system is {system!r}: it must be one of {', '.join(LOCALLY_CONNECTED)}")
    if len(channels) < 2:
        raise ValueError("the table counts layers above another: at least two are needed")
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    if system == "tinyfoa":
        above, below = max((above, below) for below, above in pairwise(channels))
        return local_layer(below, above, positions=positions, taps=taps, **toggles, slices=slices)
    outputs = sum(channels) * positions
    return local_network(outputs * taps, outputs, **toggles, slices=slices)


def local_network(
    weights: int, outputs: int, *, binary_weights: bool, binary_activations: bool, slices: int = 1
) -> Figure:
    """The bytes counted in Table 3 for BP on a network with these total numbers of weights and outputs."""
    trained, used = 4 * _part(weights, slices), _used(weights, binary_weights)
    activations = {"activations": _used(outputs, binary_activations)}
    return {
        "forward": {"weights": used, **activations},
        "gradient": {"gradients": trained, "weights": used, **activations},
        "update": {"weights": trained, "gradients": trained},
    }


def local_layer(
    below: int,
    channels: int,
    *,
    positions: int,
    taps: int,
    binary_weights: bool = True,
    binary_activations: bool = True,
    slices: int = 1,
) -> Figure:
    """The bytes counted in Table 3 for one layer trained with TinyFoA, with ``taps`` weights per output."""
    weights = channels * positions * taps
    trained = 4 * _part(weights, slices)
    activations = {
        name: _used(some * positions, binary_activations) for name, some in (("inputs", below), ("outputs", channels))
    }
    return {
        "forward": {"weights": _used(weights, binary_weights), **activations},
        "gradient": {"gradients": trained, **activations},
        "update": {"weights": trained, "gradients": trained},
    }


def comp(widths: Sequence[int], *, binary_weights: bool = False, binary_activations: bool = False) -> float:
    """MFLOP x bytes of one inference, as in the last column of Tables 1 and 2.

    Examples
    --------
    >>> comp((2000,) * 4), comp((2000,) * 4, binary_weights=True, binary_activations=True)
    (96.0, 1.5)
    """
    flop_bytes = {0: 2 * 4.0, 1: 4.0, 2: 1 / 8}[binary_weights + binary_activations]
    return sum(map(prod, pairwise(widths))) * flop_bytes / 1e6


def megabytes(counted: dict[str, int]) -> float:
    """The sum of a step's bytes, in MB of 10^6 bytes."""
    return sum(counted.values()) / 1e6


def _used(elements: int, binary: bool) -> int:
    """Bytes of elements as used in computations: one bit or 4 bytes each."""
    return -(-elements // 8) if binary else 4 * elements


def _part(elements: int, parts: int) -> int:
    """Number of elements in one of several parts, rounded up."""
    return -(-elements // parts)
