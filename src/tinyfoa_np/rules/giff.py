"""GIFF, the Generalized Inference Friendly Forward-Forward algorithm: any layers, local losses, one inference pass.

Layers are partitioned into groups. Each group has a data channel (its layers), a label channel, a loss and an
optimizer. In a step the groups train in turn:

    data            d = layers(h)                       h: output of the group below, never differentiated through
    label           q(c) = ReLU(L onehot(c) + l)        k neighbouring units averaged for each output channel
    merge           m = d + q or d q                    q is constant over space
    goodness        g = sum m^2 (vectors), mean m^2 (feature maps)
    loss            mean of log(1 + exp(theta - g(right label))) + log(1 + exp(g(wrong label) - theta)), as published,
                    or the cross-entropy of sharpness * g; one wrong label is drawn per sample, or all are used
                    (the second term is then their mean)
    gradient        the ordinary gradient, within the group
    hand on         d from before the update; with ``rms``, each sample divided by its root mean square
    prediction      the label with the largest goodness, summed over groups or of the last group alone

d is the same for the right and the wrong label, so a step takes one pass, and so does inference. After a group's turn,
only d is kept of its activations and errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..architectures import Architecture, Description, grouped
from ..errors import BadRequest
from ..kernels import ff as ff_kernels
from ..kernels import giff as giff_kernels
from ..kernels import random as random_kernels
from ..kernels.conv_update import Step
from ..layers.graph import Program
from ..layers.group import Group, train_whole
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import INFERENCE, STEP
from ..storage.flash import Flash
from .goodness import Scored
from .group_stage import GroupStage
from .stage import Outcome

MERGES = {"add": giff_kernels.ADD, "mul": giff_kernels.MUL}


class Network(Scored, GroupStage):
    """A network trained by GIFF; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If there is no wrong label.
    """

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        recipe, own = self.recipe, self.recipe.options
        if self.C < 2:
            raise BadRequest("algorithm giff tells right labels from wrong ones: it needs at least two")
        assert recipe.label_width is not None and recipe.merge is not None and recipe.theta is not None
        self.width, self.merge, self.theta = recipe.label_width, MERGES[recipe.merge], recipe.theta
        self.all, self.last = own["negatives"] == "all", own["answer"] == "last"
        self.sharpness = float(own["sharpness"]) if own["loss"] == "softmax" else 0.0
        self.losses: list[float] = []  # of each trained group in the last step
        groups = grouped(recipe.groups, recipe.network)
        self.frozen_groups = {g for g, units in enumerate(groups) if units[0] in recipe.frozen}
        return [[layer for unit in group for layer in architecture.units[unit]] for group in groups]

    def beside(self, program: Program) -> tuple[int, int]:
        """Shape of the label channel's weights, with its biases as the last row: (C + 1, k O)."""
        return self.C + 1, self.width * program.shapes[program.output][2]

    def extra(self) -> list[Region]:
        """Regions of the groups, and the batch's wrong labels."""
        return [
            *super().extra(),
            Region("wrong", (0 if self.all else self.B,), "uint16", STEP),
            Region("margin", (self.B,), "float64", STEP),
            Region("scores", (self.C, self.B), "float64", INFERENCE),
        ]

    def top_regions(self, group: Group) -> list[Region]:
        """Regions of a group's label channel and its loss."""
        g, (rows, columns, width) = group.number, group.program.shapes[group.program.output]
        maps, at, count = rows * columns > 1, group.top, len(group.program.operations)
        turn = f"gradient:{at}", f"update:{at}"
        both = (*turn, *(f"{phase}:{at}" for phase in INFERENCE))
        following = ("forward", *INFERENCE) if self.recipe.rms and g + 1 < len(self.layers) else ()
        normal = tuple(f"{phase}:{g + 1}.0" for phase in following)
        return [
            Region(f"g{g}.latent", (self.C, width), "float32", both),
            Region(f"g{g}.sums", (self.B if maps else 0, width), "float64", both),
            Region(f"g{g}.squares", (self.B if maps else 0,), "float64", both),
            Region(f"g{g}.coefficient", (self.C if self.all else 2, self.B), "float64", turn),
            Region(f"g{g}.latent_error", (self.C, width), "float64", group.added_up(count)),
            Region(f"g{g}.label_slopes", group.extra, "float32", (f"update:{at}",)),
            Region(f"g{g}.size", (self.B if normal else 0,), "float64", normal),
            Region(f"g{g}.factor", (self.B if normal else 0,), "float32", normal),
        ]

    def array(self, g: int, name: str) -> np.ndarray:
        """A region of a group's loss."""
        return self.ram[f"g{g}.{name}"]

    def forward(self, group: Group, samples: int, phase: str) -> np.ndarray:
        """Run a group; return its output d (B, P, O) at P positions."""
        prepare = self._normalize(group.number - 1, samples) if group.number else self.unpack(group, samples)
        return group.forward(samples, phase, prepare).reshape(self.B, -1, group.program.shapes[-1][2])

    def _normalize(self, g: int, samples: int) -> Callable[[np.ndarray], None]:
        """A function that divides the outputs of group g by their root mean square, in place, if the recipe says so."""

        def normalize(maps: np.ndarray) -> None:
            if self.recipe.rms:
                below, size, factor = maps.reshape(self.B, -1), self.array(g, "size"), self.array(g, "factor")
                ff_kernels.measure(below, samples, below.shape[1], 1.0, size, factor, self.cores)
                ff_kernels.normalize(below, samples, factor, self.cores)

        return normalize

    def _measure(self, g: int, d: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q of all labels, and the sums from which goodness is computed."""
        q, sums, squares = (self.array(g, name) for name in ("latent", "sums", "squares"))
        giff_kernels.latent(*self.layers[g].label, self.width, q)
        if sums.size:
            giff_kernels.measure(d, samples, self.merge, sums, squares, self.cores)
        return q, sums, squares

    # -- one batch -----------------------------------------------------------------------------------------------------

    def draw(self, samples: int, step: int, first: int) -> np.ndarray:
        """Draw a wrong label per sample of the batch, from sample ``first`` on; (0,) if the loss uses all labels."""
        if self.all:
            return self.ram.wrong
        epoch, batch = divmod(step, self.batches)
        seed, wrong, begin = np.uint64(self.recipe.seed), self.ram.wrong, batch * self.recipe.batch + first
        random_kernels.wrong_labels(self.ram.labels, samples, self.C, epoch, begin, wrong, seed)
        return wrong

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, group by group.

        A prediction counts as wrong if a wrong label has at least as much goodness as the right one. Of a sum over
        groups this is an upper bound: each group's largest wrong label counts, as no others are kept.
        """
        samples, ram, move, self.losses = part.samples, self.ram, self.next_step(step, part), []
        self.arena.enter("forward:0.0")
        wrong = self.draw(samples, step, part.first)
        ram.margin[:] = 0
        for g, group in enumerate(self.layers):
            d = self.forward(group, samples, "forward")
            if group.frozen:
                continue
            self.arena.enter(f"gradient:{group.top}")
            q, sums, squares = self._measure(g, d, samples)
            measured = d, samples, self.merge, sums, squares, q
            coefficient, labels, ends = self.array(g, "coefficient"), (ram.labels, wrong), (self.theta, self.sharpness)
            if not self.last or g + 1 == len(self.layers):
                giff_kernels.margins(*measured, ram.labels, ram.margin, self.cores)
            loss = giff_kernels.loss_and_slopes(*measured, *labels, *ends, part.of, coefficient)
            self.losses.append(loss / samples)
            if not np.isfinite(loss):
                return Outcome.of(loss, samples, what=f"loss of group {g + 1}")
            error = group.error(group.program.output).reshape(d.shape)
            giff_kernels.errors(d, samples, self.merge, q, *labels, coefficient, error, self.cores)
            self.arena.enter(f"update:{group.top}")
            if not self._train_label(g, d, part, q, sums, labels, move) or not group.backward(part, move):
                return Outcome.of(loss, samples, False)
        return Outcome(sum(self.losses) * samples, int(np.count_nonzero(ram.margin[:samples] <= 0)))

    def _train_label(
        self,
        g: int,
        d: np.ndarray,
        part: Part,
        q: np.ndarray,
        sums: np.ndarray,
        labels: tuple[np.ndarray, np.ndarray],
        move: Step,
    ) -> bool:
        """Run one step of a group's label channel, at the end of a batch; return False if a number is not finite."""
        group, coefficient = self.layers[g], self.array(g, "coefficient")
        dq, slopes = self.array(g, "latent_error"), self.array(g, "label_slopes")
        giff_kernels.latent_errors(
            d, part.samples, self.merge, sums, q, *labels, coefficient, part.first > 0, dq, self.cores
        )
        giff_kernels.latent_back(*group.label, self.width, dq, slopes[:-1], slopes[-1])
        tensor = group.tensor(group.program.parameters, group.extra)
        return not part.ends or train_whole(tensor, slopes.reshape(-1), move)

    def infer(self, samples: int, phase: str) -> None:
        scores = self.ram.scores
        for g, group in enumerate(self.layers):
            d = self.forward(group, samples, phase)
            self.arena.enter(f"{phase}:{group.top}")
            if g == 0:
                scores[:] = 0
            if self.last and g + 1 < len(self.layers):
                continue
            q, sums, squares = self._measure(g, d, samples)
            giff_kernels.score(d, samples, self.merge, sums, squares, q, scores, self.cores)
