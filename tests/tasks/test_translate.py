"""Translate: from two columns of text to a model that writes, over every recurrence; and what can go wrong."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import clew
from clew import config
from clew.cells import RECURRENCES
from clew.errors import ConfigError, DataError
from clew.models import SCORES, entropy_ratio
from clew.tasks.records import spread

FAST = {"progress": False, "threads": 1, "patience": 0, "dropout": 0.0, "lr": 1e-2, "embedding": 16, "width": 32}
UNITS = {"source_unit": "character", "target_unit": "word"}


def words(n: int, seed: int, longest: int = 5) -> list[str]:
    r = random.Random(seed)
    return ["".join(r.choice("abcd") for _ in range(r.randint(2, longest))) for _ in range(n)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words, and their letters from the last to the first."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = sorted(set(words(700, 0)))
    file.write_text("word\tback\n" + "".join(f"{word}\t{' '.join(reversed(word))}\n" for word in rows))
    return file


@pytest.fixture(scope="module")
def few(table: Path) -> Path:
    """Where nothing has to be learned: to search for all of them takes longer than a step."""
    file = table.with_name("few.tsv")
    file.write_text("".join(table.read_text().splitlines(keepends=True)[:61]))
    return file


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    folder = table.parent / "run"
    clew.train(table, folder, **{**FAST, **UNITS, "steps": 240})
    return folder


def test_it_learns_what_the_source_alone_does_not_say(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "translate"
    assert {"token_error", "exact"} <= set(metrics["metrics"])
    assert metrics["metrics"]["token_error"] < 0.3 < metrics["baseline"]["source"]["token_error"]
    assert (run / "alignment.svg").read_text().count("<image") >= 3


def test_it_looks_at_few_places(run: Path) -> None:
    """Attention sums to 1 and is far from looking everywhere alike, whose entropy ratio is 1."""
    trained, ratios = clew.load(run), []
    for word in sorted(set(words(60, 5, 5))):
        source, target, weights = trained.alignment(word)
        assert (source, weights.shape) == (list(word), (len(target), len(word)))
        assert weights.sum(1) == pytest.approx(1.0, abs=1e-5)
        real = torch.ones(1, len(word), dtype=torch.bool)
        ratios.append(float(entropy_ratio(torch.from_numpy(weights)[None], real).mean()))
    assert 0 < sum(ratios) / len(ratios) < 0.7


def test_predictions_are_sorted_and_different(run: Path, table: Path, run_clew) -> None:
    said = run_clew("predict", run, table, "--nbest", 3)
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert said.code == 0
    by_row: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_row.setdefault(row["row"], []).append(row)
    assert len(by_row) == len(table.read_text().splitlines()) - 1
    for found in by_row.values():
        assert [int(one["rank"]) for one in found] == list(range(1, len(found) + 1))
        scores = [float(one["score"]) for one in found]
        assert scores == sorted(scores, reverse=True)
        assert len({one["back"] for one in found}) == len(found)


def test_a_file_of_sources_alone_is_enough(run: Path, tmp_path: Path, run_clew) -> None:
    (tmp_path / "new.csv").write_text("word\nabcd\nxyzq\n" + "ab" * 300 + "\n")
    said = run_clew("predict", run, tmp_path / "new.csv", "--json", "--beam", 4)
    rows = json.loads(said.out)["rows"]
    assert [row[0] for row in rows] == [2, 3, 4], "unknown letters and a very long word have answers too"
    assert all(len(row[2].split()) <= clew.load(run).longest for row in rows)


def test_the_best_of_several_references_counts(run: Path, tmp_path: Path) -> None:
    trained = clew.load(run)
    said = trained.write(["abc"])[0]
    (tmp_path / "one.tsv").write_text("word\tback\nabc\ta a a a\n")
    (tmp_path / "two.tsv").write_text(f"word\tback\nabc\ta a a a\nabc\t{said}\n")
    assert clew.evaluate(run, tmp_path / "one.tsv")["metrics"]["exact"] == 0
    both = clew.evaluate(run, tmp_path / "two.tsv")
    assert (both["metrics"]["exact"], both["metrics"]["token_error"], both["n"]) == (1, 0, 1)


def test_texts_together_are_those_one_at_a_time(run: Path) -> None:
    trained, texts = clew.load(run).searching(beam=3), [*words(40, 9), "a"]
    assert trained.write(texts) == [trained.write([text])[0] for text in texts]


def test_a_search_is_bounded_and_as_wide_as_one_likes(run: Path) -> None:
    trained = clew.load(run)
    assert all(len(text.split()) <= 2 for text in trained.searching(longest=2).write(["abcd"]))
    assert trained.searching(beam=500).write(["abcd"])
    with pytest.raises(ConfigError, match="needs a decoder with attention"):
        _without_attention(run).searching(coverage=0.2).write(["abcd"])
    assert trained.searching(coverage=0.2, beam=3, length_penalty=0.6).write(["abcd"])
    assert trained.searching(no_repeat=1, beam=4).write(["aaaa"])[0].split().count("a") <= 1


def _without_attention(run: Path):
    folder = run.parent / "plain"
    clew.train(run.parent / "pairs.tsv", folder, **{**FAST, **UNITS, "steps": 2, "attention": "none"})
    return clew.load(folder)


def test_two_files_line_by_line(tmp_path: Path, run_clew) -> None:
    texts = words(80, 3)
    (tmp_path / "a.en").write_text("\n".join(" ".join(word) for word in texts) + "\n")
    (tmp_path / "a.fr").write_text("\n".join(" ".join(reversed(word)) for word in texts) + "\n")
    pair = f"{tmp_path / 'a.en'}+{tmp_path / 'a.fr'}"
    said = run_clew("train", pair, "--out", tmp_path / "run", "--task", "translate", "--set", "steps=2", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["units"]["source"] > 2
    (tmp_path / "a.fr").write_text("a b\n")
    said = run_clew("train", pair, "--out", tmp_path / "other", "--task", "translate")
    assert said.code == 2
    assert "80 lines" in said.err.replace("has 80", "80")


@pytest.mark.parametrize("cell", RECURRENCES)
def test_every_recurrence_reads_and_writes(few: Path, tmp_path: Path, cell: str) -> None:
    """One step of training; then what the search found is worth what the model gives it when it is told each unit."""
    options = {"window": 8} if cell == "attention" else {}
    clew.train(
        few, tmp_path / "run", **{**FAST, **UNITS, "width": 16, "steps": 1, "cell": cell, "cell_options": options}
    )
    trained = clew.load(tmp_path / "run").searching(beam=3, longest=6)
    texts = ["abca", "dd"]
    for text, found in zip(texts, trained.search(texts, 2), strict=True):
        for one in found:
            units = [*one.units, 0] if one.finished else list(one.units)
            context = trained.model.encode(torch.as_tensor(trained.source.encode(text), dtype=torch.int64)[None])
            x = torch.tensor([[0, *units[:-1]]])[..., None]
            with torch.no_grad():
                logp = trained.model(x, None, context)[0][0]
            forced = float(logp[torch.arange(len(units)), torch.tensor(units)].sum())
            assert one.logp == pytest.approx(forced, abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        *({"attention": name, "bidirectional": name != "dot"} for name in [*SCORES, "none"]),
        {"feed": True},
        {"feed": True, "attention": "none"},
        {"tied": True, "embedding": 32},
        {"scheduled_sampling": 0.3},
        {"recipe": {"train": {"coverage": 0.5}}},
        {"copying": True, "source_unit": "character", "target_unit": "character"},
        {"copying": True, "source_unit": "word", "target_unit": "word", "feed": True, "beam": 3},
        {
            "copying": True,
            "source_unit": "auto",
            "target_unit": "piece",
            "tied": True,
            "embedding": 32,
            "scheduled_sampling": 0.5,
        },
        {"entropy_matching": 0.1, "label_smoothing": 0.0},
        {"decoder": "gru", "cell": "lstm", "layers": 2, "bidirectional": False, "dropout": 0.2},
    ],
)
def test_options(few: Path, tmp_path: Path, settings: dict) -> None:
    settings = dict(settings)
    recipe = config.build(settings.pop("recipe")) if "recipe" in settings else None
    made = clew.train(few, tmp_path / "run", recipe=recipe, **{**FAST, **UNITS, "steps": 3, **settings})
    assert all(value == value for value in made["metrics"].values())
    trained = clew.load(tmp_path / "run")
    assert trained.write(["abc"]) == clew.load(tmp_path / "run").write(["abc"])


def test_what_is_copied_is_cut_alike(table: Path, tmp_path: Path) -> None:
    """The unit that is named counts for both."""
    for name, units in (("a", {"source_unit": "character"}), ("b", {"target_unit": "word"})):
        clew.train(
            table, tmp_path / name, task="translate", **{**FAST, **units, "copying": True, "steps": 1, "longest": 3}
        )
        data = config.load_recipe(tmp_path / name / "recipe.toml")["data"]
        assert data["source_unit"] == data["target_unit"] == next(iter(units.values()))


def test_scores_say_how_they_were_computed(
    run: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sacrebleu's signature stands beside its figures; without the library there are edits alone, which is said."""
    saved = json.loads((run / "metrics.json").read_text())
    assert saved["signatures"].keys() == {"bleu", "chrf"}
    assert "tok:13a" in saved["signatures"]["bleu"]
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    made = clew.train(few, tmp_path / "run", **{**FAST, **UNITS, "steps": 1})
    assert made["metrics"].keys() == {"token_error", "exact"}
    assert made["signatures"] == {}
    assert capsys.readouterr().err.count("BLEU and chrF need the library sacrebleu") == 1


