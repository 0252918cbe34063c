"""Recurrences, one file each, and what composes them. `RECURRENCES` is the table that tests and commands walk."""

from clew.cells.attention import Attention, AttentionState
from clew.cells.base import Encoder, LinearRecurrence, Recurrence, Scanned, fold
from clew.cells.bidirectional import Bidirectional
from clew.cells.cfc import CfC, CfCState
from clew.cells.compose import Pointwise, Residual, Stack
from clew.cells.conv import Conv
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
from clew.cells.mlstm import MLSTM, MLSTMState
from clew.cells.parallel import Parallel
from clew.cells.pool import POOLS, AttentionPool, BothEnds, MaxPool, MeanPool, Pool, SumPool
from clew.cells.retnet import RetNet, RetNetState
from clew.cells.rglru import RGLRU, RGLRUState
from clew.cells.rwkv6 import RWKV6, RWKV6State
from clew.cells.rwkv7 import RWKV7, RWKV7State
from clew.cells.s5 import S5
from clew.cells.slstm import SLSTM, SLSTMState
from clew.cells.stack_memory import Lost, StackMemory, StackState

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
    "rwkv6": RWKV6,
    "rwkv7": RWKV7,
    "mlstm": MLSTM,
    "slstm": SLSTM,
    "cfc": CfC,
    "attention": Attention,
    "conv": Conv,
}

__all__ = [
    "GLA",
    "GRU",
    "LRU",
    "LSTM",
    "MLSTM",
    "POOLS",
    "RECURRENCES",
    "RGLRU",
    "RWKV6",
    "RWKV7",
    "S5",
    "SLSTM",
    "Attention",
    "AttentionPool",
    "AttentionState",
    "Bidirectional",
    "BothEnds",
    "CfC",
    "CfCState",
    "Conv",
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
    "Lost",
    "MLSTMState",
    "Mamba",
    "Mamba2",
    "Mamba2State",
    "MambaState",
    "MaxPool",
    "MeanPool",
    "MinGRU",
    "MinLSTM",
    "Parallel",
    "Pointwise",
    "Pool",
    "RGLRUState",
    "RWKV6State",
    "RWKV7State",
    "Recurrence",
    "Residual",
    "RetNet",
    "RetNetState",
    "SLSTMState",
    "Scanned",
    "Stack",
    "StackMemory",
    "StackState",
    "SumPool",
    "fold",
]
