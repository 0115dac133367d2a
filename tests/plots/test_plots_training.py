"""Pictures of errors and losses, of signs and of first-layer fields: what they show, and that it can be read."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")

from matplotlib.colors import to_rgb
from plot_tools import assert_legible, said
from train_tools import made, metrics, recipe, run, weights

from tinyfoa_np import plots
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.plots import canvas, fields, signs, training
from tinyfoa_np.reference import random
from tinyfoa_np.run import results as finished
from tinyfoa_np.run.results import Epoch

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

IMAGE = (1, 7, 10)
RUNS = {
    "tinyfoa": {"network": "fc:33,20", "epochs": 4, "slices": 2},
    "lean": {"network": "fc:30", "lean": True},
    "real": {"binary_weights": False, "schedule": "stream"},
    "bp": {"algorithm": "bp", "epochs": 3},
    "ff": {"algorithm": "ff", "batch": 16},
    "one epoch, no tests": {"tests": 0},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(recipe, result) of a small run of each kind, trained once."""
    where, known = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in known:
            options = dict(RUNS[name])
            dataset = replace(made(samples=96, tests=options.pop("tests", 20)), image=IMAGE)
            lean, which = options.pop("lean", False), recipe(lr=0.01, **options)
            known[name] = which.validated(), run(where, which, dataset, lean=lean)
        return known[name]

    return get


def rows(layers, epochs, last=2.0, tested=True):
    """Made-up epochs: each layer begins again at a larger error."""
    return [
        Epoch(n, e, 2.3 / (e + 1), last + 50 / (e + 1), last + 60 / (e + 1) if tested else None, 1.0 + e)
        for n in range(layers)
        for e in range(epochs)
    ]


# Errors and losses


@pytest.mark.parametrize(
    ("options", "epochs", "last", "tested"),
    [
        ({"network": "fc:2000x4"}, 100, 2, True),
        ({"network": "fc:20"}, 1, 2, False),
        ({"network": "fc:20x30"}, 3, 0, True),
        ({"algorithm": "bp", "network": "fc:20x3"}, 20, 0.01, True),
        ({"algorithm": "ff"}, 1000, 80, True),
        ({"network": "fc:" + ",".join(map(str, range(10, 60))), "schedule": "stream"}, 2, 99, False),
    ],
)
def test_every_word_of_a_training_can_be_read(options, epochs, last, tested):
    which = recipe(**options).validated()
    layers = which.network.count(",") + 1 if "x" not in which.network else int(which.network.split("x")[1])
    stages = layers if which.algorithm == "tinyfoa" else 1
    figure = training.drawn(which, rows(stages, epochs, last, tested))
    assert_legible(figure)
    words = said(figure)
    assert ("test error" in words) == tested and "training error" in words and "epochs" in words
    assert ("layer 1" in words) == (stages > 1)


def test_lines_are_the_epochs_layer_after_layer(runs):
    which, result = runs("tinyfoa")
    read = metrics(result)
    figure = training.figure(result["run_dir"])
    errors, losses = figure.axes[1], figure.axes[2]
    for axes, name, colour in (
        (errors, "test_error_pct", canvas.VERMILLION),
        (errors, "train_error_pct", canvas.BLUE),
        (losses, "loss", canvas.BLACK),
    ):
        lines = [line for line in axes.lines if line.get_color() == colour]
        assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3, 4], [5, 6, 7, 8]]
        assert [y for line in lines for y in line.get_ydata()] == [row[name] for row in read]
    ends = ", ".join(f"{error:.2f}" for error in result["layer_errors_pct"])
    assert f"test error of each layer: {ends} %." in said(figure)[1]
    second = training.figure(result["run_dir"], 2)
    assert [list(line.get_ydata()) for line in second.axes[2].lines] == [[row["loss"] for row in read[4:]]]


def test_far_apart_values_are_on_a_logarithmic_scale_and_zero_is_not():
    which = recipe(network="fc:20").validated()
    assert training.drawn(which, rows(1, 50)).axes[1].get_yscale() == "log"
    for flat in (rows(1, 3, last=90), [row._replace(train_error_pct=0.0) for row in rows(1, 50)]):
        axes = training.drawn(which, flat).axes[1]
        assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0


def test_without_test_samples_the_training_error_is_told(runs):
    _, result = runs("one epoch, no tests")
    figure = training.figure(result["run_dir"])
    assert "training error of each layer" in said(figure)[1] and "test error" not in said(figure)
    assert_legible(figure)


# Signs


@pytest.mark.parametrize("name", ["tinyfoa", "real", "bp", "ff", "lean"])
def test_signs_are_compared_with_those_the_run_began_with(runs, name):
    """The trained ones are those of the weights in flash, the first ones the reference's for the same seed."""
    which, result = runs(name)
    trained = finished.model(result["run_dir"])
    if name != "lean":
        for number, (W, _) in enumerate(weights(result["run_dir"], which)):
            assert (finished.trained_signs(trained, number) == np.where(W >= 0, 1, -1)).all()
    O, I = trained.layers[0].outputs, trained.layers[0].inputs.width
    if which.algorithm == "ff":
        first = random.normal(0, O * I, 1.0, seed=which.seed, layer=0, purpose=random.WEIGHT).reshape(O, I)
    else:
        first = random.weights(O, I, seed=which.seed, layer=0)
    made_again = finished.initial_signs(trained, 0)
    assert (made_again == np.where(first >= 0, 1, -1)).all() and abs(made_again.mean()) < 0.2


