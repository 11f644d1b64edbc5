"""Classical tools given the same prompts, each with one fixed setting for all cases.

They are helped where the prompts allow it: they work in a region around the prompt only (the engine may err
anywhere in the volume), are told that its border is not the target, see a smoothed image, and what they find is
cleaned: holes filled, the piece that carries the prompt kept. A mask prompt stays as it is on its own slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from skimage import segmentation

from ..engine.regions import Extent, extent_of
from ..frames import Frames
from ..masks import dice
from ..prompts import Prompt, SlicePrompt

# Room around a box or a mask, in units of its longer side, within the slice and along the axis.
_ROOM, _ROOM_ALONG = 0.25, 1.0
# Reach of a click, in mm, each way: nothing tells the target's size.
_CLICK_REACH = 20.0
# Half axes of the ellipse of seeds in a box, in units of the box's.
_BOX_CORE = 0.4
_LEAST_VOXELS = 3
_CLICK_RADIUS = 3
# How much a step in brightness hinders the random walker.
_BETA = 5000
# Voxels that the random walker is given at most; more are averaged first.
_MOST_VOXELS = 200_000
# How many standard deviations of what is known region growing and the threshold accept.
_GROW, _ACCEPT = 1.5, 2.5

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """What a tool is given. Arrays are (slices, rows, columns) of the region it works in.

    Attributes:
        image: smoothed, mean 0 and standard deviation 1 of the region.
        spacing: in mm, in the arrays' order.
        inside: seeds of the target.
        outside: known not to be the target; at least the region's border.
        sample: where the target's brightness is read; contains `inside`.
        extent: bounding box of the target on the prompted slice, None where clicks alone are known.
        drawn: the target on the prompted slice, all slices, None where it was not drawn.
        prompted: index of the prompted slice.
    """

    image: Floats
    spacing: tuple[float, float, float]
    inside: Bools
    outside: Bools
    sample: Bools
    extent: Extent | None
    drawn: Bools | None
    prompted: int


Tool = Callable[[Scene], Bools]


def segment(tool: Tool, frames: Frames, prompts: Sequence[Prompt]) -> Bools:
    """The mask that a tool makes of prompts on one slice, bool (K, J, I).

    Args:
        tool: one of `TOOLS`.
        frames: the slices; their window does not matter.
        prompts: whatever one slice was told.
    """
    told = SlicePrompt(prompts[0].slice_of(frames))
    for prompt in prompts:
        told = prompt.add_to(told, frames)
    scene, region = _scene(frames, told)
    found = _cleaned(tool(scene), scene)
    result = np.zeros((frames.count, frames.rows, frames.columns), bool)
    result[region] = found
    if told.mask is not None:
        result[told.slice_index] = told.mask
    return np.ascontiguousarray(frames.stack(result))


# -- the tools ------------------------------------------------------------------------------------


def region_growing(scene: Scene) -> Bools:
    """SimpleITK's ConfidenceConnected: from the seeds, voxels near enough to their mean, estimated twice."""
    seeds = _thinned(scene.inside)
    grown = sitk.ConfidenceConnected(
        _itk(scene), seedList=seeds, numberOfIterations=1, multiplier=_GROW, initialNeighborhoodRadius=1, replaceValue=1
    )
    return sitk.GetArrayFromImage(grown).astype(bool) & ~scene.outside


def threshold(scene: Scene) -> Bools:
    """SimpleITK's ConnectedThreshold: from the seeds, voxels as bright as the sample, give or take."""
    values = scene.image[scene.sample]
    half = max(_ACCEPT * float(values.std()), 0.2)
    centre = float(np.median(values))
    grown = sitk.ConnectedThreshold(
        _itk(scene), seedList=_thinned(scene.inside), lower=centre - half, upper=centre + half, replaceValue=1
    )
    return sitk.GetArrayFromImage(grown).astype(bool) & ~scene.outside


def random_walker(scene: Scene) -> Bools:
    """scikit-image's random walker between the seeds and what is known to be outside."""
    image, inside, outside, factors = _reduced(scene, _MOST_VOXELS)
    markers = np.where(inside, 1, np.where(outside, 2, 0)).astype(np.int8)
    spacing = np.array(scene.spacing) * factors
    # An exact solution changes Dice by less than 0.02 and takes four times as long; prob_tol silences that it is not.
    settings = {"beta": _BETA, "mode": "cg_j", "tol": 1e-2, "prob_tol": np.inf}
    labels = segmentation.random_walker(image, markers, spacing=spacing, **settings)
    return _enlarged(labels == 1, scene.image.shape)


def watershed(scene: Scene) -> Bools:
    """scikit-image's watershed of the gradient from the seeds and what is known to be outside."""
    markers = np.where(scene.inside, 1, np.where(scene.outside, 2, 0)).astype(np.int8)
    return segmentation.watershed(_gradient(scene), markers) == 1


