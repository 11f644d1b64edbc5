"""A volume's geometry holds both ways, and what is no volume is refused in one line."""

import subprocess
import sys

import numpy as np
import pytest
from biosam2.errors import InputError
from biosam2.io.grid import difference
from biosam2.volume import Volume
from hypothesis import given, settings
from hypothesis import strategies as st
from io_helpers import grids, image_on


@settings(deadline=None)
@given(grid=grids(), ijk=st.tuples(*[st.floats(-50, 50)] * 3))
def test_indices_and_millimetres_are_inverse(grid, ijk):
    np.testing.assert_allclose(grid.ijk_from_lps(grid.lps_from_ijk(ijk)), ijk, atol=1e-9)
    ras = grid.lps_from_ijk(ijk) * (-1, -1, 1)
    np.testing.assert_allclose(grid.ijk_from_ras(ras), ijk, atol=1e-9)
    there = image_on(grid, grid.array).TransformContinuousIndexToPhysicalPoint(ijk)
    np.testing.assert_allclose(grid.lps_from_ijk(ijk), there, atol=1e-9)


@pytest.mark.parametrize(
    ("array", "geometry", "words"),
    [
        (np.zeros((3, 4)), {}, "shape"),
        (np.zeros((3, 4, 5, 2)), {}, "colour"),
        (np.zeros((3, 0, 5)), {}, "empty"),
        (np.zeros((3, 4, 5), complex), {}, "complex128"),
        (np.zeros((3, 4, 5)), {"spacing": (1, 0, 1)}, "spacing"),
        (np.zeros((3, 4, 5)), {"spacing": (1, np.nan, 1)}, "spacing"),
        (np.zeros((3, 4, 5)), {"origin": (1, np.inf, 1)}, "origin"),
        (np.zeros((3, 4, 5)), {"direction": np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]])}, "orthonormal"),
        (np.zeros((3, 4, 5)), {"direction": np.eye(2)}, "orthonormal"),
    ],
)
def test_what_is_no_volume(array, geometry, words):
    with pytest.raises(InputError, match=words):
        Volume(array, **geometry)


def test_other_voxels_on_the_same_grid():
    volume = Volume(np.zeros((3, 4, 5)), (1, 2, 3), (4, 5, 6))
    assert volume.with_array(np.ones((3, 4, 5), bool)).spacing == volume.spacing
    with pytest.raises(InputError, match="does not lie"):
        volume.with_array(np.ones((3, 4, 6)))


def test_a_foreign_byte_order_becomes_the_machines_own():
    volume = Volume(np.arange(24, dtype=">i2").reshape(2, 3, 4))
    assert volume.array.dtype.isnative
    assert volume.array[1, 2, 3] == 23


def test_how_two_grids_differ():
    volume = Volume(np.zeros((3, 4, 5)))
    assert difference(volume, Volume(np.zeros((3, 4, 6)))) == "it has 6×4×3 voxels, not 5×4×3"
    assert difference(volume, Volume(np.zeros((3, 4, 5)), (1, 1, 2))) == "its spacing is 1 1 2 mm, not 1 1 1"
    turned = Volume(np.zeros((3, 4, 5)), direction=np.diag([-1, -1, 1]))
    assert difference(volume, turned) == "its axes point elsewhere"


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = (
        "import sys, biosam2.io as io; "
        "heavy = {'SimpleITK', 'pydicom', 'PIL', 'av', 'highdicom', 'psutil', 'torch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