def test_validation_counts_what_can_be_written(tmp_path: Path) -> None:
    """Where units are looked up in lower case, a capital in the reference is no mistake."""
    rows = [("Ab", "Cd Ef"), ("Ba", "Ef Cd")] + [("ab", "cd ef"), ("ba", "ef cd")]
    (tmp_path / "a.tsv").write_text("x\ty\n" + "".join(f"{i}{a}\t{b}\n" for i in range(30) for a, b in rows))
    given = {**FAST, **UNITS, "task": "translate", "lowercase": True, "steps": 150}
    made = clew.train(tmp_path / "a.tsv", tmp_path / "run", **given)
    assert made["valid"]["exact"] == 1.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--beam", 5000], "decode.beam: input should be less than or equal to 1000 (got 5000)"),
        (["--nbest", 5000], "decode.beam: input should be less than or equal to 1000 (got 5000)"),
        (["--beam", -1], "--beam must be at least 1, got -1"),
    ],
)
def test_a_search_too_wide(run: Path, table: Path, options: list[object], says: str, run_clew) -> None:
    said = run_clew("predict", run, table, *options)
    assert said.code == 2
    assert said.err.startswith(f"clew: {says}")
    assert len(said.err.strip().splitlines()) <= 2


def test_what_is_watched_is_from_all_over() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]


