"""torch and VTK in one process can end it (see parts.py): none of the command's processes loads both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_helpers import Biosam2
from parts import misplaced

NOTE = '''
import os, sys
class Note:
    """Writes down what is looked for, and by whom."""
    def find_spec(self, name, path=None, target=None):
        with open({log!r}, "a") as log:
            log.write(f"{{os.getpid()}} {{name}}\\n")
sys.meta_path.insert(0, Note())
'''
NET = ("--model", "seer.safetensors", "--config", "seer.yaml", "-q")


@pytest.fixture
def imported(biosam2: Biosam2, tmp_path: Path):
    """Runs a command line; gives what each of its processes looked for."""

    def run(*arguments: str) -> list[set[str]]:
        log = tmp_path / "log"
        (tmp_path / "sitecustomize.py").write_text(NOTE.format(log=str(log)))
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        ended = biosam2(*arguments, PYTHONPATH=path)
        assert ended.code == 0, ended.err
        found: dict[str, set[str]] = {}
        for line in log.read_text().splitlines():
            process, module = line.split()
            found.setdefault(process, set()).add(module)
        return list(found.values())

    return run


@pytest.mark.parametrize(
    ("arguments", "processes"),
    [
        (("segment", "ball.nrrd", "-o", "t.seg.nrrd", "--point", "24,20,6", "--montage", "look.png"), 1),
        (("video", "frames", "-o", "masks", "--point", "24,20,1"), 1),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--point", "24,20,6", "--worker"), 2),
    ],
)
def test_no_process_loads_both(imported, arguments, processes) -> None:
    found = imported(*arguments, *NET)
    assert len(found) == processes
    assert sum("torch.nn" in modules for modules in found) == 1
    assert all("biosam2" in modules for modules in found)
    for modules in found:
        assert not misplaced(False, modules)
