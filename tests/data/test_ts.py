""".ts files of the UCR and UEA archives: series as rows, and what is refused with its row."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from clew.data.lists import sequences
from clew.data.sources import read_table
from clew.data.table import kind, labels, numeric
from clew.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "tsc-ucr-uea"
HEAD = "# a comment\n@problemName x\n@timeStamps false\n@Dimensions 2\n@classLabel true up down\n@DATA\n"


@pytest.fixture
def read(tmp_path):
    def read(content: str, name: str = "a.ts"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return read_table(path)

    return read


@pytest.mark.parametrize("name", ["a.ts", "a.ts.gz"])
def test_channels_and_class(read, name):
    table = read(HEAD + "1,2,3:4,5,6: up\n\n1,-2e1:.5,0:down\n", name)
    assert table.columns == ["1", "2", "class"]
    assert list(table.lines) == [7, 9]
    assert labels(table, "class") == ["up", "down"]
    assert kind(table, "1") == "numbers"
    first, second = sequences(table, ["1", "2"])
    np.testing.assert_array_equal(first, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(second, [[1, 0.5], [-20, 0]])


def test_target_and_no_answer(read):
    np.testing.assert_array_equal(numeric(read("@targetlabel true\n@data\n1,2:3.5\n4:-1\n"), "target"), [3.5, -1])
    assert read("@classLabel false\n@data\n1,2\n4\n").columns == ["1"]


@pytest.mark.parametrize(
    ("content", "what", "row"),
    [
        ("", "no @data", None),
        ("@problemName x\n", "no @data", None),
        ("@\n@data\n", "holds no series", None),
        ("@problemName x\n1,2\n", "stands before @data", 2),
        ("@timestamps true\n@data\n(0,1):a\n", "time stamps", 1),
        (HEAD + "1,2:3,4:up\n1,2:up\n", "1 channels, where @dimensions says 2", 8),
        (HEAD + "1,2:3,4:up\n1,2:3,4:left\n", "the class 'left'", 8),
        (HEAD + "1,2:3:up\n", "channels of 1 and 2 steps", 7),
        (HEAD + "1,2:3,?:up\n", "a value is missing", 7),
        (HEAD + "1,2:3,NaN:up\n", "a value is missing", 7),
        (HEAD + "1,2:3,:up\n", "a value is missing", 7),
        (HEAD + "1,2:3,inf:up\n", "'inf' is not a number", 7),
        (HEAD + "1,2:3,1_0:up\n", "'1_0' is not a number", 7),
        ("@data\n1,2\n\n1,2:3,4\n", "2 channels, where the first series has 1", 4),
        ("@targetlabel true\n@data\n1,2:1\n1,2:x\n", "'x' is not a number", 4),
        ("@equalLength true\n@seriesLength 2\n@data\n1,2\n1,2,3\n", "3 steps, where @seriesLength says 2", 5),
    ],
)
def test_refused(read, content, what, row):
    with pytest.raises(DataError) as caught:
        read(content)
    assert what in caught.value.what
    assert caught.value.row == row
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "train", "test", "channels", "classes"),
    [
        ("JapaneseVowels", 270, 370, 12, 9),
        ("BasicMotions", 40, 40, 6, 4),
        ("GunPoint", 50, 150, 1, 2),
        ("ItalyPowerDemand", 67, 1029, 1, 2),
        ("OSULeaf", 200, 242, 1, 6),
    ],
)
def test_published_counts(name, train, test, channels, classes):
    for part, rows in (("TRAIN", train), ("TEST", test)):
        if not (path := SHARED / f"{name}_{part}.ts.gz").exists():
            pytest.skip(f"needs shared/data/tsc-ucr-uea/{path.name}")
        table = read_table(path)
        assert (table.rows, len(table.columns), len(set(labels(table, "class")))) == (rows, channels + 1, classes)
        assert len(sequences(table, table.columns[:-1])) == rows
