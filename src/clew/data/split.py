"""Parts of records that share nothing: equal inputs, or records of one group, land in the same part."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from clew.errors import DataError


def grouped(
    keys: Sequence[Hashable],
    valid: float,
    test: float,
    seed: int,
    strata: Sequence[Hashable] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the training, validation and test records, by chance.

    Args:
        keys: records with the same key stay together.
        valid, test: fractions of the records; 0 for an empty part.
        strata: spread these (classes, say) over the parts in proportion. A stratum's first record goes to training, so
            that nothing is held out that could not be learned.

    Raises:
        DataError: there are too few different records for the parts that are asked for.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    wanted = [fraction for fraction in (valid, test) if fraction]
    if len(groups) < 1 + len(wanted):
        raise DataError(
            f"{len(groups)} different records cannot make {1 + len(wanted)} parts",
            hint="give more data, or the parts as sources of their own: data.valid = FILE, data.test = FILE",
        )
    by_stratum: dict[Hashable, list[list[int]]] = {}
    for members in groups.values():
        by_stratum.setdefault(strata[members[0]] if strata is not None else 0, []).append(members)
    random = np.random.Generator(np.random.PCG64(seed))
    parts: list[list[int]] = [[], [], []]
    owed = np.zeros(3)
    shares = np.array([1 - valid - test, valid, test])
    for stratum in by_stratum.values():
        for place, g in enumerate(random.permutation(len(stratum))):
            members = stratum[int(g)]
            owed += shares * len(members)
            part = 0 if place == 0 and strata is not None else int(np.argmax(np.where(shares > 0, owed, -np.inf)))
            parts[part].extend(members)
            owed[part] -= len(members)
    for part, fraction in ((1, valid), (2, test)):
        if fraction and not parts[part]:  # a few large groups took all: the smallest of training's moves
            inside = set(parts[0])
            smallest = min((m for m in groups.values() if m[0] in inside), key=len)
            parts[part], parts[0] = smallest, [i for i in parts[0] if i not in set(smallest)]
    train, held_out, last = (np.array(sorted(part), dtype=np.int64) for part in parts)
    return train, held_out, last


def same_input_keys(texts: Sequence[str]) -> list[str]:
    """Texts that differ in case and blanks alone are the same input."""
    return [" ".join(text.casefold().split()) for text in texts]


def key_of_array(values: np.ndarray) -> bytes:
    """Equal for arrays of equal shape and numbers."""
    content = np.ascontiguousarray(values)
    return hashlib.blake2b(repr(content.shape).encode() + content.tobytes(), digest_size=16).digest()


def shared(train: Sequence[Hashable], test: Sequence[Hashable]) -> int:
    """How many test records occur in the training part."""
    known = Counter(train)
    return sum(key in known for key in test)
