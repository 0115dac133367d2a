"""Writes the pages of docs/ that are made from the code: one for each algorithm, and the command line's reference.

``python docs/pages.py`` writes them; a test compares them with what it would write.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
from tinyfoa_cli.main import tinyfoa

from tinyfoa_np import data
from tinyfoa_np.ram.packing import PHASES
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.fit import Layout

DOCS = Path(__file__).parent
#: pages, with the functions of the reference that say the same as the equations above them, in that order
ALGORITHMS = {
    "tinyfoa": "binarize_weights forward logits softmax loss error gradient clamp",
    "tinyfoa_local": "initial neighbourhoods reads products forward gradient",
    "bp": "forward gradient",
    "bp_local": "bins pool pool_gradient below forward gradient",
    "drtp": "forward loss gradient",
    "dfa": "forward output_loss gradient",
    "dfa_local": "gradient",
    "fa": "forward gradient",
    "feedback_graph": "forward gradient",
    "pepita": "forward modulate ascent",
    "pepita_tl": "forward hebbian anti_hebbian modulated",
    "pepita_wm": "forward modulated train_mirrored",
    "ff": "with_labels normalize forward goodness layer_loss mean_activity peer_loss gradient classifier_gradient",
    "lightff": "activations multi_pass_scores one_pass_scores confidences thresholds exits",
    "monoforward": "gradients class_goodness",
    "monoforward_graph": "map_gradients",
    "biofo": "forward logits loss error gradient",
    "biofo_graph": "forward_map gradient_map",
    "deeperforward": "normalized forward class_goodness gradient passed_on",
    "cwcomp": "grouped forward class_goodness gradient",
    "giff": "latent latent_gradient goodness loss class_scores passed handed_on",
}
#: a page's figures are of this training
EXAMPLE = {"dataset": "mnist", "network": "fc:2000x4"}
LOCAL = {"dataset": "mnist", "network": "lc:16,32,64,64"}
#: the reference module of an algorithm, where it serves several
REFERENCES = {
    "dfa": "feedback",
    "fa": "feedback",
    "feedback_graph": "feedback",
    "pepita_wm": "pepita_tl",
    "biofo": "tinyfoa",
    "biofo_graph": "biofo",
    "monoforward_graph": "monoforward",
}
#: the recipes of pages that are not called as their algorithm
RECIPES = {
    "tinyfoa_local": LOCAL,
    "bp_local": {**LOCAL, "algorithm": "bp"},
    "dfa_local": {**LOCAL, "algorithm": "dfa"},
    "feedback_graph": {"dataset": "mnist", "network": "conv:32k5,m2,f1000", "algorithm": "dfa"},
    "biofo_graph": {"dataset": "mnist", "network": "conv:16,m2,32,m2,64", "algorithm": "biofo"},
    "monoforward_graph": {"dataset": "mnist", "network": "conv:16,m2,32,m2,64", "algorithm": "monoforward"},
    "lightff": {**EXAMPLE, "algorithm": "ff"},
    "deeperforward": {"dataset": "mnist", "network": "conv:20k5,p2,40,p2,80x2", "algorithm": "deeperforward"},
    "cwcomp": {"dataset": "mnist", "network": "conv:20,80,240,480", "algorithm": "cwcomp", "batch": 128},
}


def pages() -> dict[Path, str]:
    """The pages by their paths, as they should be."""
    made = {DOCS / "algorithms" / f"{name}.md": algorithm(name) for name in ALGORITHMS}
    return {**made, DOCS / "cli.md": command_line()}


def algorithm(name: str) -> str:
    """An algorithm's page: its equations, the same as code, and what lies in RAM when."""
    module = importlib.import_module(f"tinyfoa_np.rules.{name}")
    title, _, text = inspect.getdoc(module).partition("\n")  # type: ignore[union-attr]
    return "\n".join(
        [
            f"# {title.rstrip('.')}",
            "",
            f"The text of `src/tinyfoa_np/rules/{name}.py`, which trains in the arena. [All pages](../index.md)",
            "",
            re.sub(r":\w+:`[.~]*([^`]+)`", r"`\1`", text.strip()),
            "",
            "## The same in NumPy",
            "",
            f"From `src/tinyfoa_np/reference/{REFERENCES.get(name, name)}.py`, which the kernels are tested against.",
            "",
            "```python",
            *_sources(name),
            "```",
            "",
            "## In the arena",
            "",
            *_regions(name),
            "",
        ]
    )


def _sources(name: str) -> Iterator[str]:
    """The reference's functions without their docstrings, an empty line between them."""
    module = importlib.import_module(f"tinyfoa_np.reference.{REFERENCES.get(name, name)}")
    for number, function in enumerate(ALGORITHMS[name].split()):
        source = textwrap.dedent(inspect.getsource(getattr(module, function)))
        body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
        lines = source.rstrip().split("\n")
        if isinstance(body[0], ast.Expr):
            del lines[body[0].lineno - 1 : body[0].end_lineno]
        yield from ["", *lines] if number else lines


def _regions(name: str) -> Iterator[str]:
    """What the example's widest stage has in RAM, as a table: a column for each phase."""
    recipe = Recipe(**RECIPES.get(name, {**EXAMPLE, "algorithm": name})).validated()
    chosen = max(Layout(recipe, data.shape(recipe.dataset), threads=1).fit(None), key=lambda one: one.plan.nbytes)
    plan = chosen.plan
    what = f"`{recipe.network}` on {recipe.dataset}, batch {recipe.batch}, {recipe.optimizer}, one thread"
    cut = f"{recipe.slices} groups of channels" if name == "local" else f"{recipe.slices} x {recipe.slices} slices"
    slices = f", {cut}" if recipe.schedule == "slice" else ""
    yield f"{what}{slices}: {plan.nbytes:,} bytes."
    yield "A mark stands where a region must keep its content; those that never do so together share their bytes."
    yield ""
    yield f"| region | shape | type | bytes | {' | '.join(PHASES)} |"
    yield f"| --- | --- | --- | ---: |{' :-: |' * len(PHASES)}"
    for region in sorted(plan.regions, key=lambda region: -region.nbytes):
        if region.nbytes:
            shape = " x ".join(map(str, region.shape))
            marks = " | ".join("x" if phase in region.within else "" for phase in PHASES)
            yield f"| {region.name} | {shape} | {region.dtype} | {region.nbytes:,} | {marks} |"


COMPLETION = (
    "For completion of commands and options in a shell, put its line into `~/.bashrc`, `~/.zshrc` or",
    "`~/.config/fish/completions/tinyfoa.fish`:",
    "",
    '    eval "$(_TINYFOA_COMPLETE=bash_source tinyfoa)"',
    '    eval "$(_TINYFOA_COMPLETE=zsh_source tinyfoa)"',
    "    _TINYFOA_COMPLETE=fish_source tinyfoa | source",
)


def command_line() -> str:
    """The reference of the command line: what each command's --help says."""
    parts = ["# The command line", "", "What `--help` says. [All pages](index.md)", "", *COMPLETION, ""]
    for path, command in _commands(tinyfoa, "tinyfoa"):
        context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
        parts += [f"## {path}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(parts)


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _commands(below, f"{path} {name}")


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path)
