"""A generated CT of an upper abdomen: something to segment where there is no patient.

Every shape is a few lines of geometry in millimetres and every random number comes from one seed, so that the same
volume can be made anywhere. It is a picture of a CT, not a model of a patient: nothing may be concluded from it.

    python -m biosam2.synthetic.phantom ct.nrrd --lesion lesion.nrrd
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume

# x, y, z.
_Triple = Sequence[float] | NDArray[Any]

SHAPE = (40, 256, 256)
SPACING = (1.4, 1.4, 5.0)

_BODY_SHIFT = 8.0  # mm that the trunk lies in front of the field's centre
# Hounsfield units of a portal venous phase.
_AIR, _LUNG, _FAT, _SOFT, _MUSCLE = -1000.0, -870.0, -105.0, 35.0, 60.0
_LIVER, _LIVER_VEIN, _SPLEEN, _AORTA, _VEIN = 112.0, 180.0, 124.0, 185.0, 150.0
_CORTEX, _MEDULLA, _BONE, _MARROW, _DISC = 195.0, 140.0, 620.0, 190.0, 85.0
_LESION, _LESION_RIM = 42.0, 78.0


@dataclass(frozen=True)
class Phantom:
    """The volume (int16, HU) and where its lesion truly is (bool, K, J, I)."""

    volume: Volume
    lesion: NDArray[np.bool_]


def ct_phantom(seed: int = 0) -> Phantom:
    """An upper abdomen with one hypodense liver lesion; the same voxels for the same seed.

    Args:
        seed: of the anatomy's irregularities, the vessels and the noise.
    """
    random = np.random.default_rng(seed)
    grid = _Grid(random)
    image = np.full(SHAPE, _AIR, dtype=np.float32)
    cavity = _paint_trunk(image, grid)
    below = _paint_chest(image, grid, cavity, random)
    lesion = _paint_abdomen(image, grid, cavity & below, random)
    _paint_spine(image, grid)
    _paint_table(image)
    return Phantom(placed(_scan(image, random)), lesion)


def placed(voxels: NDArray[Any]) -> Volume:
    """Voxels of the phantom, int16 (K, J, I) in HU, as a volume: centred on the origin."""
    origin = tuple(-0.5 * (n - 1) * s for n, s in zip(SHAPE[::-1], SPACING, strict=True))
    return Volume(voxels, SPACING, origin)  # type: ignore[arg-type]


class _Grid:
    """Millimetre coordinates of every voxel, bent a little so that no organ is a perfect ellipsoid.

    x grows to the patient's left, y to the back, z to the head (LPS); (0, 0) is the trunk's centre, z is 0 to 195.
    """

    def __init__(self, random: np.random.Generator) -> None:
        k, j, i = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in SHAPE), indexing="ij")
        straight = (
            (i - (SHAPE[2] - 1) / 2) * SPACING[0],
            (j - (SHAPE[1] - 1) / 2) * SPACING[1] + _BODY_SHIFT,
            k * SPACING[2],
        )
        self.x, self.y, self.z = (axis + 5.0 * _smooth_noise(random, 9) for axis in straight)

    def ellipsoid(self, centre: _Triple, radii: _Triple, power: float = 2.0, tilt: float = 0.0) -> NDArray[np.float32]:
        """0 at the centre, 1 on the surface; ``tilt`` leans it about the body's long axis, in radians."""
        x, y, z = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        cosine, sine = math.cos(tilt), math.sin(tilt)  # Python's own keep float32
        u, v = cosine * x + sine * y, cosine * y - sine * x
        parts = [side / float(radius) for side, radius in zip((u, v, z), radii, strict=True)]
        if power == 2:  # several times quicker than powers
            return np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
        return np.asarray(sum(np.abs(part) ** power for part in parts) ** (1 / power), np.float32)

    def tube(self, centre: _Triple, radii: _Triple) -> NDArray[np.float32]:
        """The same for an elliptic cylinder along the body's long axis."""
        return np.hypot((self.x - centre[0]) / radii[0], (self.y - centre[1]) / radii[1])


