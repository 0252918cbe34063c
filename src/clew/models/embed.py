"""Units of text to vectors, each step by itself, so that what follows streams as ever.

V units, L letters, W width of a vector
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clew.cells import LSTM, Bidirectional
from clew.data.vocabulary import UNKNOWN

SMALL = 0.1  # a rare unit, seldom learned from, should say little: torch's own 1.0 lets it say noise, and overfits


class Units(nn.Module):
    """A learned vector for each unit: (..., 1) whole numbers to (..., W).

    Args:
        size: V.
        width: W.
        dropout: in training, the probability that a unit is taken for the unknown one, so that this one learns too.
    """

    def __init__(self, size: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.vectors, self.dropout, self.output_size = nn.Embedding(size, width), dropout, width
        nn.init.normal_(self.vectors.weight, std=SMALL)

    def forward(self, x: Tensor) -> Tensor:
        units = x[..., 0]
        if self.training and self.dropout:
            forgotten = torch.rand(units.shape, device=units.device) < self.dropout
            units = torch.where(forgotten & (units > UNKNOWN), UNKNOWN, units)
        return self.vectors(units)


class WordsWithLetters(nn.Module):
    """A word's own vector beside what a bidirectional LSTM makes of its letters: (..., 1 + L) to (..., W + 2 H).

    (Ling et al. 2015, arXiv:1508.02096; Plank et al. 2016, arXiv:1604.05529.)

    Args:
        words, letters: sizes of the two vocabularies.
        width: W.
        letter_width: H, of each direction, and of a letter's vector.
        dropout: of words, see `Units`; letters stay, so that they learn to stand in for a word that is not known.
    """

    def __init__(self, words: int, letters: int, width: int, letter_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = Units(words, width, dropout)
        self.letters = nn.Embedding(letters, letter_width)
        self.reader = Bidirectional(LSTM(letter_width, letter_width), LSTM(letter_width, letter_width))
        self.output_size = width + 2 * letter_width

    def forward(self, x: Tensor) -> Tensor:
        letters = x[..., 1:].flatten(0, -2)
        # Most words of a batch stand in it more than once: each is spelt out only once.
        spelt_NL, where = torch.unique(letters, dim=0, return_inverse=True)
        lengths = (spelt_NL != 0).sum(1)
        longest = max(1, int(lengths.max())) if len(lengths) else 1
        _, (forwards, backwards) = self.reader(self.letters(spelt_NL[:, :longest]), lengths=lengths)
        vectors = torch.cat([forwards.h, backwards.h], 1)[where].unflatten(0, x.shape[:-1])
        return torch.cat([self.words(x[..., :1]), vectors], -1)
