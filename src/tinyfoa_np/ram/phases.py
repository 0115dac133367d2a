"""The phases of work on the arena, and common lifetimes of regions."""

from __future__ import annotations

#: the phases of a training step, in order, and the phases that occur once per layer or epoch
PHASES = ("initialize", "load", "forward", "gradient", "update", "hand-over", "evaluate")
#: a training step including the loading of its batch: for data passed between micro-batches
TRAINING = ("load", "forward", "gradient", "update")
#: a training step after its batch is loaded
STEP = ("forward", "gradient", "update")
#: the backward pass through the layers
BACKWARD = ("gradient", "update")
#: a pass of a batch without training
INFERENCE = ("evaluate", "hand-over")
#: a pass of a batch, in training or not
PASSES = ("forward", *INFERENCE)
#: everything done with a loaded batch
COMPUTING = (*STEP, *INFERENCE)
#: always except during hand-over: for data that a trained layer no longer needs
RESIDENT = tuple(phase for phase in PHASES if phase != "hand-over")
