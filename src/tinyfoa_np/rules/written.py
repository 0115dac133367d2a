"""In which phases the content of a region may change, where that is not all of its lifetime: what audit mode checks.

What one batch leaves to the next (weights, moments, biases) changes only while it is made and in an update, what a
batch brings only while it is loaded, what a pass finds out only in the pass. Scratch may change wherever it lives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..ram.packing import Region
from ..ram.phases import PHASES

_LOOKING = ("hand-over", "evaluate")
#: of kinds of regions that live on from one phase to another
_WRITTEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("inputs", "labels"), ("load",)),
    "input_scale": ("load", "hand-over"),  # which hands on the stored scale
    **dict.fromkeys(("active", "gathered", "mask", "wrong", "feature_factor"), ("forward",)),
    **dict.fromkeys(("factor", "feature", "goodness", "x", "v"), ("forward", *_LOOKING)),
    **dict.fromkeys(("coefficient", "modulated"), ("gradient",)),
    **dict.fromkeys(("error", "latent"), ("gradient", *_LOOKING)),
    "logits": ("forward", "gradient", *_LOOKING),
}
#: of those that one batch leaves to the next: all others change in updates
_CARRIED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("projection", "feedback", "head_bias"), ("initialize",)),
    "mean": ("initialize", "gradient"),  # FF's running mean activities
    "running": ("initialize", "forward"),  # batch norm's statistics
}


def declared(regions: Iterable[Region], carried: frozenset[str]) -> list[Region]:
    """The regions of a stage with the phases in which they may change; those that say so themselves stay as they are.

    Parameters
    ----------
    regions : iterable of Region
    carried : frozenset of str
        Names of those whose content one batch leaves to the next.
    """
    found = []
    for region in regions:
        kind = region.name.rpartition(".")[2].rstrip("0123456789")
        if region.name in carried:
            writes = _CARRIED.get(kind, ("initialize", "update"))
        else:
            writes = _WRITTEN.get(kind, PHASES)
        if region.writes is None and not region.name.startswith("below."):
            region = replace(region, writes=tuple(phase for phase in writes if phase in region.within))
        found.append(region)
    return found