def test_what_cannot_be_done_is_said(table: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], says: str, file: Path = table, **settings: Any) -> None:
        recipe = config.build(settings.pop("recipe", {}))
        given = {"recipe": recipe, "task": "translate", **FAST, **UNITS, "steps": 1, **settings}
        with pytest.raises(kind, match=says):
            clew.train(file, tmp_path / "run", **given)
        assert not (tmp_path / "run").exists()

    refused(ConfigError, "as wide as what is put out", tied=True)
    refused(DataError, "source and as target", target="word", inputs=["word"])
    refused(ConfigError, "needs a decoder with attention", recipe={"decode": {"coverage": 0.1}}, attention="none")
    refused(ConfigError, "horizon says nothing", horizon=3)
    refused(ConfigError, "cut alike in source and target", copying=True)
    refused(ConfigError, "cut alike", copying=True, source_unit="word+character", target_unit="auto")
    (tmp_path / "gap.tsv").write_text("word\tback\n" + "ab\tb a\n" * 30 + "cd\t\n")
    refused(DataError, "the target is empty", tmp_path / "gap.tsv")
    (tmp_path / "gap.tsv").write_text("word\tback\n" + "ab\tb a\n" * 30)
    refused(DataError, "different records cannot make", tmp_path / "gap.tsv")


