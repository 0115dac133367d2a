"""The plan of the trainer in C: arena, flash and wear are those of the binary."""

import json
import shutil
import subprocess

import pytest
from cli_tools import one_error_line
from train_tools import made, recipe

from tinyfoa_np import data
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import c_layout, c_trainer
from tinyfoa_np.reports.boards import board
from tinyfoa_np.reports.device_plan import device_plan, internal, room, traffic

COMPILER = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
#: recipes, and the flash, whose arena and wear are compared
RECIPES = [
    ({"network": "fc:40,33", "epochs": 4, "slices": 2, "batch": 10}, c_layout.NOR),
    ({"network": "fc:40x2", "epochs": 2, "slices": 3, "schedule": "stream"}, c_layout.NOR),
    ({"network": "fc:40", "epochs": 3, "moments": "int8"}, c_layout.FRAM),
]


def binary(directory, layout, dataset):
    """What the trainer says that it took."""
    c_trainer.write(layout, dataset, directory)
    example = directory / "example"
    sources = [*directory.glob("tinyfoa_*.c"), *(example / name for name in ("main.c", "nor.c", "port_host.c"))]
    flags = ["-std=c99", "-O1", "-ffp-contract=off"]
    subprocess.run([COMPILER, *flags, *sources, "-o", directory / "run"], check=True)
    done = subprocess.run([directory / "run", example / "data.bin"], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler: gcc or clang")
@pytest.mark.parametrize(("options", "store"), RECIPES)
def test_arena_and_wear_are_those_of_the_binary(tmp_path, options, store):
    which, dataset = recipe(**options).validated(), made(samples=120)
    said = device_plan(which, dataset, store, True, None)
    found = binary(tmp_path, c_layout.fit(which, dataset, store), dataset)
    assert said["ram"]["arena_bytes"] == found["arena_bytes"] == found["watermark_bytes"]
    assert said["flash"]["written_bytes"] == pytest.approx(found["flash_written_bytes"], rel=0.06)
    if store.in_place:
        assert said["flash"]["erased_pages"] is None
    else:
        assert said["flash"]["erased_pages"] == pytest.approx(found["flash_erased_pages"], rel=0.02)


def test_what_fits_into_a_few_kilobytes():
    digits = recipe(dataset="digits", network="fc:100x2", batch=10, epochs=40, lr=0.01).validated()
    said = device_plan(digits, data.shape("digits"), c_layout.FRAM, True, 4096)
    assert said["ram"]["arena_bytes"] <= 4096 and said["ram"]["slices_streamed"]
    mnist = recipe(dataset="mnist", network="fc:200", slices=8, batch=20).validated()
    assert device_plan(mnist, data.shape("mnist"), c_layout.FRAM, True, 8192)["ram"]["arena_bytes"] <= 8192
    with pytest.raises(BadRequest, match="with --flash fram, where slices are streamed"):
        device_plan(mnist, data.shape("mnist"), c_layout.NOR, True, 8192)


def test_a_board_s_flash_holds_firmware_and_constants_too():
    which, shape, l4 = (
        recipe(dataset="digits", network="fc:100x2").validated(),
        data.shape("digits"),
        board("stm32l4r5"),
    )
    mapped, copied = (device_plan(which, shape, internal(l4), how, room(l4, None), l4) for how in (True, False))
    assert mapped["constants_bytes"] - copied["constants_bytes"] == len(shape.train.labels) * (64 + 2)
    assert mapped["flash"]["nbytes"] < copied["flash"]["nbytes"] <= l4.flash_bytes - 128 * 1024
    assert copied["layers"][0]["arena_bytes"] > mapped["layers"][0]["arena_bytes"]
    assert mapped["ram"]["budget_bytes"] == l4.block_bytes - 8192
    assert mapped["time"]["seconds"] > 0 and mapped["time"]["joules"] > 0 and mapped["flash"]["trainings"] > 0
    assert mapped["stack_bytes"] <= 1536 and [layer["layer"] for layer in mapped["layers"]] == [1, 2]
    small = device_plan(which, shape, internal(l4), True, room(l4, None), l4, reserve_flash=l4.flash_bytes)
    assert not small["fits"] and small["flash"]["nbytes"] == 0


def test_the_command(run):
    options = ["plan", "digits", "--to", "c-trainer", "--network", "fc:100x2", "--batch", "10"]
    code, out, err = run(*options, "--board", "stm32l4r5")
    assert (code, err) == (0, "") and out.startswith("fits") and max(map(len, out.splitlines())) <= 80
    assert "instructions per step" in out and "moment1" in out and "pages of 4,096 erased" in out
    code, out, _ = run(*options, "--board", "stm32l4r5", "--json")
    said = json.loads(out)
    code, out, _ = run("export", *options[1:], "--board", "stm32l4r5", "--out", "trainer")
    assert code == 0 and f"{said['ram']['arena_bytes']:,} bytes of RAM" in out
    code, out, _ = run(*options, "--board", "stm32l4r5", "--reserve-flash", "2MiB")
    assert code == 1 and out.startswith("does not fit: internal flash would hold")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "c-trainer", "--boards"], "--boards is not for the trainer in C: leave out --boards or --to"),
        (["--to", "c-trainer", "--lean"], "--lean is not for the trainer in C"),
        (["--flash", "nor"], "add --to c-trainer"),
        (["--board", ""], "--board is empty"),
        (["--to", "c-trainer", "--flash", "internal"], "name one with --board"),
        (["--to", "c-trainer", "--algorithm", "bp"], "tinyfoa on fully connected networks"),
        (["--to", "c-trainer", "--ram", "100"], "does not fit into 100 bytes"),
        (["--to", "c-trainer", "--network", "fc:20000x2"], "addresses 4 GiB of RAM and of flash: "),
    ],
)
def test_bad_requests(run, arguments, says):
    code, out, err = run("plan", "digits", *arguments)
    assert (code, out) == (2, "") and says in one_error_line(err)