def _paint_trunk(image: NDArray[Any], g: _Grid) -> NDArray[np.bool_]:
    widen = 1.0 + 0.05 * np.sin(g.z / 195 * np.pi)
    trunk = (np.abs(g.x / (156 * widen)) ** 2.5 + np.abs(g.y / (104 * widen)) ** 2.5) ** (1 / 2.5)
    image[trunk < 1] = 15  # skin
    image[trunk < 0.982] = _FAT
    # Subcutaneous fat is thickest in front and at the flanks.
    wall = trunk + 0.035 * np.clip(-g.y / 100, 0, 1)
    image[wall < 0.91] = _MUSCLE
    for side in (-1, 1):
        image[(g.ellipsoid((side * 34, 74, 90), (27, 20, 400)) < 1) & (trunk < 0.95)] = _MUSCLE - 4
    cavity = wall < 0.835
    image[cavity] = _FAT + 8
    # Ribs slope down towards the front, so that a slice meets each as a short arc.
    height = np.mod(g.z + 0.42 * (g.y - 60) + 6, 27) - 13.5
    rib = ((wall - 0.872) / 0.030) ** 2 + (height / 6.5) ** 2
    flank = (np.abs(g.x) > 40) & ((g.z > 85) | (g.y > -25 + 0.7 * (85 - g.z)))
    image[(rib < 1) & flank] = _BONE
    image[(rib < 0.35) & flank] = _MARROW
    return cavity


def _paint_chest(image: NDArray[Any], g: _Grid, cavity: NDArray[Any], random: np.random.Generator) -> NDArray[np.bool_]:
    """Lungs and heart; returns what lies below the diaphragm."""
    right = 150 - 70 * (np.hypot((g.x + 72) / 84, (g.y - 2) / 92)) ** 2.4
    left = 138 - 66 * (np.hypot((g.x - 74) / 80, (g.y - 6) / 90)) ** 2.4
    dome = np.where(g.x < 0, right, left)
    below = g.z < dome
    mediastinum = np.abs(g.x + 4) < 24 + 16 * np.clip((g.y + 20) / -80, 0, 1) + 0.0008 * (g.y - 40) ** 2
    lung = cavity & ~below & ~mediastinum
    image[lung] = _LUNG
    # The base of the lung is denser at the back, where the patient lies on it.
    image[lung] += np.clip(0.7 * g.y[lung], 0, 60)
    for side in (-1, 1):
        vessels = _tree(random, root=(side * 34, 8, 185), spread=(64, 54, 60), branches=34, radius=3.8)
        image[lung] = np.maximum(image[lung], (_LUNG + 900 * vessels)[lung])
    sheet = cavity & (np.abs(g.z - dome) < 4) & ~mediastinum
    image[sheet] = _SOFT + 15
    heart = g.ellipsoid((16, -34, 178), (60, 46, 42), tilt=0.5)
    image[(heart < 1.1) & cavity & ~below] = _FAT
    image[(heart < 1) & cavity & ~below] = 95
    for centre, radii in (((32, -24, 182), (27, 20, 26)), ((-10, -44, 182), (26, 21, 26))):
        image[(g.ellipsoid(centre, radii, tilt=0.5) < 1) & ~below] = 165
    oesophagus = g.tube((8, 30), (10, 8))
    image[(oesophagus < 1) & (g.z > 110)] = _SOFT
    return below


def _paint_abdomen(image: NDArray[Any], g: _Grid, room: NDArray[Any], random: np.random.Generator) -> NDArray[np.bool_]:
    stomach = room & (g.ellipsoid((66, -32, 96), (50, 38, 52), tilt=-0.5) < 1)
    image[stomach] = 62
    inside = room & (g.ellipsoid((66, -32, 96), (45, 33, 48), tilt=-0.5) < 1)
    image[inside] = np.where(g.y[inside] < -44, _AIR + 40, 18)

    spleen = room & (g.ellipsoid((104, 40, 92), (26, 44, 44), tilt=-0.55) < 1)
    image[spleen] = _SPLEEN

    lobe = g.ellipsoid((-74, 0, 84), (80, 88, 82), power=2.3)
    left_lobe = g.ellipsoid((-4, -48, 104), (66, 30, 46), tilt=0.25)
    liver = room & (np.minimum(lobe, left_lobe) < 1) & (g.x < 44 - 0.55 * (g.y + 50))
    liver &= g.tube((0, 62), (44, 52)) > 1
    image[liver] = _LIVER + 3 * _smooth_noise(random, 20)[liver]
    for root, spread, branches, radius in (
        ((-46, 4, 80), (44, 42, 30), 9, 4.6),  # portal vein
        ((-34, 26, 122), (46, 44, 36), 8, 4.6),  # hepatic veins
    ):
        vein = _tree(random, root, spread, branches, radius)
        image[liver] += ((_LIVER_VEIN - _LIVER) * vein)[liver]
    gallbladder = g.ellipsoid((-44, -50, 46), (13, 20, 20))
    image[(gallbladder < 1) & room] = 12

    for side, z in ((-1, 34), (1, 44)):
        x, y = side * 58, 42
        kidney = g.ellipsoid((x, y, z), (27, 31, 54), tilt=side * 0.6)
        image[room & (kidney < 1.22) & ~liver & ~spleen] = _FAT
        image[room & (kidney < 1)] = _CORTEX
        pyramids = np.cos(7 * np.arctan2(g.y - y, g.x - x)) * np.cos((g.z - z) / 6)
        image[room & (kidney < 0.74) & (pyramids > -0.2)] = _MEDULLA
        sinus = g.ellipsoid((side * 50, 38, z), (15, 12, 26), tilt=side * 0.6)
        image[room & (sinus < 1)] = _FAT + 25
    for _ in range(26):
        centre = (random.uniform(-70, 88), random.uniform(-78, -8), random.uniform(-6, 42))
        size = random.uniform(10, 17, 3) * (1.2, 1.0, 1.5)
        loop = g.ellipsoid(centre, size)
        free = room & ~liver & (image < _SOFT)
        image[free & (loop < 1)] = 70
        gas = (g.y < centre[1] - 0.1 * size[1]) & (random.uniform() < 0.35)
        image[free & (loop < 0.82)] = np.where(gas, _AIR + 150, 28)[free & (loop < 0.82)]
    pancreas = g.ellipsoid((18, -2, 66), (62, 11, 14), tilt=-0.25)
    image[room & (pancreas < 1) & ~liver & (image < _MUSCLE)] = 92

    image[g.tube((-20, 30), (12, 10)) < 1] = _VEIN
    aorta = g.tube((13, 40), (12, 12))
    image[aorta < 1] = _AORTA
    image[(aorta > 0.9) & (aorta < 1) & (g.x > 14) & (g.z % 40 < 9)] = 420  # calcified plaque

    rough = 0.11 * _smooth_noise(random, 40)
    mass = g.ellipsoid((-88, -14, 80), (24, 20, 23), tilt=0.4) + rough
    lesion = liver & (mass < 1)
    image[lesion] = _LESION_RIM
    image[liver & (mass < 0.86)] = _LESION
    image[liver & (mass < 0.45)] = _LESION - 14
    return lesion


