"""Files of texts, labels, tags and series that are not as they should be: what, where, how to mend it, and exit 2."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import clew

FAST = ["--set", "steps=3", "--set", "width=8", "--set", "threads=1"]
REVIEWS = [f"a {'good' if i % 2 else 'bad'} film of {i} hours,{'good' if i % 2 else 'bad'}" for i in range(40)]
TOKENS = "\n\n".join(f"Ada\tB-PER\nsaw\tO\nnumber{i}\tO" for i in range(30)) + "\n"
UNIVERSAL = (
    "\n\n".join(f"1\tAda\t{i}\tPROPN" + "\t_" * 6 + f"\n2\tsaw\t{i}\tVERB" + "\t_" * 6 for i in range(30)) + "\n"
)
SERIES = "@dimensions 2\n@classLabel true a b\n@data\n" + "".join(f"{i},2,3:1,{i},1:{'ab'[i % 2]}\n" for i in range(30))


def csv(*extra: str, header: str = "text,label") -> str:
    return "\n".join([header, *REVIEWS, *extra]) + "\n"


def lines(*extra: str) -> str:
    rows = [json.dumps({"text": text.split(",")[0], "label": text.split(",")[1]}) for text in REVIEWS]
    return "\n".join([*rows, *extra]) + "\n"


# The file, its content, further options, and what the message must hold.
FILES: dict[str, tuple[str, str | bytes, list[str], list[str]]] = {
    "one class": (
        "a.csv",
        "text,label\n" + "".join(f"film {i},good\n" for i in range(30)),
        [],
        ["nothing to tell apart"],
    ),
    "empty text": ("a.csv", csv(",good"), [], ["a.csv, row 42, column 'text'", "the text is empty", "drop the row"]),
    "blank text": ("a.csv", csv('"  ",good'), [], ["a.csv, row 42, column 'text'", "the text is empty"]),
    "empty label": ("a.csv", csv("a film,"), [], ["a.csv, row 42, column 'label'", "the label is empty"]),
    "header twice": ("a.csv", csv(header="text,text"), [], ["a.csv, row 1", "names 'text' twice", "rename"]),
    "ragged": ("a.csv", csv("a,film,good"), [], ["a.csv, row 42", "3 cells", "double quotes"]),
    "cut gz": ("a.csv.gz", gzip.compress(csv().encode())[:-20], [], ["not a whole .gz", "copy it again"]),
    "gz that is none": ("a.csv.gz", csv().encode(), [], ["not a whole .gz"]),
    "json list": ("a.jsonl", lines("[1, 2]"), [], ["a.jsonl, row 41", "is not an object: [1, 2]", "hint: write {"]),
    "json text": ("a.jsonl", lines('"film"'), [], ["a.jsonl, row 41", "is not an object"]),
    "no json": ("a.jsonl", lines("{text: 1}"), [], ["a.jsonl, row 41", "is not JSON", "one object a line"]),
    "mixed kinds": (
        "a.jsonl",
        lines('{"text": 7, "label": "good"}'),
        [],
        ["row 41, column 'text'", "a whole number, "],
    ),
    "object in object": ("a.jsonl", lines('{"text": {"a": 1}}'), [], ["row 41, column 'text'", "an object within"]),
    "null text": (
        "a.jsonl",
        lines('{"text": null, "label": "good"}'),
        [],
        ["row 41, column 'text'", "the cell is empty"],
    ),
    "missing key": ("a.jsonl", lines('{"text": "a film"}'), [], ["row 41, column 'label'", "the cell is empty"]),
    "word among numbers": (
        "a.csv",
        "x,y\n" + "".join(f"film {i},{i}\n" for i in range(30)) + "film,much\n",
        ["--task", "regress", "--target", "y", "--input", "x"],
        ["a.csv, row 32, column 'y'", "'much' is not a number"],
    ),
    "conll of another width": (
        "a.conll",
        TOKENS + "\nAda\tB-PER\textra\n",
        [],
        ["row 121", "3 columns, where"],
    ),
    "conll of one column": (
        "a.conll",
        TOKENS + "\nAda\n",
        [],
        ["row 121", "1 column, where the first"],
    ),
    "conll without a tag": ("a.conll", TOKENS + "\nAda\t\n", [], ["a.conll, row 121", "an empty cell"]),
    "conll without tokens": ("a.conll", "\n\n", [], ["a.conll", "holds no token"]),
    "conllu of another width": ("a.conllu", UNIVERSAL + "\n1\tAda\n", [], ["a.conllu, row 91", "CoNLL-U has ten"]),
    "conllu number": ("a.conllu", UNIVERSAL + "\nx" + "\t_" * 9, [], ["a.conllu, row 91", "no token's number"]),
    "ts without data": ("a.ts", SERIES.replace("@data\n", ""), [], ["a.ts, row 3", "stands before @data"]),
    "ts of another class": ("a.ts", SERIES + "1,2:1,2:c\n", [], ["a.ts, row 34", "class 'c'", "known: a, b"]),
    "ts of other channels": ("a.ts", SERIES + "1,2:a\n", [], ["a.ts, row 34", "1 channels, where @dimensions says 2"]),
    "ts of uneven channels": ("a.ts", SERIES + "1,2:1:a\n", [], ["a.ts, row 34", "channels of 1 and 2 steps"]),
    "ts with a gap": ("a.ts", SERIES + "1,?:1,2:a\n", [], ["a.ts, row 34", "a value is missing", "does not guess"]),
    "words and tags that do not fit": (
        "a.tsv",
        "words\ttags\n" + "".join(f"Ada saw {i}\tB-PER O O\n" for i in range(30)) + "Ada saw\tB-PER O O\n",
        ["--task", "tag", "--input", "words", "--target", "tags"],
        ["a.tsv, row 32, column 'tags'", "3 tags for 2 words"],
    ),
    "rows that make no steps": (
        "a.csv",
        "p,q,r,label\n" + "".join(f"{i},2,3,{'ab'[i % 2]}\n" for i in range(30)),
        ["--task", "classify", "--target", "label", "--set", "channels=2"],
        ["3 numbers a row cannot be cut into steps of 2"],
    ),
    "labels that change within a group": (
        "a.csv",
        "id,x,label\n" + "".join(f"s{i // 3},{i},{'ab'[i // 3 % 2]}\n" for i in range(30)) + "s9,1,a\n",
        ["--task", "classify", "--target", "label", "--input", "x", "--set", "group=id"],
        ["a.csv, row 32, column 'label'", "'a', where the sequence began with 'b'", "--task tag"],
    ),
    "text and numbers together": (
        "a.csv",
        "x,y,label\n" + "".join(f"a film,{i},{'ab'[i % 2]}\n" for i in range(30)),
        ["--task", "classify", "--target", "label", "--input", "x", "--input", "y"],
        ["columns of different kinds", "x (text), y (number)"],
    ),
    "tags of letters": (
        "a.conll",
        TOKENS,
        ["--set", "source_unit=bpe"],
        ["tags belong to words or letters", "word or word+character"],
    ),
    "a text that is too short": ("a.txt", "short", [], ["a.txt, row 1", "too short to learn from"]),
    "an empty text file": ("a.txt", " \n", [], ["a.txt", "is empty"]),
    "no text": ("a.txt", b"\xff\xfe\x00", [], ["a.txt", "UTF-16"]),
    "too few records": ("a.csv", "text,label\na,x\nb,y\n", ["--target", "label"], ["2 different records", "3 parts"]),
    "too long to learn whole": (
        "a.csv",
        csv("word " * 30_000 + ",good"),
        ["--set", "valid=0.05", "--set", "test=0.05"],
        ["a.csv, row 42", "30,000 steps is too long", "train.window=256"],
    ),
    "an unknown kind": ("a.xyz", "1", [], ["unknown kind of file '.xyz'", ".jsonl", ".conllu", ".ts"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file(run_clew, tmp_path: Path, name: str) -> None:
    file, content, options, parts = FILES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = run_clew("train", tmp_path / file, "--out", tmp_path / "run", *options, *FAST)
    assert said.code == 2, said
    message = said.err[said.err.index("clew: ") :]
    assert all(part in message for part in parts), message
    assert len(message.strip().splitlines()) <= 3, message
    assert not (tmp_path / "run" / "model.safetensors").exists()


OPTIONS = {
    "unknown task": (["--task", "clasify"], ["unknown task 'clasify'", "did you mean 'classify'"]),
    "unknown column": (["--target", "lable"], ["no column 'lable'", "did you mean 'label'"]),
    "unknown unit": (["--set", "source_unit=wrod"], ["data.source_unit", "'wrod'"]),
    "unknown pooling": (["--set", "pooling=median"], ["model.pooling", "'median'"]),
    "stride without a window": (["--set", "stride=4"], ["a stride needs a window"]),
    "windows of what needs the future": (
        ["--set", "window=4", "--set", "bidirectional=true"],
        ["needs the future", "hint:"],
    ),
    "a fraction of too much": (["--set", "test=0.7"], ["data.test", "less than 0.5", "0.7"]),
    "a test file that is not there": (["--set", "test=nowhere.csv"], ["nowhere.csv", "no such file"]),
    "a test part that no row is in": (["--set", "test=label=ugly"], ["column 'label'", "no row has 'ugly'"]),
    "supervision of nothing": (["--set", "supervise=0"], ["train.supervise"]),
    "a forecast of words": (["--task", "forecast", "--target", "label"], ["column 'label'", "is not a number"]),
    "text written from labels": (["--task", "generate", "--input", "nothing"], ["no column 'nothing'"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_option(run_clew, tmp_path: Path, name: str) -> None:
    options, parts = OPTIONS[name]
    (tmp_path / "a.csv").write_text(csv())
    said = run_clew("train", tmp_path / "a.csv", "--out", tmp_path / "run", *FAST, *options)
    assert said.code == 2, said
    assert all(part in said.err for part in parts), said.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "a.csv").write_text(csv())
    clew.train(folder / "a.csv", folder / "run", progress=False, steps=3, width=8, source_unit="character")
    return folder / "run"


def test_a_label_that_was_never_seen(run_clew, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(csv("a film,ugly"))
    said = run_clew("evaluate", trained, tmp_path / "b.csv")
    assert said.code == 2
    assert "b.csv, row 42, column 'label': the label 'ugly' does not occur in the training part" in said.err
    assert "hint: known: bad, good" in said.err
    assert run_clew("predict", trained, tmp_path / "b.csv").code == 0, "a prediction needs no label"


def test_letters_that_were_never_seen(run_clew, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("text,label\nein schöner Film 映画 \U0001f600,good\n")
    said = run_clew("predict", trained, tmp_path / "b.csv")
    assert said.code == 0
    assert len(said.out.splitlines()) == 2


def test_a_source_without_the_column(run_clew, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("tekst,label\na film,good\n")
    said = run_clew("predict", trained, tmp_path / "b.csv")
    assert said.code == 2
    assert "no column 'text'" in said.err
    assert "did you mean 'tekst'?" in said.err


def test_an_empty_text_among_those_to_predict(run_clew, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text('text,label\na film,good\n"",good\n')
    said = run_clew("predict", trained, tmp_path / "b.csv")
    assert said.code == 2
    assert "b.csv, row 3, column 'text': the text is empty" in said.err


def test_a_text_of_a_million_letters(run_clew, trained: Path, tmp_path: Path) -> None:
    """Predicted piece by piece, in memory that does not grow with it."""
    (tmp_path / "b.csv").write_text("text,label\n" + "a good film " * 84_000 + ",good\n")
    said = run_clew("predict", trained, tmp_path / "b.csv")
    assert said.code == 0
    assert len(said.out.splitlines()) == 2


def test_a_text_of_a_million_letters_is_learned_from_in_windows(run_clew, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv("a good film " * 84_000 + ",good"))
    options = ["--set", "window=64", "--set", "source_unit=character", "--set", "test=0.05", "--set", "valid=0.05"]
    assert run_clew("train", tmp_path / "a.csv", "--out", tmp_path / "run", *FAST, *options).code == 0


def test_labels_that_look_like_numbers_stay_as_they_are_written(run_clew, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"film {i},{['007', '7', '1e3'][i % 3]}\n" for i in range(60))
    )
    assert run_clew("train", tmp_path / "a.csv", "--out", tmp_path / "run", "--target", "label", *FAST).code == 0
    said = run_clew("predict", tmp_path / "run", tmp_path / "a.csv")
    assert said.out.splitlines()[0] == "row,label,probability,p(007),p(1e3),p(7)"


@pytest.mark.parametrize("line", ["[1, 2]", '{"txt": "a"}', "{}"])
def test_a_line_of_a_stream_that_is_no_text(run_clew, trained: Path, line: str) -> None:
    said = run_clew("stream", trained, feed="a film\n" + line + "\n")
    assert said.code == 2
    assert "stdin, row 2" in said.err
    assert len(said.out.splitlines()) == 1, "what was said before stands"


@pytest.mark.parametrize("options", [["--temperature", "-1"], ["--top-p", "0"], ["--top-k", "-2"], ["--length", "0"]])
def test_options_of_writing(run_clew, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be, that is the question. " * 20)
    clew.train(tmp_path / "a.txt", tmp_path / "run", progress=False, steps=2, width=4, batch=2)
    said = run_clew("generate", tmp_path / "run", *options)
    assert said.code == 2
    assert "must" in said.err


@pytest.mark.parametrize("damage", ["input", "answers", "vocabulary", "names", "counts"])
def test_a_damaged_plan(run_clew, trained: Path, tmp_path: Path, damage: str) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    plan = json.loads((run / "plan.json").read_text())
    home = {"vocabulary": plan["input"], "names": plan["answers"], "counts": plan["answers"]}.get(damage, plan)
    values = [None, 3, "x", [], {}, [1, 2], {"unit": "character"}, {"kind": "text"}]
    for value in values[: -3 if damage == "counts" else None]:  # [1, 2] are counts
        home[damage] = value
        (run / "plan.json").write_text(json.dumps(plan))
        said = run_clew("predict", run, "sample:co2")
        assert said.code == 2, (damage, value, said)
        assert "plan.json" in said.err or "model.safetensors" in said.err, said.err
