"""A Slicer with an empty scene, real volumes in it, and what can be found wrong after a test."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parent
DATA = ROOT.parent / "shared" / "data"
sys.path[:0] = [str(TESTING), str(ROOT / "BioSAM2Slicer")]

NEEDED = ("slicer_core", "trame_slicer", "PySide6.QtWidgets")
for _module in NEEDED:
    # ImportError too: PySide6 is there but cannot load without the system's libGL.
    pytest.importorskip(
        _module, reason=f"the panel's host needs {_module} (pip install -e '.[test]')", exc_type=ImportError
    )

import host as slicer_host  # noqa: E402

# Now, because the panel imports `slicer` and `qt` when it is imported.
_HOST = slicer_host.start()


@pytest.fixture(scope="session")
def application() -> Any:
    """The one Slicer of this process."""
    return _HOST


class Faults:
    """Qt and VTK swallow what their callbacks raise; here it fails the test, at once where one waits."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def __call__(self, *fault: Any) -> None:
        self.faults.append("".join(traceback.format_exception(*fault)))


@pytest.fixture
def host(application: Any) -> Iterator[Any]:
    """Slicer with an empty scene, before and after."""
    application.close_scene()
    before, sys.excepthook = sys.excepthook, Faults()
    hook = sys.excepthook
    yield application
    application.close_scene()
    sys.excepthook = before
    assert not hook.faults, "\n".join(hook.faults)


@pytest.fixture
def sphere() -> np.ndarray:
    """A bright ball in noise: int16 (24, 40, 48), centre (k, j, i) = (12, 20, 26), radius 9 voxels of i."""
    k, j, i = np.mgrid[:24, :40, :48]
    ball = ((k - 12) * 2) ** 2 + (j - 20) ** 2 + (i - 26) ** 2 <= 81
    noise = np.random.default_rng(0).normal(100, 10, ball.shape)
    return np.where(ball, 400 + noise, noise).astype(np.int16)


@pytest.fixture
def tumour(host: Any) -> Any:
    """The brain tumour's MR in the scene, shown in all views."""
    path = DATA / "mr-brain-tumour" / "image.nrrd"
    if not path.exists():
        pytest.skip("needs the shared volumes beside the checkout (../shared/data)")
    from panel_helpers import load_volume

    node = load_volume(host, path)
    host.show(node)
    return node


@pytest.fixture(scope="session")
def model_fields() -> dict[str, str]:
    """What the worker is to load: the shipped network."""
    return {"name": "nano"}


@pytest.fixture(scope="session")
def kept_worker() -> Iterator[Any]:
    """One real worker for many tests: starting torch takes most of a test's time."""
    from panel_helpers import make_kept_worker

    os.environ["OMP_NUM_THREADS"] = "1"
    client = make_kept_worker()
    yield client
    client.end()


@pytest.fixture
def make_driver(kept_worker: Any) -> Any:
    """Makes clients of the worker that is kept."""
    return lambda: kept_worker


@pytest.fixture
def make_own_driver() -> Any:
    """Makes clients that each start a worker of their own."""
    from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver
    from BioSAM2SlicerLib.worker.WorkerPlace import PYTHON, WorkerPlace

    return lambda: ProcessDriver(WorkerPlace(PYTHON, sys.executable).command())


@pytest.fixture
def desks(host: Any, make_driver: Any, model_fields: dict[str, str]) -> Iterator[Any]:
    """Makes sessions."""
    from session_desk import Desk

    made: list[Any] = []

    def make(volume: Any, **more: Any) -> Any:
        made.append(Desk(host, volume, make_driver, model_fields, **more))
        return made[-1]

    yield make
    for desk in made:
        desk.logic.cleanup()


@pytest.fixture
def desk(desks: Any, host: Any, sphere: np.ndarray) -> Any:
    """A session on the ball."""
    from panel_helpers import add_volume

    volume = add_volume(host, sphere)
    host.show(volume)
    return desks(volume)


@pytest.fixture
def own_desk(host: Any, sphere: np.ndarray, make_own_driver: Any, model_fields: dict[str, str]) -> Iterator[Any]:
    """A session whose worker can be killed."""
    from panel_helpers import add_volume
    from session_desk import Desk

    desk = Desk(host, add_volume(host, sphere), make_own_driver, model_fields)
    yield desk
    desk.logic.cleanup()
