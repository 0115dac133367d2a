"""Phases in which the content of a region may change, if not during its whole lifetime; checked by audit mode.

Data passed from one batch to the next (weights, moments, biases) changes only during initialization and updates, the
data of a batch only while it is loaded, and the results of a pass only in the pass. Scratch may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..ram.packing import Region
from ..ram.phases import PHASES

_LOOKING = ("hand-over", "evaluate")
#: for kinds of regions that persist across phases
_WRITTEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("inputs", "labels"), ("load",)),
    "input_scale": ("load", "hand-over"),  # hand-over passes on the stored scale
    **dict.fromkeys(("active", "gathered", "mask", "wrong", "feature_factor"), ("forward",)),
    **dict.fromkeys(("factor", "feature", "goodness", "x", "v"), ("forward", *_LOOKING)),
    **dict.fromkeys(("coefficient", "modulated"), ("gradient",)),
    **dict.fromkeys(("error", "latent"), ("gradient", *_LOOKING)),
    "logits": ("forward", "gradient", *_LOOKING),
}
#: for regions kept from one batch to the next; all others of these change in updates
_CARRIED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("projection", "feedback", "head_bias"), ("initialize",)),
    "mean": ("initialize", "gradient"),  # FF's running mean activities
    "running": ("initialize", "forward"),  # batch norm's statistics
}


def declared(regions: Iterable[Region], carried: frozenset[str]) -> list[Region]:
    """Set the phases in which a stage's regions may change; regions that declare them themselves are unchanged.

    Parameters
    ----------
    regions : iterable of Region
    carried : frozenset of str
        Names of the regions whose content is kept from one batch to the next.
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
