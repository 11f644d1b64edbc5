"""The panel's masks lie on the voxels on which `biosam2 segment` puts them for the same prompts.

Slicer turns left-handed volumes round when it reads them, so prompts are carried over by their places in space. What
cannot be the same there: slices across the turned axis come to the model mirrored, which gives other masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from biosam2 import read_volume
from biosam2.io import itk
from biosam2.volume import Volume
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from engine_process import engines
from panel_helpers import GRIDS, load_volume

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LEFT_HANDED = GRIDS["oblique"]
RIGHT_HANDED = GRIDS["oblique"] @ np.diag([-1.0, 1.0, 1.0])


def write_volume(path: Path, array: np.ndarray, directions: np.ndarray) -> None:
    """An anisotropic volume; directions in RAS, columns i, j, k."""
    itk.write(path, Volume(array, (0.8, 1.1, 2.5), (-12.0, 30.0, 7.0), np.diag([-1.0, -1.0, 1.0]) @ directions))


def place(path, node, ijk):
    """A voxel of the scene's volume as an index into the file, as the command takes it: found by its place in space.

    Rounded as the panel rounds clicks: a crop that begins a voxel further on gives another mask.
    """
    found = read_volume(path).ijk_from_ras(VolumeGeometry(node).localFromIjk(ijk))
    return ",".join(repr(float(x)) for x in np.round(found, 4) + 0.0)


def command(host, image, output, axis, window, *arguments):
    """What `biosam2 segment` writes, read by Slicer, bool (K, J, I)."""
    centre, width = window
    code, said = (
        engines()
        .CommandLine()
        .run(
            *("segment", image, "-o", output, "--axis", axis, "--window", f"{centre},{width}", "--device", "cpu"),
            *arguments,
        )
    )
    assert code == 0, said
    node = load_volume(host, output)
    array = host.slicer.util.arrayFromVolume(node).astype(bool)
    host.scene.RemoveNode(node)
    return array


@pytest.mark.parametrize("axis", "kji")
def test_an_oblique_flipped_anisotropic_volume(desks, host, sphere, tmp_path, axis):
    """Points, one of them negative, and a box; over the whole volume."""
    path = tmp_path / "image.nrrd"
    write_volume(path, sphere, RIGHT_HANDED)
    desk = desks(load_volume(host, path))
    np.testing.assert_array_equal(host.slicer.util.arrayFromVolume(desk.volume), sphere)
    low, high = [18, 12, 8], [34, 28, 16]
    a = "ijk".index(axis)
    low[a] = high[a] = middle = (26, 20, 12)[a]
    desk.logic.addBox("a", tuple(low), tuple(high), axis)
    outside = [24, 20, 12]
    outside["ijk".index("j" if axis == "k" else "k")] = 4
    outside[a] = middle
    desk.point("a", tuple(outside), positive=False)
    desk.settle()
    desk.logic.propagate(["a"], first=middle - 3, last=middle + 3)
    desk.settle()
    found = command(
        *(host, path, tmp_path / "masks.nrrd", axis, desk.logic.state.settings.window),
        *("--first", middle - 3, "--last", middle + 3),
        *("--segment", "a", "--box", f"{place(path, desk.volume, low)}:{place(path, desk.volume, high)}"),
        *("--point", f"{place(path, desk.volume, outside)},-"),
    )
    assert found.any()
    np.testing.assert_array_equal(desk.voxels("a"), found)


def test_a_left_handed_volume_is_turned_round_by_slicer(desks, host, sphere, tmp_path):
    """Upwards in the panel is downwards in the file; the voxels are the same places."""
    path = tmp_path / "image.nrrd"
    write_volume(path, sphere, LEFT_HANDED)
    desk = desks(load_volume(host, path))
    turned = host.slicer.util.arrayFromVolume(desk.volume)
    assert np.linalg.det(VolumeGeometry(desk.volume).ijkToLocal[:3, :3]) > 0
    np.testing.assert_array_equal(turned, sphere[::-1])
    desk.point("a", (26, 20, 11))
    desk.point("a", (5, 5, 11), positive=False)
    desk.settle()
    desk.logic.propagate(["a"], "forward", last=15)
    desk.settle()
    found = command(
        *(host, path, tmp_path / "masks.nrrd", "k", desk.logic.state.settings.window),
        *("--first", 23 - 15, "--direction", "backward", "--segment", "a"),
        *("--point", place(path, desk.volume, (26, 20, 11)), "--point", f"{place(path, desk.volume, (5, 5, 11))},-"),
    )
    assert found.any()
    np.testing.assert_array_equal(desk.voxels("a"), found)


@pytest.mark.parametrize(
    ("case", "axis"),
    [("ct-lung-nodule", "k"), ("ct-lung-nodule", "j"), ("ct-lung-nodule", "i"), ("mr-brain-tumour", "k")],
)
def test_on_real_volumes(desks, host, tmp_path, case, axis):
    """A box on an axial, a coronal and a sagittal slice; the tumour's file is left-handed."""
    path = DATA / case / "image.nrrd"
    if not path.exists():
        pytest.skip("needs the shared volumes beside the checkout (../shared/data)")
    label = load_volume(host, path.with_name("label.nrrd"))
    truth = host.slicer.util.arrayFromVolume(label).astype(bool)
    host.scene.RemoveNode(label)
    desk = desks(load_volume(host, path))
    a = "ijk".index(axis)
    index = int(truth.sum(axis=tuple(d for d in range(3) if d != 2 - a)).argmax())
    section = np.argwhere(np.moveaxis(truth, 2 - a, 0)[index])
    low, high = [index] * 3, [index] * 3
    for column, other in enumerate(b for b in (2, 1, 0) if b != a):  # rows, then columns
        low[other], high[other] = int(section[:, column].min()) - 1, int(section[:, column].max()) + 1
    desk.logic.addBox("a", tuple(low), tuple(high), axis)
    desk.settle()
    first, last = place(path, desk.volume, low), place(path, desk.volume, high)
    here = float(first.split(",")[a])
    found = command(
        *(host, path, tmp_path / "masks.nrrd", axis, desk.logic.state.settings.window),
        *("--first", round(here), "--last", round(here), "--segment", "a", "--box", f"{first}:{last}"),
    )
    assert found.any()
    np.testing.assert_array_equal(desk.voxels("a"), found)
