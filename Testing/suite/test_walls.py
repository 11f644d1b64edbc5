"""The walls between packages: the contracts in pyproject.toml hold, and break where they should."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"


def lint(*folders):
    """The contracts over the packages in some folders; in a process that has loaded none of them."""
    path = os.pathsep.join(map(str, folders))
    return subprocess.run(
        [sys.executable, "-c", LINT, str(ROOT / "pyproject.toml")],
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_contracts_hold():
    done = lint(ROOT / "BioSAM2Slicer", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("def late():\n    from . import registry\n", "No circle between files or packages"),
        ("from ..cli import main\n", "Imports point one way"),
        ("def late():\n    import qt\n", "The engine knows nothing of Slicer"),
    ],
)
def test_a_file_that_breaks_a_contract_is_found(text, broken, tmp_path):
    """The same contracts over a copy whose `models.hashing` imports one thing more."""
    for source in (ROOT / "BioSAM2Slicer" / "biosam2", ROOT / "BioSAM2Slicer" / "BioSAM2SlicerLib"):
        for file in source.rglob("*.py"):
            copy = tmp_path / file.relative_to(source.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    with open(tmp_path / "biosam2" / "models" / "hashing.py", "a", encoding="utf-8") as stream:
        stream.write(text)
    done = lint(tmp_path, ROOT)
    assert done.returncode == 1, done.stderr
    assert f"{broken} BROKEN" in done.stdout


def test_the_bench_uses_nothing_of_the_tests():
    folders = [ROOT / "Testing", *(path.parent for path in (ROOT / "Testing").glob("*/test_*.py"))]
    tests = {path.stem for folder in folders for path in folder.glob("*.py")} | {"Testing", "host"}
    for path in (ROOT / "bench").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not tests & {name.partition(".")[0] for name in names}, path
