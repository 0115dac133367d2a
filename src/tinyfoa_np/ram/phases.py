"""The phases that work on the arena goes through, and the lifetimes that regions have in common."""

from __future__ import annotations

#: what a training step goes through, in order; then what happens once per layer or epoch
PHASES = ("initialize", "load", "forward", "gradient", "update", "hand-over", "evaluate")
#: a training step with the loading of its batch: what a batch, or a micro-batch, leaves to the next part
TRAINING = ("load", "forward", "gradient", "update")
#: a training step once its batch is loaded
STEP = ("forward", "gradient", "update")
#: the way back through the layers
BACKWARD = ("gradient", "update")
#: a batch goes through the layers and nothing trains
INFERENCE = ("evaluate", "hand-over")
#: a batch goes through the layers, in training or not
PASSES = ("forward", *INFERENCE)
#: whatever is done with a batch that is loaded
COMPUTING = (*STEP, *INFERENCE)
#: always, but for the hand-over: what a trained layer no longer needs
RESIDENT = tuple(phase for phase in PHASES if phase != "hand-over")
