"""Random anatomy: shapes that can be sampled as a label map on any grid.

An `Anatomy` is a list of shapes in painter's order, described by formulas rather than voxels, so that one and the same
anatomy can be cut by any plane, at any zoom and slice distance, without a volume ever being stored.
Coordinates are dimensionless; a trunk or a head has a radius of about 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch.nn import functional

_LATTICE = 32  # cells of the periodic noise lattice along each axis
_COARSE = 4  # smooth noise is computed on every fourth pixel and interpolated

Array = NDArray[np.float32]

_FREQUENCY = np.sqrt(
    fft.fftfreq(_LATTICE, 1 / _LATTICE)[:, None, None] ** 2
    + fft.fftfreq(_LATTICE, 1 / _LATTICE)[:, None] ** 2
    + fft.rfftfreq(_LATTICE, 1 / _LATTICE) ** 2
).astype(np.float32)  # cycles per period


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a clip lie: voxel (f, r, c) is at ``origin + f * step + r * row + c * column``.

    Args:
        origin: position of voxel (0, 0, 0).
        step: from one frame to the next.
        row: from one row to the next.
        column: from one column to the next.
        shape: (frames, rows, columns).
    """

    origin: Array
    step: Array
    row: Array
    column: Array
    shape: tuple[int, int, int]

    def positions(self, stride: int = 1) -> Array:
        """Positions of all voxels, (3, frames, rows, columns); ``stride`` thins out rows and columns."""
        strides = (1, stride, stride)
        frames, rows, columns = (np.arange(0, n, s, dtype=np.float32) for n, s in zip(self.shape, strides, strict=True))
        return (
            self.origin[:, None, None, None]
            + frames[:, None, None] * self.step[:, None, None, None]
            + rows[:, None] * self.row[:, None, None, None]
            + columns * self.column[:, None, None, None]
        )

    def block(self, centre: Array, radius: float) -> tuple[slice, slice, slice] | None:
        """The voxels that a ball may touch, or None."""
        to_index = np.linalg.inv(np.stack([self.step, self.row, self.column], axis=1).astype(np.float64))
        middle = to_index @ (centre - self.origin)
        reach = radius * np.linalg.norm(to_index, axis=1)
        low = np.maximum(np.floor(middle - reach), 0).astype(int)
        high = np.minimum(np.ceil(middle + reach) + 1, self.shape).astype(int)
        if np.any(low >= high):
            return None
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


class Noise:
    """Smooth periodic random fields, mean 0 and standard deviation 1.

    Args:
        rng: source of randomness.
        channels: number of independent fields.
        cutoff: highest frequency that matters, in cycles per period.
        decay: how fast power falls beyond it; small is rough.
        period: length after which the fields repeat.
    """

    def __init__(self, rng: np.random.Generator, channels: int, cutoff: float, decay: float, period: float) -> None:
        gain = 1 / (1 + (_FREQUENCY / np.float32(cutoff)) ** np.float32(2 * decay))
        gain[0, 0, 0] = 0
        white = rng.standard_normal((channels, _LATTICE, _LATTICE, _LATTICE), dtype=np.float32)
        field_ = fft.irfftn(fft.rfftn(white, axes=(1, 2, 3)) * gain, axes=(1, 2, 3))
        field_ /= field_.std(axis=(1, 2, 3), keepdims=True)
        # grid_sample does not wrap: repeat the first cell at the end.
        self._lattice = torch.from_numpy(np.pad(field_, ((0, 0), (0, 1), (0, 1), (0, 1)), mode="wrap"))[None]
        self._period = period

    def at(self, positions: Array) -> Array:
        """The fields at positions (3, ...): (channels, ...)."""
        phase = torch.from_numpy(np.ascontiguousarray(positions)).reshape(3, -1) / self._period
        points = phase.sub_(phase.floor()).mul_(2).sub_(1).T.reshape(1, 1, 1, -1, 3)
        values = functional.grid_sample(self._lattice, points, mode="bilinear", align_corners=True)
        return values.numpy().reshape(-1, *positions.shape[1:])


