"""The C library for firmware: the answers and scores of Python, to the bit, from every compiler at hand."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export_tools import CASE_NAMES, CASES, data_for, mixed, trained

from tinyfoa_np.data.dataset import Columns
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import exits, export
from tinyfoa_np.model.export.c_text import c_string, number

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
QEMU = all(shutil.which(name) for name in ("arm-none-eabi-gcc", "qemu-system-arm"))
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "classify.c"
needs_a_compiler = pytest.mark.skipif(not COMPILERS, reason="neither gcc nor clang is installed")
#: prints the class and the bits of the scores of each sample
PROGRAM = """
#include <stdio.h>
#include <string.h>
#include "tinyfoa_classify.h"
static void tell(const tinyfoa_value *x) {
    float scores[TINYFOA_CLASSES];
    unsigned bits[TINYFOA_CLASSES];
    int c, answer = tinyfoa_classify(x, scores);
    if (tinyfoa_classify(x, 0) != answer) answer = -1;
    memcpy(bits, scores, sizeof bits);
    printf("%d", answer);
    for (c = 0; c < TINYFOA_CLASSES; c++) printf(" %08x", bits[c]);
    printf("\\n");
}
"""
HOST = """
int main(void) {
    static tinyfoa_value x[TINYFOA_INPUTS];
    while (fread(x, sizeof *x, TINYFOA_INPUTS, stdin) == TINYFOA_INPUTS) tell(x);
    return 0;
}
"""


def written(ours, where):
    for name, content in export.export(ours, "c-header").items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(content)


def compiled(where, compiler, *flags, program=PROGRAM + HOST):
    (where / "main.c").write_text(program)
    sources = [where / "main.c", where / "tinyfoa_classify.c"]
    subprocess.run([compiler, *STRICT, *flags, *sources, "-o", where / "run", "-lm"], check=True)


def check(output, ours, x):
    """Compares what a program printed with the model's answers and the bits of its scores."""
    rows = [line.split() for line in output.decode().splitlines()]
    assert len(rows) == len(x)
    assert ([int(row[0]) for row in rows] == ours.predict(x)).all()
    scores = np.array([[int(word, 16) for word in row[1:]] for row in rows], np.uint32).view(np.float32)
    assert (scores == ours.logits(x)).all()


@needs_a_compiler
@pytest.mark.parametrize("number", range(len(CASES)), ids=CASE_NAMES)
def test_answers_and_scores_are_the_models(tmp_path, number):
    network, image, options = CASES[number]
    dataset = data_for(image, ("bytes", "real")[number % 2], 100 if network in ("resnet8", "dscnn") else 1000)
    ours, x = trained(tmp_path, network, dataset, **options), mixed(dataset.test.inputs)
    written(ours, tmp_path)
    compiled(tmp_path, COMPILERS[number % len(COMPILERS)], ("-O2", "-O3", "-Os")[number % 3])
    check(subprocess.run([tmp_path / "run"], input=x.tobytes(), capture_output=True, check=True).stdout, ours, x)


@needs_a_compiler
@pytest.mark.parametrize("algorithm, network", [("tinyfoa", "fc:33,20"), ("bp", "fc:20"), ("giff", "fc:20")])
def test_scaling_is_included(tmp_path, algorithm, network):
    dataset = data_for(None, "real")
    scale = np.geomspace(1e-3, 1e3, dataset.train.inputs.shape[1]).astype(np.float32)
    parts = [replace(split, inputs=split.inputs * scale + 5 * scale) for split in (dataset.train, dataset.test)]
    dataset = replace(dataset, train=parts[0], test=parts[1], columns=Columns.of(parts[0].inputs))
    ours, x = trained(tmp_path, network, dataset, algorithm=algorithm, normalize="standard"), mixed(parts[1].inputs)
    assert ours.affine
    written(ours, tmp_path)
    compiled(tmp_path, COMPILERS[0], "-O2", "-ffp-contract=fast")  # what the source forbids
    check(subprocess.run([tmp_path / "run"], input=x.tobytes(), capture_output=True, check=True).stdout, ours, x)


@needs_a_compiler
@pytest.mark.parametrize("number", [0, 6, 13, 18, 22, 25, 42, 44, 45, 51, 54, 55, 56])
def test_nothing_is_undefined(tmp_path, number):
    network, image, options = CASES[number]
    dataset = data_for(image, ("real", "bytes")[number % 2], tests=20)
    ours, x = trained(tmp_path, network, dataset, **options), dataset.test.inputs
    written(ours, tmp_path)
    compiled(tmp_path, COMPILERS[0], *SANITIZED)
    check(subprocess.run([tmp_path / "run"], input=x.tobytes(), capture_output=True, check=True).stdout, ours, x)


