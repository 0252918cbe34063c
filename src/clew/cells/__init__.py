"""Recurrences, one file each, and what composes them. `RECURRENCES` is the table that tests and commands walk."""

from clew.cells.base import Encoder, LinearRecurrence, Recurrence, Scanned, fold
from clew.cells.bidirectional import Bidirectional
from clew.cells.compose import Pointwise, Residual, Stack
from clew.cells.elman import Elman, ElmanState
from clew.cells.gla import GLA
from clew.cells.gru import GRU, GRUState
from clew.cells.lstm import LSTM, LSTMState
from clew.cells.mingru import MinGRU
from clew.cells.pool import POOLS, AttentionPool, BothEnds, MaxPool, MeanPool, Pool, SumPool

RECURRENCES: dict[str, type[Recurrence]] = {
    "elman": Elman,
    "gru": GRU,
    "lstm": LSTM,
    "mingru": MinGRU,
    "gla": GLA,
}

__all__ = [
    "GLA",
    "GRU",
    "LSTM",
    "POOLS",
    "RECURRENCES",
    "AttentionPool",
    "Bidirectional",
    "BothEnds",
    "Elman",
    "ElmanState",
    "Encoder",
    "GRUState",
    "LSTMState",
    "LinearRecurrence",
    "MaxPool",
    "MeanPool",
    "MinGRU",
    "Pointwise",
    "Pool",
    "Recurrence",
    "Residual",
    "Scanned",
    "Stack",
    "SumPool",
    "fold",
]
