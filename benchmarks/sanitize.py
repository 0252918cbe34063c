"""The kernels' own tests with AddressSanitizer and UndefinedBehaviorSanitizer: python benchmarks/sanitize.py

Builds the compiled part once more, into build/sanitize, runs the tests over a copy of the package with that build in
it, and writes results/4/sanitize.json.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from result import ROOT, commit, write

TESTS = ["tests/ops/test_native.py", "tests/stream/test_stepper.py"]
LEFT_OUT = "tests/ops/test_native.py::test_inside_a_compiled_model"  # torch's own compiler is not instrumented
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"


def build() -> Path:
    import nanobind

    folder = ROOT / "build" / "sanitize"
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), f"-DPython_EXECUTABLE={sys.executable}"]
    configure += [f"-Dnanobind_DIR={nanobind.cmake_dir()}", f"-DCMAKE_CXX_FLAGS={FLAGS}", "-DCLEW_OPTIMIZE=-O1"]
    configure += ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_SHARED_LINKER_FLAGS=-fsanitize=address,undefined"]
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", str(folder), "--parallel", "2"], check=True)
    return next(folder.glob("_native*.so"))


def run(module: Path) -> tuple[int, str]:
    """The tests' exit status and what they said."""
    compiler = os.environ.get("CXX", "g++")
    # Without the C++ library beside it the sanitizer finds no way to throw, as Python itself has not loaded one.
    names = [f"-print-file-name={library}" for library in ("libasan.so", "libstdc++.so")]
    found = [subprocess.run([compiler, name], capture_output=True, text=True, check=True).stdout for name in names]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "src" / "clew", Path(folder, "clew"))
        shutil.copy(module, Path(folder, "clew", "ops"))
        # An editable install finds its own copy first: the tests import this one by name.
        start = (
            "import sys; sys.meta_path = [f for f in sys.meta_path if 'Scikit' not in type(f).__name__];"
            f"sys.path.insert(0, {folder!r});"
            "import clew.ops.native as n; assert n._native.__file__.startswith(sys.path[0]), n._native;"
            "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
        )
        environment = {
            **os.environ,
            "LD_PRELOAD": ":".join(path.strip() for path in found),
            # Leaks are the interpreter's own. Fresh memory is all NaN, so that reading it before writing shows.
            "ASAN_OPTIONS": "detect_leaks=0:max_malloc_fill_size=1000000000:malloc_fill_byte=255",
        }
        tests = [str(ROOT / test) for test in TESTS]
        command = [sys.executable, "-c", start, *tests, "--deselect", LEFT_OUT, f"--rootdir={ROOT}", "--capture=no"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    return done.returncode, done.stdout


def main() -> int:
    measured = commit()
    status, said = run(build())
    print(said)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", said)}
    write(
        "4/sanitize",
        "The kernels' and the stepper's own tests under AddressSanitizer and UndefinedBehaviorSanitizer",
        seeds=[0],
        figure={**counts, "exit": status, "reports": len(re.findall(r"==\d+==ERROR|runtime error:", said))},
        bar="all pass, nothing reported",
        met=status == 0 and counts.get("passed", 0) > 0,
        measured=measured,
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