def fast_marching(scene: Scene) -> Bools:
    """SimpleITK's FastMarching from the seeds, slow where the image changes or differs from the sample.

    It stops when it fits the box or the mask best on the prompted slice, or, for clicks, where its front lies on
    edges.
    """
    values = scene.image[scene.sample]
    width = max(float(values.std()), 0.25)
    likeness = np.exp(-0.5 * ((scene.image - np.median(values)) / (2 * width)) ** 2)
    gradient = _gradient(scene)
    speed = likeness / (1 + (gradient / np.median(gradient)) ** 2) + 1e-3
    march = sitk.FastMarchingImageFilter()
    seeds = scene.inside if scene.drawn is None else _deep(scene.inside)
    for seed in _thinned(seeds):
        march.AddTrialPoint([*seed, 0])
    march.SetStoppingValue(1e6)
    arrival = sitk.GetArrayFromImage(march.Execute(_itk(scene, speed.astype(np.float32))))
    arrival[seeds] = 0
    # Where it must not be, it is never; but within a drawn slice it is seen how far it goes astray.
    stop = _stop(arrival, scene)
    return (arrival <= stop) & ~scene.outside


TOOLS: dict[str, Tool] = {
    "region growing": region_growing,
    "threshold": threshold,
    "random walker": random_walker,
    "watershed": watershed,
    "fast marching": fast_marching,
}


# -- the scene ------------------------------------------------------------------------------------


def _scene(frames: Frames, told: SlicePrompt) -> tuple[Scene, tuple[slice, slice, slice]]:
    shape = (frames.count, frames.rows, frames.columns)
    spacing = (frames.volume.spacing["ijk".index(frames.axis)], *frames.pixel_size)
    inside, outside, sample = (np.zeros(shape, bool) for _ in range(3))
    extent, drawn, prompted = None, None, told.slice_index
    if told.drawn is not None:
        extent = extent_of(told.drawn)
        drawn = np.zeros(shape, bool)
        drawn[prompted] = inside[prompted] = sample[prompted] = told.drawn
        outside[prompted] = ~told.drawn
    if told.box is not None:
        row0, column0, row1, column1 = (round(v) for v in told.box)
        extent = Extent(row0, column0, row1, column1)
        outside[prompted] = True
        outside[prompted, row0 : row1 + 1, column0 : column1 + 1] = False
        inside[prompted] = sample[prompted] = _core(extent, shape[1:])
    for row, column, positive in told.points:
        disc = _disc(round(row), round(column), _CLICK_RADIUS, shape[1:])
        if positive:
            inside[prompted] |= disc
            sample[prompted] |= disc
        else:
            outside[prompted] |= disc
    region = _region(frames, spacing, prompted, extent, inside)
    image = _smoothed(frames.unstack(_grey(frames))[region], spacing)
    border = np.ones(image.shape, bool)
    # Where the region ends with the volume, the target may too.
    border[
        tuple(
            slice(part.start > 0, size - (part.stop < n))
            for part, size, n in zip(region, image.shape, shape, strict=True)
        )
    ] = False
    return (
        Scene(
            image=image,
            spacing=spacing,
            inside=inside[region],
            outside=(outside[region] | border) & ~inside[region],
            sample=sample[region],
            extent=_shifted(extent, region),
            drawn=drawn[region] if drawn is not None else None,
            prompted=prompted - region[0].start,
        ),
        region,
    )


def _region(
    frames: Frames, spacing: tuple[float, float, float], prompted: int, extent: Extent | None, inside: Bools
) -> tuple[slice, slice, slice]:
    """The part of the stack that a tool works in."""
    if extent is None:
        clicked = extent_of(inside[prompted])
        assert clicked is not None
        extent, room, along = clicked, _CLICK_REACH, _CLICK_REACH
    else:
        longer = max((extent.row1 - extent.row0 + 1) * spacing[1], (extent.column1 - extent.column0 + 1) * spacing[2])
        room, along = _ROOM * longer, _ROOM_ALONG * longer
    parts = []
    ends = ((prompted, prompted), (extent.row0, extent.row1), (extent.column0, extent.column1))
    for (low, high), reach, mm, n in zip(ends, (along, room, room), spacing, inside.shape, strict=True):
        voxels = max(_LEAST_VOXELS, round(reach / mm))
        parts.append(slice(max(0, int(low) - voxels), min(n, int(high) + voxels + 1)))
    return parts[0], parts[1], parts[2]


def _grey(frames: Frames) -> NDArray[Any]:
    array = frames.volume.array
    return array.mean(axis=-1) if frames.volume.is_colour else array


def _smoothed(image: NDArray[Any], spacing: tuple[float, float, float]) -> Floats:
    """Edge-preserving smoothing, then mean 0 and standard deviation 1."""
    itk = sitk.GetImageFromArray(image.astype(np.float32))
    itk.SetSpacing(spacing[::-1])
    if min(image.shape) > 1:
        itk = sitk.CurvatureFlow(itk, timeStep=0.0625, numberOfIterations=5)
    smooth = sitk.GetArrayFromImage(itk)
    return (smooth - smooth.mean()) / max(float(smooth.std()), 1e-6)


