"""The generated CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from biosam2 import read_volume
from biosam2.synthetic import phantom


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where `python -m biosam2.synthetic.phantom` wrote the CT and its lesion."""
    folder = tmp_path_factory.mktemp("phantom")
    phantom.main([str(folder / "ct.nrrd"), "--lesion", str(folder / "lesion.nrrd")])
    return folder


def test_it_is_a_ct(written: Path) -> None:
    volume = read_volume(written / "ct.nrrd")
    assert volume.array.dtype == np.int16
    assert volume.array.min() >= -1024
    share = {
        name: np.mean((volume.array >= low) & (volume.array < high))
        for name, low, high in (("air", -1024, -900), ("lung", -900, -700), ("fat", -150, -50), ("organs", 0, 250))
    }
    assert share["air"] > 0.4
    assert all(value > 0.05 for value in share.values()), share


def test_its_lesion_is_darker_than_the_liver_around(written: Path) -> None:
    ct, lesion = (read_volume(written / f"{name}.nrrd") for name in ("ct", "lesion"))
    inside = lesion.array > 0
    around = np.zeros_like(inside)
    k, j, i = np.nonzero(inside)
    around[k.min() : k.max() + 1, j.min() - 8 : j.max() + 9, i.min() - 8 : i.max() + 9] = True
    voxel = np.prod(ct.spacing) / 1000
    assert 10 < inside.sum() * voxel < 60, "ml"
    assert np.median(ct.array[inside]) < np.median(ct.array[around & ~inside]) - 40


def test_the_same_seed_gives_the_same_voxels(written: Path) -> None:
    assert np.array_equal(phantom.ct_phantom(0).volume.array, read_volume(written / "ct.nrrd").array)
