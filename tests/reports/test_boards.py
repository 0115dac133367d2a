"""The table of boards: read whole, numbers that agree with each other, errors that help."""

import configparser
import csv
import re
from dataclasses import fields
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

import pytest

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.reports.boards import Board, board, boards

ROOT = Path(__file__).resolve().parents[2]
KIB, MIB = 1024, 1024 * 1024


def test_the_table_is_read_whole():
    lines = list(csv.reader(resources.files("tinyfoa_np.reports").joinpath("boards.csv").read_text().splitlines()))
    assert lines[0] == [field.name for field in fields(Board)]
    known = boards()
    assert len(known) == len(lines) - 1 >= 24  # fewer if two had one name
    assert all(name == each.name for name, each in known.items())


def test_the_table_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["tinyfoa_np.reports"].split()
    assert any(fnmatch("boards.csv", pattern) for pattern in patterns)


@pytest.mark.parametrize("each", boards().values(), ids=lambda each: each.name)
def test_numbers_agree(each):
    assert re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", each.name)
    assert each.part and each.core and each.source
    assert 16 <= each.mhz <= 1000
    assert 16 * KIB <= each.block_bytes <= each.ram_bytes <= 16 * MIB
    assert each.ram_bytes % KIB == 0 and each.block_bytes % 16 == 0
    assert each.flash_bytes or each.external_flash_bytes
    for size, unit, cycles, largest in (
        (each.flash_bytes, each.flash_erase_bytes, each.flash_cycles, 4 * MIB),
        (each.external_flash_bytes, each.external_erase_bytes, each.external_cycles, 64 * MIB),
    ):
        if size:
            assert 32 * KIB <= size <= largest and size % unit == 0
            assert 16 <= unit <= 256 * KIB and unit & (unit - 1) == 0
            assert cycles == 0 or unit >= 256 and 1_000 <= cycles <= 100_000
        else:
            assert unit == cycles == 0
    assert all(text.strip() == text and text.isascii() for text in (each.part, each.core, each.source))
    assert all(document.strip() for document in each.source.split(";"))


@pytest.mark.parametrize(
    ("name", "ram", "block", "flash", "external"),
    [
        ("stm32f746", 320 * KIB, 320 * KIB, (1024 * KIB, 256 * KIB, 10_000), (0, 0, 0)),
        ("stm32h743", 992 * KIB, 512 * KIB, (2048 * KIB, 128 * KIB, 10_000), (0, 0, 0)),
        ("stm32l476", 128 * KIB, 96 * KIB, (1024 * KIB, 2 * KIB, 10_000), (0, 0, 0)),
        ("nrf52840", 256 * KIB, 256 * KIB, (1024 * KIB, 4 * KIB, 10_000), (0, 0, 0)),
        ("rp2040", 264 * KIB, 264 * KIB, (0, 0, 0), (2 * MIB, 4 * KIB, 100_000)),
        ("apollo4-plus", 2816 * KIB, 2816 * KIB, (2048 * KIB, 16, 0), (0, 0, 0)),
        ("teensy-4.1", 1024 * KIB, 512 * KIB, (0, 0, 0), (8 * MIB, 4 * KIB, 100_000)),
    ],
)
def test_some_well_known_ones(name, ram, block, flash, external):
    each = boards()[name]
    assert (each.ram_bytes, each.block_bytes) == (ram, block)
    assert (each.flash_bytes, each.flash_erase_bytes, each.flash_cycles) == flash
    assert (each.external_flash_bytes, each.external_erase_bytes, each.external_cycles) == external


@pytest.mark.parametrize("each", boards().values(), ids=lambda each: each.name)
def test_every_board_is_found_however_it_is_written(each):
    for written in (each.name, each.name.upper(), each.name.replace("-", "_"), re.sub("[-.]", "", each.name)):
        assert board(written) == each


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("stm32f764", "stm32f746"),
        ("nrf52480", "nrf52840"),
        ("teensy", "teensy-4.0, teensy-4.1"),
        ("nano 33", "arduino-nano-33-ble-sense"),
        ("pico", "rp2040, rp2350"),
        ("IMXRT1062", "teensy-4.0, teensy-4.1"),
    ],
)
def test_an_unknown_name_gets_near_ones(name, near):
    with pytest.raises(BadRequest, match=f"unknown board '{name}'; near are .*{re.escape(near)}"):
        board(name)


@pytest.mark.parametrize("name", ["", "-", "zzz", "x" * 1000])
def test_a_name_near_none_gets_all(name):
    with pytest.raises(BadRequest) as caught:
        board(name)
    message = str(caught.value)
    assert message.endswith("known are " + ", ".join(boards())) and "\n" not in message
    assert "x" * 41 not in message
