"""A Slicer with an empty scene, real volumes in it, and what can be found wrong after a test."""

from __future__ import annotations

import sys
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


@pytest.fixture(scope="session")
def application() -> Any:
    """The one Slicer of this process."""
    return slicer_host.start()


@pytest.fixture
def host(application: Any) -> Iterator[Any]:
    """Slicer with an empty scene, before and after."""
    application.close_scene()
    yield application
    application.close_scene()


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
    node = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "tumour")
    storage = host.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    storage.SetCenterImage(0)
    assert storage.ReadData(node)
    node.CreateDefaultDisplayNodes()
    host.show(node)
    return node
