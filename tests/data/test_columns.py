"""Columns of tables as numbers."""

from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest

from clew.data.lists import sequences, tokens
from clew.data.sources import read_table
from clew.data.table import guess_target, is_time_like, kind, labels, numeric, numeric_columns, texts
from clew.errors import DataError


@pytest.fixture
def table(tmp_path):
    def table(text: str):
        path = tmp_path / "a.csv"
        path.write_text(text)
        return read_table(path)

    return table


def test_by_name_and_by_number(table):
    t = table("a,b\n1, 2.5 \n-3e2,.5\n")
    for column in ("b", "2", 2):
        np.testing.assert_array_equal(numeric(t, column), [2.5, 0.5])
    assert numeric(t, "a").dtype == np.float64


def test_a_name_goes_before_a_number(table):
    np.testing.assert_array_equal(numeric(table("x,1\n5,6\n"), "1"), [6])


def test_decimal_comma_only_where_semicolons_part(table):
    np.testing.assert_array_equal(numeric(table("a;b\n1,5;2\n-0,25;3\n"), "a"), [1.5, -0.25])
    with pytest.raises(DataError, match="with a point"):
        numeric(table('a,b\n"1,5",2\n'), "a")


@pytest.mark.parametrize(("cell", "what"), [("", "empty"), ("NaN", "empty"), (" NA ", "empty"), ("inf", "'inf'")])
def test_cells_that_are_no_finite_number(table, cell, what):
    t = table(f"t,load\n1,2\n\n3,{cell}\n")
    with pytest.raises(DataError, match=what) as caught:
        numeric(t, "load")
    assert (caught.value.file, caught.value.row, caught.value.column) == (t.name, 4, "load")
    assert caught.value.hint


def test_a_cell_of_text_is_shown(table):
    with pytest.raises(DataError, match=r"row 3, column 'b': '2 kW' is not a number") as caught:
        numeric(table("a,b\n1,2\n3,2 kW\n"), "b")
    assert caught.value.hint is not None
    assert "correct the cell" in caught.value.hint


@pytest.mark.parametrize("column", ["lod", "0", "3", "-1", "²", ""])
def test_unknown_column(table, column):
    with pytest.raises(DataError, match="no column") as caught:
        numeric(table("time,load\n1,2\n"), column)
    assert caught.value.hint is not None
    assert "load" in caught.value.hint


def test_numeric_columns_and_the_target(table):
    t = table("when,row,load,temp,note\n2020-01-01,1,5,20,a\n2020-01-02,2,7,19,b\n2020-01-03,3,4,25,c\n")
    assert numeric_columns(t) == ["row", "load", "temp"]
    assert guess_target(t) == "temp"


def test_a_mostly_numeric_column_is_one_so_that_its_bad_cell_gets_named(table):
    assert numeric_columns(table("a\n1\n2\nx\n")) == ["a"]


def test_the_target_is_not_the_time(table):
    assert guess_target(table("load,hour\n5,0\n7,1\n4,2\n9,3\n")) == "load"
    assert guess_target(table("load,Time\n5,0\n7,1\n4,2\n9,7\n")) == "load"
    assert guess_target(table("a,b\n1,1\n2,2\n3,3\n")) == "b", "where everything counts, the last column"


def test_no_numeric_column(table):
    with pytest.raises(DataError, match="no numeric column"):
        guess_target(table("a,b\nx,y\n"))


def test_is_time_like():
    assert is_time_like(np.arange(10.0))
    assert is_time_like(1959 + np.arange(200) / 12)
    assert is_time_like(np.array([1.0, 5.0, 2.0]), "Date")
    assert not is_time_like(np.array([1.0, 2.0, 4.0]))
    assert not is_time_like(np.arange(10.0)[::-1]), "what falls steadily is a measurement"
    assert not is_time_like(np.ones(10))
    assert not is_time_like(np.array([1.0, 2.0]))
    assert not is_time_like(np.array([1.0, np.nan, 3.0, 4.0]))


def test_parquet_kinds(tmp_path):
    path = tmp_path / "a.parquet"
    day = datetime.date(2020, 1, 1)
    pl.DataFrame({"day": [day, day], "on": [True, False], "n": [1, None], "y": [1.5, 2.5]}).write_parquet(path)
    t = read_table(path)
    assert numeric_columns(t) == ["y"]
    np.testing.assert_array_equal(numeric(t, "y"), [1.5, 2.5])
    with pytest.raises(DataError, match="row 2, column 'n': the cell is empty"):
        numeric(t, "n")
    with pytest.raises(DataError, match="row 1, column 'day'"):
        numeric(t, "day")


