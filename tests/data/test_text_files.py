"""Plain texts and folders of them, kinds of files, .gz, and cells as long as a book in every text format."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from clew.data.sources import LINES, SEPARATORS, read_table
from clew.data.table import texts
from clew.errors import DataError

LONG = "ab c" * 250_000


@pytest.fixture
def write(tmp_path):
    def write(content: bytes | str, name: str):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("name", ["a.txt", "a.text", "a.md", "A.TXT"])
def test_a_text_is_kept_as_it_stands(write, name):
    table = read_table(write("\ufeff one\r\n\ntwö \u2028 \n", name))
    assert (table.columns, table.rows, list(table.lines)) == (["text"], 1, [1])
    assert texts(table, "text") == [" one\r\n\ntwö \u2028 \n"]


def test_gz(write):
    assert texts(read_table(write(gzip.compress(b"one\n") + gzip.compress(b"two\n"), "a.txt.gz")), 1) == ["one\ntwo\n"]
    for content in (gzip.compress(b"one\n")[:-3], gzip.compress(b"one\n") + b"more", b"one\n", b""):
        with pytest.raises(DataError, match=r"not a whole \.gz file|is empty") as caught:
            read_table(write(content, "a.txt.gz"))
        assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "what", "row"),
    [
        (b"", "is empty", None),
        (b" \n\n", "is empty", None),
        ("one\ntwö\n".encode("latin-1"), "not UTF-8 text: byte 6 is 0xf6", 2),
        ("\ufeffone\n".encode() + b"\xf6", "not UTF-8 text: byte 4 is 0xf6", 2),
        (b"a\n" * 700_000 + b"\xe2\x82", "not UTF-8 text: byte 1400000 is 0xe2", 700_001),
        (b"one\n\ntw\0o\n", "a zero byte", 3),
        ("one".encode("utf-16"), "UTF-16", None),
    ],
)
def test_refused(write, content, what, row):
    with pytest.raises(DataError) as caught:
        read_table(write(content, "a.txt"))
    assert what in caught.value.what
    assert caught.value.row == row
    assert caught.value.hint


def test_letters_on_the_seam_of_two_blocks(write):
    text = "a" + "é€😀" * 300_000
    assert texts(read_table(write(text, "a.txt")), "text") == [text]


def test_a_folder_of_texts(write):
    for name, text in (("b.txt", "two"), ("a.txt", "one"), ("c.txt.gz", gzip.compress(b"three")), (".hidden", "x")):
        path = write(text, f"folder/{name}")
    table = read_table(path.parent)
    assert texts(table, "text") == ["one", "two", "three"]
    assert list(table.lines) == [1, 2, 3]
    write("", "folder/d.txt")
    with pytest.raises(DataError, match=r"d\.txt: is empty"):
        read_table(path.parent)
    write("x", "folder/d.csv")
    with pytest.raises(DataError, match=r"'d\.csv' in it is no plain text"):
        read_table(path.parent)


@pytest.mark.parametrize(("name", "ending"), [("a.xlsx", ".xlsx"), ("a.foo.gz", ".foo.gz"), ("a.parquet.gz", ".gz")])
def test_an_unknown_kind_names_all_that_are_known(write, name, ending):
    with pytest.raises(DataError, match="unknown kind of file") as caught:
        read_table(write("x", name))
    assert ending in caught.value.what
    assert caught.value.hint is not None
    assert all(suffix in caught.value.hint for suffix in (*SEPARATORS, *LINES, ".parquet"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", LONG),
        ("a.csv", f"text,label\n{LONG},a\nx,b\n"),
        ("a.csv", f'text,label\n"{LONG}",a\nx,b\n'),
        ("a.tsv", f"text\tlabel\n{LONG}\ta\nx\tb\n"),
        ("a.jsonl", json.dumps({"text": LONG})),
        ("a.jsonl", json.dumps({"text": [1.5] * 100_000})),
        ("a.conll", f"{LONG.replace(' ', '')}\tO\n"),
        ("a.conllu", f"1\t{LONG}" + "\t_" * 8),
        ("a.ts", "@data\n" + "0.5," * 250_000 + "1\n"),
    ],
)
def test_a_line_of_a_million_letters(write, name, content):
    path = write(content, name)
    before = time.perf_counter()
    table = read_table(path)
    assert time.perf_counter() - before < 2, "it takes 0.2 s on a machine that does nothing else"
    if table.schema.get("text") is not None and name != "a.jsonl":
        assert texts(table, "text")[0] == LONG
