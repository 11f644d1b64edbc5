"""A volume seen as a sequence of frames: axis, window/level, region, and what the image encoder is given.

A frame is one slice. Its rows and columns are the array's own, never flipped or transposed:

    axis k: frame k is array[k], rows j, columns i
    axis j: frame j is array[:, j], rows k, columns i
    axis i: frame i is array[:, :, i], rows k, columns j
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .volume import Volume

if TYPE_CHECKING:
    import torch

# Window centre and width in Hounsfield units, as CT consoles name them.
CT_PRESETS: dict[str, tuple[float, float]] = {
    "abdomen": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
}

# Where ImageNet statistics come from: SAM 2's own training and sam2.utils.misc.load_video_frames.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_ARRAY_AXIS = {"k": 0, "j": 1, "i": 2}
_ANATOMICAL = {"sagittal": 0, "coronal": 1, "axial": 2}
_PERCENTILES = (0.5, 99.5)
_PERCENTILE_SAMPLES = 4_000_000


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame, in whole voxels: the crop that the network runs on."""

    row: int
    column: int
    rows: int
    columns: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the region in an array of (rows, columns)."""
        return slice(self.row, self.row + self.rows), slice(self.column, self.column + self.columns)


def resolve_axis(axis: str, volume: Volume) -> str:
    """The index axis (``"i"``, ``"j"`` or ``"k"``) that an axis name means for this volume.

    Args:
        axis: an index axis, or ``"axial"``, ``"coronal"``, ``"sagittal"``: the index axis nearest to that
            patient axis (superior, anterior, left).
        volume: whose direction says where those lie.

    Raises:
        InputError: no such axis.
    """
    if axis in _ARRAY_AXIS:
        return axis
    if axis in _ANATOMICAL:
        # Greedy per column would give one index axis twice on oblique volumes; take the best assignment.
        weight = np.abs(volume.direction)
        best = max(
            ((a, b, c) for a in range(3) for b in range(3) for c in range(3) if len({a, b, c}) == 3),
            key=lambda p: weight[0, p[0]] + weight[1, p[1]] + weight[2, p[2]],
        )
        return "ijk"[best[_ANATOMICAL[axis]]]
    raise InputError(f"there is no axis {axis!r}; use i, j, k, axial, coronal or sagittal")


def windowed(pixels: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
    """Voxels as they are shown, to the network and to people: float32 of the same shape, 0 to 1.

    Args:
        pixels: voxels; NaN carries no information and is shown as the window's lower end.
        window: (centre, width).
    """
    centre, width = window
    scaled = (pixels.astype(np.float32) - np.float32(centre - width / 2)) / np.float32(width)
    return np.nan_to_num(np.clip(scaled, 0, 1), nan=0.0)


def resolve_window(window: tuple[float, float] | str | None, volume: Volume) -> tuple[float, float]:
    """The (centre, width) that is shown to the network.

    Args:
        window: centre and width in the voxels' unit; the name of a CT preset; or None for robust percentiles
            (0.5 and 99.5 of the voxels above the lowest value, which is background or padding; 8-bit colour keeps
            its full range).
        volume: whose voxels the percentiles are taken of.

    Raises:
        InputError: an unknown preset, or a width that is not positive.
    """
    if isinstance(window, str):
        if window not in CT_PRESETS:
            raise InputError(
                f"there is no window {window!r}; use centre,width or one of {', '.join(sorted(CT_PRESETS))}"
            )
        return CT_PRESETS[window]
    if window is not None:
        try:
            centre, width = (float(v) for v in window)
        except (TypeError, ValueError):
            raise InputError(f"a window is a centre and a width, not {window!r}") from None
        if not (np.isfinite(centre) and np.isfinite(width) and width > 0):
            raise InputError(f"a window needs a finite centre and a positive width, not {window!r}")
        return centre, width
    if volume.is_colour and volume.array.dtype == np.uint8:
        return 127.5, 255.0
    voxels = volume.array.reshape(-1)
    # Every n-th voxel, n odd so that a power-of-two row length does not always hit the same column.
    step = max(1, voxels.size // _PERCENTILE_SAMPLES) | 1
    voxels = voxels[::step]
    if voxels.dtype.kind == "f":
        voxels = voxels[np.isfinite(voxels)]
    if voxels.size == 0:
        return 0.5, 1.0
    above = voxels[voxels > voxels.min()]
    low, high = np.percentile(above if above.size else voxels, _PERCENTILES).astype(float)
    if above.size and high <= low:
        low = float(voxels.min())
    return (low + high) / 2, high - low if high > low else max(abs(low), 1.0)


class Frames:
    """The frames of a volume along one axis, windowed.

    Args:
        volume: the voxels.
        axis: ``"i"``, ``"j"``, ``"k"`` or an anatomical name; see `resolve_axis`.
        window: see `resolve_window`.
        image_size: side S of the network's input, in pixels.

    Raises:
        InputError: an unknown axis or window.
    """

    def __init__(self, volume: Volume, axis: str, window: tuple[float, float] | str | None, image_size: int) -> None:
        self.volume = volume
        self.axis = resolve_axis(axis, volume)
        self.window = resolve_window(window, volume)
        self.image_size = image_size
        self._voxels = np.moveaxis(volume.array, _ARRAY_AXIS[self.axis], 0)
        self.count, self.rows, self.columns = (int(n) for n in self._voxels.shape[:3])

    @property
    def whole(self) -> Region:
        """The region that is the whole frame."""
        return Region(0, 0, self.rows, self.columns)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Size of a pixel along rows and columns, in mm."""
        i, j, k = self.volume.spacing
        return {"k": (j, i), "j": (k, i), "i": (k, j)}[self.axis]

    @property
    def slice_distance(self) -> float:
        """Distance of neighbouring slices, in mm."""
        return self.volume.spacing["ijk".index(self.axis)]

    def pixels(self, slice_index: int) -> NDArray[Any]:
        """The slice's own voxels, (rows, columns) or (rows, columns, 3)."""
        return self._voxels[slice_index]

    def from_ijk(self, ijk: tuple[float, float, float]) -> tuple[float, float, float]:
        """(slice, row, column) of a voxel index; fractions are kept."""
        i, j, k = ijk
        return {"k": (k, j, i), "j": (j, k, i), "i": (i, k, j)}[self.axis]

    def stack(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of (slices, rows, columns) laid out as the volume, (K, J, I); a view."""
        return np.moveaxis(array, 0, _ARRAY_AXIS[self.axis])

    def unstack(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of (K, J, I) seen as (slices, rows, columns); a view."""
        return np.moveaxis(array, _ARRAY_AXIS[self.axis], 0)

    def tensor(self, slice_index: int, region: Region | None = None) -> torch.Tensor:
        """What the image encoder is given: float32 (3, S, S), normalised as SAM 2 was trained.

        Raises:
            InputError: there is no such slice.
        """
        import torch

        mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
        return (self.picture(slice_index, region).expand(3, -1, -1) - mean) / std

    def picture(self, slice_index: int, region: Region | None = None) -> torch.Tensor:
        """A slice as the network is given it, before normalising: float32 (1, S, S), colour (3, S, S), 0 to 1.

        The region is squeezed to S×S without padding (bilinear, antialiased, pixel centres aligned as in
        ``align_corners=False``).

        Raises:
            InputError: there is no such slice.
        """
        import torch
        from torch.nn.functional import interpolate

        pixels = self._voxels[self.check_index(slice_index)]
        if region is not None:
            pixels = pixels[region.slices]
        image = torch.from_numpy(np.ascontiguousarray(windowed(pixels, self.window)))
        image = image.permute(2, 0, 1) if image.ndim == 3 else image[None]
        size = (self.image_size, self.image_size)
        return interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]

    def check_index(self, slice_index: int) -> int:
        """The index itself.

        Raises:
            InputError: there is no such slice.
        """
        if not 0 <= slice_index < self.count:
            raise InputError(f"there is no slice {slice_index} along {self.axis}; slices are 0 to {self.count - 1}")
        return int(slice_index)
