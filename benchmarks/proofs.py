"""What the tests prove, as figures: the laws, torch's samples on the drop-ins, bad input, lanes.

python benchmarks/proofs.py [NAME...]       names: those of PROOFS; none for every one
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from result import ROOT, commit, write

PROOFS = {
    "2/laws": (
        ["tests/laws", "tests/ops"],
        "the laws for every recurrence and option, gradients included; gradcheck and gradgradcheck; broken cells seen",
        "float64 to 1e-10, float32 to 1e-5; every law seen to fail on a cell broken on purpose",
    ),
    "2/dropin": (
        ["tests/golden"],
        "torch's own samples for its six recurrent modules, on the drop-ins",
        "87 valid samples in two dtypes, train and eval, outputs and gradients; 58 error samples in two dtypes",
    ),
    "2/bad_input": (
        ["tests/cli", "tests/data", "tests/training", "tests/stream"],
        "bad files, options, run folders, a full disk: exit 2, what, where, how to mend it, nothing good overwritten",
        "a test for each, none failing",
    ),
    "3/bad_records": (
        ["tests/cli/test_bad_records.py", "tests/data", "tests/tasks/test_refusals.py"],
        "bad texts, labels, tags and series in every format: exit 2, what, where, how to mend it",
        "a test for each, none failing",
    ),
    "4/kernels": (
        ["tests/golden", "tests/laws", "tests/ops"],
        "the kernels against the definition, torch's samples and the laws, with our kernels and without them",
        "a test for each, none failing",
    ),
    "5/laws": (
        ["tests/laws", "tests/ops"],
        "the laws for every recurrence and option, with kernels and without; gradcheck of every op and cell",
        "float64 to 1e-10, float32 to 1e-5, none failing",
    ),
    "5/golden": (
        ["tests/golden"],
        "outputs and gradients of public implementations with their weights, or of the papers' equations written out",
        "a test for each, with kernels and without, none failing",
    ),
    "5/precision": (
        [
            "tests/ops/test_algebra.py::test_single_precision_over_long_times",
            "tests/ops/test_algebra.py::test_decays_of_exactly_0_and_1",
            "tests/ops/test_chunked.py::test_single_precision_with_extreme_decays",
        ],
        "float32 against float64 with decays near 0 and near 1, at T = 4,096 in the kernels and at T = 1,000 in chunks",
        "outputs and gradients within the bounds that the tests state: 1e-6 (decay 1e-6) to 2.5e-4 (1 - 1e-7)",
    ),
    "6/search": (
        ["tests/decode"],
        "beam search: scores are the teacher-forced ones, beam 1 is greedy, a wide beam is the whole enumeration, wider"
        " is never worse where all can be enumerated, rows together are rows one at a time",
        "scores to 1e-5 over the table of recurrences, a test for each, none failing",
    ),
    "6/laws": (
        ["tests/laws/test_context.py", "tests/models", "tests/tasks/test_translate.py", "tests/tasks/test_point.py"],
        "attention, decoders over recurrences and pointers under the laws with their context; every recurrence as"
        " encoder and decoder of a text and of an order",
        "float64 to 1e-10, float32 to 1e-5, none failing",
    ),
    "6/bad_input": (
        ["tests/decode/test_stopping.py", "tests/decode/test_unsearchable.py", "tests/data/test_pairs.py"]
        + ["tests/data/test_items.py"],
        "empty sources and targets, columns that are none, beams wider than the vocabulary, constraints that contradict"
        " each other, a model that never ends",
        "clear errors or bounded results, a test for each, none failing",
    ),
    "7/crf": (
        ["tests/models/test_chain.py"],
        "the linear-chain CRF's normaliser, marginals, best path and gradients",
        "those of the enumeration of all paths",
    ),
    "7/log_mel": (
        ["tests/data/test_audio.py", "tests/tasks/test_transcribe.py"],
        "log-mel frames of chunks and of the whole sound, and what is heard in them; silent, clipped, stereo,"
        " wrong-rate, cut and other files",
        "equal, and a clear error for each, none failing",
    ),
    "7/sets": (
        ["tests/models/test_slots.py", "tests/metrics/test_matched_sets.py", "tests/tasks/test_sets.py"],
        "matching, Sinkhorn's and Chamfer's loss of a set in another order; the ordered loss beside them",
        "equal to 1e-14; the ordered loss is not, and learns less where the order means nothing",
    ),
    "7/detector": (
        ["tests/tasks/test_detect.py"],
        "a detector where one step in a hundred is an event, and its stream",
        "an event f1 above 0.5, where no events at all would have 0",
    ),
    "7/bad_input": (
        ["tests/data/test_audio.py", "tests/data/test_arrays.py", "tests/tasks/test_refusals.py"]
        + [f"tests/tasks/test_{name}.py" for name in ("sets", "multitask", "continuing", "patterns", "transcribe")],
        "bad sounds, images, arrays, keys, traces, sets; labels outside the list; images of another size",
        "clear errors, a test for each, none failing",
    ),
    "3/lanes": (
        ["tests/training/test_truncated.py"],
        "k2 = T gives the gradient of full BPTT; windows carry the state of the whole pass; accumulated gradients are"
        " those of the large batch",
        "a test for each, none failing",
    ),
}


def with_context() -> Iterator[tuple[Any, Any]]:
    """Attention and decoders over recurrences, and the source that each reads."""
    from test_context import CELLS, SCORES, attend, decoder, source

    yield from ((cell, source(cell.score)) for cell in map(attend, SCORES))
    for name, feed in product(CELLS, (False, True)):
        made = decoder(name, "bilinear", feed=feed)
        yield made, source(made.attend.score)  # pyright: ignore[reportOptionalMemberAccess]


def without_context() -> Iterator[tuple[Any, Any]]:
    """Every recurrence with each of its options."""
    from configurations import CONFIGURATIONS

    yield from ((build(), None) for build in CONFIGURATIONS.values())


def worst_errors(name: str) -> dict[str, dict[str, float]]:
    """The largest relative difference of each law over all that a line is about, by dtype."""
    sys.path.insert(0, str(ROOT / "tests" / "laws"))
    from clew.diagnose.laws import check

    worst: dict[str, dict[str, float]] = {}
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        for cell, context in with_context() if name == "6/laws" else without_context():
            torch.manual_seed(0)
            for law in check(cell, dtype, context=context):
                errors = worst.setdefault(str(dtype), {})
                errors[law.law] = max(errors.get(law.law, 0.0), law.error)
    return worst


def main() -> None:
    for name in sys.argv[1:] or PROOFS:
        folders, line, bar = PROOFS[name]
        measured, began = commit(), time.monotonic()
        command = [sys.executable, "-m", "pytest", *folders, "-o", "addopts=-q -rs"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        counts = {
            word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout)
        }
        figure: dict = {**counts, "seconds": round(time.monotonic() - began, 1)}
        if name.endswith("/laws"):
            figure["worst"] = worst_errors(name)
        met = done.returncode == 0 and counts.get("failed", 0) == 0
        write(name, line, seeds=[0], figure=figure, bar=bar, met=met, measured=measured)


if __name__ == "__main__":
    main()
