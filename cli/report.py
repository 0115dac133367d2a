"""``tinyfoa report``: a run as a single page."""

from __future__ import annotations

import click

from tinyfoa_np.storage.whole_file import write_whole

from .options import debug_option
from .runs import old_run, path_of


@click.command(
    epilog="""\b
Examples:
  tinyfoa report runs/digits-tinyfoa-1
  tinyfoa report runs/digits-tinyfoa-1 --out digits.html"""
)
@click.argument("run")
@click.option("--out", metavar="FILE", help="The page. [default: report.html in RUN]")
@debug_option
def report(run: str, out: str | None) -> None:
    """Write one page about the finished training in RUN, and print where it is.

    Errors, memory and its audit, pictures and recipe, in one HTML file that needs no others. Needs matplotlib,
    the extra `plot`.
    """
    path = old_run(run)
    from tinyfoa_np import page

    target = path_of(out) if out else path / "report.html"
    content = page.write(path).encode()
    write_whole(target, content)
    click.echo(target)