@dataclass
class Shape:
    """One structure of an anatomy: a superellipsoid or a bent tube, perhaps irregular, within its parent.

    Args:
        parent: index of the shape that it lies in, -1 for none. It is painted on that and on its siblings only.
        centre: middle, (3,).
        radii: half axes, (3,); of a tube: two radii and the half length.
        rotation: 3×3, rows are the shape's own axes.
        exponent: 2 is an ellipsoid; 3 and 4 are boxier.
        tube: whether the first two axes follow a winding centre line along the third.
        bend: amplitudes and frequencies of a tube's centre line, (4,).
        roughness: amplitude of the irregularity of the surface, relative to the radius.
        cut: a plane (normal, offset) that it lies on one side of, in its own axes and radii.
        carve: keep only where a noise sheet is thinner than this (vessels, sulci); 0 keeps all.
        kind: name of the tissue; shapes with one name may look alike.
        target: whether somebody could want to segment it.
    """

    parent: int
    centre: Array
    radii: Array
    rotation: Array
    exponent: int = 2
    tube: bool = False
    bend: Array = field(default_factory=lambda: np.zeros(4, np.float32))
    roughness: float = 0.0
    cut: tuple[Array, float] | None = None
    carve: float = 0.0
    kind: str = "organ"
    target: bool = True

    @property
    def reach(self) -> float:
        """Radius of a ball around the centre that holds the shape."""
        if self.tube:
            wave = float(np.abs(self.bend[:2]).sum())
            return float(np.hypot(self.radii[:2].max() + wave, self.radii[2])) * (1 + self.roughness)
        # A superellipsoid bulges beyond its ellipsoid, at most to the corner of its box.
        bulge = 3 ** (0.5 - 1 / self.exponent)
        return float(self.radii.max()) * bulge * (1 + self.roughness)

    def contains(self, positions: Array, irregularity: Array | None, sheet: Array | None) -> NDArray[np.bool_]:
        """Which positions (3, ...) lie inside; noise fields of the shape ``positions.shape[1:]`` where needed."""
        shape = positions.shape[1:]
        to_local = self.rotation if self.tube else self.rotation / self.radii[:, None]
        local = to_local @ positions.reshape(3, -1) - (to_local @ self.centre)[:, None]
        if self.tube:
            x, y, u = local
            x = (x - self.bend[0] * np.sin(self.bend[2] * u)) / self.radii[0]
            y = (y - self.bend[1] * np.sin(self.bend[3] * u)) / self.radii[1]
            level = x * x + y * y
            level[np.abs(u) >= self.radii[2]] = 9
        else:
            squares = local * local
            if self.exponent > 2:  # whole powers: a general one takes most of the time
                squares *= np.abs(local) if self.exponent == 3 else squares
            level = squares[0] + squares[1] + squares[2]
        level = level.reshape(shape)
        inside = level < (1.0 if irregularity is None else 1.0 + 2 * self.roughness * irregularity)
        if self.cut is not None:
            inside &= (self.cut[0] @ local).reshape(shape) > self.cut[1]
        if sheet is not None:
            inside &= np.abs(sheet) < self.carve
        return inside