@pytest.fixture
def parquet(tmp_path):
    def parquet(schema=None, **columns):
        pl.DataFrame(columns, schema_overrides=schema).write_parquet(tmp_path / "a.parquet")
        return read_table(tmp_path / "a.parquet")

    return parquet


def test_kinds(table, parquet):
    text = table("a,b,c,d\n1,x,1,\n,y,x,\n3,z,y,\n")
    assert [kind(text, name) for name in "abcd"] == ["number", "text", "text", "text"]
    t = parquet(
        n=[1, 2], x=[1.5, None], s=["x", "y"], f=[True, None], ss=[["x"], []], nn=[[1.0], [2.5]], vv=[[[1]], [[2]]],
        day=[datetime.date(2020, 1, 1)] * 2,
    )  # fmt: skip
    found = ["number", "number", "text", "flags", "texts", "numbers", "vectors", "text"]
    assert [kind(t, name) for name in t.columns] == found
    assert numeric_columns(t) == ["n"]
    enum = pl.Enum(["x", "y"])
    assert kind(parquet({"c": pl.List(enum)}, c=[["x"], ["y"]]), "c") == "texts"


def test_texts_and_labels(table, parquet):
    t = table("text,label\n a b ,007\n,7\n")
    assert texts(t, "text") == [" a b ", ""]
    assert labels(t, "label") == ["007", "7"]
    with pytest.raises(DataError, match="row 3, column 'text': the label is empty"):
        labels(t, "text")
    t = parquet(n=[7, -1], x=[7.0, -0.5], f=[True, False], big=[1e300, float("nan")], s=[None, "x"], ll=[["a"], ["b"]])
    assert [labels(t, name) for name in ("n", "x", "f")] == [["7", "-1"], ["7", "-0.5"], ["true", "false"]]
    assert texts(t, "big") == ["1e+300", "nan"]
    with pytest.raises(DataError, match="row 1, column 's': the cell is empty"):
        texts(t, "s")
    for function in (texts, labels, numeric):
        with pytest.raises(DataError, match="column 'll': holds lists"):
            function(t, "ll")
    with pytest.raises(DataError, match="holds no texts"):
        texts(parquet(b=[b"\xff"]), "b")


def test_tokens(table, parquet):
    assert tokens(table("a\n x  y\nz\n"), "a") == [["x", "y"], ["z"]]
    with pytest.raises(DataError, match="row 3, column 'a': holds no words"):
        tokens(table("a,b\nx,1\n  ,2\n"), "a")
    assert tokens(parquet(a=[["x y", " "], ["z"]]), "a") == [["x y", " "], ["z"]]
    for cells in ([["x"], []], [["x"], None], [["x"], ["y", None]]):
        with pytest.raises(DataError, match="row 2, column 'a': holds no words"):
            tokens(parquet(a=cells), "a")


def test_sequences(parquet):
    t = parquet(a=[[1, 2], [3]], b=[[5.0, 6.0], [7.0]], v=[[[1, 2]], [[3, 4], [5, 6]]], f=[[True], [False]])
    first, second = sequences(t, ["a", "b"])
    np.testing.assert_array_equal(first, [[1, 5], [2, 6]])
    np.testing.assert_array_equal(second, [[3, 7]])
    assert first.dtype == np.float64
    np.testing.assert_array_equal(sequences(t, ["v"])[1], [[3, 4], [5, 6]])
    np.testing.assert_array_equal(sequences(t, ["f"])[0], [[1]])


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ([[1, 2], []], "the list is empty"),
        ([[1, 2], None], "the list is empty"),
        ([[1, 2], [3]], "1 steps, where 'a' has 2"),
        ([[1, 2], [3, None]], "a value is missing"),
        ([[1.0, 2], [3.5, float("nan")]], "a value is missing"),
        ([[1.0, 2], [3.5, float("-inf")]], "a value is infinite"),
        ([[[1], [2]], [[3], [4, 5]]], "steps of different width, where the first of all has 1"),
        ([[[1], [2]], [[3], []]], "a step is empty"),
        ([[[1], [2]], [[3], None]], "a step is empty"),
        ([[[1], [2]], [[3], [None]]], "a value is missing"),
    ],
)
def test_sequences_that_are_none(parquet, cells, what):
    with pytest.raises(DataError, match=f"row 2, column 'x': {what}") as caught:
        sequences(parquet(a=[[1, 2], [3, 4]], x=cells), ["a", "x"])
    assert caught.value.hint


def test_no_lists_of_numbers(parquet):
    t = parquet(a=[1], b=[["x"]], c=[[datetime.date(2020, 1, 1)]], d=[[[["x"]]]])
    for name in t.columns:
        with pytest.raises(DataError, match=f"column '{name}': holds no lists of numbers"):
            sequences(t, [name])