def _core(extent: Extent, shape: tuple[int, int]) -> Bools:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    centre = (extent.row0 + extent.row1) / 2, (extent.column0 + extent.column1) / 2
    half = (extent.row1 - extent.row0 + 1) / 2, (extent.column1 - extent.column0 + 1) / 2
    return np.hypot((rows - centre[0]) / half[0], (columns - centre[1]) / half[1]) <= max(_BOX_CORE, 0.75 / min(half))


def _disc(row: int, column: int, radius: float, shape: tuple[int, int]) -> Bools:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, columns - column) <= radius


def _shifted(extent: Extent | None, region: tuple[slice, slice, slice]) -> Extent | None:
    if extent is None:
        return None
    row, column = region[1].start, region[2].start
    return Extent(extent.row0 - row, extent.column0 - column, extent.row1 - row, extent.column1 - column)


# -- what the tools share -------------------------------------------------------------------------


def _itk(scene: Scene, array: Floats | None = None) -> sitk.Image:
    image = sitk.GetImageFromArray(scene.image if array is None else array)
    image.SetSpacing(scene.spacing[::-1])
    return image


def _thinned(seeds: Bools, most: int = 200) -> list[tuple[int, int, int]]:
    """Some of the seeds as voxel indices."""
    where = np.argwhere(seeds)
    where = where[:: max(1, len(where) // most)]
    return [(int(i), int(j), int(k)) for k, j, i in where]


def _deep(mask: Bools) -> Bools:
    """The inner half of a mask on one slice."""
    depth = ndimage.distance_transform_edt(np.pad(mask, ((1, 1), (0, 0), (0, 0))), sampling=(1e3, 1, 1))[1:-1]
    return depth >= 0.5 * depth.max()


def _gradient(scene: Scene) -> Floats:
    smooth = sitk.GradientMagnitudeRecursiveGaussian(_itk(scene), sigma=min(scene.spacing))
    return np.maximum(sitk.GetArrayFromImage(smooth), 1e-6)


def _reduced(scene: Scene, most: int) -> tuple[Floats, Bools, Bools, NDArray[Any]]:
    """Image, inside and outside on a grid of at most so many voxels, and its coarseness along each axis."""
    factors = np.ones(3, int)
    shape = np.array(scene.image.shape)
    while np.prod(-(-shape // factors)) > most:
        factors[np.argmin(np.array(scene.spacing) * factors)] += 1
    strides = tuple(slice(None, None, f) for f in factors)
    inside = ndimage.maximum_filter(scene.inside, size=tuple(factors), origin=tuple(-(f // 2) for f in factors))
    image = ndimage.uniform_filter(scene.image, size=tuple(factors), origin=tuple(-(f // 2) for f in factors))
    inside = inside[strides]
    return image[strides], inside, scene.outside[strides] & ~inside, factors


def _enlarged(mask: Bools, shape: tuple[int, ...]) -> Bools:
    factors = [n / m for n, m in zip(shape, mask.shape, strict=True)]
    return ndimage.zoom(mask.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest") > 0.5


def _stop(arrival: Floats, scene: Scene) -> float:
    """When the front is to stop."""
    here = arrival[scene.prompted]
    times = np.unique(np.quantile(here, np.linspace(0, 1, 200)))
    if scene.drawn is not None:
        drawn = scene.drawn[scene.prompted]
        return float(max(times, key=lambda t: dice(here <= t, drawn)))
    if scene.extent is not None:
        box = scene.extent
        return float(max(times, key=lambda t: _fit(here <= t, box)))
    # The shell between two times that lies best on edges.
    edges = _gradient(scene)[scene.prompted]
    shells = np.digitize(here, times[1:-1])
    weight = np.bincount(shells.ravel(), minlength=len(times))
    strength = np.bincount(shells.ravel(), edges.ravel(), minlength=len(times)) / np.maximum(weight, 1)
    return float(times[int(np.argmax(strength))])


def _fit(mask: Bools, box: Extent) -> float:
    """Overlap of a mask's bounding box with a box."""
    found = extent_of(mask)
    if found is None:
        return 0.0
    rows = min(found.row1, box.row1) - max(found.row0, box.row0) + 1
    columns = min(found.column1, box.column1) - max(found.column0, box.column0) + 1
    both = max(rows, 0) * max(columns, 0)
    areas = [(e.row1 - e.row0 + 1) * (e.column1 - e.column0 + 1) for e in (found, box)]
    return both / (sum(areas) - both)


def _cleaned(mask: Bools, scene: Scene) -> Bools:
    """Holes in slices filled, and the piece that carries the prompt."""
    filled = np.stack([ndimage.binary_fill_holes(one) for one in mask]) & ~scene.outside | scene.inside
    labels, _ = ndimage.label(filled)
    wanted = np.unique(labels[scene.inside])
    return np.isin(labels, wanted[wanted > 0])