@needs_a_compiler
@pytest.mark.parametrize("toggles", [(False, False), (True, False), (True, True)], ids=str)
def test_answers_stop_at_the_first_confident_layer(tmp_path, toggles):
    dataset = data_for(None, "bytes" if toggles[0] else "real")
    fields = {"algorithm": "ff", "binary_weights": toggles[0], "binary_activations": toggles[1]}
    ours, x = trained(tmp_path, "fc:33,20,11", dataset, **fields), mixed(dataset.test.inputs)
    known = exits.calibrated(ours, dataset.train.inputs, dataset.train.labels)
    for factor in np.linspace(1, -4, 26):  # until some answers stop at each layer
        answers, stops = exits.predict(ours, x, limits := known.limits(factor))
        if np.bincount(stops, minlength=3).min() > 20:
            break
    else:
        pytest.fail("no threshold lets samples stop at each layer")
    for name, content in export.export(ours, "c-header", limits).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    compiled(tmp_path, COMPILERS[0], *(["-Os"] if toggles == (True, False) else SANITIZED))
    done = subprocess.run([tmp_path / "run"], input=x.tobytes(), capture_output=True, check=True)
    assert [int(line.split()[0]) for line in done.stdout.decode().splitlines()] == answers.tolist()
    with pytest.raises(BadRequest, match="--to c-header writes one, --to onnx does not"):
        export.export(ours, "onnx", limits)


#: calls parts with arrays that end where their shapes do: a program's own lie side by side in one block
PARTS = """
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "parts.c"
static void *room(int count, size_t size) { return calloc((size_t)count, size); }
static float *reals(int count) { return (float *)room(count, sizeof(float)); }
static uint32_t *words(int bits) { return (uint32_t *)room((bits + 31) / 32, sizeof(uint32_t)); }
int main(void) {
    int rows, columns, stride, n;
    for (n = 1; n <= 97; n++) {
        reals_by_reals(reals(n), reals(n), n), bytes_by_reals((uint8_t *)room(n, 1), 1.0f, 0.0f, reals(n), n);
        bits_by_reals(words(n), reals(n), n), reals_by_signs(reals(n), words(n), n);
        bits_by_signs(words(n), words(n), n);
        bytes_by_signs((uint8_t *)room(n, 1), words(n), n), sum_of_signs(words(n), n), ones_of(words(n), n);
        tanh_of_all(reals(n), n), sum_of_squares(reals(n), n);
        connect(reals(3 * n), 3, n, reals(n * 5), reals(5), 5, 1, reals(3 * 5));
    }
    for (rows = 2; rows <= 7; rows++)
        for (columns = 2; columns <= 7; columns++) {
            int all = rows * columns, channels = 5, side, place;
            for (stride = 1; stride <= 3; stride++) {
                int above = (rows + stride - 1) / stride * ((columns + stride - 1) / stride);
                convolve(reals(all * 5), rows, columns, 5, 5, reals(3 * 4 * 5 * 2), 3, 4, reals(2), stride, 2, 2, 1,
                         reals(above * 2));
                convolve_each(reals(all * 5), rows, columns, 5, reals(4 * 3 * 5), 4, 3, stride, reals(above * 5));
            }
            pool(reals(all * 5), rows, columns, 5, 2, 1, reals(rows / 2 * columns * 5));
            pool_largest(reals(all * 5), rows, columns, 5, 1, 2, reals(rows * (columns / 2) * 5));
            normalize(reals(all * 5), all, 5, reals(5), reals(5), reals(all * 5), 1, reals(all * 5));
            for (side = 1; side <= 2; side++) {
                means_of_bits(words(all * 5), rows, columns, 5, side, 1.0f, reals(side * side * 5));
                means_of_reals(reals(all * 5), rows, columns, 5, side, 1.0f, reals(side * side * 5));
            }
            for (place = 0; place < all; place++) {
                patch_of_bits(words(all * channels), rows, columns, channels, place, 2, 3, words(9 * 3));
                patch_of_reals(reals(all * 5), rows, columns, 1, 5, place, 2, 3, reals(9 * 3));
                patch_of_bytes((uint8_t *)room(all * 5, 1), rows, columns, all, 1, 1.0f, 0.0f, place, 2, 3,
                               reals(9 * 3));
            }
            standardize(reals(all * 6), all, 6, 3), add_block_means(reals(all * 6), all, 6, 3, (double *)room(3, 8));
            add_block_squares(reals(all * 6), all, 6, 3, (double *)room(3, 8));
            add_goodness(reals(5), 5, reals(3 * 5), 3, 1, (double *)room(3, 8));
            add_goodness_of_maps(reals(all * 5), all, 5, reals(3 * 5), 3, 0, (double *)room(5, 8),
                                 (double *)room(3, 8));
        }
    return 0;
}
"""


