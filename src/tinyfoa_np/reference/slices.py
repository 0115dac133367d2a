"""The M x M grid of slices that a layer's weights are cut into, and which slice trains when.

Slice (j, i) is rows j and columns i of W (O, I): output neurons j, inputs i. With it train the biases of rows j.
A *hold* is the stretch of steps during which the same slice stays resident; holds are counted from 0.
"""

from __future__ import annotations


def cuts(length: int, parts: int) -> list[slice]:
    """Cut `length` rows or columns into `parts` neighbouring runs, as ``numpy.array_split`` does.

    The first ``length % parts`` runs are one longer than the rest.

    Parameters
    ----------
    length, parts : int
        What is cut, and into how many.

    Returns
    -------
    list of slice, `parts` of them

    Raises
    ------
    ValueError
        If there are more parts than rows or columns, or no parts.

    Examples
    --------
    >>> [(cut.start, cut.stop) for cut in cuts(10, 4)]
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    """
    if not 1 <= parts <= length:
        raise ValueError(f"cannot cut {length} rows or columns into {parts} slices; 1 to {length} would be right")
    short, longer = divmod(length, parts)
    starts = [part * short + min(part, longer) for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in zip(starts[:-1], starts[1:])]


def hold_at(step: int, hold: int) -> int:
    """Number of the hold that a step belongs to, when each hold lasts `hold` steps.

    Parameters
    ----------
    step : int
        Step within the layer, from 0.
    hold : int
        Steps for which a slice stays, at least 1.

    Returns
    -------
    int

    Examples
    --------
    >>> [hold_at(step, hold=3) for step in range(7)]
    [0, 0, 0, 1, 1, 1, 2]
    """
    if hold < 1:
        raise ValueError(f"a slice cannot be held for {hold} steps; 1 or more would be right")
    return step // hold


def hold_of_exchanges(step: int, steps: int, exchanges: int) -> int:
    """Number of the hold that a step belongs to, when a layer's training is divided into `exchanges` holds.

    The k-th exchange comes after k / `exchanges` of all steps: where that is not an integer, before the first step
    that begins at or after it.

    Parameters
    ----------
    step : int
        Step within the layer, from 0.
    steps : int
        All steps of the layer: epochs times batches.
    exchanges : int
        Holds in the layer's training. Where it is less than M^2, some slices never train.

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
    """Slice (j, i) whose turn it is in schedule ``slice``, starting at (0, 0).

    In order ``rows`` it is row-major. In order ``diagonal`` a slice is followed by its lower right neighbour (rows and
    columns closed into rings), and after M turns, which no two slices of a row or a column share, the next diagonal
    begins. With one slice per hold, turns are holds.

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
    """Every slice (j, i) of the grid, row-major: what trains in one step of schedule ``stream``.

    Examples
    --------
    >>> all_slices(2)
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    return [(j, i) for j in range(side) for i in range(side)]


def frozen_at(hold: int, side: int) -> int:
    """The q of the diagonal slice (q, q) that stays as it is in a hold of schedule ``frozen``.

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
