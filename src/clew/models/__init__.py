"""Models: bodies of `cells` with heads that own the loss and the prediction."""

from clew.models.build import body, body_of, embedding, forecaster
from clew.models.single import Head, Single

__all__ = ["Head", "Single", "body", "body_of", "embedding", "forecaster"]
