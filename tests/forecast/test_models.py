"""The anchored forecaster is a recurrence like any other, and starts as the naive forecast."""

import numpy as np
import pytest
import torch

from clew import cells
from clew.data.windows import Windows
from clew.diagnose.laws import check
from clew.errors import ConfigError, NotCausalError, ShapeError
from clew.forecast import iterate, last_value, rolling_origin, seasonal_naive
from clew.models import body, forecaster
from clew.models.anchored import Anchored


def anchored(lag: int, ahead: int, targets: int, levels: bool) -> Anchored:
    wide = 4 if levels else 2
    inner = cells.Stack(cells.GRU(wide, 5), cells.Pointwise(torch.nn.Linear(5, ahead * targets), 5, ahead * targets))
    return Anchored(inner, 2, lag, torch.tensor([1.5, 0.7]), ahead, targets, levels)


def model(ahead: int = 1, lag: int = 3, columns: int = 2, targets: int = 2, cell: str = "gru"):
    torch.manual_seed(0)
    stack = body(cell, 2 * columns if lag else columns, 6)
    scale = torch.ones(columns)
    built = forecaster(stack, columns=columns, targets=targets, ahead=ahead, lag=lag, scale_C=scale, levels=True)
    return built.double().eval()


@pytest.mark.parametrize(
    ("lag", "ahead", "targets", "levels"), [(1, 1, 2, True), (3, 5, 1, False), (1, 4, 1, True), (10, 3, 2, True)]
)
def test_anchored_obeys_the_laws(lag: int, ahead: int, targets: int, levels: bool) -> None:
    broken = [str(law) for law in check(anchored(lag, ahead, targets, levels)) if not law.holds]
    assert not broken


@pytest.mark.parametrize(("lag", "naive"), [(1, last_value), (4, seasonal_naive)])
@pytest.mark.parametrize("ahead", [1, 3, 9])
def test_without_corrections_it_is_the_naive_forecast(lag: int, naive, ahead: int) -> None:
    m = model(ahead=ahead, lag=lag, targets=1)
    readout = m.body.inner.layers[-1].module
    torch.nn.init.zeros_(readout.weight)
    series = torch.randn(1, 11, 2, dtype=torch.float64)
    y, _ = m(series)
    expected = naive(series[0, :, :1].numpy(), ahead, lag)
    np.testing.assert_allclose(y[0, -1].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("iterative", [True, False])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_rolling_origin_is_each_history_read_anew(iterative: bool, stride: int, lag: int) -> None:
    m = model(ahead=1 if iterative else 4, targets=2, lag=lag)
    series = torch.randn(20, 2, dtype=torch.float64)
    got = rolling_origin(m, series, 9, 4, iterative=iterative, stride=stride)
    expected = []
    with torch.no_grad():
        for origin in range(9, 17, stride):
            known = series[:origin]
            forecast = []
            for _ in range(4):
                y = m(known[None])[0][0, -1]
                if not iterative:
                    forecast = list(y)
                    break
                forecast.append(y[0])
                known = torch.cat([known, y])
            expected.append(torch.stack(forecast))
    torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-12)


def test_the_future_does_not_reach_a_forecast() -> None:
    m, series = model(), torch.randn(20, 2, dtype=torch.float64)
    other = series.clone()
    other[13:] += 100.0
    a, b = (rolling_origin(m, s, 9, 4, iterative=True) for s in (series, other))
    assert torch.equal(a[: 13 - 9 + 1], b[: 13 - 9 + 1])
    assert not torch.equal(a[5:], b[5:])


def test_a_loss_counts_every_step_ahead_after_the_warm_up() -> None:
    m = model(ahead=3, lag=2, targets=1)
    series = torch.randn(2, 12, 2, dtype=torch.float64)
    (batch,) = Windows(list(series.numpy()), 9, 3, 2, targets=1, warm_up=2).epoch(0, 0)
    y, _ = m(batch.x)
    both = torch.cat([batch.x[:, :, :1], batch.target[:, -1]], 1)
    errors = [y[:, t, k, 0] - both[:, t + 1 + k, 0] for t in range(2, 9) for k in range(3)]
    expected = torch.nn.functional.huber_loss(torch.stack(errors), torch.zeros(21, 2, dtype=torch.float64))
    torch.testing.assert_close(m.loss(batch), expected)


def test_what_cannot_feed_itself_is_refused() -> None:
    m = model(ahead=1, targets=1)
    y, state = m(torch.randn(1, 5, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="feeds the model its own predictions"):
        iterate(m, y[:, -1], state, 3)
    m.body = cells.Bidirectional(cells.GRU(2, 3), cells.GRU(2, 3))
    with pytest.raises(NotCausalError, match="needs the future"):
        rolling_origin(m, torch.randn(9, 2, dtype=torch.float64), 3, 2, iterative=False)


def test_unknown_cells_and_options_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'lstm'"):
        body("lstn", 2, 4)
    with pytest.raises(ConfigError, match="did you mean 'zoneout'"):
        body("gru", 2, 4, options={"zoneuot": 0.1})


def test_residual_and_norm_are_built_where_they_fit() -> None:
    stack = body("lstm", 2, 4, 3, residual=True, norm="rms", dropout=0.1)
    names = [type(layer).__name__ for layer in stack.layers]
    assert names == ["LSTM", "Pointwise", "Residual", "Residual"]
    assert stack.output_size == 4


def test_blocks_of_cells_in_turn() -> None:
    stack = body("lstm+gla", 2, 4, 3, norm="rms", mlp=2.0, options={"heads": 2, "forget_bias": 2.0})
    linear, *blocks, top = stack.layers
    assert (linear.input_size, linear.output_size) == (2, 4)
    assert [type(block.layer).__name__ for block in blocks] == ["LSTM", "GLA", "LSTM"]
    assert blocks[0].layer.forget_bias == 2.0
    assert [block.layer.heads for block in blocks] == [2, 2, 2]
    assert all(block.mlp is not None for block in blocks)
    assert isinstance(top.module, torch.nn.RMSNorm)
    assert [type(layer).__name__ for layer in body("gru", 4, 4, 2, mlp=1.0).layers] == ["Residual", "Residual"]
    both = body("gru", 2, 4, 2, mlp=1.0, norm="layer", bidirectional=True)
    assert both.output_size == 8
    with pytest.raises(ConfigError, match="unknown cell 'attentoin'"):
        body("gru + attentoin", 2, 4, 2)
    with pytest.raises(ConfigError, match="'lstm\\+gru' has no option 'window'"):
        body("lstm+gru", 2, 4, 2, options={"window": 2})
    with pytest.raises(ConfigError, match="2 cells in turn, but there are 1 layers"):
        body("lstm+gru", 2, 4)


def test_a_users_own_cell_is_built_by_name() -> None:
    class Mine(cells.GRU):
        pass

    assert isinstance(body("mine", 2, 4, cells={"mine": Mine}).layers[0], Mine)
    assert isinstance(body("my+own", 2, 4, cells={"my+own": Mine}).layers[0], Mine)


def test_a_users_own_annotations_are_no_hindrance() -> None:
    class Mine(cells.GRU):
        def __init__(self, input_size: int, hidden_size: int, *, extra: object = None) -> None:
            super().__init__(input_size, hidden_size)
            self.extra = extra

    Mine.__init__.__annotations__["extra"] = "Unknown"  # a name that only a type checker knows

    assert body("mine", 2, 4, cells={"mine": Mine}, options={"extra": 3}).layers[0].extra == 3
    with pytest.raises(ConfigError, match=r"'window'.*integer"):
        body("attention", 2, 4, options={"window": True})