def _paint_spine(image: NDArray[Any], g: _Grid) -> None:
    level = np.mod(g.z + 4, 36)  # one vertebra and one disc
    body = g.ellipsoid((0, 62, 0), (23, 17, 1e6), power=2.4)
    bone = level < 28
    image[body < 1] = np.where(bone, np.where(np.minimum(level, 28 - level) < 2.5, 380, _MARROW), _DISC)[body < 1]
    image[(body > 0.9) & (body < 1) & bone] = _BONE
    arch = g.ellipsoid((0, 87, 0), (17, 14, 1e6))
    image[(arch < 1) & (body >= 1)] = np.where(bone, 420.0, 70.0)[(arch < 1) & (body >= 1)]
    image[g.ellipsoid((0, 86, 0), (10.5, 8.5, 1e6)) < 1] = 18  # thecal sac
    image[g.ellipsoid((0, 86, 0), (5.5, 4.5, 1e6)) < 1] = 42  # cord
    spinous = (np.abs(g.x) < 4.5 - 0.05 * np.clip(g.y - 96, 0, 30)) & (g.y > 97) & (g.y < 116) & (level < 18)
    image[spinous & (image > _AIR + 200)] = 480
    transverse = (np.abs(g.y - 88 - 0.1 * np.abs(g.x)) < 5) & (np.abs(g.x) > 15) & (np.abs(g.x) < 40) & (level < 11)
    image[transverse] = 430


def _paint_table(image: NDArray[Any]) -> None:
    x = (np.arange(SHAPE[2]) - (SHAPE[2] - 1) / 2) * SPACING[0]
    surface = 214 - (x / 34) ** 2 * 1.4  # row of the couch's top
    depth = np.arange(SHAPE[1])[:, None] - surface
    couch = (depth > 0) & (depth < 16) & (np.abs(x) < 168)
    skin = couch & ((depth < 1.6) | (depth > 14.4))
    air = image < -900
    image[air & couch] = -930
    image[air & skin] = -350


def _tree(
    random: np.random.Generator, root: _Triple, spread: _Triple, branches: int, radius: float
) -> NDArray[np.float32]:
    """Vessels branching out from a root: 0 to 1, the part of each voxel that they fill. (K, J, I).

    Args:
        random: what the branches are drawn from.
        root: x, y, z in mm.
        spread: how far a first branch reaches along x, y, z, in mm.
        branches: how many leave the root; each splits twice more.
        radius: of the first branches, in mm.
    """
    steps = np.linspace(0, 1, 60)[:, None]
    stems = [(np.asarray(root, dtype=float), random.normal(size=3), 1.0, radius, 0) for _ in range(branches)]
    paths, widths = [], []
    while stems:
        start, direction, reach, thick, level = stems.pop()
        direction = direction / np.linalg.norm(direction)
        bend = random.normal(scale=0.25, size=3)
        path = start + reach * np.asarray(spread) * (steps * direction + steps**2 * bend)
        width = thick * (1 - 0.5 * steps[:, 0])
        paths.append(path)
        widths.append(width)
        if level < 2:
            for at in (27, 45, 59):
                turned = direction + random.normal(scale=0.6, size=3)
                stems.append((path[at], turned, reach * 0.5, width[at] * 0.75, level + 1))
    return _stamped(np.concatenate(paths), np.concatenate(widths))


