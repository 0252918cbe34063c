"""The kernels' own tests with AddressSanitizer and UndefinedBehaviorSanitizer: python scripts/sanitize.py

Builds the compiled part once more, into a folder of its own, and runs the tests over that copy of the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ["tests/ops/test_native.py", "tests/stream/test_stepper.py"]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"


def main() -> int:
    import nanobind

    compiler = os.environ.get("CXX", "g++")
    runtime = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    build = ROOT / "build" / "sanitize"  # stays: compiling takes minutes
    with tempfile.TemporaryDirectory() as folder:
        configure = ["cmake", "-S", str(ROOT), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}"]
        configure += [f"-Dnanobind_DIR={nanobind.cmake_dir()}", f"-DCMAKE_CXX_FLAGS={FLAGS}"]
        configure += [
            "-DCLEW_OPTIMIZE=-O1",
            "-DCMAKE_BUILD_TYPE=Debug",
            "-DCMAKE_SHARED_LINKER_FLAGS=-fsanitize=address,undefined",
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--parallel", "2"], check=True)
        package = Path(folder, "package")
        shutil.copytree(ROOT / "src" / "clew", package / "clew")
        for module in build.glob("_native*"):
            shutil.copy(module, package / "clew" / "ops")
        # An editable install finds its own copy first: the tests import this one by name.
        start = (
            "import sys; sys.meta_path = [f for f in sys.meta_path if 'Scikit' not in type(f).__name__];"
            f"sys.path.insert(0, {str(package)!r});"
            "import clew.ops.native as n; assert n._native.__file__.startswith(sys.path[0]), n._native;"
            "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
        )
        environment = {
            **os.environ,
            "LD_PRELOAD": runtime.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        }
        tests = [str(ROOT / test) for test in TESTS]
        deselected = ["--deselect", f"{TESTS[0]}::test_inside_a_compiled_model"]
        command = [sys.executable, "-c", start, *tests, *deselected, f"--rootdir={ROOT}", "-p", "no:cacheprovider", "-s"]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
