"""A fully connected layer in training: its forward pass, and one optimizer step of the slices that are due.

Storage of the weights and the schedule of slices are in :mod:`.parameters`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads

from ..kernels import dense_backward as backward_kernels
from ..kernels import dense_forward as forward_kernels
from ..kernels import dense_gradient as gradient_kernels
from ..kernels import dense_update as update_kernels
from ..kernels import random as random_kernels
from ..kernels.dense_forward import Neurons, Results
from ..kernels.operands import Biases, Inputs, Published, Resident, Scratch, Step
from ..kernels.optimizers import NUMBERS, rate_and_root
from ..storage.flash import Flash
from .encoding import Encoding, empty, view, words
from .layer import Batch, Out, Part
from .parameters import Parameters

#: maps a slice's number to its inputs in the form its kernels take, usually update.Inputs
Sources = Callable[[int], Any]
#: maps a range of neurons, first to last, to their errors as the kernels take them, usually Projected or Given
Errors = Callable[[int, int], Any]


class Work(NamedTuple):
    """Scratch arrays of a pass; layers that take turns can share them."""

    scratch: np.ndarray  # bytes
    sums: np.ndarray  # (T,) int64: of |z|


class Operands(NamedTuple):
    """What an update of one slice reads, and its scratch."""

    inputs: Any  # of the slice, in the form its kernels take
    samples: int
    errors: Errors
    scratch: Scratch
    abs_w: np.ndarray  # (T,) int64: sums of |W|


class Rows(NamedTuple):
    """Rows ``first`` to ``last`` of slice ``k``, which train in one call of a kernel, and the numbers of this step."""

    k: int
    first: int
    last: int
    given: Operands
    resident: Resident
    published: Published
    still: tuple[int, int, int, int]  # the rectangle whose weights stay
    weight_step: Step
    bias_step: Step
    train_bias: bool


class Lost(Exception):
    """A weight or a moment is no longer a finite number."""


class Dense(Parameters):
    """One fully connected layer, z = X Wb^T + b; parameters as for :class:`.parameters.Parameters`.

    Attributes
    ----------
    work : Work
        Set by the stage.
    """

    work: Any

    # -- a pass --------------------------------------------------------------------------------------------------------

    def pass_scratch(self, inputs: Encoding, rows: int, threads: int) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the scratch for a pass over ``rows`` samples in a given encoding."""
        kind = self.published_shape(self.O)[1]
        return forward_kernels.scratch_shape(np.dtype(inputs.dtype), np.dtype(kind), rows, words(self.I), threads)

    def forward(self, flash: Flash, x: Batch, part: Part, out: Out, training: bool = False) -> float:
        """Compute z = gain alpha (x . w) + b and its outputs; return the summed |z| of the batch so far.

        Parameters
        ----------
        flash : Flash
            Source of the weights if they are not in RAM.
        x : Batch
        part : Part
            The part of the batch that these samples are.
        out : Out
        training : bool
            Whether this is the pass of a training step; it makes a difference to layers with batch norm only.
        """
        rows, held, ram = out.z.shape[1], x.inputs, self.ram
        sums = self.work.sums[: -(-rows // 16)]  # a thread takes at least 16 samples
        if part.first == 0:
            sums[:] = 0
        scratch = view(self.work.scratch, *self.pass_scratch(held, rows, len(sums)))
        # in one thread, one part is faster than several; but scratch that threads divide is to be written whole
        parts = sums[:1] if get_num_threads() == 1 and scratch.ndim == 1 else sums
        results = Results(part.first, out.active, out.first, out.logits, out.values, parts)
        gain, bias = np.float32(x.gain * self.alpha), ram.bias if out.biased else ram.bias[:0]
        for first in range(0, self.O, self.stretch):
            last = min(first + self.stretch, self.O)
            neurons = Neurons(first, last, self.weights(flash, first, last), bias, gain, out.head(first, last))
            forward_kernels.forward(
                x.values,
                part.samples,
                np.float32(held.scale),
                np.float32(held.offset),
                self.I,
                neurons,
                out.bits,
                self.z_unit,
                scratch,
                out.z,
                results,
            )
        return int(sums.sum()) / self.z_unit

    @property
    def pass_rows(self) -> int:
        """Neurons of a kernel call in a pass."""
        return self.stretch

    def no_head(self, first: int, last: int) -> np.ndarray:
        """Rows (n, 0) for a layer without a head."""
        return empty((last - first, 0))

    def backward_scratch(self) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the scratch for :meth:`backward`."""
        return backward_kernels.scratch_shape(np.dtype(self.published_shape(self.O)[1]), self.O, self.I, self.T)

    def backward(self, dz: np.ndarray, samples: int, active: np.ndarray, scratch: np.ndarray, dx: np.ndarray) -> None:
        """Compute the errors dx (I, B) = alpha W^T dz [active] of the inputs from dz (O, B); scratch in bytes."""
        backward_kernels.backward(
            dz,
            samples,
            self.ram.weights,
            self.I,
            np.float32(self.alpha),
            active,
            view(scratch, *self.backward_scratch()),
            dx,
        )

    # -- one step ------------------------------------------------------------------------------------------------------

    def update(
        self,
        flash: Flash,
        sources: Sources,
        samples: int,
        errors: Errors,
        step: int,
        scratch: Scratch,
        abs_w: np.ndarray,
        begun: bool = False,
        ended: bool = True,
    ) -> bool:
        """Train the slices that are due, one at a time in the arena, and each group of their biases once.

        ``sources(k)`` are the inputs of slice k, ``errors(first, last)`` the errors of some neurons, as the kernels
        take them. For micro-batches, ``begun`` says whether the gradient was begun by an earlier one, ``ended`` whether
        this one ends it; nothing trains before that. Returns False, and stops, as soon as a weight or a moment is no
        longer finite.
        """
        if self.frozen:
            return True
        state, ram = self.state, self.ram
        trained: set[int] = set()
        for k in self.due(step):
            self.exchange(flash, k)
            inputs = self._turned(sources(k), samples, k, scratch)
            given = Operands(inputs, samples, errors, scratch, abs_w)
            if self.partial:
                part = self.grid.slice(k)
                update_kernels.add_gradient(
                    inputs.values,
                    samples,
                    errors(part.first, part.last),
                    part,
                    scratch,
                    ram.sums,
                    ram.bias_sums,
                    begun,
                    self.threads,
                )
            if not ended:
                continue
            group = k // self.grid.across
            train_bias = self.biased and group not in trained
            state.steps += 1
            state.bias_steps += train_bias
            trained.add(group)
            try:
                streaming = flash.rewriting(self.name("slices"), k) if self.tiling.stream_slice else nullcontext()
                with streaming:
                    self._update_slice(flash, k, given, step, train_bias)
                    if self.tiling.stream_slice:
                        self.tail[:] = state.steps, state.sum
                        self._move_tail(flash.write, k)
            except Lost:
                return False
            state.dirty = True
        return True

    def _turned(self, inputs: Any, samples: int, k: int, scratch: Scratch) -> Any:
        """Inputs of slice k as the gradient takes them; for bits only its own columns, transposed."""
        if self.inputs.kind != "bits":
            return inputs
        part = self.grid.slice(k)
        turned = scratch.turned.reshape(-1)[: prod(gradient_kernels.turned_shape(self.rows, part.high - part.low))]
        turned = turned.reshape(-1, part.high - part.low)
        gradient_kernels.turn(inputs.values, samples, part.low - inputs.first, part.high - inputs.first, turned)
        return inputs._replace(values=turned, first=part.low)

    def _update_slice(self, flash: Flash, k: int, given: Operands, step: int, train_bias: bool) -> None:
        """Train slice k, some rows at a time."""
        state, part, still = self.state, self.grid.slice(k), self._still(step)
        weight_step = bias_step = self._step(state.steps, step)
        if (t := max(1, state.bias_steps)) != state.steps:  # usually equal
            bias_step = self._step(t, step)
        steps, total = (still, weight_step, bias_step, train_bias), 0
        for first, last in self.tiles(part.first, part.last):
            at = first - part.first
            if self.tiling.stream_slice:
                self._move_rows(flash.read, k, first, last)
            resident = self._resident(0 if self.tiling.stream_slice else at, part.high - part.low)
            published = self._published(flash, first, last)
            given.abs_w[:] = 0
            self._train_rows(Rows(k, first, last, given, resident, published, *steps))
            sums = given.abs_w.tolist()
            if min(sums) < 0:
                raise Lost
            total += sum(sums)
            if self.tiling.stream_slice:
                self._move_rows(flash.write, k, first, last)
            self._publish(flash, published, first, last)
        state.total += total - state.sum
        state.sum = total

    def biases_of(self, rows: Rows) -> Biases:
        """The biases, with the moments of those that belong to some rows of a slice."""
        begin = self.grid.slice(rows.k).first
        own = slice(rows.first - begin, rows.last - begin)
        return Biases(self.ram.bias, self.ram.bias_moment1[own], self.ram.bias_moment2[own])

    def _train_rows(self, rows: Rows) -> None:
        """Run the kernel that trains these rows."""
        ram, part, (inputs, samples, errors, scratch, abs_w) = self.ram, self.grid.slice(rows.k), rows.given
        what = (
            (rows.first, rows.last, part.low, part.high),
            rows.resident,
            self._draws(rows.k, rows.first - part.first),
            rows.published,
            rows.still,
            self.biases_of(rows),
            rows.weight_step,
            rows.bias_step,
            rows.train_bias,
            self.straight,
            self.unit,
        )
        if self.partial:
            update_kernels.update_from(ram.sums, ram.bias_sums, inputs.scale, inputs.offset, *what, abs_w)
        else:
            update_kernels.update(inputs, samples, errors(rows.first, rows.last), *what, scratch, abs_w)

    def slice_gradient(
        self, flash: Flash, inputs: Inputs, samples: int, errors: Errors, k: int, scratch: Scratch
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of slice k, which must be resident unless streamed, and of its biases, for inspection."""
        part, inputs = self.grid.slice(k), self._turned(inputs, samples, k, scratch)
        dW = np.zeros((part.last - part.first, part.high - part.low), np.float32)
        db = np.zeros(part.last - part.first, np.float32)
        for first, last in self.tiles(part.first, part.last):  # the straight-through mask depends on the weights
            rows, at = slice(first - part.first, last - part.first), 0
            if self.tiling.stream_slice:
                self._move_rows(flash.read, k, first, last)
            else:
                at = rows.start * dW.shape[1]
            gradient_kernels.slice_gradient(
                inputs,
                samples,
                errors(first, last),
                (first, last, part.low, part.high),
                self.ram.slice[at:],
                self.straight,
                scratch,
                dW[rows].reshape(-1),
                db[rows],
            )
        return dW, db

    def multiply_moments(self, flash: Flash, k: int, factor: float) -> None:
        """Multiply the moment of slice k's weights (not biases) by a factor; the slice becomes resident."""
        if self.frozen:
            return
        assert self.moments == 1 and not self.tiling.stream_slice
        self.exchange(flash, k)
        if self.form.coded:
            draws, part = self._draws(k, 0, random_kernels.RESCALE), self.grid.slice(k)
            resident = self._resident(0, part.high - part.low)
            update_kernels.multiply_moments(part, resident, draws, np.float32(factor))
        else:
            self.ram.moment1 *= np.float32(factor)
        self.state.dirty = True

    def _still(self, step: int) -> tuple[int, int, int, int]:
        if self.kind != "frozen":
            return (0, 0, 0, 0)
        q = (self.schedule.holds(step) + 1) % self.full_grid.side
        part = self.full_grid.slice(q * self.full_grid.side + q)
        return part.first, part.last, part.low, part.high

    def _step(self, t: int, step: int) -> Step:
        """The optimizer at its own step t, in step ``step`` of the training."""
        name, lr = self.optimizer, self.lr * self.recipe.lr_at(step // self.batches)
        limit = np.float32(self.limit if self.limit < inf else np.inf)
        return Step(NUMBERS[name], *rate_and_root(name, lr, t), np.float32(self.decay), limit)
