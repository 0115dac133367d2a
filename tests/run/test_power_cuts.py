"""Power cuts anywhere in a run: whatever a file system may have lost, it resumes to the same bits or starts again.

The system calls of a short run are recorded once, with strace, and replayed up to some moment; what was not synced by
then is lost in part. ``TINYFOA_CUTS`` says how many states of each run are tried (40 without it).
"""

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from flash_tools import environment
from replay_tools import Disk, recorded, why_not
from train_tools import made, opened, recipe

from tinyfoa_np.errors import CheckFailed, TinyFoAError
from tinyfoa_np.model import model
from tinyfoa_np.run.directory import startable
from tinyfoa_np.run.results import result
from tinyfoa_np.run.train import train

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "strace is here"),
    pytest.mark.filterwarnings("ignore:.*going on from the commit before"),
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]

STATES = int(os.environ.get("TINYFOA_CUTS", "40"))
RUNS = {
    "slice": (recipe(network="fc:24,9", epochs=2, slices=2), {}),
    "bp": (recipe(network="fc:24,9", epochs=2, algorithm="bp"), {}),
    "giff": (recipe(network="fc:12,9", epochs=2, algorithm="giff"), {}),
    "lean": (recipe(network="fc:24,9", epochs=2, schedule="stream"), {"lean": True}),
    "stream": (recipe(network="fc:24,9", epochs=3, schedule="stream"), {"stream": True}),
}
CODE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from run.test_power_cuts import whole
whole(sys.argv[2], Path(sys.argv[1]))
"""


def parts(name):
    """The samples that a run is given, one after the other."""
    return [made(samples=40 + 10 * k, tests=15, seed=k) for k in range(3 if name == "stream" else 1)]


def begin(name, where, samples, **more):
    which, options = RUNS[name]
    return train(which, samples, where, threads=1, commit_every=2, **options, **more)


def whole(name, where):
    """A run from its beginning to its end."""
    for samples in parts(name):
        begin(name, where, samples)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The disk of each run, and the bits that it ended with."""
    known = {}

    def get(name):
        if name not in known:
            where = tmp_path_factory.mktemp(name) / "run"
            tests = Path(__file__).parents[1]
            changes = recorded(CODE, where, name, str(tests), str(tests / "tools"), env=environment())
            assert not list(where.glob(".*.part"))
            known[name] = Disk(changes), result(where)["model_sha256"]
        return known[name]

    return get


def gone_on_with(name, where):
    """What a user does after a power cut: resume or, if that is refused, start again; then the samples to come."""
    samples = parts(name)
    which, options = RUNS[name]
    if not where.is_dir() or startable(where):
        with pytest.raises(TinyFoAError, match=r"no commit|missing|is not a run directory"):
            train(which, None, where, threads=1, resume=True)
        taken = 0
    else:
        try:
            train(which, None, where, threads=1, resume=True)
            taken = 1
            if name == "stream":
                with opened(where, which) as flash:
                    taken = flash.meta["last"]
        except CheckFailed as error:
            assert name == "stream" and "train on them again" in str(error)
            with opened(where, which) as flash:
                taken = flash.meta["last"]
    for part in samples[taken:]:
        begin(name, where, part)
    return result(where)["model_sha256"]


@pytest.mark.parametrize("kind", ["posix", "ordered"])
@pytest.mark.parametrize("name", RUNS)
def test_a_power_cut_at_any_moment(tmp_path, records, name, kind):
    """Half of the states lie before the first commits and around the last ones, where most can be lost."""
    disk, sha256 = records(name)
    rng, started_again = random.Random(f"{name} {kind}"), 0
    early = next(op[0] for op in disk.ops if op[1] == "synced" and op[2] in root_files(disk))
    for number in range(STATES):
        moment = rng.choice(
            (
                rng.randrange(disk.moments + 1),
                rng.randrange(disk.moments + 1),
                rng.randrange(early + 3),
                disk.moments - rng.randrange(12),
            )
        )
        where = tmp_path / "state"
        disk.lay(where, *disk.cut(moment, kind, rng, rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))))
        started_again += startable(where)
        assert moment <= early or not startable(where), "a commit that had returned is lost"
        kept = tmp_path / "kept"
        shutil.copytree(where, kept)
        assert gone_on_with(name, where) == sha256, f"state {number}, at {moment} of {disk.moments}: {kept}"
        assert model.load(where / "model.safetensors").recipe == replace(RUNS[name][0]).validated()
        shutil.rmtree(where), shutil.rmtree(kept)
    assert 0 < started_again < STATES


def root_files(disk):
    """The numbers of both roots."""
    return {disk.names[f"flash/root.{parity}"] for parity in (0, 1)}


@pytest.mark.parametrize("name", RUNS)
def test_when_training_returns_nothing_can_be_lost(tmp_path, records, name):
    disk, sha256 = records(name)
    for kind in ("posix", "ordered"):
        where = tmp_path / kind
        disk.lay(where, *disk.cut(disk.moments, kind, random.Random(0), 0.0))
        assert result(where)["model_sha256"] == sha256
        assert model.load(where / "model.safetensors").predict(parts(name)[0].test.inputs).size == 15
