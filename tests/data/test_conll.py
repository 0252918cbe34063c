"""CoNLL and CoNLL-U: sentences as rows, and what is refused with its row."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from clew.data.lists import tokens
from clew.data.sources import read_table
from clew.data.table import kind
from clew.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
WORD = "\t".join(["1", "Dogs", "dog", "NOUN", "NNS", "_", "2", "nsubj", "_", "_"])


@pytest.fixture
def read(tmp_path):
    def read(content: str, name: str = "a.conll"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return read_table(path)

    return read


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob", "a.iob2.gz"])
def test_sentences(read, name):
    table = read("-DOCSTART-\tO\n\n\nEU\tB-ORG\nrejects\tO\n \t \nPeter\tB-PER\n\n", name)
    assert table.columns == ["1", "2"]
    assert tokens(table, "1") == [["EU", "rejects"], ["Peter"]]
    assert tokens(table, "2") == [["B-ORG", "O"], ["B-PER"]]
    assert list(table.lines) == [4, 7]
    assert kind(table, "1") == "texts"


def test_blanks_part_where_there_is_no_tab(read):
    table = read("EU  NNP B-ORG\r\nrejects VBZ   O \r\n\r\n10\u00a0000 CD O\r\n")
    assert table.column("1").to_list() == [["EU", "rejects"], ["10\u00a0000"]]
    assert table.column("3").to_list() == [["B-ORG", "O"], ["O"]]
    assert read("New York\tLOC\nis\tO\n").column("1").to_list() == [["New York", "is"]]


def test_conllu(read):
    lines = ["# sent_id = 1", "#", WORD, WORD.replace("1", "1-2", 1), WORD.replace("1", "2.1", 1), ""]
    table = read("\n".join([*lines, "# text", WORD.replace("1\tDogs", "1\t#", 1), ""]), "a.conllu.gz")
    assert table.columns == ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
    assert table.column("form").to_list() == [["Dogs"], ["#"]]
    assert list(table.lines) == [3, 8]


@pytest.mark.parametrize(
    ("content", "name", "what", "row", "column"),
    [
        ("", "a.conll", "holds no token", None, None),
        ("-DOCSTART-\n\n", "a.conll", "holds no token", None, None),
        ("a\tO\n\nb\tB\tO\n", "a.conll", "3 columns, where the first token has 2", 3, None),
        ("\n" + "a b " * 250_000, "a.conll", "500000 columns, so it is no token", 2, None),
        ("a O\nb\n", "a.conll", "1 column, where the first token has 2", 2, None),
        ("a\tO\n\tO\n", "a.conll", "an empty cell", 2, None),
        ("a\tO\n \tO\n", "a.conll", "an empty cell", 2, None),
        ("a\tO\nb\t\n", "a.conll", "an empty cell", 2, None),
        ("# x\n" + WORD + "\tmore\n", "a.conllu", "11 columns, where CoNLL-U has ten", 2, None),
        ("1 Dogs dog NOUN NNS _ 2 nsubj _ _\n", "a.conllu", "1 column, where", 1, None),
        (f"{WORD}\n{WORD.replace('1', 'one', 1)}\n", "a.conllu", "'one' is no token's number", 2, "id"),
        (f"{WORD}\n{WORD.replace('1', '1-', 1)}\n", "a.conllu", "'1-' is no token's number", 2, "id"),
    ],
)
def test_refused(read, content, name, what, row, column):
    with pytest.raises(DataError) as caught:
        read(content, name)
    assert what in caught.value.what
    assert (caught.value.row, caught.value.column) == (row, column)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("path", "column", "sentences", "words"),
    [
        ("ner-wnut17/train.conll", "1", 3394, 62730),
        ("ner-wnut17/dev.conll", "1", 1009, 15733),
        ("ner-wnut17/test.conll", "1", 1287, 23394),
        ("pos-ud-english-ewt/en_ewt-ud-train.conllu.gz", "form", 12544, 204577),
        ("pos-ud-english-ewt/en_ewt-ud-dev.conllu.gz", "form", 2001, 25147),
        ("pos-ud-english-ewt/en_ewt-ud-test.conllu.gz", "form", 2077, 25094),
    ],
)
def test_published_counts(path, column, sentences, words):
    if not (SHARED / path).exists():
        pytest.skip(f"needs shared/data/{path}")
    found = tokens(read_table(SHARED / path), column)
    assert (len(found), sum(map(len, found))) == (sentences, words)
