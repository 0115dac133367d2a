"""Inference with a trained model: its stages in an arena, in phase ``evaluate`` only, with constant weights.

A network trained as a whole is a single stage, whose weights stay in the arena. Layers that were trained one after
another also run one after another: each is filled with its weights in turn, in shared bytes, and writes its outputs to
the inputs of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..layers.encoding import Encoding
from ..layers.trained import TrainedLayer
from ..ram.arena import Arena
from ..ram.packing import Plan, Region, pack
from ..recipe import Recipe
from .form import stages_of


class Inference:
    """Trained layers in their own arena.

    Parameters
    ----------
    recipe, inputs, classes
        As for :class:`tinyfoa_np.rules.stage.Stage`.
    layers : sequence of TrainedLayer
        The layers of the model.
    batch : int
        B: the maximum number of samples at a time.

    Attributes
    ----------
    stages : list of Stage
    arena : Arena
    """

    def __init__(
        self, recipe: Recipe, inputs: Encoding, classes: int, layers: Sequence[TrainedLayer], batch: int
    ) -> None:
        self.stages, self.layers, self.batch = stages_of(recipe, inputs, classes, batch), layers, batch
        plan = pack(region for number in range(len(self.stages)) for region in self._regions(number))
        self.arena = Arena(plan.nbytes)
        self.arena.lay_out(plan)
        views = [Arena(self.arena.block) for _ in self.stages]  # over the same bytes, each with its stage's own names
        for number, (stage, own) in enumerate(zip(self.stages, views, strict=True)):
            own.lay_out(_under_own_names(plan, number, stage.inference_regions()))
            stage.take(own, stage.loaded)
        for stage, above in zip(self.stages, self.stages[1:], strict=False):
            stage.ram.outputs = above.ram.inputs
        self.accounted_bytes = max(own.accounted for own in views)
        if len(self.stages) == 1:
            self.stages[0].load(layers)

    def _regions(self, number: int) -> Iterable[Region]:
        """The regions of a stage, live during its turn; its inputs are also live during the turn of the stage below."""
        for region in self.stages[number].inference_regions():
            steps = [phase for phase in region.phases if phase.startswith("evaluate")]
            if len(self.stages) > 1:
                handed = number > 0 and region.name == "inputs"
                steps = [f"evaluate:{number}", *([f"evaluate:{number - 1}"] if handed else [])]
            yield Region(f"layer{number}.{region.name}", region.shape, region.dtype, tuple(steps))

    def scores(self, samples: np.ndarray) -> np.ndarray:
        """Scores (C, n) for n encoded samples, at the rule's full precision; the largest is the prediction."""
        n = len(samples)
        self.stages[0].ram.inputs[:n] = samples
        first, scale = 0, 1.0
        for stage in self.stages:
            if len(self.stages) > 1:
                own = self.layers[first : first + len(stage.layers)]
                stage.load(own)
                stage.ram.input_scale[0] = scale
                first, scale = first + len(own), own[0].scale
            stage.answer(n)
        return stage.scores(n)

    def measured(self) -> dict[str, int]:
        """Bytes of the arena (planned, accounted for and touched), and the number of samples that it holds."""
        return {
            "samples": self.batch,
            "planned_bytes": self.arena.plan.nbytes,
            "accounted_bytes": self.accounted_bytes,
            "watermark_bytes": self.arena.watermark(),
        }


def _under_own_names(plan: Plan, number: int, regions: Iterable[Region]) -> Plan:
    """A stage's part of the plan, with the stage's own names for the regions."""
    held = tuple(region for region in regions if region.nbytes)
    return Plan(held, {region.name: plan.offsets[f"layer{number}.{region.name}"] for region in held})
