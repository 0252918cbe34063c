"""The algebra of states. A state is a tensor or a (named) tuple of states; `()` is the state of what has no memory.

Batch is dimension 0 of every leaf, so detaching for truncated BPTT, reordering beams, batching streams, saving and
restoring are each one walk over the leaves. Nothing here changes a tensor in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clew.errors import ShapeError

State = Any  # Tensor | tuple[State, ...]; a recursive alias helps neither readers nor checkers


def map(function: Callable[..., Tensor], tree: State, *others: State) -> State:
    """Apply `function` to every leaf (and the leaves of `others` at the same place); the structure is kept.

    Raises:
        ShapeError: the trees have different structures.
    """
    if isinstance(tree, Tensor) and all(isinstance(other, Tensor) for other in others):
        return function(tree, *others)
    for other in others:
        if not isinstance(other, tuple) or not isinstance(tree, tuple) or len(other) != len(tree):
            raise ShapeError(f"two states of different structure: {describe(tree)} and {describe(other)}")
    return _like(tree, [map(function, *parts) for parts in zip(tree, *others, strict=True)])


def leaves(tree: State) -> Iterator[Tensor]:
    """Every tensor of the state, in order."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for part in tree:
            yield from leaves(part)


def rebuild(like: State, tensors: Iterator[Tensor]) -> State:
    """The inverse of `leaves`: a state with the structure of `like` and these leaves."""
    if isinstance(like, Tensor):
        return next(tensors)
    return _like(like, [rebuild(part, tensors) for part in like])


def take(tree: State, rows: Tensor) -> State:
    """The rows with these indices (N,), in this order: beams move, streams leave and join."""
    return map(lambda leaf: leaf.index_select(0, rows), tree)


def where(mask_B: Tensor, yes: State, no: State) -> State:
    """Row by row: `yes` where the mask (B,) holds, else `no`. Exact: the row that is not taken may hold NaN."""
    return map(lambda a, b: torch.where(mask_B.view(-1, *[1] * (a.ndim - 1)), a, b), yes, no)


def stack(trees: Sequence[State]) -> State:
    """Join the rows of several states into one batch (dimension 0 adds up)."""
    return map(lambda *parts: torch.cat(parts), *trees)


def rows(tree: State) -> int | None:
    """The batch size, or None for a state without leaves."""
    return next((leaf.shape[0] for leaf in leaves(tree)), None)


def size(tree: State) -> int:
    """The bytes of a state."""
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves(tree))


def detach(tree: State) -> State:
    """The same numbers without their history: the cut of truncated BPTT."""
    return map(Tensor.detach, tree)


def to_named(tree: State, prefix: str = "state") -> dict[str, Tensor]:
    """Flatten to named tensors, as files want them: `state.0.h`, `state.1.c`."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    names = getattr(tree, "_fields", range(len(tree)))
    return {k: v for name, part in zip(names, tree, strict=True) for k, v in to_named(part, f"{prefix}.{name}").items()}


def from_named(named: Mapping[str, Tensor], like: State, prefix: str = "state") -> State:
    """The inverse of `to_named`; `like` gives structure, shapes and types.

    Raises:
        ShapeError: a name is missing or left over, or a leaf has another shape or dtype (the batch may differ).
    """
    wanted = to_named(like, prefix)
    if missing := sorted(set(wanted) ^ set(named)):
        raise ShapeError(f"the saved state does not fit this model: {', '.join(missing[:4])} missing or unexpected")
    for name, leaf in wanted.items():
        if named[name].ndim != leaf.ndim or named[name].shape[1:] != leaf.shape[1:] or named[name].dtype != leaf.dtype:
            raise ShapeError(
                f"the saved state does not fit this model: {name} is {tuple(named[name].shape)} {named[name].dtype},"
                f" expected (batch, {', '.join(str(n) for n in leaf.shape[1:])}) {leaf.dtype}"
            )
    return rebuild(like, iter([named[name] for name in wanted]))


def describe(tree: State) -> str:
    """The structure in words, for messages."""
    if isinstance(tree, Tensor):
        return f"tensor{tuple(tree.shape)}"
    inside = ", ".join(describe(part) for part in tree) if isinstance(tree, tuple) else ""
    return f"{type(tree).__name__}({inside})"


def _like(tree: Any, parts: list) -> State:
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
