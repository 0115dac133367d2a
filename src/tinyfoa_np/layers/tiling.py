"""How the work on a layer is cut so that it fits into RAM. No choice here shows in a result."""

from __future__ import annotations

from dataclasses import dataclass

#: neurons of a pass whose numbers exist at a time, from the fastest to the smallest
NEURONS = (512, 256, 128, 64, 32, 16, 8)
#: rows of a slice that train at a time
ROWS = (4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)

#: positions of a locally connected layer of which a pass has weights and sums at a time, or that train at a time
PLACES = (256, 128, 64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Tiling:
    """Sizes of tiles, and what lies in flash between them.

    Parameters
    ----------
    samples : int
        Of a batch whose inputs are held at a time: all, or a micro-batch (a multiple of 16).
    neurons : int
        Of a pass: how many have their z in RAM at a time and, where these are not always there, weights and projection.
    rows : int
        Of a slice that train at a time, where slice or published weights are not always there: 1, 2, 4 or a multiple
        of 8.
    stream_weights : bool
        What the forward pass reads of the weights (packed signs, or float32 rows) comes from flash, tile by tile.
    stream_slice : bool
        The slice in training stays in flash: weights and moments of some rows come, train and go.
    regenerate : bool
        The projection is made anew, tile by tile, in place of being stored.
    gather : bool
        The columns of the inputs that the slice needs are kept by themselves: the others may go after the pass.
    keep_products : bool
        Locally connected layers: what batch norm takes in is kept for the rest of the step, not computed again.
    tight : bool
        Digests read a slice's row at a time, commits have a small buffer, and the hand-over takes a batch in halves.
    """

    samples: int
    neurons: int = NEURONS[1]
    rows: int = ROWS[0]
    stream_weights: bool = False
    stream_slice: bool = False
    regenerate: bool = False
    gather: bool = False
    keep_products: bool = False
    tight: bool = False

    def described(self, batch: int, outputs: int, rows: int, local: bool = False) -> str:
        """The choice in words, of a layer with so many ``outputs`` and ``rows`` to a slice, for such a ``batch``.

        Of a locally connected one both are positions.
        """
        neurons, rows_of = ("positions", "positions") if local else ("neurons", "rows")
        said = []
        if self.samples < batch:
            said.append(f"micro-batches of {self.samples}")
        if self.stream_weights:
            said.append(f"weights of {min(self.neurons, outputs)} {neurons} at a time from flash")
        if self.stream_slice:
            said.append(f"{min(self.rows, rows)} of a slice's {rows} {rows_of} at a time from flash and back")
        if self.regenerate:
            said.append("projection made anew in each pass")
        if self.gather:
            said.append("only the columns of the inputs kept that train")
        if self.tight:
            said.append("batches handed over in halves")
        if local and not self.keep_products:
            said.append("products made anew in each pass")
        return ", ".join(said) or "all stays in RAM that a step reads again"
