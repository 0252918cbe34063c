"""Keys of a recipe that reach the model and its training: each changes what it says, and nothing else is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from small_runs import FAST, RUNS

import clew
from clew.data.vocabulary import END, UNKNOWN
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead
from clew.tasks.run import RunFolder


def weights(files: dict[str, Path], out: Path, run: str, **settings: object) -> dict[str, np.ndarray]:
    file, own = RUNS[run]
    clew.train(files[file], out, **{**FAST, **own, "steps": 3, **settings})
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize(
    ("run", "settings"),
    [
        ("classify", {"label_smoothing": 0.2}),
        ("classify", {"word_dropout": 0.5}),
        ("classify", {"accumulate": 2}),
        ("classify", {"supervise": 1}),
        ("classify", {"pooling": "last"}),
        ("tag", {"supervise": "last"}),
        ("generate", {"supervise": 4}),
        ("generate", {"stride": 8}),
    ],
)
def test_an_option_changes_what_is_learned(files, tmp_path: Path, run: str, settings: dict) -> None:
    plain, other = weights(files, tmp_path / "a", run), weights(files, tmp_path / "b", run, **settings)
    alike = [np.array_equal(plain[name], other[name]) for name in plain if plain[name].shape == other[name].shape]
    assert not all(alike)


@pytest.mark.parametrize(("run", "window"), [("classify", 128), ("generate", 64)])
def test_an_automatic_window_is_written_down(files, tmp_path: Path, run: str, window: int) -> None:
    weights(files, tmp_path / "run", run, window="auto")
    assert RunFolder(tmp_path / "run").recipe().train.window == window


@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_width_is_as_asked(files, tmp_path: Path, bidirectional: bool) -> None:
    """With the last output as answer, both directions where there are two."""
    settings = {"embedding": 7, "letters": 5, "source_unit": "word+character", "pooling": "last"}
    found = weights(files, tmp_path / "run", "classify", bidirectional=bidirectional, **settings)
    shapes = [value.shape for value in found.values()]
    assert any(shape[-1] == 7 for shape in shapes)  # vectors of words
    assert (4 * FAST["width"], 7 + 2 * 5) in shapes  # what the first layer reads
    assert (2, FAST["width"] * (1 + bidirectional)) in shapes  # what the labels are told from


def test_forgotten_words_are_unknown_in_training_alone() -> None:
    units = Units(9, 4, dropout=0.5)
    x = torch.arange(9).repeat(400)[:, None]
    torch.manual_seed(0)
    y = units(x)
    unknown = (y == units.vectors.weight[UNKNOWN]).all(-1)
    share = unknown.view(400, 9).double().mean(0)
    assert share[END] == 0.0
    assert share[UNKNOWN] == 1.0
    assert ((share[2:] - 0.5).abs() < 0.12).all()
    assert torch.equal(units.eval()(x), units.vectors(x[:, 0]))


def test_smoothed_labels() -> None:
    """(1 - e) of the loss of the label and e of the mean over all K."""
    torch.manual_seed(0)
    head, y, target = ClassHead(3, 5, smoothing=0.2).double(), torch.randn(7, 3).double(), torch.arange(7) % 5
    logp = head.predict(y)
    expected = 0.8 * F.nll_loss(logp, target) - 0.2 * logp.mean()
    torch.testing.assert_close(head.loss(y, target), expected)
