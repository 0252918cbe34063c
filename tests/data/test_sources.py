"""Files to tables: what is tolerated, and what is refused with file, row, column and hint."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clew.data.formats.delimited import parse
from clew.data.sources import read_table, samples
from clew.errors import DataError

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.fixture
def write(tmp_path):
    def write(content: bytes | str, name: str = "a.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def columns(table):
    return {name: table.frame[name].to_list() for name in table.frame.columns}


@settings(deadline=None)  # others may keep the machine busy
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_what_csv_writes_is_read_back(rows):
    names = [f"column {i}" for i in range(len(rows[0]))]
    assume(len(names) > 1 or any(row[0].strip() for row in rows))
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    cells = parse("a.csv", out.getvalue().encode(), "\t;,", header=True)
    assert cells.frame.columns == names
    if len(names) == 1:  # a blank cell is then a blank line: one at the end is none, one between is an empty cell
        while not rows[-1][0].strip():
            rows = rows[:-1]
        rows = [row if row[0].strip() else [""] for row in rows]
    assert [list(row) for row in cells.frame.rows()] == rows


def test_table_knows_where_it_is_from(write):
    path = write("t,y\n1,2\n3,4\n")
    table = read_table(path)
    assert columns(table) == {"t": ["1", "3"], "y": ["2", "4"]}
    assert (table.name, table.header, table.rows, list(table.lines)) == (str(path), True, 2, [2, 3])
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        "\ufefft,y\n1,2\n3,4\n",
        "t,y\r\n1,2\r\n3,4\r\n",
        "t,y\n1,2\n3,4\n\n\n  \n",
        "t,y\n1,2\n3,4",
        "t;y\n1;2\n3;4\n",
        "t\ty\n1\t2\n3\t4\n",
        '"t","y"\n"1","2"\n"3","4"\n',
    ],
    ids=["bom", "crlf", "blank end", "no last newline", "semicolon", "tab", "quoted"],
)
def test_tolerated(write, content):
    assert columns(read_table(write(content))) == {"t": ["1", "3"], "y": ["2", "4"]}


def test_no_header(write):
    table = read_table(write("1,2\n3,4\n"))
    assert not table.header
    assert columns(table) == {"1": ["1", "3"], "2": ["2", "4"]}


def test_quoted_cells_may_hold_separators_and_newlines(write):
    table = read_table(write('"a;b","c\nd"\n"1;2","3,4"\n5,6\n'))
    assert columns(table) == {"a;b": ["1;2", "5"], "c\nd": ["3,4", "6"]}
    assert list(table.lines) == [3, 4]


def test_decimal_commas(write):
    table = read_table(write("1,5;2,5\n3,5;4,5\n"))
    assert table.decimal_comma
    assert not table.header
    assert columns(table) == {"1": ["1,5", "3,5"], "2": ["2,5", "4,5"]}


def test_a_gap_in_a_single_column_is_a_cell(write):
    table = read_table(write("\ny\n1\n\n3\n\n"))
    assert columns(table) == {"y": ["1", "", "3"]}
    assert list(table.lines) == [3, 4, 5]


def test_a_semicolon_in_a_comma_header(write):
    assert read_table(write("load;kW,y\n1,2\n3,4\n")).frame.columns == ["load;kW", "y"]


@pytest.mark.parametrize("text", ['"t","y"\n"1","a",5\n"2","b",6\n', "t,y\n7,a,5\n8,b,6\n", "t\ty\n1\ta\t5\n2\tb\t6\n"])
def test_row_numbers_without_a_name_are_left_out(write, text):
    table = read_table(write(text, "a.tsv" if "\t" in text else "a.csv"))
    assert columns(table) == {"t": ["a", "b"], "y": ["5", "6"]}
    assert list(table.lines) == [2, 3]


def test_tsv_gzip_and_parquet(write, tmp_path):
    assert columns(read_table(write("a,b\tc\n1\t2\n", "a.tsv"))) == {"a,b": ["1"], "c": ["2"]}
    assert columns(read_table(write(gzip.compress(b"a,b\n1,2\n", mtime=0), "a.csv.gz"))) == {"a": ["1"], "b": ["2"]}
    pl.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}).write_parquet(tmp_path / "a.parquet")
    assert columns(read_table(tmp_path / "a.parquet")) == {"a": [1.5, 2.5], "b": ["x", "y"]}


@pytest.mark.parametrize(
    ("content", "name", "what", "row", "column", "hint"),
    [
        ("", "a.csv", "is empty", None, None, "header"),
        ("\n \n", "a.csv", "is empty", None, None, "header"),
        ("t,y\n", "a.csv", "a header and no rows", None, None, "add the measurements"),
        ("t,y\n1,2\n3\n", "a.csv", "1 cells, where the first row has 2", 3, None, "double quotes"),
        ("t,y\n\n1,2\n3,4,5\n", "a.csv", "3 cells, where the first row has 2", 4, None, "double quotes"),
        ('t,y\n"1\n1",2\n3,4,5\n', "a.csv", "3 cells", 4, None, "double quotes"),
        ("t;y\n1;2\n3;4;5\n", "a.csv", "3 cells, where the first row has 2", 3, None, "double quotes"),
        ("t,y\n1,a,5\n1,b,6\n", "a.csv", "3 cells, where the first row has 2", 2, None, "double quotes"),
        ("t,y\nso, it is,5\nno, it,6\n", "a.csv", "3 cells, where the first row has 2", 2, None, "double quotes"),
        ("1,2\n3,4,5\n4,5,6\n", "a.csv", "3 cells, where the first row has 2", 2, None, "double quotes"),
        ("t,y\n1,a,5\n2,b\n", "a.csv", "3 cells, where the first row has 2", 2, None, "double quotes"),
        ("y\n1\nä\n".encode("latin-1"), "a.csv", "not UTF-8 text: byte 4 is 0xe4", 3, None, "iconv -f latin1"),
        ("y\n1\n".encode("utf-16"), "a.csv", "UTF-16", None, None, "save it as UTF-8"),
        (b"y\n1\n\0\n", "a.csv", "zero byte", 3, None, "UTF-8"),
        ("y,t,y\n1,2,3\n", "a.csv", "names 'y' twice", 1, "y", "rename"),
        ('t,y\n1,"2\n', "a.csv", "cannot be parsed", 2, None, "open quote"),
        ("t,y\n1,2\n", "a.xlsx", "unknown kind of file '.xlsx'", None, None, ".parquet"),
        (b"PAR1", "a.parquet", "not a whole Parquet file", None, None, "write it again"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "a.csv.gz", "not a whole .gz", None, None, "copy it again"),
    ],
)
def test_refused(write, content, name, what, row, column, hint):
    path = write(content, name)
    with pytest.raises(DataError) as caught:
        read_table(path)
    error = caught.value
    assert what in error.what
    assert (error.file, error.row, error.column) == (str(path), row, column)
    assert error.hint is not None
    assert hint in error.hint


def test_missing_file_names_the_nearest(write, tmp_path):
    path = write("t,y\n1,2\n", "power.csv")
    with pytest.raises(DataError, match="no such file") as caught:
        read_table(tmp_path / "powr.csv")
    assert caught.value.hint == f"did you mean '{path}'?"


def test_folder_and_impossible_name(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / ("a" * 300 + ".csv"))


def test_damaged_parquet_is_never_a_traceback(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": np.arange(100.0), "b": ["x"] * 100}).write_parquet(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="Parquet"):
            read_table(path)
    pl.DataFrame({"a": []}).write_parquet(path)
    with pytest.raises(DataError, match="no rows"):
        read_table(path)


def test_a_panic_of_the_parquet_reader_is_an_error_of_the_file(write, monkeypatch):
    def panic(_):
        raise pl.exceptions.PanicException("offset + length <= self.length")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    with pytest.raises(DataError, match="not a whole Parquet file"):
        read_table(write(b"PAR1", "a.parquet"))


def test_samples():
    assert "co2" in samples()
    table = read_table("sample:co2")
    assert (table.frame.columns, table.rows) == (["month", "co2"], 526)
    with pytest.raises(DataError, match="did you mean 'co2'"):
        read_table("sample:co")
    with pytest.raises(DataError, match="no sample"):
        read_table("sample:../sources")


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("sepal,petal,kind\n5.1,0.2,setosa\n4.9,0.2,setosa\n", True),
        ("5.1,0.2,setosa\n4.9,0.2,setosa\n6,1.5,virginica\n", False),
        ("text,label\nhello there,ham\nwin now,spam\n", True),
        ("ham,hello there\nspam,win now\nham,see you\n", False),
        ("word,count\nword,1\nother,2\n", True),
        ("word\nthe\nword\nmany\nmore\n", True),
        ("country,1990,1991,1992\nFrance,1,2,3\nSpain,4,5,6\n", True),
        (",0\n0,1.5\n1,2.5\n", True),
        ("x,1\n5,6\n7,8\n", True),
        ("1,2,setosa\n5,3,setosa\n6,4,virginica\n", False),
        ("NA,5.1,a\n1.5,4.9,b\n2.5,6,b\n", False),
        ("Tom died.,Tom est mort.\nGo on.,Continue.\nI see it.,Je le vois.\n", False),
        ("Is it good?,answer\nIt was good.,yes\nI did not like it.,no\n", False),
        ("the text of it,label\nIt was good.,yes\nI did not like it.,no\n", True),
        ("a" * 101 + ",x\nb,y\nc,z\n", False),
        ("a" * 101 + ",x\n1,y\n2,z\n", True),
        ("a,b\n", True),
    ],
)
def test_a_header_is_told_by_its_cells(text, header):
    if text.count("\n") > 1:
        assert parse("a.csv", text.encode(), ",").header is header
    for said in (True, False):
        if not said or text.count("\n") > 1:
            assert parse("a.csv", text.encode(), ",", said).header is said


def test_a_header_that_is_said(write):
    path = write("word\tphones\naaliyah\tAA2 L\naaron\tEH1 R\n", "a.tsv")
    assert read_table(path, header=False).rows == 3
    assert read_table(path, header=True).columns == ["word", "phones"]
    assert read_table(write(" a , b\n1,2\n")).columns == ["a", "b"]


def test_quotes_that_come_in_no_pairs_are_letters_where_tabs_part(write):
    table = read_table(write('a\tb\n"Well," he said.\tx\nAn inch is 1"\ty\n', "a.tsv"))
    assert columns(table) == {"a": ['"Well," he said.', 'An inch is 1"'], "b": ["x", "y"]}
    assert columns(read_table(write('a\tb\n"x\ty"\tz\n', "a.tsv"))) == {"a": ["x\ty"], "b": ["z"]}
    with pytest.raises(DataError, match="cannot be parsed") as caught:
        read_table(write('a\tb\n1\t2\n"3\t4\n5\n', "a.tsv"))
    assert caught.value.row == 3


def test_columns_of_lists_and_types_of_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame(
        {"a": [[1, 2], [3, 4]], "b": [["x"], ["y", "z"]], "c": [{"p": 1}, {"p": 2}]},
        schema_overrides={"a": pl.Array(pl.Int64, 2)},
    )
    frame.write_parquet(path)
    table = read_table(path)
    assert (table.schema["a"], table.schema["b"]) == (pl.List(pl.Int64), pl.List(pl.String))
    assert columns(table) == {"a": [[1, 2], [3, 4]], "b": [["x"], ["y", "z"]], "c": [{"p": 1}, {"p": 2}]}


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("path", "rows", "header"),
    [
        ("nlu-snips/train.tsv", 13084, False),
        ("nlu-snips/valid.tsv", 700, False),
        ("nlu-snips/test.tsv", 700, False),
        ("text-banking77/train.csv", 10003, True),
        ("text-banking77/test.csv", 3080, True),
        ("text-movie-reviews/reviews.jsonl.gz", 2000, True),
        ("chem-esol/delaney-processed.csv", 1128, True),
        ("handwriting-pendigits/pendigits.tra.gz", 7494, True),
        ("handwriting-pendigits/pendigits.tes.gz", 3498, True),
        ("mt-tatoeba-eng-fra/train.tsv.gz", 99882, False),
        ("bio-protein-secondary/train.tsv", 111, False),
        ("bio-splice-junctions/splice.tsv", 3190, True),
        ("sysid-generator/y_cc.csv.gz", 500000, False),
    ],
)
def test_published_counts(path, rows, header):
    if not (SHARED / path).exists():
        pytest.skip(f"the data set {path} is not here")
    table = read_table(SHARED / path)
    assert (table.rows, table.header) == (rows, header)
