"""Instructions per training step of the C trainer, by kind of work and kind of processor.

The counts of :data:`COSTS` are fitted to ``instructions_per_step`` of emulated processors (``make run-qemu``, -Os):
Cortex-M7 with double precision (31 recipes, all within 9 %), Cortex-M4 with single precision (31, within 8 %),
Cortex-M3, code for Cortex-M0+ run by a Cortex-M3, and RV32IMAC (13, within 5 %).
"""

from __future__ import annotations

from ..data import Dataset
from ..errors import BadRequest
from ..model.c_layout import CLayout, Layer
from ..recipe import Recipe
from .boards import Board

#: kinds of processors, by the arithmetic they support in hardware
KINDS = ("double", "single", "integers", "small integers", "RISC-V integers")


def kind_of(board: Board) -> str:
    """The kind of a board's processor."""
    if board.fpu_bits:
        return "double" if board.fpu_bits == 64 else "single"
    if board.core.startswith("RV"):
        return "RISC-V integers"
    return "small integers" if "Cortex-M0" in board.core.split(" + ")[0] else "integers"


def in_scope(recipe: Recipe, dataset: Dataset) -> CLayout | None:
    """The layout of the C trainer; None if it does not support the recipe."""
    try:
        return CLayout(recipe, dataset)
    except BadRequest:
        return None


def work(layer: Layer, batches: int) -> dict[str, float]:
    """The work of a layer's step: number of operations by kind, on average over a training.

    ``batches`` is the number of steps per epoch. ``words``, ``bytes``, ``reals``: products of a sample and a neuron's
    signs, per 32-bit word or per input; ``tables``: sums of subsets of bytes; ``outputs``: z; ``logits``,
    ``softmax``, ``errors``: as named; ``bits``, ``values``: products of the gradient, for four samples or one;
    ``moved``: bytes of slices moved from and to flash; others: weights that train.
    """
    recipe, B, C = layer.recipe, layer.B, layer.C
    due = layer.due
    rows, columns, first = layer.O / layer.grid.side, layer.I / layer.grid.side, layer.number == 0
    weights, real = due * rows * columns, layer.kind == "real"
    exchanges = due if layer.cut.streamed else layer.exchanges(batches)
    moved = 2 * exchanges * sum(layer.plane_bytes(layer.rows, layer.columns))
    if layer.cut.signs_in_flash:
        moved += 4 * layer.O * layer.words
    trains = recipe.optimizer if recipe.optimizer in ("adam", "sgd") else "momentum"
    coded = " int8" if layer.coded and layer.moments else ""
    return {
        "step": 1,
        "words": 0 if first else B * layer.O * layer.words,
        "bytes": B * layer.O * layer.words if first and not real else 0,
        "tables": B * layer.words if first and not real else 0,
        "reals": B * layer.O * layer.I if real else 0,
        "outputs": B * layer.O,
        "logits": B * layer.O * C,
        "softmax": B * C,
        "errors": due * rows * B * C,
        "bits": 0 if first else weights * -(-B // 4),
        "values": weights * B if first else 0,
        f"{trains}{coded}": weights,
        "moved": moved,
    }


#: instructions per operation, by kind of processor
COSTS: dict[str, dict[str, float]] = {
    "double": {
        "step": 9400,
        "words": 31.6,
        "tables": 170,
        "bytes": 55.5,
        "reals": 13.9,
        "outputs": 65.6,
        "logits": 1.32,
        "softmax": 152,
        "errors": 9.02,
        "bits": 2.5,
        "adam": 80.8,
        "momentum": 78.5,
        "sgd": 67.7,
        "moved": 31.5,
        "adam int8": 270,
        "momentum int8": 210,
    },
    "single": {
        "step": 15600,
        "words": 37.6,
        "tables": 245,
        "bytes": 58.5,
        "reals": 13.8,
        "outputs": 58.3,
        "logits": 1.27,
        "softmax": 3410,
        "errors": 11.1,
        "bits": 3.73,
        "adam": 79.6,
        "momentum": 82.8,
        "sgd": 70.2,
        "moved": 30.9,
        "adam int8": 284,
        "momentum int8": 217,
    },
    "integers": {
        "step": 6540,
        "words": 6.83,
        "tables": 179,
        "bytes": 32.5,
        "reals": 62.9,
        "softmax": 5800,
        "errors": 136,
        "bits": 31.4,
        "values": 183,
        "adam": 669,
        "momentum": 129,
        "sgd": 29.9,
        "moved": 7.33,
        "adam int8": 1020,
        "momentum int8": 319,
    },
    "small integers": {
        "step": 8050,
        "words": 30.2,
        "tables": 194,
        "bytes": 76.5,
        "reals": 77.2,
        "outputs": 58.4,
        "logits": 0.05,
        "softmax": 12900,
        "errors": 177,
        "bits": 67.1,
        "values": 477,
        "adam": 1540,
        "momentum": 418,
        "sgd": 170,
        "moved": 2.03,
        "adam int8": 2510,
        "momentum int8": 1050,
    },
    "RISC-V integers": {
        "step": 7740,
        "words": 26.4,
        "tables": 191,
        "bytes": 65.7,
        "reals": 84.6,
        "softmax": 10300,
        "errors": 197,
        "bits": 63.3,
        "values": 358,
        "adam": 1340,
        "momentum": 394,
        "sgd": 137,
        "moved": 4.73,
        "adam int8": 1950,
        "momentum int8": 752,
    },
}
#: maximum measured bytes of stack; of code with -Os, rounded up to 256
STACK = dict(zip(KINDS, (1016, 1024, 1040, 1124, 1096)))
CODE = dict(zip(KINDS, (16_128, 19_968, 22_528, 30_464, 30_976)))


def instructions(layer: Layer, batches: int, kind: str) -> float:
    """Instructions per step of a layer, on average."""
    costs = COSTS[kind]
    return sum(costs.get(what, 0.0) * count for what, count in work(layer, batches).items())
