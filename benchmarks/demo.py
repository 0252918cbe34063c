"""`make demo` and `make test` on a bare clone, timed.

python benchmarks/demo.py [demo] [test]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from result import ROOT, commit, write


def clone_and_make(verb: str, folder: Path) -> tuple[float, str, bool]:
    """Seconds, what was printed, and whether it ended well."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    began = time.monotonic()
    done = subprocess.run(
        ["make", verb], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return time.monotonic() - began, done.stdout, done.returncode == 0


def demo(folder: Path, measured: str) -> None:
    seconds, said, well = clone_and_make("demo", folder)
    kept = json.loads((folder / "runs" / "demo" / "metrics.json").read_text())
    gap = re.search(r"by at most ([0-9.e+-]+) ppm", said)
    beats = kept["metrics"]["mase"] < kept["baseline"]["seasonal_naive"]["mase"]
    figure = {key: kept[key] for key in ("metrics", "baseline", "n", "horizon", "season")}
    figure |= {"seconds": round(seconds, 1), "stream_gap_ppm": float(gap[1]) if gap else None}
    write(
        "2/demo",
        "make demo on a bare clone, install included",
        seeds=[0],
        figure=figure,
        bar="under 300 s on 2 cores; mase below the seasonal naive's; the stream as the whole pass (1e-3 ppm)",
        met=well and seconds < 300 and beats and gap is not None and float(gap[1]) < 1e-3,
        measured=measured,
    )


def test(folder: Path, measured: str) -> None:
    seconds, said, well = clone_and_make("test", folder)
    print(said[-2000:])
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", said)}
    reasons = re.findall(r"SKIPPED \[\d+\] .*", said.replace(f"{folder.parent}/", ""))
    explained = sum(int(re.findall(r"\d+", reason)[0]) for reason in reasons)  # one line can stand for several
    write(
        "3/test",
        "make test on a bare clone, install included",
        seeds=[],
        figure={"seconds": round(seconds, 1), **counts, "skips": reasons},
        bar="green in under 480 s; nothing skipped but for a part that the machine lacks, said",
        met=well and seconds < 480 and explained == counts.get("skipped", 0),
        measured=measured,
    )


def main() -> None:
    measured = commit()
    for name in sys.argv[1:] or ["demo", "test"]:
        with tempfile.TemporaryDirectory() as folder:
            {"demo": demo, "test": test}[name](Path(folder) / "clew", measured)


if __name__ == "__main__":
    main()