class Anatomy:
    """Shapes in painter's order, bent together by one smooth deformation.

    Args:
        rng: source of randomness for the deformation and the irregularities.
        shapes: later ones are painted over earlier ones.
        bend: amplitude of the deformation.
    """

    def __init__(self, rng: np.random.Generator, shapes: list[Shape], bend: float) -> None:
        self.shapes = shapes
        self._bend = bend
        self._warp = Noise(rng, 3, cutoff=2.5, decay=2.0, period=2.6)
        self._rough = self._sheet = self._warp
        if any(shape.roughness for shape in shapes):
            self._rough = Noise(rng, 1, cutoff=3.5, decay=1.5, period=4.0)
        if any(shape.carve for shape in shapes):
            self._sheet = Noise(rng, 1, cutoff=5.0, decay=3.0, period=1.0)

    def descendants(self, index: int) -> list[int]:
        """The shape and everything that lies in it, as indices."""
        found = [index]
        for i, shape in enumerate(self.shapes):
            if shape.parent in found:
                found.append(i)
        return found

    def sample(self, grid: Grid) -> NDArray[np.uint8]:
        """The label map (frames, rows, columns): 0 outside, i + 1 where shape i is on top."""
        labels = np.zeros(grid.shape, np.uint8)
        positions = grid.positions()
        positions += self._bend * _enlarge(self._warp.at(grid.positions(stride=_COARSE)), grid.shape[1:])
        parents = np.array([-1] + [s.parent for s in self.shapes])
        for index, shape in enumerate(self.shapes):
            block = grid.block(shape.centre, shape.reach + 3.5 * self._bend)
            if block is None:
                continue
            here = positions[(slice(None), *block)]
            rough = sheet = None
            if shape.roughness:
                size = float(shape.radii.min())
                coarse = (here[..., ::_COARSE, ::_COARSE] - shape.centre[:, None, None, None]) / size + index
                rough = _enlarge(self._rough.at(coarse), here.shape[2:])[0]
            if shape.carve:
                sheet = self._sheet.at(here)[0]
            paintable = parents == shape.parent
            paintable[shape.parent + 1] = True
            seen = labels[block]
            seen[shape.contains(here, rough, sheet) & paintable[seen]] = index + 1
        return labels


def _enlarge(values: Array, size: tuple[int, int]) -> Array:
    """(channels, frames, rows / 4, columns / 4) to (channels, frames, rows, columns)."""
    channels, frames = values.shape[:2]
    flat = torch.from_numpy(np.ascontiguousarray(values)).reshape(1, channels * frames, *values.shape[2:])
    wide = functional.interpolate(flat, scale_factor=_COARSE, mode="bilinear", align_corners=False)
    return wide[..., : size[0], : size[1]].numpy().reshape(channels, frames, *size)


# Anatomies ----------------------------------------------------------------------------------------------------------


def random_anatomy(rng: np.random.Generator) -> Anatomy:
    """A trunk, a head, a limb, or lesions in plain tissue."""
    build = (_trunk, _head, _limb, _tissue)[rng.choice(4, p=[0.35, 0.25, 0.1, 0.3])]
    shapes: list[Shape] = []
    build(rng, shapes)
    return Anatomy(rng, shapes[:250], bend=float(rng.uniform(0.0, 0.06)))


def random_rotation(rng: np.random.Generator) -> Array:
    """A rotation, uniform over all."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q.astype(np.float32)


def _vector(*values: float) -> Array:
    return np.array(values, np.float32)


_UPRIGHT = np.eye(3, dtype=np.float32)


def _add(shapes: list[Shape], shape: Shape) -> int:
    shapes.append(shape)
    return len(shapes) - 1


def _layer(shapes: list[Shape], parent: int, scale: float, kind: str, target: bool = True) -> int:
    """A smaller copy inside: the next layer of skin, fat, bone."""
    outer = shapes[parent]
    return _add(
        shapes,
        Shape(
            parent, outer.centre, (outer.radii * scale).astype(np.float32), outer.rotation, outer.exponent,
            tube=outer.tube, bend=outer.bend, kind=kind, target=target,
        ),
    )  # fmt: skip


def _place(rng: np.random.Generator, shapes: list[Shape], parent: int, size: tuple[float, float], **what: Any) -> int:
    """A superellipsoid somewhere in its parent; ``size`` is relative to the parent's smallest radius."""
    outer = shapes[parent]
    direction = rng.standard_normal(3)
    direction *= rng.uniform(0, 0.85) ** 0.6 / np.linalg.norm(direction)
    centre = outer.centre + (direction * outer.radii) @ outer.rotation
    radii = outer.radii.min() * np.exp(rng.uniform(*np.log(size))) * np.exp(rng.uniform(-0.45, 0.45, 3))
    rotation = random_rotation(rng)
    exponent = int(rng.choice([2, 2, 2, 3, 4]))
    shape = Shape(parent, centre.astype(np.float32), radii.astype(np.float32), rotation, exponent, **what)
    return _add(shapes, shape)


