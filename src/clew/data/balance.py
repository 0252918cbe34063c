"""How much each class counts in a loss."""

from __future__ import annotations

from typing import Literal

import numpy as np


def class_weights(counts_K: np.ndarray, how: Literal["none", "balanced"]) -> np.ndarray:
    """Weights (K,): all 1, or "balanced", n / (K count), so that every class counts the same in all (King & Zeng 2001,
    Political Analysis 9)."""
    if how == "none":
        return np.ones(len(counts_K))
    return counts_K.sum() / (len(counts_K) * np.maximum(counts_K, 1))
