"""Recurrences, one file each, and what composes them. `RECURRENCES` is the table that tests and commands walk."""

from clew.cells.attention import Attention, AttentionState
from clew.cells.base import Encoder, LinearRecurrence, Recurrence, Scanned, fold
from clew.cells.bidirectional import Bidirectional
from clew.cells.cfc import CfC, CfCState
from clew.cells.compose import Pointwise, Residual, Stack
from clew.cells.deltanet import DeltaNet, DeltaState
from clew.cells.elman import Elman, ElmanState
from clew.cells.gated_deltanet import GatedDeltaNet
from clew.cells.gla import GLA
from clew.cells.gru import GRU, GRUState
from clew.cells.indrnn import IndRNN
from clew.cells.lru import LRU
from clew.cells.lstm import LSTM, LSTMState
from clew.cells.mamba import Mamba, MambaState
from clew.cells.mamba2 import Mamba2, Mamba2State
from clew.cells.mingru import MinGRU
from clew.cells.minlstm import MinLSTM
from clew.cells.pool import POOLS, AttentionPool, BothEnds, MaxPool, MeanPool, Pool, SumPool
from clew.cells.retnet import RetNet, RetNetState
from clew.cells.rglru import RGLRU, RGLRUState
from clew.cells.s5 import S5

RECURRENCES: dict[str, type[Recurrence]] = {
    "elman": Elman,
    "gru": GRU,
    "lstm": LSTM,
    "indrnn": IndRNN,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "lru": LRU,
    "s5": S5,
    "rglru": RGLRU,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "retnet": RetNet,
    "gla": GLA,
    "deltanet": DeltaNet,
    "gated_deltanet": GatedDeltaNet,
    "cfc": CfC,
    "attention": Attention,
}

__all__ = [
    "GLA",
    "GRU",
    "LRU",
    "LSTM",
    "POOLS",
    "RECURRENCES",
    "RGLRU",
    "S5",
    "Attention",
    "AttentionPool",
    "AttentionState",
    "Bidirectional",
    "BothEnds",
    "CfC",
    "CfCState",
    "DeltaNet",
    "DeltaState",
    "Elman",
    "ElmanState",
    "Encoder",
    "GRUState",
    "GatedDeltaNet",
    "IndRNN",
    "LSTMState",
    "LinearRecurrence",
    "Mamba",
    "Mamba2",
    "Mamba2State",
    "MambaState",
    "MaxPool",
    "MeanPool",
    "MinGRU",
    "MinLSTM",
    "Pointwise",
    "Pool",
    "RGLRUState",
    "Recurrence",
    "Residual",
    "RetNet",
    "RetNetState",
    "Scanned",
    "Stack",
    "SumPool",
    "fold",
]
