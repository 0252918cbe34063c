"""Pairs from every kind of source, their mistakes by file and row, and batches of them that come again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from clew.data import pairs, parallel, vocabulary
from clew.data.pairs import Pair, PairBatch, PairBuckets, PairExample, collate_pairs
from clew.data.sources import read_table
from clew.data.table import Table
from clew.data.vocabulary import END
from clew.errors import ConfigError, DataError
from clew.training import Settings, fit
from clew.training.feed import endless, to_device


@pytest.fixture
def write(tmp_path):
    def write(content: bytes | str, name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def told(found: list[Pair]) -> list[tuple[str, list[str], int]]:
    return [(pair.source, pair.targets, pair.row) for pair in found]


TWO = [("go .", ["va !"], 2), ("naïve 😀 one", ["deux, ça"], 3)]


def test_two_columns_of_any_table(write, tmp_path):
    tsv = "en\tfr\ngo .\tva !\nnaïve 😀 one\tdeux, ça\n"
    csv = 'n,en,fr\n1,go .,va !\n2,naïve 😀 one,"deux, ça"\n'
    rows = [{"en": "go .", "fr": "va !"}, {"en": "naïve 😀 one", "fr": "deux, ça"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    once = [(source, known, row - 1) for source, known, row in TWO]
    for path, expected in (
        (write(tsv, "a.tsv"), TWO),
        (write(csv, "a.csv"), TWO),
        (write(lines, "a.jsonl"), once),
        (tmp_path / "a.parquet", once),
        (write(gzip.compress(tsv.encode()), "b.tsv.gz"), TWO),
    ):
        table = read_table(path)
        assert told(pairs.read(table)) == expected
        assert pairs.read(table)[0].file == str(path)
        assert told(pairs.read(table, ["fr"], "en"))[0][:2] == ("va !", ["go ."])
    bare = read_table(write(tsv.split("\n", 1)[1], "c.tsv"), header=False)
    assert told(pairs.read(bare)) == once
    assert told(pairs.read(bare, ["2"], "1"))[1][:2] == ("deux, ça", ["naïve 😀 one"])


def table_of(**columns) -> Table:
    frame = pl.DataFrame(columns)
    return Table("t", frame, True, "", range(2, frame.height + 2))


@pytest.mark.parametrize(
    ("columns", "inputs", "target", "chosen"),
    [
        ({"id": "7", "a": "x", "b": "y", "c": "z"}, [], "", ("a", "b")),
        ({"id": "7", "a": "x", "b": "y", "c": "z"}, [], "a", ("b", "a")),
        ({"id": "7", "a": "x", "b": "y", "c": "z"}, ["b"], "", ("b", "a")),
        ({"id": "7", "a": "x", "b": "y", "c": "z"}, ["3"], "1", ("b", "id")),
        ({"n": "12", "words": "twelve"}, [], "", ("n", "words")),
        ({"n": "12", "words": "twelve"}, [], "n", ("words", "n")),
        ({"sum": "1+1", "is": "2"}, [], "", ("sum", "is")),
        ({"known": ["x", "y"], "text": "z"}, [], "", ("text", "known")),
    ],
)
def test_which_columns_are_meant(columns, inputs, target, chosen):
    table = table_of(**{name: [cell] for name, cell in columns.items()})
    assert pairs.columns_of(table, inputs, target) == chosen
    assert len(pairs.read(table, inputs, target)) == 1


@pytest.mark.parametrize(
    ("inputs", "target", "says"),
    [
        (["a", "b"], "", "one source"),
        (["a"], "a", "source and as target"),
        (["1"], "a", "source and as target"),
        (["q"], "", "no column 'q'"),
        ([], "q", "no column 'q'"),
    ],
)
def test_columns_that_cannot_be_meant(inputs, target, says):
    with pytest.raises(DataError, match=says) as caught:
        pairs.read(table_of(a=["x"], b=["y"], n=["1"]), inputs, target)
    assert caught.value.hint


@pytest.mark.parametrize("columns", [{"a": ["x"]}, {"a": ["x"], "n": ["1"], "m": ["2"]}])
def test_a_table_without_two_texts_asks_for_names(columns):
    with pytest.raises(DataError, match="no two columns of text") as caught:
        pairs.read(table_of(**columns))
    assert "--target" in str(caught.value.hint)


def test_a_target_may_be_a_list(write):
    rows = [{"q": "one", "a": ["1", "I"]}, {"q": "two", "a": ["2"]}]
    table = read_table(write("\n".join(map(json.dumps, rows)), "a.jsonl"))
    assert told(pairs.read(table)) == [("one", ["1", "I"], 1), ("two", ["2"], 2)]
    assert [pair.targets for pair in pairs.single(pairs.read(table))] == [["1"], ["I"], ["2"]]


@pytest.mark.parametrize(
    ("rows", "column", "row"),
    [
        ([{"q": "one", "a": "1"}, {"q": " ", "a": "2"}], "q", 2),
        ([{"q": "one", "a": "1"}, {"q": "two", "a": ""}], "a", 2),
        ([{"q": "one", "a": "1"}, {"q": "two"}], "a", 2),
        ([{"q": "one", "a": "1"}, {"q": "two", "a": None}], "a", 2),
        ([{"q": "one", "a": ["1"]}, {"q": "two", "a": []}], "a", 2),
        ([{"q": "one", "a": ["1", " "]}, {"q": "two", "a": ["2"]}], "a", 1),
        ([{"q": "one", "a": ["1"]}, {"q": "two"}], "a", 2),
    ],
)
def test_an_empty_source_or_target_is_named(write, rows, column, row):
    path = write("\n".join(map(json.dumps, rows)), "a.jsonl")
    with pytest.raises(DataError) as caught:
        pairs.read(read_table(path), ["q"], "a")
    assert (caught.value.file, caught.value.row, caught.value.column) == (str(path), row, column)
    assert "drop the row" in str(caught.value.hint)


def test_the_same_source_is_one_example_with_several_references():
    found = [
        Pair("go", ["va"], "t", 1),
        Pair("stop", ["halte"], "t", 2),
        Pair("go", ["allez", "va"], "u", 3),
        Pair("Go", ["Va"], "u", 4),
    ]
    before = [pair._replace(targets=list(pair.targets)) for pair in found]
    assert pairs.grouped(found) == [
        Pair("go", ["va", "allez"], "t", 1),
        Pair("stop", ["halte"], "t", 2),
        Pair("Go", ["Va"], "u", 4),
    ]
    assert found == before
    assert pairs.grouped(pairs.single(pairs.grouped(found))) == pairs.grouped(found)
    assert pairs.grouped([]) == []


# Two files line by line.


def test_parallel_files(write):
    """Only a line feed ends a line: U+2028 and the form feed stand within one."""
    first = write("go .\r\nnaïve\u2028 😀\x0c one\r\n", "a.en")
    second = write(gzip.compress("\ufeffva !\ndeux, ça".encode()), "a.fr.gz")
    table = parallel.read(first, second)
    assert (table.name, table.columns, table.rows) == (f"{first}+{second}", ["en", "fr"], 2)
    assert told(pairs.read(table)) == [("go .", ["va !"], 1), ("naïve\u2028 😀\x0c one", ["deux, ça"], 2)]
    assert len(table.sha256) == 64
    assert len({table.sha256, parallel.read(second, first).sha256, parallel.read(first, first).sha256}) == 3


@pytest.mark.parametrize(
    ("first", "second", "columns"),
    [
        ("a.en", "a.fr", ["en", "fr"]),
        ("a.tok.en.gz", "a.tok.fr", ["en", "fr"]),
        ("src.txt", "tgt.txt", ["src", "tgt"]),
        ("src", "tgt", ["src", "tgt"]),
        ("en/a.txt", "fr/a.txt", ["source", "target"]),
    ],
)
def test_what_the_columns_are_called(write, first, second, columns):
    files = [write(gzip.compress(b"1\n2") if name.endswith("gz") else b"1\n2\n", name) for name in (first, second)]
    table = parallel.read(*files)
    assert table.columns == columns
    assert told(pairs.read(table)) == [("1", ["1"], 1), ("2", ["2"], 2)], "numbers are texts too"


@pytest.mark.parametrize(
    ("first", "second", "says", "file", "row"),
    [
        (b"a\nb\nc\n", b"x\ny\n", r"has 3 lines, where .*a\.fr has 2", "a.en", None),
        (b"a\nb\n", b"x\ny\n\n", r"has 2 lines, where .*a\.fr has 3", "a.en", None),
        (b"a\n\nc\n", b"x\ny\nz\n", "line is empty", "a.en", 2),
        (b"a\nb\nc\n", b"x\ny\n \r\n", "line is empty", "a.fr", 3),
        (b"", b"x\n", "is empty", "a.en", None),
        (b"a\n", b"\xff\n", "not UTF-8", "a.fr", 1),
        (b"a\n", None, "no such file", "a.fr", None),
    ],
)
def test_parallel_files_that_do_not_fit(write, tmp_path, first, second, says, file, row):
    write(first, "a.en")
    if second is not None:
        write(second, "a.fr")
    with pytest.raises(DataError, match=says) as caught:
        parallel.read(tmp_path / "a.en", tmp_path / "a.fr")
    assert (str(caught.value.file), caught.value.row) == (str(tmp_path / file), row)
    assert caught.value.hint


def test_a_damaged_gz_is_named(write):
    file = write(gzip.compress(b"a\n")[:-3], "a.fr.gz")
    with pytest.raises(DataError, match=r"not a whole \.gz file"):
        parallel.read(write("a\n", "a.en"), file)


def test_two_files_by_one_name(write, tmp_path):
    for name in ("a.en", "a.fr", "c++.en", "both", "both+one"):
        write("x\n", name)
    at = f"{tmp_path}/"
    assert parallel.named(f"{at}a.en+{at}a.fr") == (tmp_path / "a.en", tmp_path / "a.fr")
    assert parallel.named(f"{at}c++.en+{at}a.fr") == (tmp_path / "c++.en", tmp_path / "a.fr")
    assert parallel.named(f"{at}a.en+{at}c++.en") == (tmp_path / "a.en", tmp_path / "c++.en")
    assert parallel.named(f"{at}both+one+{at}a.fr") == (tmp_path / "both+one", tmp_path / "a.fr")
    assert parallel.named(f"{at}a.en+{at}gone.fr") == (tmp_path / "a.en", tmp_path / "gone.fr")
    for other in (f"{at}a.en", f"{at}both+one", f"{at}gone.en+{at}a.fr", "sample:co2"):
        assert parallel.named(other) is None


# Units and batches.


def test_encoded_pairs_are_examples_one_a_target():
    found = [Pair("go on", ["va", "allez"], "t", 1), Pair("é", ["ça va"], "t", 2)]
    source = vocabulary.fit("word+character", ["go on é"], letters=3)
    target = vocabulary.fit("character", ["va allez ça"])
    examples = pairs.encode(found, source, target)
    assert [example.source.shape for example in examples] == [(2, 4), (2, 4), (1, 4)]
    assert [target.decode(example.target) for example in examples] == ["va", "allez", "ça va"]
    with pytest.raises(ConfigError, match=r"word\+character") as caught:
        pairs.encode(found, target, source)
    assert caught.value.hint


def test_words_that_are_not_known_can_be_copied():
    """Each has a number of its own behind the vocabulary, the same in source and target; other words have none."""
    known = vocabulary.fit("word", ["call at noon"])
    (example,) = pairs.encode([Pair("call Ada at Bob Ada", ["Ada Bob Eve noon"], "t", 1)], known, known, copying=True)
    first, second = known.size, known.size + 1
    assert example.copied is not None
    assert example.copied.tolist()[1::2] == [first, second]
    assert example.copied[4] == first
    assert example.target.tolist() == [first, second, vocabulary.UNKNOWN, known.encode("noon")[0, 0]]
    assert known.decode(example.target, ["Ada", "Bob"]) == "Ada Bob \ufffd noon"


@pytest.mark.parametrize("pair", [Pair("", ["go"], "t", 7), Pair("go", ["on", ""], "t", 7)])
def test_a_text_without_units_is_named(pair):
    known = vocabulary.fit("word", ["go on"])
    with pytest.raises(DataError, match="holds nothing to read") as caught:
        pairs.encode([pair], known, known)
    assert (caught.value.file, caught.value.row) == ("t", 7)


def example(source: int, target: int, width: int = 1) -> PairExample:
    """Units that tell where they are from."""
    units = 1000 * source + 10 * target + np.arange(source * width).reshape(source, width)
    return PairExample((units + 1).astype(np.int32), np.arange(2, 2 + target, dtype=np.int32))


def test_a_batch_by_hand():
    batch = collate_pairs(
        [PairExample(np.array([[5, 6], [7, 8]]), np.array([3, 4, 2])), PairExample(np.zeros((0, 2), int), np.array([]))]
    )
    assert batch.source.tolist() == [[[5, 6], [7, 8]], [[0, 0], [0, 0]]]
    assert batch.source_lengths.tolist() == [2, 0]
    assert batch.x.tolist() == [[[END], [3], [4], [2]], [[END], [0], [0], [0]]]
    assert batch.target.tolist() == [[3, 4, 2, END], [END, 0, 0, 0]]
    assert batch.lengths.tolist() == [4, 1]
    assert batch.supervised.tolist() == [[True] * 4, [True, False, False, False]]
    assert batch.losses == 5
    assert all(part.dtype == torch.int64 and part.is_contiguous() for part in batch[:5])
    moved = to_device(batch, torch.device("meta"))
    assert isinstance(moved, PairBatch)
    assert moved.source.shape == (2, 2, 2)
    numbers = collate_pairs([PairExample(np.array([[0.5, 1.0]]), np.array([3]))])
    assert numbers.source.dtype == torch.float32


@pytest.fixture
def examples() -> list[PairExample]:
    random = np.random.default_rng(0)
    return [example(int(s), int(s * random.uniform(0.8, 1.2)) + 1, 2) for s in random.integers(1, 40, 1003)]


def rows_of(batch: PairBatch) -> list[tuple]:
    """What a batch holds, row by row, without its padding."""
    return [
        (source[:s].numpy().tobytes(), x[:t].numpy().tobytes(), target[:t].numpy().tobytes())
        for source, s, x, target, t in zip(*batch[:5], strict=True)
    ]


def test_an_epoch_holds_every_pair_once(examples):
    buckets = PairBuckets(examples, 16)
    batches = list(buckets.epoch(0, 0))
    assert len(batches) == len(buckets) == 63
    assert sorted(len(batch.x) for batch in batches) == [11] + [16] * 62
    expected = [rows_of(collate_pairs([one]))[0] for one in examples]
    assert sorted(row for batch in batches for row in rows_of(batch)) == sorted(expected)


def test_batches_are_of_like_length(examples):
    """With little padding on either side; in an order by chance there is a lot."""

    def padding(batches: list[PairBatch]) -> tuple[float, float]:
        source = sum(int(b.source_lengths.sum()) for b in batches) / sum(b.source[..., 0].numel() for b in batches)
        return 1 - source, 1 - sum(b.losses for b in batches) / sum(b.target.numel() for b in batches)

    chance = np.random.default_rng(1).permutation(len(examples))
    shuffled = [collate_pairs([examples[i] for i in chance[k : k + 16]]) for k in range(0, len(chance), 16)]
    source, target = padding(list(PairBuckets(examples, 16).epoch(0, 0)))
    assert source < 0.03 < 0.3 < padding(shuffled)[0]
    assert target < 0.15 < 0.3 < padding(shuffled)[1]


def test_the_order_is_a_function_of_seed_and_epoch_and_goes_on_anywhere(examples):
    buckets = PairBuckets(examples, 64)

    def order(*place: int) -> list[list[tuple]]:
        return [rows_of(batch) for batch in buckets.epoch(*place)]

    whole = order(3, 1)
    state = torch.random.get_rng_state()
    for start in (0, 1, 9, len(buckets)):
        assert order(3, 1, start) == whole[start:]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert order(3, 2) != whole != order(4, 1)
    lengths = [len(rows[0][0]) for rows in whole]
    assert lengths != sorted(lengths), "long and short batches come by turns"
    stream = endless(buckets, 3, len(buckets) + 5)
    assert [rows_of(next(stream)) for _ in range(3)] == whole[5:8]


class Toy(nn.Module):
    """Predicts a target's next unit from the last one and the source's length. `stop` is an update that never ends."""

    def __init__(self, stop: int = -1) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.head, self.stop, self.seen = nn.Embedding(60, 4), nn.Linear(5, 60), stop, 0

    def loss(self, batch: PairBatch) -> Tensor:
        self.seen += 1
        if self.seen == self.stop:
            raise KeyboardInterrupt
        lengths = batch.source_lengths[:, None, None].expand(*batch.target.shape, 1) / 40
        y = self.head(torch.cat([self.embed(batch.x[..., 0]), lengths], -1))
        real = batch.supervised
        return nn.functional.cross_entropy(y[real], batch.target[real])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_that_was_stopped_goes_on_as_if_it_never_was(examples, tmp_path, accumulate):
    buckets = PairBuckets(examples[:200], 16)
    settings = Settings(steps=20, lr=1e-2, validate_every=4, accumulate=accumulate)
    whole, stopped = Toy(), Toy(stop=11 * accumulate)
    fit(whole, buckets, settings, seed=1)
    assert fit(stopped, buckets, settings, folder=tmp_path, seed=1).stopped == "interrupted"
    resumed = Toy()
    assert fit(resumed, buckets, settings, folder=tmp_path, seed=1, resume=True).step == 20
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
