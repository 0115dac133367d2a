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
from tinyfoa_np.reports.boards import CLOSEST, Board, board, boards

ROOT = Path(__file__).resolve().parents[2]
KIB, MIB = 1024, 1024 * 1024


def test_the_table_is_read_whole():
    lines = list(csv.reader(resources.files("tinyfoa_np.reports").joinpath("boards.csv").read_text().splitlines()))
    assert lines[0] == [field.name for field in fields(Board)]
    known = boards()
    assert len(known) == len(lines) - 1 >= 40  # fewer if two had one name
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
    assert 16 <= each.mhz <= 1000 and each.fpu_bits in (0, 32, 64)
    assert each.ua_per_mhz == 0 or 5 <= each.ua_per_mhz <= 300
    assert not (each.fpu_bits and ("M0" in each.core.split(" + ")[0] or each.core.split(" + ")[0] == "Cortex-M3"))
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


#: bytes of RAM, of its largest block and of flash, erase cycles, and the same of external flash: 0 cycles, not known
PINNED = {
    "stm32f103": (20480, 20480, 65536, 10000, 0, 0),
    "stm32f407": (196608, 131072, 1048576, 10000, 0, 0),
    "stm32f411": (131072, 131072, 524288, 10000, 0, 0),
    "stm32f429": (262144, 196608, 2097152, 10000, 0, 0),
    "stm32f746": (327680, 327680, 1048576, 10000, 0, 0),
    "stm32f767": (524288, 524288, 2097152, 10000, 0, 0),
    "stm32f303": (49152, 40960, 262144, 10000, 0, 0),
    "stm32f401": (65536, 65536, 262144, 10000, 0, 0),
    "stm32f446": (131072, 131072, 524288, 10000, 0, 0),
    "stm32h743": (1015808, 524288, 2097152, 10000, 0, 0),
    "arduino-portenta-h7": (1015808, 524288, 2097152, 10000, 16777216, 100000),
    "stm32h563": (655360, 655360, 2097152, 10000, 0, 0),
    "stm32l476": (131072, 98304, 1048576, 10000, 0, 0),
    "b-l475e-iot01a": (131072, 98304, 1048576, 10000, 8388608, 100000),
    "stm32l4r5": (655360, 655360, 2097152, 10000, 0, 0),
    "stm32l432": (65536, 65536, 262144, 10000, 0, 0),
    "stm32l552": (262144, 262144, 524288, 10000, 0, 0),
    "stm32u575": (802816, 786432, 2097152, 10000, 0, 0),
    "stm32u585": (802816, 786432, 2097152, 10000, 0, 0),
    "stm32g474": (131072, 131072, 524288, 10000, 0, 0),
    "stm32g071": (36864, 36864, 131072, 10000, 0, 0),
    "stm32g431": (32768, 32768, 131072, 10000, 0, 0),
    "stm32wb55": (262144, 262144, 1048576, 10000, 0, 0),
    "stm32wl55": (65536, 65536, 262144, 10000, 0, 0),
    "nrf52832": (65536, 65536, 524288, 10000, 0, 0),
    "microbit-v2": (131072, 131072, 524288, 10000, 0, 0),
    "nrf52840": (262144, 262144, 1048576, 10000, 0, 0),
    "arduino-nano-33-ble-sense": (262144, 262144, 1048576, 10000, 0, 0),
    "xiao-nrf52840-sense": (262144, 262144, 1048576, 10000, 2097152, 100000),
    "nrf5340": (524288, 524288, 1048576, 10000, 0, 0),
    "nrf52810": (24576, 24576, 196608, 10000, 0, 0),
    "nrf9160": (262144, 262144, 1048576, 10000, 0, 0),
    "nrf54l15": (262144, 262144, 1560576, 0, 0, 0),
    "microbit-v1": (16384, 16384, 262144, 0, 0, 0),
    "rp2040": (270336, 270336, 0, 0, 2097152, 100000),
    "rp2350": (532480, 532480, 0, 0, 4194304, 100000),
    "arduino-nano-rp2040": (270336, 270336, 0, 0, 16777216, 100000),
    "esp32": (327680, 180736, 0, 0, 4194304, 100000),
    "esp32-s3": (458752, 341760, 0, 0, 8388608, 100000),
    "esp32-c3": (393216, 321296, 0, 0, 4194304, 100000),
    "teensy-4.0": (1048576, 524288, 0, 0, 2097152, 100000),
    "teensy-4.1": (1048576, 524288, 0, 0, 8388608, 100000),
    "teensy-3.2": (65536, 65536, 262144, 10000, 0, 0),
    "teensy-3.6": (262144, 262144, 1048576, 10000, 0, 0),
    "frdm-k64f": (262144, 262144, 1048576, 10000, 0, 0),
    "frdm-kl25z": (16384, 16384, 131072, 10000, 0, 0),
    "frdm-kl46z": (32768, 32768, 262144, 10000, 0, 0),
    "lpc1768": (65536, 32768, 524288, 10000, 0, 0),
    "samd21": (32768, 32768, 262144, 25000, 0, 0),
    "samd51": (196608, 196608, 524288, 10000, 0, 0),
    "adafruit-feather-m4": (196608, 196608, 524288, 10000, 2097152, 100000),
    "arduino-due": (98304, 98304, 524288, 0, 0, 0),
    "same70": (393216, 393216, 2097152, 10000, 0, 0),
    "arduino-uno-r4": (32768, 32768, 262144, 0, 0, 0),
    "apollo4-plus": (2883584, 2883584, 2097152, 0, 0, 0),
    "apollo3-blue": (393216, 393216, 1048576, 0, 0, 0),
    "cc1312r7": (147456, 147456, 720896, 30000, 0, 0),
    "msp432p401r": (65536, 65536, 262144, 20000, 0, 0),
    "tm4c123": (32768, 32768, 262144, 100000, 0, 0),
    "tm4c1294": (262144, 262144, 1048576, 100000, 0, 0),
    "cc2652r": (81920, 81920, 360448, 30000, 0, 0),
    "efr32mg24": (262144, 262144, 1572864, 10000, 0, 0),
    "efm32gg11": (524288, 524288, 2097152, 10000, 0, 0),
    "max78000": (131072, 131072, 524288, 10000, 0, 0),
    "psoc6": (294912, 294912, 1048576, 100000, 0, 0),
    "k210": (8388608, 8388608, 0, 0, 16777216, 100000),
    "longan-nano": (32768, 32768, 131072, 0, 0, 0),
    "hifive1-revb": (16384, 16384, 0, 0, 4194304, 100000),
}