def _vessel(rng: np.random.Generator, shapes: list[Shape], parent: int, size: tuple[float, float], kind: str) -> int:
    """A winding tube through its parent, perhaps with a wall."""
    outer = shapes[parent]
    direction = rng.standard_normal(3) * 0.5
    centre = outer.centre + (direction * outer.radii) @ outer.rotation * 0.7
    radius = float(outer.radii.min() * np.exp(rng.uniform(*np.log(size))))
    length = float(outer.radii.max() * rng.uniform(0.3, 1.5))
    bend = np.concatenate([rng.uniform(0, 3, 2) * radius, rng.uniform(0.5, 3.5, 2) / max(length, 1e-3)])
    rotation = random_rotation(rng) if rng.random() < 0.6 else _UPRIGHT
    radii = _vector(radius, radius * rng.uniform(0.7, 1.3), length)
    tube = _add(
        shapes,
        Shape(parent, centre.astype(np.float32), radii, rotation, tube=True, bend=bend.astype(np.float32), kind=kind),
    )
    if rng.random() < 0.3:
        lumen = _layer(shapes, tube, float(rng.uniform(0.6, 0.88)), f"{kind} lumen")
        shapes[lumen].radii[2] = radii[2]
    return tube


def _lesions(rng: np.random.Generator, shapes: list[Shape], parent: int, count: int) -> None:
    """Round to ragged lesions, some with a rim or a necrotic core."""
    for _ in range(count):
        lesion = _place(
            rng, shapes, parent, (0.07, 0.5), roughness=float(rng.choice([0.0, 0.15, 0.3, 0.45])),
            kind=str(rng.choice(["lesion", f"lesion {rng.integers(100)}"])),
        )  # fmt: skip
        if rng.random() < 0.4:
            core = _layer(shapes, lesion, float(rng.uniform(0.4, 0.85)), f"core {rng.integers(100)}")
            shapes[core].roughness = float(rng.uniform(0, 0.4))


def _organ(rng: np.random.Generator, shapes: list[Shape], parent: int, size: tuple[float, float]) -> int:
    """An organ with compartments, vessels or lesions."""
    organ = _place(
        rng, shapes, parent, size, kind=f"organ {rng.integers(8)}",
        roughness=float(rng.choice([0.0, 0.0, 0.1, 0.25])),
    )  # fmt: skip
    chance = rng.random()
    if chance < 0.25:
        _lesions(rng, shapes, organ, int(rng.integers(1, 4)))
    elif chance < 0.4:
        _layer(shapes, organ, float(rng.uniform(0.55, 0.9)), f"medulla {rng.integers(8)}")
    elif chance < 0.55:
        half = _layer(shapes, organ, 1.05, f"zone {rng.integers(8)}")
        normal = rng.standard_normal(3)
        shapes[half].cut = (
            (normal / np.linalg.norm(normal)).astype(np.float32),
            float(rng.uniform(-0.3, 0.3)),
        )
    elif chance < 0.7:
        tree = _layer(shapes, organ, 0.95, f"vessels {rng.integers(4)}", target=False)
        shapes[tree].carve = float(rng.uniform(0.05, 0.15))
    elif chance < 0.8:
        _vessel(rng, shapes, organ, (0.08, 0.25), f"vessel {rng.integers(4)}")
    return organ


