"""Networks of published names: how many numbers they have, and how their units are grouped."""

from math import prod

import pytest
from train_tools import outcome

from tinyfoa_np.architectures import (
    NAMES,
    architecture,
    group_text,
    grouped,
    in_blocks,
    shape_after,
    statistics,
    units_of,
    vector_width,
    weights,
)
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.layers.graph import NORM, Program
from tinyfoa_np.papers import giff_memory as paper

#: with the head: what trains, and batch norm's running statistics
COUNTS = {
    "mlp": (2_797_010, 0),
    "cnn": (10_874, 0),  # as GIFF's authors print: 10.9k
    "resnet8": (77_850, 480),  # MLPerf Tiny's 78k; it has biases before batch norm, too
    "mobilenetv1": (213_586, 5_472),  # between its 211k and 222k
    "dscnn": (23_180, 1_152),  # its 24k counts both
    "resnet17": (27_262_910, 12_200),
}
IMAGES = {**paper.IMAGES, "resnet17": ((3, 32, 32), 10)}


def made(name):
    image, classes = IMAGES[name]
    return architecture(name, prod(image), image, classes)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_published(name):
    network = made(name)
    layers = [*(layer for unit in network.units for layer in unit), *network.head]
    assert (sum(map(weights, layers)), sum(map(statistics, layers))) == COUNTS[name]
    program = Program(layers, network.shape)
    assert (program.parameters, program.statistics) == COUNTS[name]
    assert units_of(name) == len(network.units)
    shape = network.shape
    for layer in layers:
        shape = shape_after(layer, shape)
    assert shape == program.shapes[program.output] == (1, 1, IMAGES[name][1])


def test_the_cnn_of_giff_has_the_published_count():
    """Convolutions 1-16-32-16, labels 10-16, 10-32, 10-16: 10,128."""
    network = made("cnn")
    layers = [layer for unit in network.units for layer in unit]
    assert sum(map(weights, layers)) + sum(11 * layer[2] for layer in layers) == 10_128


def test_groups_are_read_and_written():
    assert grouped(None, "cnn") == ((0,), (1,), (2,))
    assert grouped("1,2|3", "cnn") == ((0, 1), (2,))
    assert group_text(((0, 1), (2,))) == "1,2|3"
    assert grouped("1|2", "fc:5,4") == ((0,), (1,))
    for text in ("1|2", "2|1|3", "1|2|3|4", "1 2|3", "", "1|2|", "a|b|c"):
        what, message = outcome(grouped, text, "cnn")
        assert what is BadRequest and "1|2|3" in message


def test_a_chain_of_convolutions_is_read_from_its_text():
    network = architecture("conv:10k5,p2,20s2x2", 3 * 32 * 32, (3, 32, 32), 7)
    assert network.units == (
        (("plain", 3, 10, 1, 5, 5),),
        (("pool", 2, 2), ("plain", 10, 20, 2, 3, 3)),
        (("plain", 20, 20, 2, 3, 3),),
    )
    assert network.head == (("pool", 4, 4), ("linear", 20, 7))
    layers = [layer for unit in network.units for layer in unit]
    assert sum(map(weights, layers)) == Program(layers, network.shape).parameters == 25 * 30 + 9 * 200 + 9 * 400
    assert units_of("conv:10k5,p2,20s2x2") == 3 and vector_width("conv:8") == 0
    wrong = ("conv:f5", "conv:8,f0", "conv:8,f5,9", "conv:8,f5,m2", "conv:8,m1", "conv:8,f5x0")
    for text in (
        "conv:",
        "conv:8,",
        "conv:p2",
        "conv:0",
        "conv:8x0",
        "conv:8k16",
        "conv:8s0",
        "conv:a",
        "conv:8k",
        *wrong,
    ):
        what, message = outcome(architecture, text, 64, (1, 8, 8), 7)
        assert what is BadRequest and text in message


def test_a_chain_can_end_in_layers():
    network = architecture("conv:10k5,m2,20,m2,f30x2", 3 * 33 * 32, (3, 33, 32), 7)
    assert network.units[1:] == (
        (("maxpool", 2, 2), ("plain", 10, 20, 1, 3, 3)),
        (("maxpool", 2, 2), ("dense", 8 * 8 * 20, 30)),
        (("dense", 30, 30),),
    )
    assert network.head == (("linear", 30, 7),)
    layers = [*(layer for unit in network.units for layer in unit), *network.head]
    assert sum(map(weights, layers)) == Program(layers, network.shape).parameters
    assert vector_width("conv:8,f30") == 30 and units_of("conv:8,m2,f30x2") == 3


