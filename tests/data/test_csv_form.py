"""What a CSV file looks like: separators, decimals, headers, encodings; each case stands for a kind of file."""

import csv
import io
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np import data
from tinyfoa_np.data import cells, csv_form
from tinyfoa_np.data import csv_table as table
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.errors import BadRequest

CASES = Path(__file__).parents[3] / "shared" / "cases"


@pytest.fixture
def read(tmp_path):
    def call(content, **how):
        path = tmp_path / "d.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return table.read(path, Reading(**how))

    return call


def rows(count=30, width=2, decimals=".", between=",", labels=("0", "1"), seed=0):
    """Lines of a table of random numbers."""
    rng = random.Random(seed)
    lines = []
    for n in range(count):
        numbers = [f"{rng.gauss(0, 2):.3f}".replace(".", decimals) for _ in range(width)]
        lines.append(between.join([*numbers, labels[n % len(labels)]]))
    return lines


def text(*lines, end="\n"):
    return end.join(lines) + end


def labels_of(found):
    return [found.labels.values[code] for code in found.labels.codes]


@pytest.mark.parametrize(
    "name, says",
    [
        ("headerless", "2 inputs, 2 classes"),
        ("headerless_gap_in_row1", "line 1, column 1: a value is missing"),
        ("decimal_comma_one_input", "1 input, 2 classes"),
        ("decimal_comma_tie", "3 inputs, 2 classes"),
        ("comma_in_quoted_header", "2 inputs (length, cm, width, cm), label 'label', 2 classes"),
        ("label_20_digits", "2 inputs, 2 classes (12345678901234567000, 12345678901234567890)"),
        ("label_NA", "line 21, column 'label': a value is missing"),
    ],
)
def test_the_small_inputs_that_failed(name, says):
    from tinyfoa_np.data.user_files import described

    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    try:
        told = described(data.load(str(CASES / f"{name}.csv")))
    except BadRequest as error:
        told = str(error)
    assert says in told


# The header


@pytest.mark.parametrize(
    "header",
    [
        "0,1,label",
        "1,2,label",
        "400,410,species",
        "5.5,6.5,Class",
        "alpha,beta,2",
        "u,v,0",
        ",a,b",
        "Na,K,kind",
        "2019,2020,target",
        "temp [°C],rh (%),gesture",
        "01.02.2024,02.02.2024,kind",
        "1e3,2e3,kind",
    ],
)
def test_names_of_columns_are_no_sample(read, header):
    found = read(text(header, *rows()))
    assert found.names == header.split(",")[:2] and len(found.inputs) == 30 and set(labels_of(found)) == {"0", "1"}


@pytest.mark.parametrize("width", [3, 8, 64])
@pytest.mark.parametrize("begin", [0, 1])
def test_names_that_count(read, begin, width):
    """As pandas writes an array: 0,1,2,... with or without its index before."""
    names = [str(n) for n in range(begin, begin + width + 1)]
    assert len(read(text(",".join(names), *rows(width=width))).inputs) == 30
    indexed = [f"{n},{line}" for n, line in enumerate(rows(width=width))]
    found = read(text("," + ",".join(names), *indexed))
    assert found.inputs.shape == (30, width) and found.names == names[:-1] and "1" in found.left_out


def test_wavelengths_above_names_of_classes(read):
    found = read(text("900.5,901.0,905.5,908.0,material", *rows(width=4, labels=("oak", "pine", "ash"))))
    assert found.names == ["900.5", "901.0", "905.5", "908.0"] and found.label == "material"


@pytest.mark.parametrize(
    "first", ["?,0.500,0", ",0.5,0", "NA,0.5,1", "0.5,,1", "nan,nan,0", "err,0.500,0", "0.5,#VALUE!,1"]
)
def test_a_first_line_with_a_gap_is_a_sample(read, first):
    with pytest.raises(BadRequest, match="line 1, column [12]: "):
        read(text(first, *rows()))


@pytest.mark.parametrize("first", ["0.1,0.2,0", "3,2,1", "-1,-2,1", "1e5,1,0", "0,0,0", "1,1,1"])
def test_numbers_in_the_first_line_are_a_sample(read, first):
    assert len(read(text(first, *rows())).inputs) == 31


def test_what_may_be_either_is_asked_for(read):
    lines = text("0,1,2", *(f"{n % 3},{n % 5},{n % 3}" for n in range(2, 40)))
    with pytest.raises(BadRequest, match="use --header or --no-header"):
        read(lines)
    assert len(read(lines, header=True).inputs) == 38 and len(read(lines, header=False).inputs) == 39


def test_a_class_that_comes_once_is_no_header(read):
    found = read(text("0.5,0.1,owl", *rows(labels=("cat", "dog"))))
    assert len(found.inputs) == 31 and "owl" in labels_of(found)