def _trunk(rng: np.random.Generator, shapes: list[Shape]) -> None:
    wide, deep = rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.8)
    body = _add(
        shapes,
        Shape(-1, _vector(0, 0, 0), _vector(wide, deep, 3.0), _UPRIGHT, int(rng.integers(2, 4)), kind="skin"),
    )
    cavity = _layer(shapes, body, float(rng.uniform(0.93, 0.985)), "fat")
    cavity = _layer(shapes, cavity, float(rng.uniform(0.8, 0.95)), "muscle")
    cavity = _layer(shapes, cavity, float(rng.uniform(0.75, 0.92)), "cavity")
    shapes[cavity].radii[2] = rng.uniform(0.8, 2.0)
    room = shapes[cavity].radii
    if rng.random() < 0.5:
        lung = f"lung {rng.integers(3)}"
        for side in (-1, 1):
            centre = _vector(side * 0.5 * room[0], rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.6))
            radii = _vector(0.42 * room[0], 0.75 * room[1], rng.uniform(0.5, 0.9))
            one = _add(shapes, Shape(cavity, centre, radii, _UPRIGHT, 2, kind=lung))
            tree = _layer(shapes, one, 0.95, "lung vessels", target=False)
            shapes[tree].carve = float(rng.uniform(0.03, 0.1))
            if rng.random() < 0.5:
                _lesions(rng, shapes, one, int(rng.integers(1, 4)))
    for _ in range(rng.integers(3, 10)):
        _organ(rng, shapes, cavity, (0.15, 0.7))
    for _ in range(rng.integers(1, 6)):
        _vessel(rng, shapes, cavity, (0.04, 0.16), f"vessel {rng.integers(4)}")
    _spine(rng, shapes, body, cavity)
    for _ in range(rng.integers(0, 8)):  # ribs and other small bones in the wall
        angle = rng.uniform(0, 2 * np.pi)
        centre = _vector(0.88 * wide * np.cos(angle), 0.88 * deep * np.sin(angle), rng.uniform(-1, 1))
        radii = _vector(*rng.uniform(0.02, 0.06, 3))
        radii[rng.integers(3)] *= rng.uniform(1, 4)
        _add(shapes, Shape(cavity - 1, centre, radii, random_rotation(rng), kind="bone"))


def _spine(rng: np.random.Generator, shapes: list[Shape], body: int, cavity: int) -> None:
    size, gap = rng.uniform(0.1, 0.18), rng.uniform(1.9, 2.4)
    back = -shapes[cavity].radii[1] * rng.uniform(0.6, 0.9)
    for level in range(-4, 5):
        centre = _vector(0.03 * np.sin(level), back, level * gap * size * 0.6)
        bone = _add(
            shapes,
            Shape(cavity, centre, _vector(size, size * 0.8, size * 0.5), _UPRIGHT, 3, kind="bone", roughness=0.05),
        )
        _layer(shapes, bone, float(rng.uniform(0.75, 0.9)), "marrow")
    radii = _vector(0.5 * size, 0.4 * size, 3)
    ring = _add(shapes, Shape(cavity, _vector(0, back - size, 0), radii, _UPRIGHT, tube=True, kind="canal"))
    _layer(shapes, ring, 0.6, "cord")


