"""Drop-ins for torch's recurrent modules: the same signatures, errors and state_dict, on the ops of Clew.

lstm = clew.nn.LSTM(64, 128, num_layers=2)
lstm.load_state_dict(torch_lstm.state_dict())
"""

from clew.nn.cells import GRUCell, LSTMCell, RNNCell
from clew.nn.layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]
