"""A trained model for other programs: plain C, or ONNX; each with a certificate."""

from clew.stream.export.c import CSource, to_c
from clew.stream.export.run import KINDS, export_run

__all__ = ["KINDS", "CSource", "export_run", "to_c"]
