"""Division of the work on a layer so that it fits into RAM. No choice here changes a result."""

from __future__ import annotations

from dataclasses import dataclass

#: neurons of a pass whose numbers are held at a time, from fastest to smallest
NEURONS = (512, 256, 128, 64, 32, 16, 8)
#: rows of a slice trained at a time
ROWS = (4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)

#: positions of a locally connected layer whose weights and sums are held, or that train, at a time
PLACES = (256, 128, 64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Tiling:
    """Sizes of tiles, and the data kept in flash between them.

    Parameters
    ----------
    samples : int
        Samples of a batch held at a time: all of them, or a micro-batch (a multiple of 16).
    neurons : int
        Neurons of a pass whose z is in RAM at a time, and whose weights and projection are, unless always kept.
    rows : int
        Rows of a slice that train at a time, if the slice or the published weights are streamed: 1, 2, 4 or a multiple
        of 8.
    stream_weights : bool
        Whether the forward pass reads the weights (packed signs, or float32 rows) from flash, tile by tile.
    stream_slice : bool
        Whether the slice in training stays in flash: weights and moments of some rows are loaded, trained and stored.
    regenerate : bool
        Whether the projection is regenerated tile by tile instead of stored.
    gather : bool
        Whether the input columns that the slice needs are stored separately, so that the others can be discarded.
    keep_products : bool
        For locally connected layers: keep batch norm's inputs for the rest of the step, instead of recomputing them.
    tight : bool
        Whether digests read one slice row at a time, commits use a small buffer, and the hand-over halves a batch.
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
        """Describe the choice in words, for a layer with these ``outputs`` and ``rows`` per slice, and this ``batch``.

        For a locally connected layer both are positions.
        """
        neurons, rows_of = ("positions", "positions") if local else ("neurons", "rows")
        parts = []
        if self.samples < batch:
            parts.append(f"micro-batches of {self.samples}")
        if self.stream_weights:
            parts.append(f"weights of {min(self.neurons, outputs)} {neurons} at a time from flash")
        if self.stream_slice:
            parts.append(f"{min(self.rows, rows)} of a slice's {rows} {rows_of} at a time from flash and back")
        if self.regenerate:
            parts.append("projection regenerated in each pass")
        if self.gather:
            parts.append("only the input columns of the slice in training kept")
        if self.tight:
            parts.append("batches handed over in halves")
        if local and not self.keep_products:
            parts.append("products recomputed in each pass")
        return ", ".join(parts) or "everything that a step reads again stays in RAM"
