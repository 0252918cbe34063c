"""JSON lines: what a column can hold, and what is refused with row and column."""

from __future__ import annotations

import gzip
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.data.formats import jsonlines
from clew.data.sources import read_table
from clew.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBER = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
CELLS = {
    "text": TEXT,
    "number": NUMBER,
    "flag": st.booleans(),
    "texts": st.lists(TEXT, max_size=3),
    "numbers": st.lists(NUMBER, max_size=3),
    "steps": st.lists(st.lists(NUMBER, min_size=1, max_size=2), max_size=3),
}
ROW = st.fixed_dictionaries({}, optional={name: st.none() | cell for name, cell in CELLS.items()})


@given(st.lists(ROW, min_size=1, max_size=6).filter(any), st.sampled_from([0, 40, 1 << 23]))
def test_what_json_writes_is_read_back(rows, chunk):
    before, jsonlines.CHUNK = jsonlines.CHUNK, chunk
    try:
        frame, lines = jsonlines.parse("a.jsonl", "\n\n".join(json.dumps(row) for row in rows).encode())
    finally:
        jsonlines.CHUNK = before
    assert lines == list(range(1, 2 * len(rows), 2))
    assert frame.columns == list(dict.fromkeys(key for row in rows for key in row))
    for name in frame.columns:
        assert frame[name].to_list() == [row.get(name) for row in rows]


def test_types(tmp_path):
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"a":1,"b":[1,2],"c":null}\n{"a":2.5,"b":[],"d":[[1,2],[3,null]]}\n'))
    table = read_table(path)
    assert dict(table.schema) == {
        "a": pl.Float64,
        "b": pl.List(pl.Float64),
        "c": pl.String,
        "d": pl.List(pl.List(pl.Float64)),
    }
    assert table.frame["d"].to_list() == [None, [[1, 2], [3, None]]]
    assert list(table.lines) == [1, 2]


@pytest.mark.parametrize(
    ("content", "what", "row", "column"),
    [
        ("", "is empty", None, None),
        ("\n \n", "is empty", None, None),
        ("{}\n{}\n", "objects without keys", None, None),
        ('{"a":1}\n\n{"a":1,}\n', "is not JSON", 3, None),
        ('{"a":1}\n{"a":\n', "is not JSON", 2, None),
        ('{"a":1}\n[[1,2],[3,4]]\n', "is not an object: [[1,2],[3,4]]", 2, None),
        ('{"a":1}\n"text"\n', "is not an object", 2, None),
        ('{"a":1}\n{"a":"x"}\n', "a text, where the column held a whole number before", 2, "a"),
        ('{"a":"x"}\n{"a":1.5}\n', "a number, where the column held a text before", 2, "a"),
        ('{"a":null}\n{"a":true}\n{"a":1}\n', "where the column held a truth value before", 3, "a"),
        ('{"a":[1]}\n{"a":[[1]]}\n', "a list of steps, where the column held a list of numbers before", 2, "a"),
        ('{"a":[1]}\n{"a":1}\n', "a whole number, where", 2, "a"),
        ('{"a":[]}\n{"a":"x"}\n', "where the column held an empty list before", 2, "a"),
        ('{"b":1}\n{"a":{"b":1}}\n', "an object within the object", 2, "a"),
        ('{"a":[{"b":1}]}\n', "a value that no column can hold", 1, "a"),
        ('{"a":[1,"x"]}\n', "a value that no column can hold", 1, "a"),
        ('{"a":[true]}\n', "a value that no column can hold", 1, "a"),
        ('{"a":[[[1]]]}\n', "a value that no column can hold", 1, "a"),
        ('{"a":18446744073709551616}\n', "a value that no column can hold", 1, "a"),
        ('{"a":' + "9" * 5000 + "}\n", "a number is too long", 1, None),
        ("[" * 100_000, "nested too deeply", 1, None),
        ('{"a":"\\ud800"}\n', "a value that no column can hold", 1, "a"),
        ('{"\\ud800":1}\n', "no name for a column", 1, None),
        ('{"a":1}\n{"a":1,"b":2,"a":3}\n', "a key twice", 2, "a"),
    ],
)
def test_refused(tmp_path, content, what, row, column):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert what in caught.value.what
    assert (caught.value.file, caught.value.row, caught.value.column) == (str(path), row, column)
    assert caught.value.hint
