"""``tinyfoa import``: weights of another program as a model."""

from __future__ import annotations

import json

import click

from tinyfoa_np.data import is_files
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import NORMALIZATIONS
from tinyfoa_np.text import printable, size

from .options import (
    data_dir_option,
    dataset_of,
    debug_option,
    files_option,
    json_option,
    reading_of,
    reading_options,
)
from .runs import path_of


@click.command(
    name="import",
    epilog="""\b
Examples:
  tinyfoa import mlp.safetensors mnist --network fc:500x2 --out mlp
  tinyfoa import r.onnx cifar10 --network resnet8 --order stem,blocks,head
  tinyfoa train mnist --from mlp/model.safetensors --freeze 1 --epochs 5""",
)
@click.argument("file")
@click.argument("dataset", required=False)
@files_option
@reading_options
@click.option("--network", metavar="SPEC", required=True, help="The network: fc:500x2, or a name such as resnet8.")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZATIONS),
    help="Scaling of the inputs with which the weights were trained, as in train. [default: unit]",
)
@click.option(
    "--order",
    metavar="NAMES",
    help="Beginnings of the modules' names, in the network's order: stem,blocks,head. [default: sorted by name]",
)
@data_dir_option
@click.option("--out", metavar="PATH", help="The model file, or a directory for it. [default: model.safetensors]")
@json_option
@debug_option
def import_(
    file: str,
    dataset: str | None,
    files: str | None,
    max_bytes: int | None,
    network: str,
    normalize: str | None,
    order: str | None,
    data_dir: str | None,
    out: str | None,
    as_json: bool,
    **given: object,
) -> None:
    """Make a model of weights that another program has trained, for example PyTorch.

    FILE is .safetensors or .onnx (needs the extra onnx) with tensors named as in a PyTorch state_dict: 0.weight,
    fc1.bias, conv1.weight, bn1.running_mean. Each layer of the network takes the first module of its shape, sorted by
    name. DATASET gives the inputs, their scaling, and the classes. The model can then be used by evaluate, predict,
    export and train --from.
    """
    name = dataset_of(dataset, files)
    if not name:
        raise BadRequest("name the data set whose samples the network takes: digits, mnist, data.csv")
    path, target = path_of(file), path_of(out or "model.safetensors")
    if target.is_dir() or out and not target.suffix:
        target /= "model.safetensors"
    if target.exists():
        raise BadRequest(f"{target} exists: give another --out")
    reading = reading_of(dict(given))
    from tinyfoa_np import data
    from tinyfoa_np.model.weights import load_weights

    if is_files(name):  # whose scaling follows from the samples
        samples = data.load(name, data_dir, reading=reading, max_bytes=max_bytes)
    else:
        samples = data.shape(name, reading=reading)
    names = [part.strip() for part in order.split(",") if part.strip()] if order else []
    fields = {"normalize": normalize} if normalize else {}
    target.parent.mkdir(parents=True, exist_ok=True)
    taken = load_weights(path, network, samples, target, names, **fields)
    if as_json:
        click.echo(json.dumps({"model": str(target), "taken": taken}))
        return
    for operation, module in taken.items():
        click.echo(printable(f"{operation:12} {module}"))
    click.echo(f"{target}: bp on {network}, {size(target.stat().st_size)}")