@needs_a_compiler
def test_parts_stay_within_their_arrays(tmp_path):
    (tmp_path / "main.c").write_text(PARTS)
    source = Path(export.__file__).parent / "c"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-value", *SANITIZED, "-O0"]
    command = [COMPILERS[0], *flags, f"-I{source}", tmp_path / "main.c", "-o", tmp_path / "run", "-lm"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [tmp_path / "run"], env={"ASAN_OPTIONS": "detect_leaks=0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


#: what newlib's start needs around it: vectors, an FPU that is on, a heap
LINKER = """
MEMORY { FLASH (rx) : ORIGIN = 0, LENGTH = 4M  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(reset)
SECTIONS {
    .vectors : { LONG(0x20400000) LONG(reset | 1) } > FLASH
    .text : { *(.text*) *(.rodata*) KEEP(*(.init)) KEEP(*(.fini)) *(.ARM.ex*) . = ALIGN(8); } > FLASH
    .init_array : {
        __preinit_array_start = .; KEEP(*(.preinit_array*)) __preinit_array_end = .;
        __init_array_start = .; KEEP(*(.init_array*)) __init_array_end = .;
        __fini_array_start = .; KEEP(*(.fini_array*)) __fini_array_end = .;
    } > FLASH
    .data : { *(.data*) . = ALIGN(8); } > RAM
    .bss : { __bss_start__ = .; *(.bss*) *(COMMON) __bss_end__ = .; end = .; __end__ = .; } > RAM
    __HeapLimit = ORIGIN(RAM) + LENGTH(RAM);
}
"""
DEVICE = """
#include "samples.h"
extern void _start(void);
void reset(void) {
    *(volatile unsigned *)0xE000ED88u |= 0xFu << 20; /* the FPU, where there is one */
    __asm__ volatile("dsb; isb");
    _start();
}
int main(void) {
    unsigned k;
    for (k = 0; k < COUNT; k++) tell(samples + k * TINYFOA_INPUTS);
    return 0;
}
"""
BOARDS = {
    "cortex-m0plus": ("mps2-an385", []),
    "cortex-m4": ("mps2-an386", ["-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]),
}


@pytest.mark.skipif(not QEMU, reason="arm-none-eabi-gcc or qemu-system-arm is not installed")
@pytest.mark.parametrize("cpu", BOARDS)
@pytest.mark.parametrize("number, samples", [(0, 1000), (5, 100), (7, 20), (18, 20), (23, 5), (41, 5), (43, 5)])
def test_emulated_microcontrollers_answer_alike(tmp_path, cpu, number, samples):
    network, image, options = CASES[number]
    dataset = data_for(image, ("bytes", "real")[number % 2], tests=samples)
    ours, x = trained(tmp_path, network, dataset, **options), mixed(dataset.test.inputs)
    written(ours, tmp_path)
    values = ", ".join(map(str, x.ravel()) if x.dtype == np.uint8 else (f"{float(v).hex()}f" for v in x.ravel()))
    (tmp_path / "samples.h").write_text(
        f"#define COUNT {len(x)}u\nstatic const tinyfoa_value samples[] = {{{values}}};\n"
    )
    (tmp_path / "link.ld").write_text(LINKER)
    machine, flags = BOARDS[cpu]
    flags = [f"-mcpu={cpu}", "-mthumb", *flags, "-O2", "--specs=rdimon.specs", "-T", tmp_path / "link.ld"]
    compiled(tmp_path, "arm-none-eabi-gcc", *flags, program=PROGRAM + DEVICE)
    emulated = ["qemu-system-arm", "-M", machine, "-nographic", "-semihosting-config", "enable=on,target=native"]
    done = subprocess.run(
        [*emulated, "-kernel", tmp_path / "run"], stdin=subprocess.DEVNULL, capture_output=True, timeout=200, check=True
    )
    check(done.stdout, ours, x)


def test_the_library_and_its_labels(tmp_path):
    """An Arduino library of ASCII files, no output, no allocation; labels in UTF-8, whatever is in them."""
    labels = ['gr\u00fcn "1"', "*/ ??/", "@what@", "42", "\u4e2d"]
    dataset = replace(data_for(None, "real", 20), origin={"labels": labels, "columns": [f"*/ x{n}" for n in range(70)]})
    ours = trained(tmp_path, "fc:20", dataset)
    written(ours, tmp_path)
    texts = {name: (tmp_path / name).read_text("ascii") for name in export.export(ours, "c-header")}
    assert set(texts) >= {"tinyfoa_model.h", "tinyfoa_classify.h", "tinyfoa_classify.c", "library.properties"}
    assert "examples/classify/classify.ino" in texts and "CMakeLists.txt" in texts
    code = texts["tinyfoa_classify.c"] + texts["tinyfoa_model.h"] + texts["tinyfoa_classify.h"]
    assert not re.search(r"stdio|stdlib|malloc|\bmain\b", code)
    assert all(len(line) <= 120 for name, text in texts.items() if name.endswith("c") for line in text.splitlines())
    if COMPILERS:
        tell = "".join(f"    puts(tinyfoa_labels[{n}]);\n" for n in range(5))
        program = f'#include <stdio.h>\n#include "tinyfoa_classify.h"\nint main(void) {{\n{tell}    return 0;\n}}\n'
        compiled(tmp_path, COMPILERS[0], program=program)
        done = subprocess.run([tmp_path / "run"], capture_output=True, check=True)
        assert done.stdout.decode("utf-8").splitlines() == labels


@pytest.mark.parametrize("value, text", [(1, "1.0f"), (0.1, "0.1f"), (1e-5, "1e-05f"), (-1.5e30, "-1.5e+30f")])
def test_a_number_is_a_float_in_few_digits(value, text):
    assert number(value) == text and np.float32(text[:-1]) == np.float32(value)


@pytest.mark.parametrize("text", ["", "a\\b", '"', "\u00e9" + "1", "\x00\x7f", "??="])
def test_a_string_is_ascii(text):
    literal = c_string(text)
    assert literal.isascii() and literal.isprintable()
    octal = re.sub(r"\\([0-7]{3})", lambda found: f"\\x{int(found[1], 8):02x}", literal.replace("\\?", "?"))
    assert eval("b" + octal).decode("utf-8") == text


@needs_a_compiler
def test_the_example_and_cmake(tmp_path):
    dataset = data_for(None, "bytes", 30)
    ours, x = trained(tmp_path, "fc:33,20", dataset), dataset.test.inputs
    written(ours, tmp_path / "lib")
    sources = [EXAMPLE, tmp_path / "lib" / "tinyfoa_classify.c"]
    subprocess.run(
        [COMPILERS[0], *STRICT, f"-I{tmp_path / 'lib'}", *sources, "-o", tmp_path / "run", "-lm"], check=True
    )
    done = subprocess.run([tmp_path / "run"], input=x.tobytes(), capture_output=True, check=True, text=False)
    answers, margins = zip(*(line.split() for line in done.stdout.decode().splitlines()), strict=True)
    assert (np.array(answers, int) == ours.predict(x)).all()
    subprocess.run([COMPILERS[0], "-c", sources[1], "-o", tmp_path / "lib.o"], check=True)
    if shutil.which("size"):  # zeroed bytes: the RAM that the library says it takes
        [ram] = re.findall(r"constants, ([\d,]+) bytes of RAM", sources[1].read_text())
        table = subprocess.run(["size", tmp_path / "lib.o"], capture_output=True, text=True, check=True).stdout
        assert table.splitlines()[1].split()[2] == ram.replace(",", "")
    best = np.sort(ours.logits(x), axis=1)
    assert np.allclose(np.array(margins, float), best[:, -1] - best[:, -2], rtol=1e-4, atol=1e-5)
    if shutil.which("cmake"):
        (tmp_path / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.13)\nproject(t C)\nadd_subdirectory(lib)\n"
            f"add_executable(t {EXAMPLE})\ntarget_link_libraries(t tinyfoa_classify)\n"
        )
        for command in (["cmake", "-S", tmp_path, "-B", tmp_path / "build"], ["cmake", "--build", tmp_path / "build"]):
            subprocess.run(command, capture_output=True, check=True)