def test_ram_flash_and_endurance_are_pinned():
    found = {
        each.name: (
            each.ram_bytes,
            each.block_bytes,
            each.flash_bytes,
            each.flash_cycles,
            each.external_flash_bytes,
            each.external_cycles,
        )
        for each in boards().values()
    }
    assert found == PINNED


@pytest.mark.parametrize("each", boards().values(), ids=lambda each: each.name)
def test_every_board_is_found_however_it_is_written(each):
    for written in (each.name, each.name.upper(), each.name.replace("-", "_"), re.sub("[-.]", "", each.name)):
        assert board(written) == each


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("nano 33", "arduino-nano-33-ble-sense"),
        ("F746", "stm32f746"),
        ("QKAA", "nrf5340"),
        ("Teensy 4.1", "teensy-4.1"),
    ],
)
def test_a_part_of_a_name_is_enough(part, name):
    assert board(part).name == name


@pytest.mark.parametrize(
    ("part", "names"),
    [("teensy 4", "teensy-4.0, teensy-4.1"), ("IMXRT1062", "teensy-4.0, teensy-4.1"), ("rp2", "rp2040")],
)
def test_a_part_of_several_names_is_not(part, names):
    with pytest.raises(BadRequest, match=f"several boards have '{part}' in their name: .*{re.escape(names)}"):
        board(part)


@pytest.mark.parametrize(
    ("name", "near"), [("stm32f764", "stm32f746"), ("nrf52480", "nrf52840"), ("esp32-s4", "esp32-s3")]
)
def test_an_unknown_name_gets_the_closest(name, near):
    with pytest.raises(BadRequest, match=f"unknown board '{name}'; the closest are .*{re.escape(near)}"):
        board(name)


@pytest.mark.parametrize("name", ["", "-", "zzz", "x" * 1000])
def test_a_name_near_none_gets_a_few(name):
    with pytest.raises(BadRequest) as caught:
        board(name)
    message = str(caught.value)
    assert "closest are" in message and message.count(",") == CLOSEST - 1 and "\n" not in message
    assert "x" * 41 not in message
