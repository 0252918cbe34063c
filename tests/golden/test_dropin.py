"""What torch's own tests say of its recurrent modules, said of the drop-ins."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from clew import nn, ops

KINDS = ["RNN", "GRU", "LSTM"]
OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}]


def pair(kind: str, *sizes: int, **options):
    """Torch's module and ours with its weights, in float64."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*sizes, **options).double()
    ours = getattr(nn, kind)(*sizes, **options).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def flat(out) -> list[torch.Tensor]:
    y, hidden = out
    return [y.data if hasattr(y, "batch_sizes") else y, *(hidden if isinstance(hidden, tuple) else (hidden,))]


def same(a, b) -> None:
    for mine, other in zip(flat(a), flat(b), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
class TestLayers:
    def test_padded_and_unbatched(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        x = torch.randn(5, 2, 3, dtype=torch.float64)
        same(ours(x), theirs(x))
        same(ours(x[:, 0]), theirs(x[:, 0]))

    @pytest.mark.parametrize("enforce_sorted", [True, False])
    def test_packed(self, kind: str, options: dict, enforce_sorted: bool) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        lengths = [6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4]
        rows = [torch.randn(n, 3, dtype=torch.float64) for n in lengths]
        packed = pack_sequence(rows, enforce_sorted=enforce_sorted)
        mine, other = ours(packed), theirs(packed)
        same(mine, other)
        assert torch.equal(mine[0].batch_sizes, other[0].batch_sizes)
        padded, back = pad_packed_sequence(mine[0], batch_first=True)
        assert back.tolist() == lengths
        for row, (n, x) in enumerate(zip(lengths, rows, strict=True)):
            alone, _ = ours(x)
            torch.testing.assert_close(padded[row, :n], alone, rtol=1e-10, atol=1e-12)

    def test_gradients_of_packed_input(self, kind: str, options: dict) -> None:
        grads = []
        for module in pair(kind, 3, 4, **options):
            x = torch.randn(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
            packed = pack_padded_sequence(x, torch.tensor([4, 2, 1]), batch_first=True)
            sum(part.square().sum() for part in flat(module(packed))).backward()
            grads.append([x.grad, *(p.grad for p in module.parameters())])
        for mine, other in zip(*grads, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)

    def test_a_given_state(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        h = torch.randn(layers, 2, 4, dtype=torch.float64)
        hx = (h, h + 1) if kind == "LSTM" else h
        x = torch.randn(2, 2, 3, dtype=torch.float64)
        same(ours(x, hx), theirs(x, hx))
        packed = pack_sequence([x[0], x[1, :1]])
        same(ours(packed, hx), theirs(packed, hx))

    def test_state_dict_goes_both_ways(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict(), strict=True)
        assert repr(ours) == repr(theirs)
        assert isinstance(ours, getattr(torch.nn, kind))

    def test_weights_changed_in_place_are_seen(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        x = torch.randn(5, 2, 3, dtype=torch.float64)
        ours(x)
        with torch.no_grad():
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                mine.mul_(1.5)
                other.mul_(1.5)
        same(ours(x), theirs(x))

    def test_copies_do_not_share(self, kind: str, options: dict) -> None:
        ours, _ = pair(kind, 3, 4, **options)
        x = torch.randn(5, 2, 3, dtype=torch.float64)
        before, twin = ours(x), copy.deepcopy(ours)
        torch.nn.init.zeros_(twin.weight_ih_l0)
        same(ours(x), before)

    def test_inputs_that_are_not_contiguous(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        x = torch.randn(3, 10, 2, dtype=torch.float64).transpose(0, 2)[:, ::2]
        same(ours(x), theirs(x))

    def test_no_grad_and_inference_mode(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        x = torch.randn(5, 2, 3, dtype=torch.float64)
        with torch.no_grad():
            same(ours(x), theirs(x))
        with torch.inference_mode():
            same(ours(x), theirs(x))

    def test_derivatives(self, kind: str, options: dict) -> None:
        ours, _ = pair(kind, 2, 3, **options)
        x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: ours(x)[0], (x,), fast_mode=True)
        with ops.reference():
            assert torch.autograd.gradgradcheck(lambda x: ours(x)[0], (x,), fast_mode=True)

    def test_functional_call_uses_the_given_weights(self, kind: str, options: dict) -> None:
        ours, theirs = pair(kind, 3, 4, **options)
        x = torch.randn(5, 2, 3, dtype=torch.float64)
        doubled = {name: 2 * p for name, p in theirs.named_parameters()}
        got = torch.func.functional_call(ours, doubled, (x,))
        theirs.load_state_dict(doubled)
        same(got, theirs(x))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_draws_as_torch_does(kind: str) -> None:
    ours, theirs = pair(kind, 3, 4, num_layers=3, dropout=0.5)
    packed = pack_sequence([torch.randn(n, 3, dtype=torch.float64) for n in (4, 2)])
    for x in (torch.randn(5, 2, 3, dtype=torch.float64), packed):
        outs = []
        for module in (ours, theirs):
            torch.manual_seed(7)
            outs.append(module.train()(x))
        same(*outs)
        assert not torch.equal(flat(ours(x))[0], flat(ours.eval()(x))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_on_one_layer_warns_as_torch_does(kind: str) -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        getattr(nn, kind)(3, 4, dropout=0.5)


def test_projections() -> None:
    ours, theirs = pair("LSTM", 3, 5, num_layers=2, proj_size=2, bidirectional=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    same(ours(x), theirs(x))
    assert ours(x)[1][0].shape == (4, 2, 2)
    assert ours(x)[1][1].shape == (4, 2, 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 2, 4), (5, 2, 3, 1), (3,)])
def test_wrong_inputs_raise_what_torch_raises(kind: str, shape: tuple[int, ...]) -> None:
    raised = []
    for module in pair(kind, 3, 4):
        with pytest.raises((ValueError, RuntimeError)) as error:
            module(torch.zeros(shape, dtype=torch.float64))
        raised.append((type(error.value), str(error.value)))
    assert raised[0] == raised[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_dtype_raises_what_torch_raises(kind: str) -> None:
    raised = []
    for module in pair(kind, 3, 4):
        with pytest.raises(ValueError, match="does not match weight dtype") as error:
            module(torch.zeros(5, 2, 3))
        raised.append(str(error.value))
    assert raised[0] == raised[1]


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells_are_a_layer_of_one_step(kind: str) -> None:
    cell = getattr(nn, kind)(3, 4).double()
    layer = getattr(nn, kind.removesuffix("Cell"))(3, 4).double()
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x, hx = torch.randn(6, 2, 3, dtype=torch.float64), None
    for x_BI in x:
        hx = cell(x_BI, hx)
    _, final = layer(x)
    for mine, other in zip(
        hx if isinstance(hx, tuple) else (hx,), final if isinstance(final, tuple) else (final,), strict=True
    ):
        torch.testing.assert_close(mine, other[0], rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's compiler looks at it
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_around_a_model(kind: str) -> None:
    """Graph breaks are fine, wrong numbers are not."""
    ours, _ = pair(kind, 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    same(torch.compile(ours, backend="eager")(x), ours(x))