def test_a_source_stands_in_one_part_alone(tmp_path: Path) -> None:
    rows = [(word, f"{i} x") for i, word in enumerate(words(300, 2, 3))]
    (tmp_path / "many.tsv").write_text("word\tback\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    made = clew.train(tmp_path / "many.tsv", tmp_path / "run", task="translate", **{**FAST, **UNITS, "steps": 1})
    assert sum(made["parts"].values()) == len({word for word, _ in rows})
    assert "test_seen_in_training" not in made


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that hold a name, most of which stand nowhere else, and the name."""
    r, file = random.Random(4), tmp_path_factory.mktemp("names") / "names.tsv"
    rows = []
    for name in sorted({"".join(r.choice("klmnoprstu") for _ in range(5)) for _ in range(500)}):
        filler = [r.choice(["we", "saw", "then", "that", "day"]) for _ in range(r.randint(2, 5))]
        filler[r.randrange(len(filler))] = f"mr {name}"
        rows.append(f"{' '.join(filler)}\tit was {name}\n")
    file.write_text("text\tsummary\n" + "".join(rows))
    return file


def test_a_word_that_was_never_seen_is_copied(names: Path, tmp_path: Path) -> None:
    given = {**FAST, "source_unit": "word", "target_unit": "word", "min_count": 3, "steps": 150, "task": "summarise"}
    made = clew.train(names, tmp_path / "copies", **given)
    trained = clew.load(tmp_path / "copies")
    assert made["metrics"]["exact"] > 0.8, made["metrics"]
    assert trained.write(["then we saw mr zyzzyva that day"]) == ["it was zyzzyva"]
    plain = clew.train(names, tmp_path / "plain", **{**given, "copying": False})
    assert plain["metrics"]["exact"] == 0


def test_probabilities_with_copies_sum_to_one(names: Path, tmp_path: Path) -> None:
    """Over the vocabulary and the words that it lacks; and a text's score is that of its units told one by one."""
    given = {**FAST, "source_unit": "word", "target_unit": "word", "min_count": 3, "steps": 2, "task": "summarise"}
    clew.train(names, tmp_path / "run", **given)
    trained = clew.load(tmp_path / "run").searching(beam=4, longest=5)
    texts = ["mr ab saw mr cd", "we saw", "mr ef"]
    together = trained.search(texts, 4)
    for text, found in zip(texts, together, strict=True):
        assert [one.units for one in found] == [one.units for one in trained.search([text], 4)[0]]
        copied, words = trained.target.read(text)
        context = trained.model.encode(
            torch.as_tensor(trained.source.encode(text), dtype=torch.int64)[None], None, torch.from_numpy(copied)[None]
        )
        for one in found:
            units = [*one.units, 0] if one.finished else list(one.units)
            with torch.no_grad():
                logp = trained.model(torch.tensor([[0, *units[:-1]]])[..., None], None, context)[0][0]
            assert logp.shape[1] == trained.target.size + len(words)
            assert logp.exp().sum(1).numpy() == pytest.approx(1.0, abs=1e-4)
            assert float(logp[range(len(units)), units].sum()) == pytest.approx(one.logp, abs=1e-4)