def test_slices_that_never_trained_have_not_changed(runs, tmp_path):
    which = recipe(network="fc:33", slices=2, epochs=1, lr=0.05)
    result = run(tmp_path, which, made(samples=320))
    figure = signs.figure(result["run_dir"])
    shares = next(axes for axes in figure.axes if axes.images).images[0].get_array()
    assert shares.shape == (2, 2)
    assert shares[0, 0] > 5 and (shares.ravel()[1:] == 0).all()
    assert "layer 1: " + f"{shares.mean():.1f} %" in said(figure)


def test_shares_of_slices():
    differ = np.zeros((4, 6), bool)
    differ[:2, 3:] = True
    differ[3, 0] = True
    assert signs.changed(differ, 2).tolist() == [[0, 100], [pytest.approx(100 / 6), 0]]
    assert signs.changed(differ, 1).tolist() == [[pytest.approx(100 * 7 / 24)]]


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"network": "fc:20"}, [np.zeros((2, 2))]),
        ({"network": "fc:20x4", "slices": 16}, [np.full((16, 16), n) for n in range(4)]),
        ({"network": "fc:20x40", "slices": 3}, [np.full((3, 3), 99.9)] * 40),
        ({"algorithm": "bp", "network": "fc:20x2"}, [np.ones((1, 1))] * 3),
    ],
)
def test_every_word_about_signs_can_be_read(options, shares):
    hidden = len(shares) - ("algorithm" in options)
    figure = signs.drawn(recipe(**options).validated(), dict(enumerate(shares)), len(shares), hidden)
    assert_legible(figure)
    assert ("output 3: 1.0 %" in said(figure)) == ("algorithm" in options)


# Fields


def test_fields_are_the_rows_of_the_weights(runs):
    which, result = runs("tinyfoa")
    W = weights(result["run_dir"], which)[0][0]
    figure = fields.figure(result["run_dir"])
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == 33
    for row, image in zip(W, images):
        assert np.allclose(image, row.reshape(IMAGE[1:]) / np.abs(row).max())
    assert "33 neurons" in said(figure)[1] and "First layer's weights" in said(figure)[1]
    assert_legible(figure)


def test_of_a_lean_run_the_signs_are_shown_and_it_is_said(runs):
    which, result = runs("lean")
    figure = fields.figure(result["run_dir"])
    shown = np.array([axes.images[0].get_array() for axes in figure.axes if axes.images])
    assert set(np.unique(shown)) == {-1, 1} and "signs of the weights" in said(figure)[1]
    trained = finished.model(result["run_dir"])
    assert (shown.reshape(30, 70) == finished.trained_signs(trained, 0)).all()


def test_fields_of_three_channels_are_coloured():
    W = np.zeros((200, 12), np.float32)
    W[0, :4] = 1  # red
    figure = fields.drawn(recipe().validated(), W, (3, 2, 2), "weights", 1)
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == fields.COLUMNS * fields.ROWS and images[0].shape == (2, 2, 3)
    assert images[0][0, 0].tolist() == [1, 0.5, 0.5] and (images[1] == 0.5).all()
    assert "98 of 200 neurons" in said(figure)[1]


def test_colours_of_fields_and_signs_can_be_told_apart_without_colour():
    def light(colour):
        return np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722))

    below, none, above = map(light, fields.COLOURS)
    assert none - below > 0.3 and none - above > 0.3
    from matplotlib import colormaps

    ramp = [light(colormaps[signs.COLOURS](value)) for value in np.linspace(0, 1, 20)]
    assert all(a < b for a, b in pairwise(ramp))


# Files, and what is refused


@pytest.mark.parametrize("kind", ["training", "signs", "fields"])
def test_files(runs, tmp_path, kind):
    _, result = runs("tinyfoa")
    png, svg = (plots.draw(result["run_dir"], kind, tmp_path / f"picture.{form}") for form in ("png", "svg"))
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and svg.read_text().startswith("<?xml")
    before = svg.read_bytes()
    assert plots.draw(result["run_dir"], kind, svg).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "kind", "layer", "says"),
    [
        ("tinyfoa", "training", 3, "layer 3: its layers are 1 to 2"),
        ("bp", "training", 2, "all its layers trained together"),
        ("tinyfoa", "signs", 0, "its layers are 1 to 2"),
        ("tinyfoa", "fields", 2, "layer 2 sees no images"),
    ],
)
def test_layers_that_are_not_there(runs, tmp_path, name, kind, layer, says):
    with pytest.raises(BadRequest, match=says):
        plots.draw(runs(name)[1]["run_dir"], kind, tmp_path / "x.png", layer)
    assert not (tmp_path / "x.png").exists()


def test_samples_that_are_no_images(tmp_path):
    result = run(tmp_path, recipe(), made())
    with pytest.raises(BadRequest, match="the samples of made are not images"):
        plots.draw(result["run_dir"], "fields")


def test_unfinished_and_damaged_runs(tmp_path):
    result = run(tmp_path, recipe(), made())
    where = Path(result["run_dir"])
    good = (where / "metrics.jsonl").read_text()
    for bad in ("{", '{"layer": 0}\n', good.replace('"loss": ', '"loss": -'), "[1]\n"):
        (where / "metrics.jsonl").write_text(bad)
        with pytest.raises(CheckFailed, match="is damaged"):
            plots.draw(where, "training")
    (where / "metrics.jsonl").write_text("")
    with pytest.raises(BadRequest, match="not finished an epoch"):
        plots.draw(where, "training")
    (where / "metrics.jsonl").unlink()
    with pytest.raises(BadRequest, match=r"no metrics\.jsonl"):
        plots.draw(where, "training")
    (where / "audit.json").write_text('{"recipe": 1}')
    with pytest.raises(CheckFailed, match="not the record of a run"):
        plots.draw(where, "training")
    for kind in ("training", "signs"):
        with pytest.raises(BadRequest):
            plots.draw(tmp_path, kind, tmp_path / "x.png")