def _head(rng: np.random.Generator, shapes: list[Shape]) -> None:
    radii = _vector(rng.uniform(0.7, 0.85), 1.0, rng.uniform(0.75, 0.95))
    head = _add(shapes, Shape(-1, _vector(0, 0, 0), radii, _UPRIGHT, kind="skin"))
    skull = _layer(shapes, head, float(rng.uniform(0.9, 0.96)), "bone")
    fluid = _layer(shapes, skull, float(rng.uniform(0.88, 0.95)), "fluid")
    brain = _layer(shapes, fluid, float(rng.uniform(0.94, 0.99)), "grey")
    white = _layer(shapes, brain, float(rng.uniform(0.82, 0.92)), "white", target=False)
    shapes[white].roughness = float(rng.uniform(0.05, 0.2))
    folds = _layer(shapes, white, 0.97, "grey", target=False)
    shapes[folds].carve = float(rng.uniform(0.1, 0.35))
    deep = _layer(shapes, white, float(rng.uniform(0.5, 0.75)), "white", target=False)
    shapes[deep].roughness = 0.15
    tilt = rng.uniform(-0.4, 0.4)
    for name, size, apart in (("fluid", 0.22, 0.12), ("nucleus 0", 0.14, 0.18), ("nucleus 1", 0.12, 0.3),
                              ("nucleus 2", 0.08, 0.25), ("nucleus 3", 0.06, 0.4)):  # fmt: skip
        if rng.random() < 0.15:
            continue
        axes = size * np.exp(rng.uniform(-0.5, 0.3, 3)) * _vector(0.6, 1.4, 1.0)
        where = _vector(apart * rng.uniform(0.8, 1.3), rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.25))
        for side in (-1, 1):
            turn = side * tilt
            rotation = _vector(np.cos(turn), np.sin(turn), 0, -np.sin(turn), np.cos(turn), 0, 0, 0, 1).reshape(3, 3)
            centre = where * _vector(side, 1, 1)
            _add(shapes, Shape(deep, centre, axes.astype(np.float32), rotation, kind=name, roughness=0.1))
    small = _add(
        shapes,
        Shape(fluid, _vector(0, -0.55, -0.5), _vector(0.42, 0.3, 0.22), _UPRIGHT, kind="cerebellum", roughness=0.1),
    )
    leaves = _layer(shapes, small, 0.95, "white", target=False)
    shapes[leaves].carve = float(rng.uniform(0.1, 0.3))
    stem = Shape(fluid, _vector(0, -0.25, -0.8), _vector(0.13, 0.12, 0.5), _UPRIGHT, tube=True, kind="stem")
    _add(shapes, stem)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        seat = int(rng.choice([white, deep]))
        if rng.random() < 0.4:  # oedema around it
            seat = _place(rng, shapes, seat, (0.15, 0.6), roughness=0.35, kind="oedema")
        _lesions(rng, shapes, seat, 1)


def _limb(rng: np.random.Generator, shapes: list[Shape]) -> None:
    thick = rng.uniform(0.6, 0.9)
    radii = _vector(thick, thick * rng.uniform(0.7, 1), 4)
    limb = _add(shapes, Shape(-1, _vector(0, 0, 0), radii, _UPRIGHT, kind="skin"))
    fat = _layer(shapes, limb, 0.97, "fat")
    muscle = _layer(shapes, fat, float(rng.uniform(0.7, 0.92)), "muscle 0")
    for _ in range(rng.integers(3, 9)):
        _organ(rng, shapes, muscle, (0.2, 0.5))
    for _ in range(rng.integers(1, 4)):
        bone = _place(rng, shapes, muscle, (0.15, 0.35), kind="bone")
        shapes[bone].radii[2] = rng.uniform(0.3, 3)
        shapes[bone].rotation = _UPRIGHT
        _layer(shapes, bone, float(rng.uniform(0.6, 0.85)), "marrow")
    for _ in range(rng.integers(1, 4)):
        _vessel(rng, shapes, muscle, (0.04, 0.1), "vessel")
    if rng.random() < 0.5:
        _lesions(rng, shapes, muscle, 1)


def _tissue(rng: np.random.Generator, shapes: list[Shape]) -> None:
    block = _add(
        shapes, Shape(-1, _vector(0, 0, 0), _vector(*rng.uniform(0.8, 3, 3)), _UPRIGHT, 4, kind="tissue", target=False)
    )
    for _ in range(rng.integers(0, 4)):  # layers
        sheet = _layer(shapes, block, 1.2, f"layer {rng.integers(6)}", target=bool(rng.random() < 0.3))
        normal = rng.standard_normal(3)
        shapes[sheet].cut = ((normal / np.linalg.norm(normal)).astype(np.float32), float(rng.uniform(-0.2, 0.8)))
    for _ in range(rng.integers(0, 4)):
        _organ(rng, shapes, block, (0.15, 0.7))
    if rng.random() < 0.4:
        tree = _layer(shapes, block, 0.95, "strands", target=False)
        shapes[tree].carve = float(rng.uniform(0.03, 0.2))
    _lesions(rng, shapes, block, int(rng.integers(1, 6)))
    for _ in range(rng.integers(0, 4)):
        _vessel(rng, shapes, block, (0.03, 0.2), f"vessel {rng.integers(3)}")
