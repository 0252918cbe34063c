"""The sentences of the contract that no law covers: shapes, purity, what stays exact, what is refused and how."""

from __future__ import annotations

import copy
import itertools
import random
import re

import pytest
import torch
from configurations import CLASSICAL, CONFIGURATIONS, RECURRENT, SINGLE, build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clew import cells, tree
from clew.cells import GRU, LSTM, Bidirectional, Elman, Encoder, Pointwise, Recurrence, Residual, Stack
from clew.errors import ConfigError, ShapeError

B, T = 3, 5


def inputs(module, batch: int = B, steps: int = T, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(batch, steps, module.input_size, dtype=dtype)


def same(a, b) -> bool:
    """Bit for bit, structure and all."""
    assert tree.describe(a) == tree.describe(b)
    return all(torch.equal(p, q) for p, q in zip(tree.leaves(a), tree.leaves(b), strict=True))


def structure(state):
    """Types all the way down."""
    return type(state) if isinstance(state, torch.Tensor) else (type(state), *[structure(part) for part in state])


# --- state


@pytest.mark.parametrize("name", RECURRENT)
def test_batch_is_dimension_0_and_shapes_ignore_time(name: str) -> None:
    cell = build(name)
    for batch in (1, 2, 5):
        initial = cell.init_state(batch)
        shapes = [leaf.shape for leaf in tree.leaves(initial)]
        assert all(shape[0] == batch for shape in shapes)
        for steps in (0, 1, 6):
            y, state = cell(inputs(cell, batch, steps))
            assert y.shape == (batch, steps, cell.output_size)
            assert [leaf.shape for leaf in tree.leaves(state)] == shapes
            assert structure(state) == structure(initial)
        assert structure(cell.step(inputs(cell, batch)[:, 0], initial)[1]) == structure(initial)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", RECURRENT)
def test_state_follows_the_parameters(name: str, dtype: torch.dtype) -> None:
    cell = build(name).to(dtype)
    y, state = cell(inputs(cell, dtype=dtype))
    assert y.dtype == dtype
    counts = {torch.int64, torch.bool}  # positions, and whether a row has begun
    assert {leaf.dtype for leaf in tree.leaves(state)} <= {dtype} | counts
    assert [leaf.dtype for leaf in tree.leaves(cell.init_state(2))] == [leaf.dtype for leaf in tree.leaves(state)]
    assert {leaf.device.type for leaf in tree.leaves(copy.deepcopy(cell).to("meta").init_state(2))} <= {"meta"}
    lengths, reset = torch.tensor([2, 0, T]), torch.rand(B, T) < 0.3
    assert cell(inputs(cell, dtype=dtype), lengths=lengths, reset=reset)[0].isfinite().all()


@pytest.mark.parametrize("name", RECURRENT)
def test_initial_state_is_a_pure_function(name: str) -> None:
    cell = build(name).eval()
    before = torch.get_rng_state()
    assert same(cell.init_state(4), cell.init_state(4))
    assert torch.equal(before, torch.get_rng_state())
    one = cell.init_state(1)
    assert all((leaf == leaf[:1]).all() for leaf in tree.leaves(cell.init_state(4)))
    assert same(one, tree.map(lambda leaf: leaf[:1], cell.init_state(4)))


@pytest.mark.parametrize("name", CLASSICAL)
def test_random_start_is_drawn_once_and_saved(name: str) -> None:
    cell, other = (cells.RECURRENCES[name](3, 4, initial="random") for _ in range(2))
    assert "h_0" in cell.state_dict()
    assert "h_0" not in dict(cell.named_parameters())
    assert cell.init_state(1).h.abs().sum() > 0
    assert not same(cell.init_state(2), other.init_state(2))
    other.load_state_dict(cell.state_dict())
    assert same(cell.init_state(2), other.init_state(2))
    assert "h_0" not in cells.RECURRENCES[name](3, 4).state_dict()
    assert "h_0" in dict(cells.RECURRENCES[name](3, 4, initial="learned").named_parameters())


# --- padding, emptiness


@pytest.mark.parametrize("name", RECURRENT)
def test_length_0_keeps_the_state_bitwise(name: str) -> None:
    cell = build(name).eval()
    _, state = cell(inputs(cell))
    x = torch.full((B, T, cell.input_size), float("nan"))
    y, after = cell(x, state, lengths=torch.zeros(B, dtype=torch.long))
    assert same(after, state)
    assert (y == 0).all()
    y, after = cell(x[:, :0], state)
    assert same(after, state)
    assert y.shape == (B, 0, cell.output_size)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_padding_is_0_and_never_seen(name: str) -> None:
    module = build(name).eval()
    x, lengths = inputs(module), torch.tensor([2, T, 0])
    padded = torch.arange(T) >= lengths[:, None]
    x[padded] = float("nan")
    y, state = module(x, lengths=lengths)
    assert (y[padded] == 0).all()
    assert all(leaf.isfinite().all() for leaf in [y, *tree.leaves(state)])
    x[padded] = float("inf")
    assert same(module(x, lengths=lengths), (y, state))
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert same(module(x, lengths=lengths.to(dtype)), (y, state))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_time_and_no_rows(name: str) -> None:
    module = build(name).eval()
    empty = torch.zeros(B, 0, dtype=torch.bool)
    y, _ = module(inputs(module, B, 0), lengths=torch.zeros(B, dtype=torch.long), reset=empty)
    assert y.shape == (B, 0, module.output_size)
    y, state = module(inputs(module, 0, T))
    assert y.shape == (0, T, module.output_size)
    assert all(leaf.shape[0] == 0 for leaf in tree.leaves(state))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_flags_do_not_change_the_type(name: str) -> None:
    module = build(name).eval()
    x, full, none = inputs(module), torch.full((B,), T), torch.zeros(B, T, dtype=torch.bool)
    plain = module(x)
    for options in ({"lengths": full}, {"reset": none}, {"lengths": full, "reset": none}):
        found = module(x, **options)
        assert structure(found) == structure(plain)
        torch.testing.assert_close(list(tree.leaves(found)), list(tree.leaves(plain)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_lengths_and_resets_together(name: str) -> None:
    """Both at once = each row alone, cut at its length; a reset in the padding does nothing."""
    module = build(name).double().eval()
    x, lengths = inputs(module, steps=7, dtype=torch.float64), torch.tensor([5, 7, 0])
    reset = torch.zeros(B, 7, dtype=torch.bool)
    reset[0, [2, 6]] = reset[1, [0, 3]] = reset[2, 1] = True
    y, final = module(x, lengths=lengths, reset=reset)
    for row, n in enumerate(lengths.tolist()):
        alone, end = module(x[row : row + 1, :n], reset=reset[row : row + 1, :n])
        torch.testing.assert_close(y[row : row + 1, :n], alone, atol=1e-12, rtol=0)
        if isinstance(module, Recurrence):
            mine = [leaf[row : row + 1] for leaf in tree.leaves(final)]
            torch.testing.assert_close(mine, list(tree.leaves(end)), atol=1e-12, rtol=0)


# --- purity


def attributes(module: nn.Module) -> dict:
    return {path: dict(part.__dict__, _buffers=dict(part._buffers)) for path, part in module.named_modules()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_module_holds_state_and_nothing_changes_in_place(name: str, training: bool) -> None:
    module = build(name).train(training)
    x, state = inputs(module), None
    before, numbers = attributes(module), {k: v.clone() for k, v in module.state_dict().items()}
    lengths, reset = torch.tensor([2, 0, T]), torch.rand(B, T) < 0.3
    if isinstance(module, Recurrence):
        state = tree.map(lambda leaf: leaf.detach().clone(), module(x)[1])
        leaves = list(tree.leaves(state))
        copies, versions = [leaf.clone() for leaf in leaves], [leaf._version for leaf in leaves]
    kept, x_version = x.clone(), x._version
    if isinstance(module, Recurrence):
        module(x, state, lengths=lengths, reset=reset)
        module(x, state)
        module.step(x[:, 0], state)
        assert [leaf._version for leaf in leaves] == versions
        assert all(torch.equal(a, b) for a, b in zip(leaves, copies, strict=True))
    else:
        module(x, lengths=lengths, reset=reset)
    assert torch.equal(x, kept)
    assert x._version == x_version
    assert attributes(module) == before
    assert all(torch.equal(v, numbers[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_works_without_gradients(name: str) -> None:
    module = build(name).eval()
    x = inputs(module)
    expected = module(x)[0].detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y, state = module(x)
            torch.testing.assert_close(y, expected)
            if isinstance(module, Recurrence):
                module.step(x[:, 0], state)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_copies_and_saved_weights_give_the_same_numbers(name: str) -> None:
    module = build(name).eval()
    x = inputs(module)
    twin, stranger = copy.deepcopy(module), build(name, seed=1).eval()
    assert type(twin) is type(module)
    assert torch.equal(twin(x)[0], module(x)[0])
    stranger.load_state_dict(module.state_dict())
    assert torch.equal(stranger(x)[0], module(x)[0])
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter += 1.0
    assert torch.equal(stranger(x)[0], module(x)[0])


@pytest.mark.parametrize("name", [name for name in SINGLE if name.endswith((": defaults", ": everything"))])
def test_random_splits(name: str) -> None:
    """Any cutting into chunks (empty ones and single steps among them), and any length, is the whole pass."""
    draw = random.Random(0)
    cell = build(name).double().eval()
    steps = 7
    with torch.inference_mode():
        x, start = inputs(cell, 1, steps, torch.float64), cell.init_state(1)
        known = {n: cell(x[:, :n], start) for n in range(steps + 1)}
        for trial in range(1000 if name.startswith(CLASSICAL) else 60):
            n = draw.choice([0, 1, steps, draw.randint(0, steps)])
            cuts = [0, *sorted(draw.randint(0, n) for _ in range(draw.randint(1, 3))), n]
            state, ys = start, []
            for begin, end in itertools.pairwise(cuts):
                chunk, options = x[:, begin:end], {}
                if trial % 4 == 0:  # the chunk comes padded
                    chunk = torch.cat([chunk, chunk.new_full((1, 1, cell.input_size), float("nan"))], 1)
                    options = {"lengths": torch.tensor([end - begin])}
                y, state = cell(chunk, state, **options)
                ys.append(y[:, : end - begin])
            for ours, theirs in zip([torch.cat(ys, 1), *tree.leaves(state)], tree.leaves(known[n]), strict=True):
                assert ours.shape == theirs.shape
                assert not ours.numel() or (ours.double() - theirs.double()).abs().max() <= 1e-10, (n, cuts)


# --- the algebra of states

STATES = st.recursive(
    st.lists(st.integers(1, 3), max_size=2).map(lambda shape: ("leaf", tuple(shape))),
    lambda parts: st.lists(parts, max_size=3).map(lambda inside: ("tuple", inside)),
    max_leaves=6,
)


def grow(plan, batch: int, draws: torch.Generator):
    kind, inside = plan
    if kind == "leaf":
        return torch.randn(batch, *inside, generator=draws)
    parts = [grow(part, batch, draws) for part in inside]
    return cells.GRUState(*parts) if len(parts) == 2 else tuple(parts)


@settings(max_examples=60, deadline=None)
@given(plan=STATES, batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_algebra(plan, batch: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    a, b = grow(plan, batch, draws), grow(plan, batch, draws)
    assert structure(a) == structure(b) == structure(tree.map(lambda p, q: p + q, a, b))
    assert same(tree.rebuild(a, tree.leaves(a)), a)
    assert same(tree.from_named(tree.to_named(a), b), a)
    assert len(tree.to_named(a)) == len(list(tree.leaves(a)))
    assert tree.rows(a) in (batch, None)
    order = torch.randperm(batch, generator=draws)
    assert same(tree.take(tree.take(a, order), order.argsort()), a)
    if list(tree.leaves(a)):
        both = tree.stack([a, b])
        assert tree.rows(both) == 2 * batch
        assert same(tree.take(both, torch.arange(batch)), a)
        assert same(tree.take(both, torch.arange(batch, 2 * batch)), b)
    mask = torch.rand(batch, generator=draws) < 0.5
    poisoned = tree.map(lambda leaf: leaf * float("nan"), b)
    mixed = tree.where(mask, a, poisoned)
    rows = mask.nonzero().flatten()
    assert same(tree.take(mixed, rows), tree.take(a, rows))
    tracked = tree.map(lambda leaf: leaf.clone().requires_grad_(), a)
    assert not any(leaf.requires_grad for leaf in tree.leaves(tree.detach(tracked)))
    assert same(tree.detach(tracked), a)


def test_names_read_as_paths() -> None:
    state = Stack(LSTM(3, 4), GRU(4, 2, recurrent_dropout=0.1)).init_state(1)
    assert list(tree.to_named(state)) == ["state.0.h", "state.0.c", "state.1.h", "state.1.mask"]


def test_algebra_refuses_what_does_not_fit() -> None:
    one, two = LSTM(3, 4).init_state(2), GRU(3, 4).init_state(2)
    with pytest.raises(ShapeError, match="different structure"):
        tree.map(torch.add, one, two)
    for pair in ((one.h, one), (one, one.h), ((one,), one)):
        with pytest.raises(ShapeError, match="different structure"):
            tree.map(torch.add, *pair)
    named = tree.to_named(one)
    for wrong in (
        {**named, "state.x": one.h},
        {"state.h": one.h},
        {**named, "state.c": one.c[:, :2]},
        {**named, "state.c": one.c.double()},
        {**named, "state.c": one.c[:, :, None]},
    ):
        with pytest.raises(ShapeError, match="saved state does not fit"):
            tree.from_named(wrong, one)
    with pytest.raises(ShapeError, match="saved state does not fit"):
        tree.from_named({"state": torch.tensor(1.0)}, torch.zeros(2))
    assert tree.rows(tree.from_named(tree.to_named(LSTM(3, 4).init_state(7)), one)) == 7


# --- what is refused

LENGTHS = torch.tensor([5, 5, 5])
CALLS = {
    "width": (lambda m: m(torch.zeros(B, T, 7)), r"takes x of shape \(batch, time, 3\), got \(3, 5, 7\)"),
    "2 dimensions": (lambda m: m(torch.zeros(B, 3)), r"takes x of shape \(batch, time, 3\), got \(3, 3\)"),
    "4 dimensions": (lambda m: m(torch.zeros(B, T, 3, 3)), "takes x of shape"),
    "float lengths": (lambda m: m(torch.zeros(B, T, 3), lengths=LENGTHS.float()), "lengths must be whole numbers"),
    "bool lengths": (lambda m: m(torch.zeros(B, T, 3), lengths=LENGTHS > 2), "lengths must be whole numbers"),
    "shape of lengths": (lambda m: m(torch.zeros(B, T, 3), lengths=LENGTHS[:2]), r"of shape \(3,\), got .* \(2,\)"),
    "long lengths": (lambda m: m(torch.zeros(B, T, 3), lengths=LENGTHS + 1), "between 0 and the 5 steps of x"),
    "negative lengths": (lambda m: m(torch.zeros(B, T, 3), lengths=LENGTHS - 6), "between 0 and the 5 steps of x"),
    "shape of reset": (lambda m: m(torch.zeros(B, T, 3), reset=torch.zeros(B, 1) > 0), r"reset must be bool of shape"),
    "type of reset": (lambda m: m(torch.zeros(B, T, 3), reset=torch.zeros(B, T)), r"reset must be bool of shape"),
}
TAKES_3 = [name for name in CONFIGURATIONS if build(name).input_size == 3]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", TAKES_3)
def test_forward_says_what_does_not_fit(name: str, call: str) -> None:
    run, says = CALLS[call]
    with pytest.raises(ShapeError, match=says):
        run(build(name))


@pytest.mark.parametrize("name", RECURRENT)
def test_a_state_of_another_batch_is_refused(name: str) -> None:
    cell = build(name)
    if tree.rows(state := cell.init_state(B + 1)) is not None:
        with pytest.raises(ShapeError, match=f"x has {B} rows, the state has {B + 1}"):
            cell(inputs(cell), state)


@pytest.mark.parametrize(
    ("cell", "state", "says"),
    [
        (GRU(3, 4), LSTM(3, 4).init_state(B), r"must be a GRUState, got LSTMState\("),
        (LSTM(3, 4), GRU(3, 4).init_state(B), "must be a LSTMState"),
        (GRU(3, 4), torch.zeros(B, 4), r"must be a GRUState, got tensor\(3, 4\)"),
        (GRU(3, 4), GRU(3, 5).init_state(B), r"h is 4 wide, got \(3, 5\)"),
        (Stack(GRU(3, 4), GRU(4, 4)), GRU(3, 4).init_state(B), "must be a GRUState"),
        (Stack(GRU(3, 4), GRU(4, 4)), (GRU(3, 4).init_state(B),), "one part for each of 2 layers"),
    ],
)
def test_a_state_of_another_cell_is_refused(cell: Recurrence, state, says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        cell(torch.zeros(B, T, 3), state)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GRU(0, 4), "GRU: input_size must be a whole number of at least 1, got 0"),
        (lambda: GRU(3, 4.0), "hidden_size must be a whole number"),
        (lambda: LSTM(3, 4, projection=4), "projection must be at least 0 and under hidden_size, got 4"),
        (lambda: Stack(), "at least one layer"),
        (lambda: Stack(LSTM(3, 4), GRU(5, 4)), "LSTM gives 4 features, GRU above it takes 5"),
        (
            lambda: Stack(LSTM(3, 4), nn.LayerNorm(4)),
            "takes recurrences and encoders, got LayerNorm\nhint: .*Pointwise",
        ),
        (lambda: Residual(LSTM(3, 4)), "the layer takes 3 features and gives 4; they must be equal"),
        (lambda: Residual(Bidirectional(GRU(3, 3), GRU(3, 3))), "takes 3 features and gives 6"),
        (lambda: Residual(LSTM(3, 3), "batch"), "unknown norm 'batch'\nhint: known: none, layer, rms"),
        (lambda: Pointwise(nn.Sequential(nn.BatchNorm1d(3)), 3), "mixes the rows of a batch"),
        (lambda: Bidirectional(GRU(3, 4), GRU(2, 4)), "the passes take 3 and 2 inputs"),
        (lambda: Bidirectional(GRU(3, 4), GRU(3, 5), "sum"), "'sum' needs equal outputs, got 4, 5"),
    ],
)
def test_what_does_not_fit_together(make, says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GRU(3, 4, initial="zeros"), "unknown initial 'zeros'\nhint: did you mean 'zero'?"),
        (lambda: GRU(3, 4, recurrent_init="x"), "unknown recurrent_init 'x'\nhint: known: identity"),
        (lambda: Elman(3, 4, nonlinearity="thanh"), "hint: did you mean 'tanh'?"),
        (lambda: GRU(3, 4, zoneout=1.0), "zoneout must be at least 0 and under 1, got 1.0"),
        (lambda: LSTM(3, 4, zoneout_cell=-0.1), "zoneout_cell must be"),
        (lambda: GRU(3, 4, recurrent_dropout=1.5), "recurrent_dropout must be"),
        (lambda: Bidirectional(GRU(3, 4), GRU(3, 4), mask_future=1.1), "mask_future must lie between 0 and 1"),
        (lambda: Bidirectional(GRU(3, 4), GRU(3, 4), "add"), "unknown combine 'add'"),
    ],
)
def test_options_that_do_not_exist(make, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        make()


def test_what_holds_an_encoder_is_an_encoder() -> None:
    both = Bidirectional(GRU(3, 2), GRU(3, 1))
    for module in (both, Stack(LSTM(3, 3), both), Residual(both), Stack(LSTM(3, 3), Residual(Stack(both, GRU(3, 3))))):
        assert isinstance(module, Encoder)
        assert not isinstance(module, Recurrence)
        assert not hasattr(module, "step")
        assert not hasattr(module, "init_state")
    assert isinstance(Stack(LSTM(3, 3), Residual(GRU(3, 3))), Recurrence)


# --- what happens in training only


@pytest.mark.parametrize("name", CLASSICAL)
def test_dropout_mask_is_drawn_per_sequence_and_carried(name: str) -> None:
    cell = cells.RECURRENCES[name](3, 40, recurrent_dropout=0.4).double()
    x = inputs(cell, 6, 10, torch.float64)
    state = cell.init_state(6)
    kept = state.mask > 0
    assert torch.equal(state.mask[kept], torch.full_like(state.mask[kept], 1 / 0.6))
    assert 0.45 < kept.double().mean() < 0.75
    assert not torch.equal(state.mask[0], state.mask[1])
    y, after = cell(x, state)
    assert torch.equal(after.mask, state.mask)
    head, middle = cell(x[:, :4], state)
    tail, end = cell(x[:, 4:], middle)
    torch.testing.assert_close(torch.cat([head, tail], 1), y, atol=1e-12, rtol=0)
    torch.testing.assert_close(end.h, after.h, atol=1e-12, rtol=0)
    by_step, stepped = cell.step(x[:, 0], state)
    torch.testing.assert_close(by_step, y[:, 0], atol=1e-12, rtol=0)
    assert torch.equal(stepped.mask, state.mask)
    assert not torch.equal(cell(x)[0], cell(x)[0])
    assert (cell.eval().init_state(6).mask == 1).all()
    assert torch.equal(cell(x)[0], cell(x)[0])
    assert not torch.allclose(cell(x)[0], y)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_reset_draws_another_mask(name: str) -> None:
    cell = cells.RECURRENCES[name](3, 40, recurrent_dropout=0.4)
    state, reset = cell.init_state(2), torch.tensor([[False, True], [False, False]])
    _, after = cell(torch.randn(2, 2, 3), state, reset=reset)
    assert not torch.equal(after.mask[0], state.mask[0])
    assert torch.equal(after.mask[1], state.mask[1])


@pytest.mark.parametrize("part", ["h", "c"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_zoneout_keeps_units_at_its_rate(name: str, part: str) -> None:
    if part == "c" and name != "lstm":
        return
    cell = cells.RECURRENCES[name](3, 50, **{"zoneout" if part == "h" else "zoneout_cell": 0.3}).double()
    cell = cell.requires_grad_(False)
    _, before = cell(inputs(cell, 200, 3, torch.float64))
    x = inputs(cell, 200, 1, torch.float64)[:, 0]
    old, new = getattr(before, part), getattr(cell.step(x, before)[1], part)
    rate = (new == old).double().mean()  # 10,000 units: 5 standard deviations are 0.023
    assert abs(rate - 0.3) < 0.023
    other = getattr(cell.step(x, before)[1], part)
    assert not torch.equal(new, other)
    setattr(cell, "zoneout" if part == "h" else "zoneout_cell", 0.0)
    plain = getattr(cell.step(x, before)[1], part)
    moved = new != old
    torch.testing.assert_close(new[moved], plain[moved])
    setattr(cell, "zoneout" if part == "h" else "zoneout_cell", 0.3)
    expected = getattr(cell.eval().step(x, before)[1], part)
    torch.testing.assert_close(expected, 0.3 * old + 0.7 * plain)


def test_stack_drops_between_layers_and_in_training_only() -> None:
    through = [Pointwise(nn.Identity(), 50) for _ in range(2)]
    x = torch.ones(4, 6, 50)
    one = Stack(through[0], dropout=0.5)
    assert torch.equal(one(x)[0], x)
    two = Stack(*through, dropout=0.5)
    y = two(x)[0]
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (y == 0).float().mean() < 0.6
    assert set(two.step(x[:, 0], two.init_state(4))[0].unique().tolist()) == {0.0, 2.0}
    assert torch.equal(two.eval()(x)[0], x)
    assert torch.equal(two.step(x[:, 0], two.init_state(4))[0], x[:, 0])
    encoder = Stack(Bidirectional(GRU(3, 2), GRU(3, 2)), Pointwise(nn.Identity(), 4), dropout=0.5)
    assert (encoder(torch.randn(B, T, 3))[0] == 0).any()
    assert not (encoder.eval()(torch.randn(B, T, 3))[0] == 0).any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("combine", ["concat", "sum", "mean"])
def test_a_future_wholly_masked_is_the_forward_pass_alone(combine: str, training: bool) -> None:
    module = Bidirectional(GRU(3, 4), GRU(3, 4), combine, mask_future=1.0).train(training)
    x = torch.randn(B, T, 3)
    y, _ = module(x)
    assert torch.equal(y[..., :4], module.forwards(x)[0])
    assert (y[..., 4:] == 0).all()
    y.square().sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in module.backwards.parameters())
    assert all(p.grad.any() for p in module.forwards.parameters())


@pytest.mark.parametrize("combine", ["concat", "sum", "mean"])
def test_a_future_half_masked(combine: str) -> None:
    module = Bidirectional(GRU(3, 4), GRU(3, 4), combine, mask_future=0.5)
    x = torch.randn(20, 50, 3)
    y, _ = module(x)
    alone = module.forwards(x)[0]
    alone = torch.cat([alone, torch.zeros_like(alone)], -1) if combine == "concat" else alone
    masked = (y == alone).all(-1)
    assert 0.42 < masked.float().mean() < 0.58
    whole = module.eval()(x)[0]
    torch.testing.assert_close(y[~masked], whole[~masked])
    assert not (whole == alone).all(-1).any()
    assert torch.equal(whole, module(x)[0])


# --- how parameters begin, and torch's own


@pytest.mark.parametrize(("name", "bias", "gate"), [("lstm", 1.0, 1), ("gru", 0.0, 1)])
def test_forget_bias(name: str, bias: float, gate: int) -> None:
    H = 5
    for options, wanted in (({}, bias), ({"forget_bias": 2.5}, 2.5)):
        cell = cells.RECURRENCES[name](3, H, **options)
        total = cell.bias_ih + cell.bias_hh
        expected = torch.zeros_like(total)
        expected[gate * H : (gate + 1) * H] = wanted
        assert torch.equal(total.detach(), expected)


@pytest.mark.parametrize("name", CLASSICAL)
def test_recurrent_blocks(name: str) -> None:
    H = 6
    for block in cells.RECURRENCES[name](3, H).weight_hh.detach().split(H):
        torch.testing.assert_close(block @ block.T, torch.eye(H), atol=1e-5, rtol=0)
    for block in cells.RECURRENCES[name](3, H, recurrent_init="identity").weight_hh.detach().split(H):
        assert torch.equal(block, torch.eye(H))
    uniform = cells.RECURRENCES[name](3, H, recurrent_init="uniform").weight_hh.detach()
    assert uniform.abs().max() <= H**-0.5


@pytest.mark.parametrize("name", CLASSICAL)
def test_heads_see_their_own_units_only(name: str) -> None:
    """As one cell whose weights between heads are 0: each head by itself is a cell."""
    torch.manual_seed(0)
    whole, x = cells.RECURRENCES[name](3, 6, heads=2).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    for block in whole.weight_hh.detach().flatten(0, 1).split(3):
        torch.testing.assert_close(block @ block.T, torch.eye(3, dtype=torch.float64), atol=1e-5, rtol=0)
    y, _ = whole(x)
    for head in range(2):
        alone = cells.RECURRENCES[name](3, 3).double()
        units = torch.arange(whole.gates)[:, None] * 6 + 3 * head + torch.arange(3)
        with torch.no_grad():
            alone.weight_hh.copy_(whole.weight_hh[head])
            for theirs, ours in ((alone.weight_ih, whole.weight_ih), (alone.bias_ih, whole.bias_ih)):
                theirs.copy_(ours[units.flatten()])
            alone.bias_hh.copy_(whole.bias_hh[units.flatten()])
        torch.testing.assert_close(alone(x)[0], y[..., 3 * head : 3 * head + 3])


@pytest.mark.parametrize("name", CLASSICAL)
def test_heads_that_do_not_fit(name: str) -> None:
    with pytest.raises(ShapeError, match="6 units cannot be shared equally by 4 heads"):
        cells.RECURRENCES[name](3, 6, heads=4)
    assert cells.RECURRENCES[name](3, 128, heads=0).weight_hh.shape[0] == 2


def test_a_projection_has_no_heads() -> None:
    with pytest.raises(ConfigError, match="a projection would mix"):
        LSTM(3, 6, heads=2, projection=2)


def test_gru_has_three_quarters_of_the_weights() -> None:
    for sizes in ((3, 4), (64, 128)):
        gru, lstm = (sum(p.numel() for p in cell(*sizes).parameters()) for cell in (GRU, LSTM))
        assert 4 * gru == 3 * lstm


TORCH_CELLS = {
    "lstm": (LSTM, nn.LSTMCell, {}, {}),
    "gru": (GRU, nn.GRUCell, {}, {}),
    "tanh": (Elman, nn.RNNCell, {}, {}),
    "relu": (Elman, nn.RNNCell, {"nonlinearity": "relu"}, {"nonlinearity": "relu"}),
    "lstm, no bias": (LSTM, nn.LSTMCell, {"bias": False}, {"bias": False}),
}


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_torchs_own_cells_load_strictly(name: str) -> None:
    ours_type, theirs_type, ours_options, theirs_options = TORCH_CELLS[name]
    ours, theirs = ours_type(3, 4, **ours_options), theirs_type(3, 4, **theirs_options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs_type(3, 4, **theirs_options).load_state_dict(ours.state_dict(), strict=True)
    x, h, c = torch.randn(B, 3), torch.randn(B, 4), torch.randn(B, 4)
    state = cells.LSTMState(h, c) if ours_type is LSTM else ours.init_state(B)._replace(h=h)
    y, after = ours.step(x, state)
    expected = theirs(x, (h, c)) if ours_type is LSTM else (theirs(x, h),)
    torch.testing.assert_close(y, expected[0])
    torch.testing.assert_close(list(tree.leaves(after)), list(expected))
