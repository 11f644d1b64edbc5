"""Slicer's own tools on arrays, in a process of their own: Slicer's libraries and torch do not go together in one.

python -m bench.slicer_tools grow|fill INPUT.npz OUTPUT.npy

``grow`` is the Segment Editor's *Grow from seeds* (fast grow-cut; Zhu et al., "An Effective Interactive Medical Image
Segmentation Method using Fast GrowCut", MICCAI IMIC 2014), ``fill`` its *Fill between slices* (morphological contour
interpolation; Zukić et al., Insight Journal 2016), as slicer-core has them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from biosam2.errors import InputError
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def grow_from_seeds(
    image: NDArray[np.float32], spacing: tuple[float, float, float], inside: Bools, outside: Bools
) -> Bools:
    """The target by *Grow from seeds*, with the panel's default of no seed locality.

    Args:
        image: (slices, rows, columns).
        spacing: in mm, in the array's order.
        inside: seeds of the target.
        outside: seeds of what is around it.

    Raises:
        InputError: Slicer's libraries are not there.
    """
    seeds = np.where(inside, 1, np.where(outside, 2, 0)).astype(np.uint8)
    return _apart("grow", image=image, spacing=np.array(spacing), seeds=seeds) == 1


def fill_between_slices(drawn: Bools, spacing: tuple[float, float, float]) -> Bools:
    """What *Fill between slices* makes of the slices that are drawn.

    Args:
        drawn: (slices, rows, columns), empty but on the slices that are drawn.
        spacing: in mm, in the array's order.

    Raises:
        InputError: Slicer's libraries are not there.
    """
    return _apart("fill", spacing=np.array(spacing), seeds=drawn.astype(np.uint8)) == 1


def _apart(tool: str, **arrays: NDArray[Any]) -> NDArray[Any]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.npz"), Path(folder, "made.npy")
        np.savez(given, **arrays)  # type: ignore[arg-type]  # its keyword allow_pickle is not among them
        command = [sys.executable, "-m", "bench.slicer_tools", tool, str(given), str(made)]
        # With several threads ITK's contour interpolator ended every third time by a segmentation fault.
        environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
        ended = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment, check=False
        )
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            raise InputError(f"Slicer's tool failed: {last} (pip install slicer-core)")
        found: NDArray[Any] = np.load(made)
        return found


def _run(tool: str, given: Path, made: Path) -> None:
    import slicer_core

    with np.load(given) as arrays:
        seeds = _image(arrays["seeds"], arrays["spacing"])
        if tool == "grow":
            work = slicer_core.vtkImageGrowCutSegment()
            work.SetIntensityVolume(_image(arrays["image"], arrays["spacing"]))
            work.SetSeedLabelVolume(seeds)
        else:
            work = slicer_core.vtkITKMorphologicalContourInterpolator()
            work.SetInputData(seeds)
        work.Update()
        np.save(made, _array(work.GetOutput()))


def _image(array: NDArray[Any], spacing: NDArray[Any]) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    image = vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.SetSpacing(*spacing[::-1].tolist())
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True)  # type: ignore[no-untyped-call]
    image.GetPointData().SetScalars(scalars)
    return image


def _array(image: Any) -> NDArray[Any]:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    values: NDArray[Any] = vtk_to_numpy(image.GetPointData().GetScalars())  # type: ignore[no-untyped-call]
    return values.reshape(image.GetDimensions()[::-1])


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
