"""Models: bodies of `cells` with heads that own the loss and the prediction."""

from clew.models.build import body, embedding, forecaster
from clew.models.single import Single

__all__ = ["Single", "body", "embedding", "forecaster"]