def test_no_errors_are_kept_below_the_lowest_parameters():
    program = Program([("pool", 2, 2), ("plain", 4, 6, 1, 3, 3)], (8, 8, 4))
    assert program.error_of == {2: 0} and [span.shape for span in program.errors] == [(4, 4, 6)]


def test_vectors_and_maps_are_told_apart():
    assert [vector_width(name) for name in ("mlp", "fc:20,30", "cnn")] == [1000, 30, 0]


def test_an_error_lives_until_what_made_its_value_has_trained():
    program = Program([("residual", 4, 4, 1), ("residual", 4, 8, 2), ("pool", 2, 2), ("linear", 8, 3)], (4, 4, 4))
    steps = program.steps
    for k, one in enumerate(program.operations):
        span = program.errors[program.error_of[one.target]]
        assert steps.index(span.first) <= steps.index(f"gradient:{k}")
        assert steps.index(span.last) >= steps.index(f"update:{k}")
        value = program.value(one.target)
        assert value.first == f"forward:{k}"
        if one.kind == NORM:  # its gradient looks at what it read, and at what it made
            for number in (one.source, one.target):
                assert steps.index(program.value(number).last) >= steps.index(f"gradient:{k}")
    assert 0 not in program.error_of


# The memory model of GIFF's authors, and operations ------------------------------------------------------------------


def test_the_worked_example_comes_out_to_the_last_digit():
    rows = {(row["network"], row["algorithm"]): row for row in paper.table()}
    assert f"{rows['mlp', 'bp']['nbytes'] / 1e6:.3f}" == "22.295"
    assert f"{rows['mlp', 'giff']['nbytes'] / 1e6:.2f}" == "15.31"
    for name in paper.IMAGES:
        assert rows[name, "giff"]["nbytes"] < rows[name, "bp"]["nbytes"]
        if name != "mlp":  # there the label channels weigh more than one sample's activations
            assert rows[name, "giff"]["arena"] < rows[name, "bp"]["arena"]
    # as far as one rule comes
    assert abs(rows["mobilenetv1", "bp"]["off_pct"]) < 1
    assert abs(rows["resnet8", "bp"]["off_pct"]) < 7 and abs(rows["cnn", "bp"]["off_pct"]) < 10


@pytest.mark.parametrize(("name", "times"), [("cnn", 10), ("resnet8", 10), ("mobilenetv1", 2), ("dscnn", 12)])
def test_forward_forward_takes_a_pass_for_each_label(name, times):
    counted = paper.inference(made(name), paper.IMAGES[name][1])
    assert round(counted["ff"] / counted["giff"]) == times
    assert 1 <= counted["giff"] / counted["bp"] < 1.02


def test_products_are_counted_by_hand():
    assert paper.products([("dense", 5, 7), ("linear", 7, 3)], (1, 1, 5)) == 5 * 7 + 7 * 3
    # 3 x 3 on 4 x 4 positions with stride 2, then batch norm on what it makes
    assert paper.products([("normed", 2, 6, 2, 3, 3)], (4, 4, 2)) == 4 * 9 * 2 * 6 + 4 * 6
    assert paper.products([("dsconv", 6, 5, 1), ("pool", 2, 2)], (2, 2, 6)) == 4 * (9 * 6 + 6 + 6 * 5 + 5)


def test_channels_in_blocks():
    """Those of ``cnn`` become multiples of the classes, but not those of the images; a chain says what it has."""
    assert [unit[0][1:3] for unit in in_blocks(made("cnn").units, 10)] == [(1, 20), (20, 40), (40, 20)]
    assert [unit[0][1:3] for unit in in_blocks(made("cnn").units, 4)] == [(1, 16), (16, 32), (32, 16)]
    chain = architecture("conv:7,p2,9", 64, (1, 8, 8), 10)
    assert [tuple(unit) for unit in in_blocks(chain.units, 10)] == list(chain.units)
