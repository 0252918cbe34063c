"""Models: bodies of `cells` with heads that own the loss and the prediction."""

from clew.models.attention import Attend, entropy, entropy_ratio
from clew.models.build import body, body_of, embedding, forecaster, front_of, paired
from clew.models.decoder import Decoder
from clew.models.paired import Paired
from clew.models.pointer import PointerNet
from clew.models.pointer_build import pointer_net
from clew.models.scores import SCORES, make_score
from clew.models.single import Head, SequenceHead, Single
from clew.models.source import Source

__all__ = [
    "SCORES",
    "Attend",
    "Decoder",
    "Head",
    "Paired",
    "PointerNet",
    "SequenceHead",
    "Single",
    "Source",
    "body",
    "body_of",
    "embedding",
    "entropy",
    "entropy_ratio",
    "forecaster",
    "front_of",
    "make_score",
    "paired",
    "pointer_net",
]