@pytest.mark.parametrize("label", ["1_000", "none of them"])
def test_a_class_that_comes_again_is_no_header(read, label):
    """Most of the others are numbers."""
    found = read(text(*rows(labels=(label, "1000", "7"))))
    assert len(found.inputs) == 30 and labels_of(found)[0] == label


# Separators, decimals, encodings


@pytest.mark.parametrize("between", [";", "\t", "|"])
@pytest.mark.parametrize("header", ["", "a,b,label"])
@pytest.mark.parametrize("decimals", [",", "."])
def test_decimals_and_separators(read, between, header, decimals):
    lines = rows(decimals=decimals, between=between)
    plain = read(text(*rows()))
    named = [header.replace(",", between)] if header else []
    found = read(text(*named, *lines))
    np.testing.assert_array_equal(found.inputs, plain.inputs)
    assert labels_of(found) == labels_of(plain)


@pytest.mark.parametrize("labels", [("0,0", "1,0"), ("no", "yes")])
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_a_decimal_comma_in_every_field(read, inputs, labels):
    """Then commas and semicolons are as many in every line; a single input and a name leave it open which separates."""
    found = read(text(*rows(width=inputs, decimals=",", between=";", labels=labels)))
    assert found.inputs.shape == (30, inputs) and len(set(labels_of(found))) == 2


def test_decimal_commas_in_quotes(read):
    lines = ['"' + line.replace(";", '","') + '"' for line in rows(decimals=",", between=";")]
    np.testing.assert_array_equal(read(text(*lines)).inputs, read(text(*rows())).inputs)


def test_commas_that_may_separate_thousands(read):
    """In quotes between commas, 1,234 is an English spreadsheet's thousand; another number can show that it is not."""
    lines = [f'"1,{234 + n}",{n % 7},{"ab"[n % 2]}' for n in range(12)]
    with pytest.raises(BadRequest, match="line 1, column 1: '1,234' may mean thousands or decimals: use a decimal"):
        read(text(*lines))
    found = read(text(*lines, '"0,500",1,a'))
    assert found.inputs[0, 0] == 1.234 and found.inputs[-1, 0] == 0.5
    found = read(text(*(f"1,{234 + n};{n % 7};{'ab'[n % 2]}" for n in range(12))))
    assert found.inputs[0, 0] == 1.234  # between semicolons, commas are decimal


@pytest.mark.parametrize("field", ["1.234,5", "1,234.5", "1,234,567", "1'234.5", "0.5", "1 234,5"])
def test_mixed_decimals_and_thousands_are_refused(read, field):
    with pytest.raises(BadRequest, match="line 31, column 2: .*decimal point"):
        read(text(*rows(decimals=",", between=";"), f"0,5;{field};1"))


@pytest.mark.parametrize("told", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;"])
def test_a_line_that_names_the_separator(read, told):
    found = read(text(told, "a;b;label", *rows(between=";"), end="\r\n"))
    assert found.names == ["a", "b"] and len(found.inputs) == 30
    with pytest.raises(BadRequest, match="line 33, column 'b': 'x'"):
        read(text(told, "a;b;label", *rows(between=";"), "1;x;0", end="\r\n"))


def test_quotes_lines_and_marks_of_a_spreadsheet(read):
    found = read("\ufeff" + text('"Length, ""true""";"Breite; innen";label', *rows(between=";"), "", "  ", end="\r\n"))
    assert found.names == ['Length, "true"', "Breite; innen"] and len(found.inputs) == 30
    for encoding in ("utf-16", "utf-8-sig"):
        again = read(text("Ä;b;label", *rows(between=";")).encode(encoding))
        assert again.names == ["Ä", "b"]
    with pytest.warns(UserWarning, match="not UTF-8: read as Windows-1252"):
        assert read(text("T [°C];b;label", *rows(between=";")).encode("cp1252")).names == ["T [°C]", "b"]


@pytest.mark.parametrize("header", ["a;b;label;", "a;b;label", ""])
def test_a_separator_at_the_end_of_every_line(read, header):
    found = read(text(*([header] if header else []), *(line + ";" for line in rows(between=";"))))
    assert found.inputs.shape == (30, 2) and set(labels_of(found)) == {"0", "1"}


def test_comments_before_the_table(read):
    assert read(text("# made by a logger", "#", "a,b,label", *rows())).names == ["a", "b"]
    assert read(text("# a,b,label", *rows())).names == ["a", "b"]
    assert len(read(text("# made, today", *rows())).inputs) == 30


def test_a_free_text_may_hold_separators(read):
    spoken = ['"walk; slow, or so"', "sit; still"]
    lines = [f"{line},{spoken[n % 2]}" for n, line in enumerate(rows(labels=("0",)))]
    assert set(labels_of(read(text(*lines)))) == {"walk; slow, or so", "sit; still"}


@pytest.mark.parametrize("header, label", [("x,y,z,activity", "activity"), ("x,y", "y"), ("a,y,b", "b")])
def test_an_axis_called_y_is_no_label(read, header, label):
    width = header.count(",") + 1
    lines = rows(width=width - 1) if label == header[-1] or width == 4 else rows(width=2)
    found = read(text(header, *lines))
    assert found.label == label and found.inputs.shape[1] == width - 1


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        ("12345678901234567890", "12345678901234567000"),
        ("007", "7"),
        ("1_0", "10"),
        ("01", "02"),
        ("1e2", "100"),
        ("9007199254740993", "9007199254740992"),
        ("cat", "Cat"),
        ("\u0661", "1"),
        ("-", "+"),
        ("inf", "1"),
    ],
)
def test_labels_stay_as_they_are_spelled(tmp_path, labels):
    (tmp_path / "d.csv").write_text(text("a,b,label", *rows(labels=labels)))
    loaded = data.load(str(tmp_path / "d.csv"))
    assert sorted(map(str, loaded.origin["labels"])) == sorted(labels)


