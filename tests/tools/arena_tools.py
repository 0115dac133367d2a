"""Stages and layers in arenas of their own, full of a pattern."""

from tinyfoa_np.ram.arena import Arena
from tinyfoa_np.ram.packing import pack


def arena_of(stage):
    """An arena laid out for a stage, which opens it, in phase ``initialize``."""
    plan = pack(stage.regions())
    arena = Arena(plan.nbytes, poison=True)
    arena.lay_out(plan)
    arena.enter("initialize")
    stage.open(arena)
    return arena


def begun(stage, flash):
    """The arena of a stage that has begun its training, with objects in flash."""
    arena = arena_of(stage)
    stage.create(flash)
    stage.initialize(flash)
    stage.restore(flash)
    return arena
