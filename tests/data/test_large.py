"""The fast way is the careful way, and large files take little time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clew.data.formats import delimited
from clew.data.lists import sequences
from clew.data.sources import read_table
from clew.data.table import numeric
from clew.errors import DataError

PIECE = st.sampled_from(
    ["a", "1", ",", ",", "\n", "\n", "\r\n", "\r", " ", "\t", ";", '"', "é", "\x0b", "\u2028", "b,c"]
)


def outcome(content: bytes, separators: str, header: bool | None):
    try:
        cells = delimited.parse("a.csv", content, separators, header)
    except DataError as error:
        return str(error)
    return cells.frame.to_dict(as_series=False), list(cells.lines), cells.header, cells.decimal_comma


@settings(max_examples=600, deadline=None)
@given(
    st.lists(PIECE, max_size=24).map("".join) | st.lists(st.sampled_from(["a,b", "1,", ",", "é,2"])).map("\n".join),
    st.sampled_from(["\t;,", "\t"]),
    st.sampled_from([None, True, False]),
)
@example(",\na\nb,c,", "\t;,", None)  # a short row and a long one: as many separators as in two even ones
def test_the_fast_way_is_the_careful_way(text, separators, header):
    found = outcome(text.encode(), separators, header)
    fast, delimited._plainly = delimited._plainly, lambda content, separator: None
    try:
        assert found == outcome(text.encode(), separators, header)
    finally:
        delimited._plainly = fast


@pytest.mark.parametrize("text", ["a,b\n1,2\n3,4\n", "y\r\n1\r\n2\r\n", "a,b\n,\n", "a\tb\n\t\nx\ty"])
def test_the_fast_way_is_taken(monkeypatch, text):
    monkeypatch.delattr(delimited, "_carefully")
    assert delimited.parse("a.csv", text.encode(), "\t;,", header=True).frame.height > 0


def test_many_chunks_are_one_table(monkeypatch):
    text = 'a,b\n"1,5",2\n3,4\n5,6\n'
    whole = outcome(text.encode(), ",", None)
    for chunk in (1, 3, 4, 8):
        monkeypatch.setattr(delimited, "CHUNK", chunk)
        assert outcome(text.encode(), ",", None) == whole


def peak(path, column: str = "x0") -> tuple[float, float]:
    """Seconds, and MB above those of the imports, of reading a file and one of its columns in a new process."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc: a child's ru_maxrss begins at that of the process that started it")
    code = f"""
import re, time
import numpy, polars
from clew.data.sources import read_table
from clew.data.table import numeric
peak = lambda: int(re.search(r"VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
start = time.perf_counter()
table = read_table({str(path)!r})
assert len(numeric(table, {column!r})) == table.rows
print(time.perf_counter() - start, peak() - before)
"""
    seconds, grown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(seconds), float(grown)


@pytest.mark.parametrize(("name", "quoted", "most"), [("a.csv", False, 8), ("b.csv", True, 10)])
def test_500_000_rows(tmp_path, name, quoted, most):
    path = tmp_path / name
    values = np.random.default_rng(0).normal(size=(500_000, 4))
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(4)})
    frame.write_csv(path, float_precision=6, quote_style="always" if quoted else "never")
    seconds, grown = peak(path)
    size = path.stat().st_size / 2**20
    print(f"{name}: {size:.0f} MB, {seconds:.2f} s, {grown:.0f} MB")
    assert grown < most * size
    assert seconds < (10 if quoted else 4), "it takes 0.3 s on a machine that does nothing else, quoted 2 s"


def test_only_the_columns_that_are_asked_for_are_read(tmp_path):
    path = tmp_path / "a.parquet"
    rng = np.random.default_rng(0)
    pl.DataFrame({f"x{i}": rng.normal(size=200_000) for i in range(40)}).write_parquet(path)
    size = path.stat().st_size / 2**20
    seconds, grown = peak(path)
    print(f"Parquet: {size:.0f} MB, {seconds:.2f} s, {grown:.0f} MB")
    assert grown < size
    table = read_table(path)
    part = table.take(np.array([3, 1]))
    np.testing.assert_array_equal(numeric(part, "x7"), numeric(table, "x7")[[3, 1]])
    assert list(part.lines) == [4, 2]
    assert set(table._found) == {"x7"}


def test_a_million_numbers_in_lists(tmp_path):
    path = tmp_path / "a.parquet"
    values = np.arange(1e6).reshape(1000, 500, 2)
    pl.DataFrame({"fixed": values, "a": list(values[:, :, 0]), "b": list(values[:, :, 1])}).write_parquet(path)
    table = read_table(path)
    np.testing.assert_array_equal(np.stack(sequences(table, ["fixed"])), values)
    np.testing.assert_array_equal(np.stack(sequences(table, ["a", "b"])), values)