def test_streamed_slices_are_written_in_every_step():
    which, dataset = recipe(network="fc:40", epochs=3, batch=10).validated(), made(samples=120)
    whole = c_layout.CLayout(which, dataset, c_layout.FRAM)
    streamed = c_layout.CLayout(which, dataset, c_layout.FRAM, cut=c_layout.Cut(8, True, False))
    more = traffic(streamed)[1] - traffic(whole)[1]
    layer = whole.layers[0]
    slices = [layer.grid.slice(k) for k in range(len(layer.grid))]
    mean = sum(sum(layer.plane_bytes(s.last - s.first, s.high - s.low)) for s in slices) / len(slices)
    assert more == pytest.approx(3 * 12 * mean, rel=0.01)


def test_a_sample_of_own_numbers_takes_a_float_per_input(run, tmp_path):
    """Numbers that float32 would change are float64 until they are scaled; the program has them as float."""
    rows = [f"{k * k % 37 / 7 + 1e6},{k % 5},{k % 2}" for k in range(100)]
    (tmp_path / "own.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    code, out, err = run("plan", "own.csv", "--to", "c-trainer", "--json")
    plan = json.loads(out)
    assert (code, err) == (0, "") and plan["samples_bytes"] == 80 * (2 * 4 + 2)
    command = ["plan", "digits", "--to", "c-trainer", "--network", "fc:2000", "--board", "stm32l4r5"]
    code, out, _ = run(*command)
    assert code == 1 and "try     --flash nor, --samples copied (94.8 kB of samples leave" in out
    code, out, _ = run(*command, "--samples", "copied")
    assert code == 1 and "try     --flash nor, or narrower layers" in out


def test_export_and_plan_give_one_verdict(run):
    """Both count the program's constants: the board's flash has room for the slots alone, not for samples as well."""
    recipe = ["digits", "--to", "c-trainer", "--network", "fc:1150", "--board", "stm32l4r5"]
    code, out, _ = run("plan", *recipe)
    refused = out.splitlines()[0]
    assert code == 1 and refused.startswith("does not fit: internal flash would hold")
    code, out, err = run("export", *recipe)
    assert (code, out) == (2, "") and refused in one_error_line(err) and "--samples copied" in err
    for more in (["--flash", "nor"], ["--reserve-flash", "0"]):
        code, out, _ = run("plan", *recipe, *more, "--json")
        plan = json.loads(out)
        assert code == 0, more
        code, out, _ = run("export", *recipe, *more)
        assert code == 0 and f"{plan['ram']['arena_bytes']:,} bytes of RAM" in out
        assert f"{plan['flash']['held_bytes']:,} bytes of" in out, more
    whole = ["digits", "--to", "c-trainer", "--network", "fc:40", "--board", "stm32l4r5", "--flash", "nor"]
    for command, expected in (("plan", 1), ("export", 2)):
        code, out, err = run(command, *whole, "--reserve-flash", "2040kB")
        assert code == expected and "the program would hold 2,1" in out + err and "--flash nor" not in out + err
    code, _, err = run("export", "digits", "--to", "c-trainer", "--reserve", "4KiB")
    assert code == 2 and "--reserve is of a board" in one_error_line(err)
