"""Generate, of sets: what sounds together at each step, and what comes next (polyphonic music).

read         a column of lists of steps, each a list of whole numbers from 0: the keys that sound
model        a stack of recurrences over frames, and a mixture that says which keys sound together given all before
             (`models.heads.together`; with one component each key by itself: Boulanger-Lewandowski et al. 2012,
             arXiv:1206.6392, section 4)
baseline     how often each key sounds in the training part
metrics      nats, bits, perplexity, each of a frame, summed over its keys
predictions  how well each document is foreseen

T frames, K keys
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clew.config import Recipe
from clew.data.batch import Example
from clew.data.lists import is_key, lists_of_keys
from clew.data.series import Scaler
from clew.data.table import Table, kind
from clew.errors import DataError, read_back, shortly
from clew.metrics import Tokens
from clew.models import Single, body_of
from clew.models.heads.together import TogetherHead
from clew.tasks import continuing
from clew.tasks.base import Cells, Heard, Job
from clew.tasks.continuing import Continuer, Document
from clew.tasks.plain import Plain

KIND = "frames"
MOST = 4096  # keys
LIKELY = 5  # keys that a stream names
Frame = list[int]


class Composer(Continuer):
    """A trained model of what sounds together. It reads (T, K + 1): the keys of a frame, and a flag before the first.

    Args:
        shares: (K,) how often each key sounds in the training part.
    """

    reads_text = reads_line_ends = False

    def __init__(self, model: Single, column: str, shares: np.ndarray) -> None:
        self.model, self.column, self.shares = model, column, shares

    @property
    def wide(self) -> int:
        return self.head.readout.out_features

    @property
    def head(self) -> TogetherHead:
        assert isinstance(self.model.head, TogetherHead)
        return self.model.head

    def to_json(self) -> dict[str, Any]:
        return {"kind": KIND, "column": self.column, "shares": self.shares.tolist()}

    def read(self, table: Table) -> Sequence[list[Frame]]:
        return lists_of_keys(table, self.column)

    def example(self, document: Document) -> Example:
        try:
            return _example(document.raw, len(self.shares))
        except DataError as error:
            place = {"file": document.file, "row": document.row, "column": self.column}
            raise DataError(error.what, **place, hint=error.hint) from error

    def surprise(self, predicted: Tensor, follows: Tensor) -> Tensor:
        return self.head.surprise(predicted, follows)

    def baseline(self, examples: Sequence[Example]) -> dict[str, Tokens]:
        held_out, naive = np.concatenate([example.target for example in examples]), Tokens()
        p = self.shares.clip(1e-6, 1 - 1e-6)
        nats = -(held_out * np.log(p) + (1 - held_out) * np.log1p(-p)).sum()
        naive.update(float(nats), len(held_out))
        return {"frequencies": naive}

    def opening(self) -> np.ndarray:
        return _opening(len(self.shares))

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        keys = value.get("keys") if isinstance(value, Mapping) else value
        if not isinstance(keys, list) or not all(is_key(key) for key in keys):
            raise DataError(f"expected keys, got {shortly(value)}", hint="a frame is a list of keys: [60, 64, 67]")
        return _seen(_sounding([[int(key) for key in keys]], len(self.shares))), None

    def plain(self) -> Plain:
        keys = len(self.shares)
        inputs, alike = [*(f"key {key}" for key in range(keys)), "begins"], np.ones(keys + 1)
        names, same = [f"p(key {key})" for key in range(keys)], Scaler(0 * alike, alike)
        return Plain(self.model, inputs, names, self.head.shares, same, self.opening())

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """How surprising what was read is, and which keys are likely next."""
        assert heard.before is not None, "a stream opens with what stands before all documents"
        foreseen = torch.from_numpy(np.concatenate([heard.before[None], heard.y[:-1]]))
        given = torch.as_tensor(heard.x[:, :-1], dtype=foreseen.dtype)
        p, likely = self.head.shares(torch.from_numpy(heard.y[-1])).topk(min(LIKELY, len(self.shares)))
        following = {str(key): round(share, 6) for key, share in zip(likely.tolist(), p.tolist(), strict=True)}
        return {"frames": len(heard.x), "nats": float(self.surprise(foreseen, given).mean()), "next": following}

    @torch.no_grad()
    def compose(self, prompt: Sequence[Frame], *, length: int, temperature: float, seed: int) -> Iterator[Frame]:
        """`length` frames that follow the prompt."""
        self.model.eval()
        draws = torch.Generator().manual_seed(seed)
        x = np.concatenate([self.opening(), *(self.from_line(frame)[0] for frame in prompt)])
        predicted, state = self.model(torch.from_numpy(x)[None])
        y_BP = predicted[:, -1]
        for _ in range(length):
            sounds_BK = self.head.draw(y_BP, draws, temperature)
            yield torch.nonzero(sounds_BK[0])[:, 0].tolist()
            y_BP, state = self.model.step(F.pad(sounds_BK, (0, 1)), state)


def are_frames(table: Table, column: str) -> bool:
    """Whether a column holds lists of lists of whole numbers, not all of them as long."""
    if kind(table, column) != "vectors":
        return False
    steps = table.column(column).drop_nulls().head(50).explode().drop_nulls()
    lengths = steps.list.len()
    numbers = steps.explode().drop_nulls()
    if not numbers.dtype.is_numeric():
        return False
    whole = bool(len(numbers)) and bool(((numbers == numbers.round()) & (numbers >= 0)).all())
    return whole and bool(lengths.n_unique() > 1)


def keys_of(pieces: Sequence[list[Frame]]) -> list[Hashable]:
    """Equal for pieces that are the same."""
    return [tuple(tuple(sorted(frame)) for frame in piece) for piece in pieces]


def moved(pieces: Sequence[list[Frame]], most: int, keys: int) -> list[list[Frame]]:
    """Each piece, and it moved up and down by up to so many keys, as far as all of them are within the K."""
    found = list(pieces)
    for piece in pieces:
        low, high = min(map(min, filter(None, piece)), default=0), max(map(max, filter(None, piece)), default=0)
        for by in (by for by in range(-most, most + 1) if by and low + by >= 0 and high + by < keys):
            found.append([[key + by for key in frame] for frame in piece])
    return found


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None, column: str) -> Job:
    recipe = continuing.without_units(recipe, "frames of keys")
    d = recipe.data
    split = continuing.parts(recipe, tables, lambda table: lists_of_keys(table, column), keys_of)
    pieces = [document.raw for document in split[0]]
    highest = max((key for piece in pieces for frame in piece for key in frame), default=0)
    count = d.keys or highest + 1
    if not highest < count <= MOST:
        what = f"the key {highest}, where data.keys says that there are {count}" if d.keys else f"more than {MOST} keys"
        raise DataError(what, file=tables[0].name, column=column, hint="set data.keys to as many as there are")
    learned = [_example(piece, count) for piece in moved(pieces, d.transpose, count)]
    shares = np.concatenate([example.target for example in learned]).mean(0)
    composer = Composer(_model(recipe, shares, cells), column, shares)
    found = {"inputs": [column], "target": "", "keys": count}
    return continuing.job(recipe, composer, learned, split, keys_of, found, {"keys": count})


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Composer:
    with read_back(file):
        shares = np.array(saved["shares"], dtype=np.float64)
        if shares.ndim != 1 or not 1 <= len(shares) <= MOST or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError("a share for each key")
        column = str(saved["column"])
    return Composer(_model(recipe, shares, cells), column, shares)


def _example(piece: Sequence[Frame], keys: int) -> Example:
    follows = _sounding(piece, keys)
    return Example(np.concatenate([_opening(keys), _seen(follows[:-1])]), follows)


def _sounding(piece: Sequence[Frame], keys: int) -> np.ndarray:
    """(T, K), 1 for the keys that sound. Raises DataError for one that is not known."""
    found = np.zeros((len(piece), keys), np.float32)
    for t, frame in enumerate(piece):
        if frame and max(frame) >= keys:
            what = f"the key {max(frame)}, where 0 to {keys - 1} are known"
            raise DataError(what, hint="set data.keys to as many as there are, and train again")
        found[t, frame] = 1.0
    return found


def _opening(keys: int) -> np.ndarray:
    return np.eye(1, keys + 1, keys, dtype=np.float32)


def _seen(frames: np.ndarray) -> np.ndarray:
    """Frames as they are read: (T, K + 1)."""
    return np.concatenate([frames, np.zeros((len(frames), 1), np.float32)], 1)


def _model(recipe: Recipe, shares: np.ndarray, cells: Cells | None) -> Single:
    m, shares_K = recipe.model, torch.from_numpy(shares).float()
    stack = body_of(m, len(shares) + 1, cells)
    return Single(stack, TogetherHead(stack.output_size, shares_K, m.components, m.dropout))
