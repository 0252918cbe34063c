"""Parts of records that share nothing: equal inputs, or records of one group, land in the same part."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Sequence

import numpy as np

from clew.errors import DataError


def grouped(
    keys: Sequence[Hashable],
    valid: float,
    test: float,
    seed: int,
    strata: Sequence[Hashable] | None = None,
    held: Sequence[Collection[Hashable]] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the training, validation and test records, by chance.

    Args:
        keys: records with the same key stay together.
        valid, test: fractions of the records; 0 for an empty part.
        strata: spread these (classes, say) over the parts in proportion.
        held: what each record holds (tags, say) where that is more than its stratum. The first of each, and of each
            stratum, goes to training, so that nothing is held out that could not be learned.

    Returns:
        Sorted arrays that hold every index once. A part differs from its share by less than twice the largest group,
        but for the strata that training must have, and is never empty where its fraction is not 0.

    Raises:
        DataError: there are too few different records for the parts that are asked for.
    """
    by_key: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        by_key.setdefault(key, []).append(i)
    groups = list(by_key.values())
    shares = (1 - valid - test, valid, test)
    wanted = [part for part in range(3) if part == 0 or shares[part] > 0]
    if len(groups) < len(wanted):
        raise DataError(
            f"{len(groups)} different records cannot make {len(wanted)} parts",
            hint="give more data, or the parts as sources of their own: data.valid = FILE, data.test = FILE",
        )
    # Equal inputs may have different answers: a group has all the strata of its records.
    if held is None:
        held = [() for _ in keys] if strata is None else [(stratum,) for stratum in strata]
    kinds = [{kind for i in members for kind in held[i]} for members in groups]
    by_stratum: dict[Hashable, list[int]] = {}
    for g, members in enumerate(groups):
        by_stratum.setdefault(strata[members[0]] if strata is not None else None, []).append(g)
    random = np.random.Generator(np.random.PCG64(seed))
    parts: list[list[int]] = [[], [], []]  # of groups
    learned: set[Hashable] = set()
    owed = [0.0, 0.0, 0.0]
    for stratum in by_stratum.values():
        shuffled = [stratum[int(i)] for i in random.permutation(len(stratum))]
        for g in sorted(shuffled, key=lambda g: -len(groups[g])):  # what large ones leave uneven, small ones level
            owed = [debt + share * len(groups[g]) for debt, share in zip(owed, shares, strict=True)]
            part = 0 if kinds[g] - learned else max(wanted, key=owed.__getitem__)
            parts[part].append(g)
            owed[part] -= len(groups[g])
            if part == 0:
                learned |= kinds[g]
    for part in wanted:
        if not parts[part]:  # a few large groups took all
            _give(parts, part, groups, kinds)
    train, held_out, last = (np.array(sorted(i for g in part for i in groups[g]), dtype=np.int64) for part in parts)
    return train, held_out, last


def _give(parts: list[list[int]], part: int, groups: Sequence[Sequence[int]], kinds: Sequence[set[Hashable]]) -> None:
    """Move the smallest group of the part with the most to an empty one; the last of a stratum only if it must be."""
    giver = max(parts, key=len)
    left = Counter(kind for g in giver for kind in kinds[g])
    g = min(giver, key=lambda g: (any(left[kind] == 1 for kind in kinds[g]), len(groups[g])))
    giver.remove(g)
    parts[part].append(g)


def same_input_keys(texts: Sequence[str]) -> list[str]:
    """Texts that differ in case and blanks alone are the same input."""
    return [" ".join(text.casefold().split()) for text in texts]


def key_of_array(values: np.ndarray) -> bytes:
    """Equal for arrays of equal shape and numbers, whatever their type."""
    content = np.ascontiguousarray(values, dtype=np.float64) + 0.0  # -0 is 0
    return hashlib.blake2b(repr(content.shape).encode() + content.tobytes(), digest_size=16).digest()


def shared(train: Sequence[Hashable], test: Sequence[Hashable]) -> int:
    """How many test records occur in the training part."""
    known = set(train)
    return sum(key in known for key in test)
