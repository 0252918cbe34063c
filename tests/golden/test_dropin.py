"""What torch's own tests ask of RNN, GRU and LSTM (test/test_nn.py), asked of the drop-ins in our words."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from against_torch import F64, FORMS, assert_same, each_layer, flat, like, pair, source, with_gradients
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from clew import nn, ops


@pytest.mark.parametrize("given", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize(("name", "own"), [("RNN", {}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": 2})])
def test_every_form_of_input(name: str, own: dict, bidirectional: bool, form: str, given: bool) -> None:
    for batch_first, layers in itertools.product((False, True), (1, 2)):
        options = dict(num_layers=layers, batch_first=batch_first, bidirectional=bidirectional, dtype=F64, **own)
        theirs, ours = pair(name, 3, 5, **options, dropout=0.4 if layers > 1 else 0.0)
        rows = layers * (2 if bidirectional else 1)
        x, size = source(form, batch_first), () if form == "unbatched" else (0 if form == "empty batch" else 4,)
        h, c = (torch.randn(rows, *size, width, dtype=F64) for width in (own.get("proj_size", 5), 5))
        hx = like(theirs, h, c) if given else None
        (a, a_gradients), (b, b_gradients) = with_gradients(ours, x, hx), with_gradients(theirs, x, hx)
        assert_same((a, a_gradients), (b, b_gradients))
        assert all(p.is_contiguous() or not q.is_contiguous() for p, q in zip(flat(a), flat(b), strict=True))
        if isinstance(x, PackedSequence):
            assert type(a[0]) is PackedSequence
            for p, q in zip(a[0][1:], b[0][1:], strict=True):
                assert p is q or torch.equal(p, q)


@each_layer
def test_packed_equals_padded_row_by_row(name: str) -> None:
    m = getattr(nn, name)(3, 5, num_layers=2, bidirectional=True, dtype=F64)
    rows = [torch.randn(n, 3, dtype=F64) for n in (2, 6, 1, 5)]
    packed, state = m(pack_sequence(rows, enforce_sorted=False))
    y_TBH, lengths = pad_packed_sequence(packed)
    assert lengths.tolist() == [2, 6, 1, 5]
    for i, row in enumerate(rows):
        alone, alone_state = m(row)
        assert_same(y_TBH[: len(row), i], alone)
        assert not y_TBH[len(row) :, i].any()
        assert_same([leaf[:, i] for leaf in flat(state)], alone_state)


@each_layer
def test_packed_unsorted_takes_and_gives_states_in_the_callers_order(name: str) -> None:
    m = getattr(nn, name)(3, 5, dtype=F64)
    rows = [torch.randn(n, 3, dtype=F64) for n in (1, 3, 2)]
    h, order = torch.randn(1, 3, 5, dtype=F64), [1, 2, 0]
    mixed = m(pack_sequence(rows, enforce_sorted=False), like(m, h))[1]
    ordered = m(pack_sequence([rows[i] for i in order]), like(m, h[:, order]))[1]
    assert_same([leaf[:, order] for leaf in flat(mixed)], ordered)


@each_layer
def test_gradients_of_padding_are_nothing(name: str) -> None:
    m = getattr(nn, name)(3, 5, bidirectional=True, dtype=F64)
    x = torch.randn(6, 4, 3, dtype=F64, requires_grad=True)
    y = m(pack_padded_sequence(x, [6, 4, 4, 1]))[0]
    (g,) = torch.autograd.grad(y.data.square().sum(), x)
    for row, length in enumerate([6, 4, 4, 1]):
        assert not g[length:, row].any()
        assert g[:length, row].all()


@each_layer
def test_batch_first_only_turns_the_axes(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2, dtype=F64), torch.randn(6, 4, 3, dtype=F64)
    turned = getattr(nn, name)(3, 5, num_layers=2, batch_first=True, dtype=F64)
    turned.load_state_dict(m.state_dict())
    (y, h), (z, k) = m(x), turned(x.transpose(0, 1))
    assert_same((y, h), (z.transpose(0, 1), k))


@each_layer
def test_unbatched_is_a_batch_of_one(name: str) -> None:
    for batch_first in (False, True):
        m = getattr(nn, name)(3, 5, bidirectional=True, batch_first=batch_first, dtype=F64)
        x, axis = torch.randn(6, 3, dtype=F64), 0 if batch_first else 1
        (y, h), (z, k) = m(x), m(x.unsqueeze(axis))
        assert_same((y, *flat(h)), (z.squeeze(axis), *[leaf.squeeze(1) for leaf in flat(k)]))


@each_layer
def test_states_of_both_directions_stand_layer_by_layer(name: str) -> None:
    m = getattr(nn, name)(3, 5, num_layers=2, bidirectional=True, dtype=F64)
    y, state = m(torch.randn(6, 4, 3, dtype=F64))
    assert_same(flat(state)[0][2], y[-1, :, :5])  # last layer, forwards: ends at the last step
    assert_same(flat(state)[0][3], y[0, :, 5:])  # last layer, backwards: ends at the first


@each_layer
def test_a_state_of_zeros_is_the_default(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2, dtype=F64), torch.randn(6, 4, 3, dtype=F64)
    assert_same(m(x), m(x, like(m, torch.zeros(2, 4, 5, dtype=F64))))


@each_layer
def test_a_state_carries_over(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2, dtype=F64), torch.randn(6, 4, 3, dtype=F64)
    whole, end = m(x)
    first, state = m(x[:2])
    second, state = m(x[2:], state)
    assert_same((torch.cat([first, second]), state), (whole, end))


@each_layer
def test_non_contiguous_input_and_state(name: str) -> None:
    m = getattr(nn, name)(3, 5, dtype=F64)
    x, h = torch.randn(4, 3, 6, dtype=F64).permute(2, 0, 1), torch.randn(4, 5, 1, dtype=F64).permute(2, 0, 1)
    wide = torch.randn(1, 4, 10, dtype=F64)[:, :, ::2]
    assert_same(m(x, like(m, h, wide)), m(x.contiguous(), like(m, h.contiguous(), wide.contiguous())))


@each_layer
def test_two_backward_passes_through_one_graph(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2), torch.randn(6, 4, 3, requires_grad=True)
    y = m(x)[0]
    once = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert_same(torch.autograd.grad(y.sum(), x), once, 0.0)


@each_layer
def test_one_module_used_twice_adds_its_gradients(name: str) -> None:
    theirs, ours = pair(name, 3, 3, dtype=F64)
    x = torch.randn(6, 4, 3, dtype=F64)
    for m in (theirs, ours):
        m(m(x)[0])[0].sum().backward()
    assert_same([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


@each_layer
def test_without_gradients(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2, bidirectional=True), torch.randn(6, 4, 3)
    wanted = m(x)[0].detach()
    with torch.no_grad():
        assert not m(x)[0].requires_grad
    with torch.inference_mode():
        y = m(x)[0]
    assert y.is_inference()
    assert_same(y.clone(), wanted, 1e-5)


@each_layer
def test_the_empty_sequence_is_refused_as_by_torch(name: str) -> None:
    for m, x in itertools.product(pair(name, 3, 5), (torch.zeros(0, 4, 3), torch.zeros(0, 3))):
        with pytest.raises(RuntimeError, match=r"^Expected sequence length to be larger than 0 in RNN$"):
            m(x)


@each_layer
def test_sizes_of_states_are_checked_as_by_torch(name: str) -> None:
    theirs, ours = pair(name, 3, 5, num_layers=2, bidirectional=True)
    good = torch.zeros(4, 4, 5)
    cases = [(torch.zeros(6, 4, 3), like(ours, torch.zeros(s))) for s in ((2, 4, 5), (4, 3, 5), (4, 4, 6), (4, 5))]
    cases += [(torch.zeros(6, 3), like(ours, good)), (torch.zeros(3), None), (torch.zeros(6, 4, 2), None)]
    cases += [(torch.zeros(6, 4, 3, dtype=F64), None), (torch.zeros(1, 6, 4, 3), None)]
    if name == "LSTM":
        cases += [(torch.zeros(6, 4, 3), (good, torch.zeros(4, 4, 6))), (torch.zeros(6, 4, 3), good)]
    for x, hx in cases:
        with pytest.raises((RuntimeError, ValueError)) as wanted:
            theirs(x, hx)
        with pytest.raises(wanted.type) as got:
            ours(x, hx)
        assert str(got.value) == str(wanted.value)


@pytest.mark.parametrize("form", ["batched", "packed unsorted"])
@each_layer
def test_dropout(name: str, form: str) -> None:
    with_it = getattr(nn, name)(3, 50, num_layers=2, dropout=0.5, dtype=F64)
    without = getattr(nn, name)(3, 50, num_layers=2, dtype=F64)
    without.load_state_dict(with_it.state_dict())
    x = source(form, False)
    torch.manual_seed(0)
    first, second = flat(with_it(x)[0])[0], flat(with_it(x)[0])[0]
    assert not torch.equal(first, second)  # drawn anew each time
    assert_same(with_it.eval()(x), without(x), 0.0)
    with_it.train().dropout = 0.0  # it may be changed later
    assert_same(with_it(x), without(x), 0.0)
    with_it.dropout = 1.0
    theirs = getattr(torch.nn, name)(3, 50, num_layers=2, dropout=1.0, dtype=F64)
    theirs.load_state_dict(with_it.state_dict())
    assert_same(with_it(x), theirs(x))


@each_layer
def test_dropout_on_one_layer_warns_as_torch_does(name: str) -> None:
    messages = []
    for module in (torch.nn, nn):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(module, name)(3, 5, dropout=0.5)
        messages.append([(w.category, str(w.message)) for w in caught])
    assert messages[0] == messages[1]
    assert len(messages[0]) == 1


@pytest.mark.parametrize("form", ["batched", "packed unsorted"])
@pytest.mark.parametrize(("name", "own"), [("RNN", {}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": 2})])
def test_gradients_by_finite_differences(name: str, own: dict, form: str) -> None:
    m = getattr(nn, name)(2, 3, bidirectional=True, dtype=F64, **own)
    x = torch.randn(3, 2, 2, dtype=F64, requires_grad=True)
    h = torch.randn(2, 2, own.get("proj_size", 3), dtype=F64, requires_grad=True)
    c = torch.randn(2, 2, 3, dtype=F64, requires_grad=True)

    def function(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        packed = pack_padded_sequence(x, [1, 3], enforce_sorted=False) if form != "batched" else x
        return tuple(flat(m(packed, like(m, h, c))))

    parts = (x, h, c if name == "LSTM" else c.detach())
    assert torch.autograd.gradcheck(function, parts)
    with ops.reference():
        assert torch.autograd.gradcheck(function, parts)
        assert torch.autograd.gradgradcheck(function, parts)


# Dynamo declines every RNNBase, torch's too, and compiles what it calls; it looks at the `.grad` of what lies between.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@each_layer
def test_traced_by_the_compiler(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2, bidirectional=True, dtype=F64), source("batched", False)
    assert_same(with_gradients(torch.compile(m, backend="eager"), x, None), with_gradients(m, x, None))
