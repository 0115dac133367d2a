"""What an optimizer's moments in two bytes or one cost in time, and why they are rounded at random.

    python benchmarks/moments.py [--json] [--rounds N] [--epochs N]

The time is that of one update of a slice, measured in turns on one thread. The rounding is studied with the plain NumPy
reference on `digits`: moments that see the gradients of one training, rounded at random and to the nearest.
"""

from __future__ import annotations

import os

for _library in ("OPENBLAS", "MKL", "VECLIB_MAXIMUM"):  # read when NumPy is first imported
    os.environ[f"{_library}_{'THREADS' if 'MAX' in _library else 'NUM_THREADS'}"] = "1"

# ruff: noqa: E402, I001 - NumPy must not be imported before the lines above
from contextlib import ExitStack
from typing import Any

import numba
import numpy as np

from measure import arguments, finish, machine, prepared_layer, side_by_side, table
from tinyfoa_np import data
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.recipe import MOMENTS, Recipe
from tinyfoa_np.reference import moments, optimizers, tinyfoa

B, I, O = 100, 2000, 2000
NEAREST = 32768  # of the 65536 that 16 bits may be, the one that rounds up from the middle on
Result = dict[str, float]


def times(rounds: int) -> Result:
    """One update of a 1000 x 1000 slice, Adam, from packed bits and from bytes."""
    result = {}
    for inputs in (Encoding("bits", I), Encoding("bytes", I, 1 / 80, -0.4)):
        with ExitStack() as stack:
            contestants = {}
            for name in MOMENTS:
                recipe = Recipe(batch=B, slices=2, hold="1", moments=name)
                layer, flash = stack.enter_context(prepared_layer(recipe, inputs, O))
                layer.forward(flash, whole(B), 0)
                layer.gradient(B)
                contestants[name] = lambda layer=layer, flash=flash: layer.update(flash, B, 0)
            seconds = side_by_side(contestants, rounds)
        first = seconds["float32"]
        print(f"update of a slice ({O // 2} x {I // 2}), batch {B}, inputs of {inputs.kind}")
        rows = [[name, f"{s * 1e6:,.0f}", f"{s / first:.2f}"] for name, s in seconds.items()]
        table(["", "microseconds", "times float32"], rows)
        result |= {f"{name}_vs_float32_{inputs.kind}": s / first for name, s in seconds.items() if name != "float32"}
    return result


class Shadow(optimizers.Adam):
    """Adam with moments in fewer bytes that sees the gradients of another's training, and moves nothing."""

    def __init__(self, name: str, nearest: bool) -> None:
        super().__init__(lr=1.0)
        self.name, self.nearest, self.random = name, nearest, np.random.default_rng(0)

    def move(self, g: np.ndarray) -> np.ndarray:
        """The step it would take; then both moments are rounded."""
        step = self.step(np.zeros_like(g), g)
        self.m, self.v = self.rounded(self.m, False), self.rounded(self.v, True)
        return step

    def rounded(self, values: Any, second: bool) -> np.ndarray:
        """Moments as they are read again."""
        values = values.astype(np.float32)
        bits = self.random.integers(0, 65536, values.shape).astype(np.uint32)
        if self.nearest:
            bits[:] = NEAREST
        if self.name == "bfloat16":
            return moments.read_bfloat16(moments.write_bfloat16(values, bits))
        return moments.read_int8(*moments.write_int8(values, bits, second), second)


class Watched(optimizers.Adam):
    """Adam in float32, with shadows beside the weights' moments; the biases', which have one axis, have none."""

    shadows: dict[str, Shadow] = {}
    off: dict[str, list[float]] = {}  # squared distance of each shadow's step from Adam's own over its square
    second: np.ndarray = np.zeros((0, 0))

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """One step of all of them."""
        new = super().step(w, g)
        if w.ndim == 2:
            own = (new - w) / self.lr
            for name, shadow in Watched.shadows.items():
                Watched.off.setdefault(name, []).append(float(((shadow.move(g) - own) ** 2).sum() / (own**2).sum()))
            Watched.second = np.asarray(self.v)
        return new


def rounding(epochs: int) -> Result:
    """A layer of 200 trains on digits in float32; what the same gradients leave in moments of fewer bytes."""
    digits = data.load("digits")
    x = np.float32(digits.scale) * digits.train.inputs + np.float32(digits.offset)
    batches = [(x[k : k + 10], digits.train.labels[k : k + 10]) for k in range(0, len(x), 10)]
    tinyfoa.OPTIMIZERS["watched"] = Watched  # type: ignore[assignment]
    ways = {"random": False, "nearest": True}
    Watched.shadows = {f"{name}_{way}": Shadow(name, near) for name in MOMENTS[1:] for way, near in ways.items()}
    Watched.off = {}
    options: Any = {"optimizer": "watched", "lr": 2e-3, "epochs": epochs, "schedule": "stream", "slices": 1}
    tinyfoa.train(batches, [200], 10, **options)
    alive, rows, result = Watched.second > 0, [], {}
    for name, shadow in Watched.shadows.items():
        ratio = (np.asarray(shadow.v)[alive] / Watched.second[alive]).astype(np.float64)
        distance = float(np.sqrt(np.mean(Watched.off[name][-len(batches) :])))
        low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
        deciles = f"{low:.2f}, {middle:.2f}, {high:.2f}"
        rows.append([name.replace("_", ", "), deciles, f"{distance:.2f}"])
        result |= {f"v_{name}": float(middle), f"step_{name}": distance}
    print(f"digits, a layer of 200, batch 10, Adam 0.002, {epochs} epochs, plain NumPy: the same gradients for all")
    table(["moments, rounded", "v / Adam's: deciles 1, 5, 9", "distance from Adam's step / its size"], rows)
    return result


def main() -> None:
    options: Any = arguments(
        __doc__, rounds=(20, "turns of each contestant"), epochs=(20, "epochs a layer of the study of rounding")
    )
    numba.set_num_threads(1)
    print(machine() + "\n")
    finish(options.json, {**times(options.rounds), **rounding(options.epochs)})


if __name__ == "__main__":
    main()
