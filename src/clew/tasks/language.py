"""A trained writer (`generate`) as what tells a search which texts are likely: see `decode.ctc`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clew import tree
from clew.data.vocabulary import END, Vocabulary
from clew.errors import ConfigError
from clew.tasks import generate
from clew.tasks.generate import Writer
from clew.tasks.run import PLAN, RunFolder
from clew.tree import State


class WriterLanguage:
    """The next unit by a writer, in the units of a search; a memory is the writer's state.

    Args:
        writer: of characters.
        units: those of the search, each a character.
    """

    def __init__(self, writer: Writer, units: Vocabulary) -> None:
        self.writer = writer
        own = [END] + [int(writer.vocabulary.encode(units.decode([i]))[0, 0]) for i in range(1, units.size)]
        self.own = torch.tensor(own)  # the writer's unit for each of the search's

    def begin(self) -> tuple[np.ndarray, State]:
        return self._read(torch.tensor([END]), self.writer.model.init_state(1))[0]

    def after(self, units: Sequence[int], memories: Sequence[Any]) -> list[tuple[np.ndarray, Any]]:
        return self._read(self.own[list(units)], tree.stack(list(memories))) if units else []

    def end(self, following: np.ndarray) -> float:
        return float(following[END])

    @torch.no_grad()
    def _read(self, own_N: torch.Tensor, state: State) -> list[tuple[np.ndarray, Any]]:
        logp, state = self.writer.model.step(own_N[:, None], state)
        following = logp[:, self.own].double().numpy()
        return [(row, tree.take(state, torch.tensor([i]))) for i, row in enumerate(following)]


def language_of(run: str | Path, units: Vocabulary) -> WriterLanguage:
    """The language model of a run folder.

    Raises:
        RunError: it is no finished run.
        ConfigError: it does not write characters, or the search does not.
    """
    folder = RunFolder(run)
    folder.check()
    recipe = folder.recipe()
    if recipe.task != "generate" or recipe.data.source_unit != "character":
        hint = "train one with --task generate --set source_unit=character"
        raise ConfigError(f"decode.language: '{run}' does not write characters", hint=hint)
    if units.unit != "character":
        hint = "set data.target_unit = character, or leave the language model out"
        raise ConfigError(f"a language model of characters cannot help to find units of '{units.unit}'", hint=hint)
    writer = generate.restore(recipe, folder.plan(), folder.path / PLAN, None)
    assert isinstance(writer, Writer), "what writes characters is a Writer"
    folder.load_weights(writer.model)
    writer.model.eval()
    return WriterLanguage(writer, units)
