"""The M x M grid of slices of a layer's weights, and the order in which slices train.

Slice (j, i) is rows j and columns i of W (O, I): output neurons j, inputs i. The biases of rows j train with it.
A *hold* is a run of steps during which the same slice stays resident; holds are counted from 0.
"""

from __future__ import annotations


def cuts(length: int, parts: int) -> list[slice]:
    """Cut `length` rows or columns into `parts` contiguous runs, as ``numpy.array_split`` does.

    The first ``length % parts`` runs are one longer than the rest.

    Parameters
    ----------
    length, parts : int
        Number of rows or columns, and number of runs.

    Returns
    -------
    list of slice, of length `parts`

    Raises
    ------
    ValueError
        If `parts` is less than 1 or more than `length`.

    Examples
    --------
    >>> [(cut.start, cut.stop) for cut in cuts(10, 4)]
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    """
    if not 1 <= parts <= length:
        raise ValueError(f"cannot cut {length} rows or columns into {parts} slices: give 1 to {length}")
    short, longer = divmod(length, parts)
    starts = [part * short + min(part, longer) for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in zip(starts[:-1], starts[1:])]


def hold_at(step: int, hold: int) -> int:
    """Number of the hold that contains a step, for holds of `hold` steps.

    Parameters
    ----------
    step : int
        Step within the layer, from 0.
    hold : int
        Steps per hold, at least 1.

    Returns
    -------
    int

    Examples
    --------
    >>> [hold_at(step, hold=3) for step in range(7)]
    [0, 0, 0, 1, 1, 1, 2]
    """
    if hold < 1:
        raise ValueError(f"a slice cannot be held for {hold} steps: give 1 or more")
    return step // hold


def hold_of_exchanges(step: int, steps: int, exchanges: int) -> int:
    """Number of the hold that contains a step, if a layer's training is divided into `exchanges` holds.

    The k-th exchange comes after k / `exchanges` of all steps. If that is not an integer, it comes before the first
    step that begins at or after it.

    Parameters
    ----------
    step : int
        Step within the layer, from 0.
    steps : int
        Total steps of the layer: epochs times batches.
    exchanges : int
        Number of holds in the layer's training. If it is less than M^2, some slices never train.

    Returns
    -------
    int

    Examples
    --------
    >>> [hold_of_exchanges(step, steps=7, exchanges=3) for step in range(7)]
    [0, 0, 0, 1, 1, 2, 2]
    """
    return step * exchanges // steps


def slice_at(turn: int, side: int, order: str = "rows") -> tuple[int, int]:
    """Slice (j, i) of a turn of schedule ``slice``, starting at (0, 0).

    Order ``rows`` is row-major. In order ``diagonal`` a slice is followed by its lower right neighbour (rows and
    columns wrap around); after M turns, in which no two slices share a row or a column, the next diagonal begins. With
    one slice per hold, turns equal holds.

    Parameters
    ----------
    turn : int
        Number of the turn, from 0.
    side : int
        M, slices per side.
    order : {"rows", "diagonal"}

    Returns
    -------
    (j, i) : tuple of int

    Examples
    --------
    >>> [slice_at(turn, side=2) for turn in range(5)]
    [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0)]
    >>> [slice_at(turn, side=2, order="diagonal") for turn in range(5)]
    [(0, 0), (1, 1), (0, 1), (1, 0), (0, 0)]
    """
    a, b = divmod(turn % side**2, side)
    return (a, b) if order == "rows" else (b, (a + b) % side)


def slices_at(hold: int, side: int, visits: int = 1, order: str = "rows") -> list[tuple[int, int]]:
    """The slices (j, i) that train, one after another, in each step of a hold of schedule ``slice``.

    Examples
    --------
    >>> [slices_at(hold, side=2, visits=2) for hold in range(2)]
    [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
    """
    return [slice_at(turn, side, order) for turn in range(hold * visits, (hold + 1) * visits)]


def all_slices(side: int) -> list[tuple[int, int]]:
    """All slices (j, i) of the grid in row-major order, as trained in each step of schedule ``stream``.

    Examples
    --------
    >>> all_slices(2)
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    return [(j, i) for j in range(side) for i in range(side)]


def frozen_at(hold: int, side: int) -> int:
    """Index q of the diagonal slice (q, q) that stays unchanged during a hold of schedule ``frozen``.

    The authors' published script counts its epochs from 1, hence the + 1.

    Parameters
    ----------
    hold : int
        Number of the hold, from 0.
    side : int
        M, slices per side.

    Returns
    -------
    q : int

    Examples
    --------
    >>> [frozen_at(hold, side=3) for hold in range(4)]
    [1, 2, 0, 1]
    """
    return (hold + 1) % side
