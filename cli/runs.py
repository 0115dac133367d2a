"""Run directories: creating a new one, and finding the parts of an old one."""

from __future__ import annotations

import contextlib
import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyfoa_np import defaults
from tinyfoa_np.data import is_files
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.run.directory import startable

if TYPE_CHECKING:
    from tinyfoa_np.recipe import Recipe
    from tinyfoa_np.run.start import Start


def path_of(text: str) -> Path:
    """A path from the command line with a leading ``~`` expanded, as shells do not expand ``--out=~/r``."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such home directory
        return Path(text)


def free(out: str) -> Path:
    """The path of a directory to train into.

    Raises
    ------
    BadRequest
        `out` is a file, or a directory that is not empty.
    """
    path = path_of(out)
    if path.exists() and not path.is_dir():
        raise BadRequest(f"--out {path} is a file; give a directory that does not exist yet")
    if path.is_dir() and not startable(path):
        begun = (path / "recipe.json").exists()
        resume = f", or continue it with --resume {shlex.quote(str(path))}" if begun else ""
        raise BadRequest(f"--out {path} is not empty; give another directory{resume}")
    return path


@contextlib.contextmanager
def new_run(out: str | None, dataset: str, algorithm: str) -> Iterator[Path]:
    """An empty directory to train into: `out`, or the first free ``runs/<dataset>-<algorithm>-<n>``.

    It is made immediately, so that two runs started together get different directories. If it is still empty at the end
    (because training was refused), it is removed.

    Raises
    ------
    BadRequest
        As for :func:`free`.
    """
    if out:
        path = free(out)
        made = _make(path)
    else:
        for number in itertools.count(1):
            path = Path("runs") / f"{dataset}-{algorithm}-{number}"
            made = _make(path)
            if path in made:
                break
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            for directory in made:
                directory.rmdir()  # fails, and ends the loop, if it is not empty


def old_run(run: str) -> Path:
    """The directory of an earlier run.

    Raises
    ------
    BadRequest
        There is no such run.
    """
    path = path_of(run)
    if not path.exists():
        raise BadRequest(f"there is no directory {run}")
    if path.is_dir() and not (path / "recipe.json").is_file():
        if startable(path):
            raise BadRequest(f"{run} holds no commit: start the training again, with --out {shlex.quote(run)}")
    if not (path / "recipe.json").is_file():
        raise BadRequest(f"{run} is not a run directory: it has no recipe.json; train makes one (--out)")
    return path


def reading_before(run: Path) -> Reading | None:
    """How the samples of a run were read; None if data.json does not contain it.

    Raises
    ------
    CheckFailed
        data.json is missing or damaged.
    """
    from tinyfoa_np.data.roles import Known
    from tinyfoa_np.run.directory import stand_in

    record = (stand_in(run).origin or {}).get("reading")
    return Known.from_record(record).reading if record else None


def model_file(run: str) -> Path:
    """The trained model of a run directory, or `run` itself if it is a file.

    Raises
    ------
    BadRequest
        There is no such file, or the run has not finished training.
    """
    path = path_of(run)
    if path.is_file():
        return path.resolve()  # follow a link given by the user, but not those in a run
    model = old_run(run) / "model.safetensors"
    if not model.is_file():
        raise BadRequest(f"{run} has no model yet; finish its training with: tinyfoa train --resume {run}")
    return model


def started(
    start: str, preset: str | None, dataset: str, given: dict[str, Any], reading: Reading | None
) -> tuple[Recipe, Start, Reading | None]:
    """The recipe of a training that starts from a model, the model, and how its data are read.

    Raises
    ------
    BadRequest
        There is no such model, or an option does not fit it.
    CheckFailed
        The model is damaged.
    """
    from tinyfoa_np.data.roles import Known
    from tinyfoa_np.run.start import Start, further

    if preset:
        raise BadRequest("--from and --preset both determine the recipe: give one of them")
    path = path_of(start)
    if path.is_dir():
        model_file(start)  # refuse directories without a model in words
    beginning = Start.of(path)
    model = beginning.model
    if reading is None and model.reading and is_files(dataset):
        reading = Known.from_record(model.reading).reading
    return further(model, **given), beginning, reading


def chosen_from(beginning: Start, given: dict[str, Any], shape: tuple[int, int]) -> Recipe:
    """The recipe of :func:`started`; another rule's defaults follow from the training set's (samples, inputs)."""
    from tinyfoa_np.run.start import further

    model = beginning.model
    usual = defaults.apply(given["dataset"], given.get("network", model.recipe.network))
    return further(model, shape=shape if usual else None, **given)


def _make(path: Path) -> list[Path]:
    """Make a directory and its parents; return the new ones, deepest first."""
    made: list[Path] = []
    for directory in reversed([path, *path.parents]):
        if not directory.exists():
            try:
                directory.mkdir()
                made.insert(0, directory)
            except FileExistsError:
                pass  # another run was faster
            except OSError as error:
                raise BadRequest(f"{directory} cannot be made a directory: {error.strerror}") from error
    return made
