"""Heads: each owns a loss and a prediction, and nothing else does."""
