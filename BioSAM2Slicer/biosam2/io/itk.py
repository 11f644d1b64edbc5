"""Volumes by SimpleITK: NRRD, NIfTI, MetaImage and whatever else it knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
from ..volume import Volume
from . import guards, integrity
from .atomic import atomic_path, cannot_write
from .formats import READABLE
from .guards import require_memory, unreadable

_log = logging.getLogger(__name__)


def read(path: Path) -> Volume:
    """Read a file of two, three, or four dimensions (the fourth of size 1), grey, RGB or RGBA (alpha is dropped).

    Voxels that are not finite become the smallest finite value, with a warning.

    Raises:
        InputError: the file is damaged, not a scalar or colour volume, sheared, too large, or has no finite voxel.
    """
    integrity.check(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with unreadable(path), quiet():
        if not reader.GetImageIOFromFileName(str(path)):
            raise InputError(f"cannot read {path}: it is damaged or of no known format; known are {READABLE}")
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            if "orthonormal" in str(error):  # of a NIfTI file
                raise _sheared(path) from None
            raise
    _check_header(path, reader)
    with unreadable(path), quiet():
        image = reader.Execute()
    return volume_from_image(path, image)


def read_channel(path: Path, channel: int) -> Volume:
    """Read one channel of a file of four dimensions, such as a NIfTI file of several MR sequences.

    Raises:
        InputError: the file is damaged, too large, or has no such channel.
    """
    integrity.check(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with unreadable(path), quiet():
        reader.ReadImageInformation()
    size = reader.GetSize()
    channels = size[3] if len(size) == 4 else 1
    if len(size) not in (3, 4) or not 0 <= channel < channels:
        shown = "×".join(str(n) for n in size)
        raise InputError(f"{path} has no channel {channel} (its size is {shown}); channels are 0 to {channels - 1}")
    require_memory(
        path, 2.0 * np.prod(size[:3], dtype=float) * _bytes(sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    )
    if len(size) == 4:
        reader.SetExtractSize([*size[:3], 0])
        reader.SetExtractIndex([0, 0, 0, channel])
    with unreadable(path), quiet():
        image = reader.Execute()
    return volume_from_image(path, image)


def read_grid(path: Path) -> Volume:
    """Where a file's voxels lie, by its header alone; the voxels of what is returned are all 0.

    Raises:
        InputError: the file is damaged, or holds no volume of three dimensions.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with unreadable(path), quiet():
        reader.ReadImageInformation()
    if reader.GetDimension() != 3:
        raise InputError(f"{path} has {reader.GetDimension()} dimensions; a volume has three")
    voxels = np.broadcast_to(np.uint8(0), reader.GetSize()[::-1])
    return Volume(voxels, reader.GetSpacing(), reader.GetOrigin(), np.reshape(reader.GetDirection(), (3, 3)))


def volume_from_image(path: Path, image: sitk.Image) -> Volume:
    """The Volume of a SimpleITK image of two or three dimensions.

    Raises:
        InputError: the geometry is sheared or no voxel is finite.
    """
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    array = sitk.GetArrayFromImage(image)
    spacing, origin = list(image.GetSpacing()), list(image.GetOrigin())
    direction = np.eye(3)
    n = image.GetDimension()
    direction[:n, :n] = np.reshape(image.GetDirection(), (n, n))
    if n == 2:
        array, spacing, origin = array[None], [*spacing, 1.0], [*origin, 0.0]
        direction[2, 2] = np.sign(np.linalg.det(direction[:2, :2])) or 1.0
    if array.ndim == 4:
        array = np.ascontiguousarray(array[..., :3])
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise _sheared(path)
    return Volume(finite(path, array), tuple(spacing), tuple(origin), direction, {"source": str(path)})


def image_from_volume(volume: Volume) -> sitk.Image:
    """The SimpleITK image of a Volume; voxels are copied."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(array, isVector=volume.is_colour)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction.ravel().tolist())
    return image


def write(path: Path, volume: Volume, *, overwrite: bool = True) -> None:
    """Write a volume, compressed where the format can be; atomic.

    Raises:
        OutputError: the file cannot be written.
    """
    image = image_from_volume(volume)
    with atomic_path(path, overwrite=overwrite) as temporary:
        try:
            with quiet():
                sitk.WriteImage(image, str(temporary), useCompression=True)
            integrity.check(temporary)  # ITK's NIfTI writer says nothing when the disk is full
        except (RuntimeError, InputError) as error:
            raise cannot_write(path, error) from error


def finite(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """The array with NaN and infinities replaced by its smallest finite value, with a warning that counts them.

    Raises:
        InputError: no voxel is finite.
    """
    if array.dtype.kind != "f":
        return array
    good = np.isfinite(array)
    bad = array.size - int(np.count_nonzero(good))
    if not bad:
        return array
    if bad == array.size:
        raise InputError(f"{path} holds no finite voxel (all are NaN or infinite)")
    smallest = array[good].min()
    _log.warning("%s holds %d voxels that are NaN or infinite; they are taken as %g", path, bad, smallest)
    return np.where(good, array, smallest)


def _sheared(path: Path) -> InputError:
    return InputError(f"{path} has axes that are not at right angles; resample it to a regular grid first")


def _check_header(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse what the header already shows to be no 3D volume, or too large, before voxels are read."""
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    shown = "×".join(str(n) for n in size)
    if "complex" in pixel:
        raise InputError(f"{path} holds complex numbers; write its magnitude first (SimpleITK: ComplexToModulus)")
    if "label" in pixel:
        raise InputError(f"{path} holds run-length labels, not voxels; convert it to an ordinary image first")
    if len(size) > 4 or any(n != 1 for n in size[3:]):
        raise InputError(
            f"{path} has {len(size)} dimensions ({shown}); extract one 3D volume first, "
            "for example SimpleITK.ReadImage(path)[:, :, :, 0]"
        )
    if len(size) < 2:
        raise InputError(f"{path} has {len(size)} dimension; a volume has three")
    if components not in (1, 3, 4):
        raise InputError(
            f"{path} holds {components} numbers per voxel (a vector or time series); extract one first, "
            "for example SimpleITK.VectorIndexSelectionCast(image, 0)"
        )
    if components != 1 and "8-bit unsigned" not in pixel:
        raise InputError(
            f"{path} holds {components} numbers per voxel of type {pixel}; colour is three of 8 bits: "
            "extract one first, for example SimpleITK.VectorIndexSelectionCast(image, 0)"
        )
    # The image, and the array copied from it.
    require_memory(path, 2.0 * np.prod(size, dtype=float) * components * _bytes(pixel))


def _bytes(pixel: str) -> int:
    """Size of one component, from SimpleITK's name of the pixel type ("vector of 16-bit unsigned integer")."""
    return next((n // 8 for n in (8, 16, 32, 64) if f"{n}-bit" in pixel), 8)


@contextmanager
def quiet() -> Iterator[None]:
    """Neither ITK's warnings nor what its codecs print reach the user."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with guards.quiet():
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