def _stamped(centres: NDArray[Any], radii: NDArray[Any]) -> NDArray[np.float32]:
    """Discs on slices, 0 to 1 with soft rims. (K, J, I).

    Args:
        centres: (n, 3) x, y, z in mm.
        radii: (n,) in mm.
    """
    middle = ((SHAPE[2] - 1) / 2, (SHAPE[1] - 1) / 2 - _BODY_SHIFT / SPACING[1], 0)
    index = centres / SPACING + middle
    inside = np.all((index > 6) & (index < np.array(SHAPE[::-1]) - 7) | ([False, False, True]), axis=1)
    inside &= (index[:, 2] >= 0) & (index[:, 2] <= SHAPE[0] - 1)
    index, radii = index[inside], radii[inside] / SPACING[0]
    column, row, k = np.rint(index).astype(int).T
    offset = np.arange(-5, 6)
    rows = row[:, None, None] + offset[:, None] + 0 * offset
    columns = column[:, None, None] + offset + 0 * offset[:, None]
    distance = np.hypot(rows - index[:, 1, None, None], columns - index[:, 0, None, None])
    filled = np.zeros(SHAPE, dtype=np.float32)
    discs = np.clip(radii[:, None, None] - distance + 0.5, 0, 1).astype(np.float32)
    np.maximum.at(filled, (np.broadcast_to(k[:, None, None], rows.shape), rows, columns), discs)
    return filled


def _smooth_noise(random: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """A smooth random field of unit variance, with so many cells across. (K, J, I)."""

    def bumps(voxels: int, count: int) -> NDArray[np.float32]:
        """Weights of `count` bumps along an axis, (voxels, count)."""
        distance = np.linspace(0, count - 1, voxels)[:, None] - np.arange(count)
        weight = np.exp(-0.5 * (distance / 0.6) ** 2)
        return (weight / np.sqrt((weight**2).sum(axis=1, keepdims=True))).astype(np.float32)

    counts = (max(cells // 2, 5), cells, cells)
    field = random.normal(size=counts).astype(np.float32)
    for voxels, count in zip(SHAPE, counts, strict=True):
        # Each turn spreads the first axis and moves it to the end: after three, the order is (K, J, I) again.
        field = np.tensordot(field, bumps(voxels, count), axes=(0, 1))
    return field


def _scan(image: NDArray[Any], random: np.random.Generator) -> NDArray[np.int16]:
    """What a scanner makes of the tissue: its point spread and its grainy noise, stored as int16."""
    import SimpleITK as sitk

    def blur(array: NDArray[Any], sigma: tuple[float, float, float]) -> NDArray[Any]:
        volume = sitk.GetImageFromArray(array.astype(np.float32))
        return sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(volume, sigma))

    tissue = blur(image, (0.75, 0.75, 0.45))
    grain = blur(random.normal(size=SHAPE), (0.8, 0.8, 0.2)) - blur(random.normal(size=SHAPE), (3.0, 3.0, 0.2))
    # Photons are fewest where they cross most tissue.
    thickness = blur((tissue > -500).astype(np.float32), (30.0, 30.0, 0.2))
    return np.clip(np.rint(tissue + grain / grain.std() * (5 + 11 * thickness)), -1024, 3071).astype(np.int16)


def main(arguments: list[str] | None = None) -> None:
    """Write the phantom, and its lesion where asked."""
    parser = argparse.ArgumentParser(prog="python -m biosam2.synthetic.phantom", description=__doc__.partition("\n")[0])
    parser.add_argument("image", type=Path, help="where the CT goes (.nrrd, .nii.gz, .mha; .npy: its voxels)")
    parser.add_argument("--lesion", type=Path, help="where the true mask of the lesion goes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    phantom = ct_phantom(options.seed)
    if options.image.suffix == ".npy":  # which needs NumPy and nothing else
        np.save(options.image, phantom.volume.array)
        return
    from ..io import itk, write_labelmap

    itk.write(options.image, phantom.volume)
    if options.lesion:
        write_labelmap(options.lesion, phantom.volume, phantom.lesion.astype(np.uint8))


if __name__ == "__main__":
    main()
