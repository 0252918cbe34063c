"""The house keeps its rules: layers, sizes, no pickle, public names."""

from __future__ import annotations

import ast
import types
from pathlib import Path

import pytest

import clew

SRC = Path(clew.__file__).parent
FILES = sorted(SRC.rglob("*.py"))


def test_files_are_small() -> None:
    lengths = {str(file.relative_to(SRC)): len(file.read_text().splitlines()) for file in FILES}
    assert max(lengths.values()) <= 400, max(lengths.items(), key=lambda item: item[1])
    assert sum(lengths.values()) / len(lengths) < 160


def test_layers_import_downwards_only() -> None:
    linter = pytest.importorskip("importlinter.cli", reason="needs import-linter, of the extra dev")
    config = SRC.parents[1] / "pyproject.toml"
    assert linter.lint_imports(config_filename=str(config)) == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SRC)))
def test_nothing_runs_code_from_files(file: Path) -> None:
    """No pickle, no torch.load, no eval; nothing is imported by a name that a file gave."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {name.split(".")[0] for name in names}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load", "torch.save", "np.load", "__import__")


def test_public_names_are_the_exported_ones() -> None:
    packages = {"cells", "diagnose", "forecast", "nn", "ops", "stream", "tree"}
    own = {
        name
        for name, value in vars(clew).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(clew.__all__) == own | packages
    assert clew.__all__ == sorted(clew.__all__)
