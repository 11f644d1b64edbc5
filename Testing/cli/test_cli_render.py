"""Montages: where things are drawn, for any orientation of the voxels."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from biosam2.frames import Frames
from biosam2.io.colours import segment_colour
from biosam2.prompts import Box, Mask, Point
from biosam2.render import montage, write_montage
from biosam2.volume import Volume
from numpy.typing import NDArray
from PIL import Image

ORIENTATIONS = [
    np.eye(3)[:, list(order)] * signs for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]


class Segments:
    """A session's masks, without a session."""

    def __init__(self, volume: Volume, **masks: NDArray[np.bool_]) -> None:
        self.volume = volume
        self.masks = masks
        self.segments = tuple(masks)

    def mask(self, name: str) -> NDArray[np.bool_]:
        return self.masks[name]

    def labelmap(self) -> NDArray[np.uint8]:
        return sum((n * m for n, m in enumerate(self.masks.values(), start=1)), np.zeros(self.volume.shape, np.uint8))


def place_of(picture: Image.Image, colour: tuple[float, float, float]) -> tuple[float, float]:
    """Mean place of a colour in a picture below its heading: (x, y) from 0 to 1."""
    pixels = np.asarray(picture).astype(int)[25:]
    rows, columns = np.nonzero(np.abs(pixels - np.rint(255 * np.array(colour))).sum(axis=2) < 12)
    assert rows.size, "the colour is not there"
    return columns.mean() / pixels.shape[1], rows.mean() / pixels.shape[0]


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_the_patient_is_hung_as_radiologists_do_whatever_the_voxels_order(axis: str) -> None:
    # A mark on the right, in front, at the head: left, top, left-top of the pictures.
    sides = {"axial": ("left", "top"), "coronal": ("left", "top"), "sagittal": ("left", "top")}[axis]
    for direction in ORIENTATIONS:
        volume = Volume(np.zeros((20, 20, 20), np.int16), direction=direction)
        lps = volume.lps_from_ijk(np.stack(np.meshgrid(*[np.arange(20.0)] * 3, indexing="ij"), -1)[..., ::-1])
        centred = lps - lps.reshape(-1, 3).mean(axis=0)
        marked = np.all(np.abs(centred - (-6, -6, 6)) < 2.1, axis=-1)
        along = {"axial": 2, "coronal": 1, "sagittal": 0}[axis]
        frames = Frames(volume, axis, (0, 1), 0)
        picture = montage(Segments(volume, mark=marked), frames, tiles=1)
        x, y = place_of(picture, segment_colour(0))
        assert np.abs(np.abs(direction[:, "ijk".index(frames.axis)]).argmax() - along) == 0
        assert (x < 0.4, y < 0.4) == (sides[0] == "left", sides[1] == "top"), (axis, direction)


def test_a_ball_in_flat_voxels_is_round(tmp_path: Path) -> None:
    k, j, i = np.indices((20, 60, 60))
    volume = Volume(np.zeros((20, 60, 60), np.int16), spacing=(1, 1, 3))
    ball = (3 * (k - 10)) ** 2 + (j - 30) ** 2 + (i - 30) ** 2 < 25**2
    write_montage(tmp_path / "ball.png", Segments(volume, ball=ball), Frames(volume, "j", (0, 1), 0), tiles=1)
    with Image.open(tmp_path / "ball.png") as picture:
        pixels = np.asarray(picture).astype(int)[25:]
    rows, columns = np.nonzero(np.abs(pixels - np.rint(255 * np.array(segment_colour(0)))).sum(axis=2) < 12)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.1)


def test_a_mask_prompt_without_a_voxel_is_drawn_too(tmp_path: Path) -> None:
    volume = Volume(np.zeros((3, 20, 20), np.uint8))
    prompt = Mask(1, np.zeros((20, 20), bool))
    nothing = Segments(volume, x=np.zeros(volume.shape, bool))
    write_montage(tmp_path / "m.png", nothing, Frames(volume, "k", (0, 1), 0), [("x", prompt)])
    assert (tmp_path / "m.png").is_file()


def test_prompts_are_drawn_on_their_slices() -> None:
    volume = Volume(np.zeros((9, 50, 50), np.uint8))
    nothing = np.zeros(volume.shape, bool)
    drawn = np.zeros((50, 50), bool)
    drawn[10:20, 10:20] = True

    def differs(prompt: object, tile: int) -> bool:
        frames = Frames(volume, "k", (0, 1), 0)
        session = Segments(volume, a=nothing, b=nothing)
        # A box around everything keeps the slices and the region the same.
        frame = ("a", Box((0, 0, 0), (49, 49, 8)))
        without = montage(session, frames, [frame], anatomical=False, tiles=9)
        with_it = montage(session, frames, [frame, ("b", prompt)], anatomical=False, tiles=9)
        assert without.size == with_it.size
        width, height = without.width // 4, (without.height - 25) // 3
        row, column = divmod(tile, 4)
        area = (column * width, 25 + row * height, (column + 1) * width, 25 + (row + 1) * height)
        return without.crop(area).tobytes() != with_it.crop(area).tobytes()

    for prompt in (Point((20, 30, 5)), Point((20, 30, 5), positive=False), Box((9, 9, 5), (30, 30, 5)), Mask(5, drawn)):
        assert differs(prompt, 5), prompt
        assert not differs(prompt, 4), prompt


def test_a_small_target_is_looked_at_closely_and_a_large_one_is_not() -> None:
    volume = Volume(np.zeros((3, 200, 200), np.uint8))
    small, large = np.zeros((2, 3, 200, 200), bool)
    small[1, 95:100, 95:100] = True
    large[1, 20:180, 20:180] = True
    frames = Frames(volume, "k", (0, 1), 0)
    sizes = [montage(Segments(volume, a=mask), frames).size for mask in (small, large)]
    assert sizes[0][1] > sizes[1][1], "the whole slice and three close ones, in two rows"


def test_colour_frames_keep_their_colours() -> None:
    array = np.zeros((1, 30, 40, 3), np.uint8)
    array[..., 1] = 200
    volume = Volume(array)
    frames = Frames(volume, "k", None, 0)
    picture = montage(Segments(volume, a=np.zeros((1, 30, 40), bool)), frames, anatomical=False)
    assert picture.getpixel((picture.width // 2, picture.height // 2)) == (0, 200, 0)