@pytest.mark.parametrize("labels, known", [(("+1", "-1"), [-1, 1]), (("1.0", "2.0"), [1, 2]), (("-0", "1"), None)])
def test_whole_numbers_are_one_label_however_spelled(tmp_path, labels, known):
    (tmp_path / "d.csv").write_text(text("a,b,label", *rows(labels=labels)))
    assert data.load(str(tmp_path / "d.csv")).origin.get("labels") == known


@pytest.mark.parametrize("gap", sorted(cells.MISSING) + ["NA", "NaN", "None", "NULL"])
def test_what_is_missing_is_missing_in_labels_and_inputs(read, gap):
    with pytest.raises(BadRequest, match="line 32, column 'label': a value is missing"):
        read(text("a,b,label", *rows(), f"1,2,{gap}"))
    with pytest.raises(BadRequest, match="line 32, column 'b': a value is missing.*--missing median"):
        read(text("a,b,label", *rows(), f"1,{gap},0"))
    found = read(text("a,b,label", *rows(), f"1,{gap},0"), missing="median")
    assert np.isnan(found.inputs).sum() == np.isnan(found.inputs[-1, 1]) == 1


# Any table


LETTERS = st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cc"])
NAMES = st.text(LETTERS, min_size=1, max_size=8)
NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@settings(max_examples=60)
@given(
    st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=4, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(NAMES, min_size=2, max_size=2, unique=True),
    st.booleans(),
)
def test_what_a_csv_writer_writes_is_read(tmp_path_factory, values, between, quoting, end, names, comma):
    """Any names, numbers and dialect of Python's writer give the same numbers again."""
    if any(name.strip().lower() in {*csv_form.LABELS, *cells.MISSING} or cells.is_number(name) for name in names):
        return
    out = io.StringIO()
    writer = csv.writer(out, delimiter=between, quoting=quoting, lineterminator=end)
    writer.writerow([*names, "label"])
    for n, row in enumerate(values):
        writer.writerow([*(str(value).replace(".", "," if comma else ".") for value in row), "uv"[n % 2]])
    path = tmp_path_factory.mktemp("any") / "d.csv"
    path.write_text(out.getvalue(), newline="")
    reading = Reading(keep=("1", "2"))
    if out.getvalue().startswith("#") or "sep=" in out.getvalue().lower():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = table.read(path, reading)
    assert found.inputs.tolist() == [[float(str(value)) for value in row] for row in values]
    assert found.names == [name.strip() for name in names] and labels_of(found)[:2] == ["u", "v"]


def test_day_and_month():
    assert cells.moments(["2024-01-01 00:00:00", "2024-01-01T00:00:01Z", "2024-01-01 01:00:02+01:00"], "t") == [
        1704067200,
        1704067201,
        1704067202,
    ]
    assert cells.moments(["31.12.2023 23:59:59,5", "01.01.2024"], "t") == [1704067199.5, 1704067200]
    assert cells.moments(["12/31/2023", "01/01/2024"], "t") == cells.moments(["31/12/2023", "01/01/2024"], "t")
    assert cells.moments(["10:00", "10:00:01.5"], "t")[1] - cells.moments(["10:00"], "t")[0] == 1.5
    with pytest.raises(ValueError, match="day and month cannot be told apart"):
        cells.moments(["01/02/2024", "03/04/2024"], "t")
    with pytest.raises(ValueError, match="'noon' is not a time"):
        cells.moments(["10:00", "noon"], "t")
