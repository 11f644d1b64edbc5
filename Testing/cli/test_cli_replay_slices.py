"""Records in which slices are counted from the other end of the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from biosam2.io import itk, read_volume
from biosam2.record import hash_input
from biosam2.volume import Volume
from cli_helpers import Biosam2

NET = ("--model", "seer.safetensors")


def test_reversed_slices_lie_where_they_were():
    generator = np.random.default_rng(0)
    turned = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    volume = Volume(generator.integers(0, 99, (3, 4, 5)), (0.7, 1.1, 2.5), (3.0, -4.0, 5.0), turned)
    other = volume.reversed_slices()
    for k, j, i in np.ndindex(3, 4, 5):
        assert other.array[2 - k, j, i] == volume.array[k, j, i]
        np.testing.assert_allclose(other.lps_from_ijk((i, j, 2 - k)), volume.lps_from_ijk((i, j, k)))
    np.testing.assert_array_equal(other.reversed_slices().array, volume.array)


def test_a_record_of_slices_from_the_other_end_replays(biosam2: Biosam2, folder: Path, ball: Volume) -> None:
    """As 3D Slicer writes for a left-handed file: the same voxels, k from its other end."""
    itk.write(folder / "turned.nrrd", ball.reversed_slices())
    arguments = ("--point", "24,20,5", "--first", "3", "--last", "7", *NET, "--record", "run.json", "-q")
    assert biosam2.here("segment", "turned.nrrd", "-o", "one.nrrd", *arguments).code == 0
    record = json.loads((folder / "run.json").read_text())
    record["input"].update(path="ball.nrrd", sha256=hash_input(folder / "ball.nrrd"), reversed_slices=True)
    (folder / "run.json").write_text(json.dumps(record))
    ended = biosam2.here("replay", "run.json", "-o", "two.nrrd")
    assert ended.code == 0
    assert "the same mask as recorded, bit for bit" in ended.out
    one, two = read_volume(folder / "one.nrrd"), read_volume(folder / "two.nrrd")
    assert one.array.any()
    np.testing.assert_array_equal(one.array, two.array)
    np.testing.assert_allclose(one.ijk_to_lps, two.ijk_to_lps)
