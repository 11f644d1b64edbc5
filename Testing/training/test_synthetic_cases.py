"""Synthetic cases: the same seed gives the same case, labels and images lie on each other, prompts lie in targets."""

import numpy as np
import pytest
import torch

pytest.importorskip("monai")
pytest.importorskip("torchio")

from biosam2.synthetic.anatomy import Grid, random_anatomy
from biosam2.synthetic.views import LARGEST_TARGET, SMALLEST_TARGET
from biosam2.training.clips import ClipBatches, GeneratedClips
from biosam2.training.simulation import simulate_box, simulate_correction, simulate_points

SIZE = 64
FIELDS = ("images", "masks", "areas", "prompt_masks", "points", "boxes")


def _batches():
    return ClipBatches(3, 2, (3,), GeneratedClips(targets=3, size=SIZE))


@pytest.fixture(scope="module")
def a_batch():
    return _batches().clip(5)


def test_same_seed_same_batch(a_batch):
    again = _batches().clip(5)
    assert again.prompted == a_batch.prompted
    for name in FIELDS:
        assert torch.equal(getattr(again, name), getattr(a_batch, name)), name


def test_other_index_other_batch(a_batch):
    other = _batches().clip(6)
    assert not torch.equal(other.images, a_batch.images)


def test_shapes_and_types(a_batch):
    assert a_batch.images.shape == (2, 3, SIZE, SIZE)
    assert a_batch.images.dtype == torch.uint8
    assert a_batch.masks.shape == (2, 3, 3, SIZE // 4, SIZE // 4)
    assert a_batch.prompt_masks.shape == (2, 3, SIZE, SIZE)
    assert a_batch.points.shape[:2] == (2, 3)
    assert a_batch.boxes.shape == (2, 3, 4)
    assert 0 <= float(a_batch.masks.min()) <= float(a_batch.masks.max()) <= 1


def test_targets_are_of_a_reasonable_size(a_batch):
    share = a_batch.prompt_masks.float().mean(dim=(2, 3))
    assert torch.all(share >= SMALLEST_TARGET)
    assert torch.all(share <= LARGEST_TARGET)
    torch.testing.assert_close(share, a_batch.areas[:, :, a_batch.prompted])


def test_clicks_lie_in_their_target(a_batch):
    for clip in range(2):
        for target in range(3):
            for x, y in a_batch.points[clip, target].long():
                assert a_batch.prompt_masks[clip, target, y, x]


@pytest.mark.parametrize("seed", range(4))
def test_image_follows_labels(seed):
    """The first target differs from what is around it, on the image itself."""
    clips, _ = GeneratedClips(targets=1, size=SIZE).clips(np.random.default_rng(seed), frames=1, prompted=0, number=1)
    clip = clips[0]
    image, mask = clip.images[0].float(), clip.prompt_masks[0]
    assert mask.any()
    assert not mask.all()
    assert float(image.max()) > float(image.min())


def test_anatomy_does_not_depend_on_the_grid():
    """A voxel's label is a property of its position: a finer grid agrees with a coarser one where both look."""
    anatomy = random_anatomy(np.random.default_rng(11))
    axes = np.eye(3, dtype=np.float32) * np.float32(2 / 64)
    origin = np.array([-1, -1, 0], np.float32)
    whole = anatomy.sample(Grid(origin, axes[2], axes[1], axes[0], (2, 64, 64)))
    half = anatomy.sample(Grid(origin, axes[2], 2 * axes[1], 2 * axes[0], (2, 32, 32)))
    assert np.mean(whole[:, ::2, ::2] == half) > 0.9


def test_box_holds_the_target_nearly():
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:50] = True
    rng = np.random.default_rng(0)
    for _ in range(50):
        x0, y0, x1, y1 = simulate_box(rng, mask, jitter=0.1)
        assert abs(x0 - 10) <= 4.01
        assert abs(x1 - 49) <= 4.01
        assert abs(y0 - 20) <= 2.01
        assert abs(y1 - 39) <= 2.01


def test_points_stay_inside_a_ring():
    rows, columns = np.mgrid[:64, :64]
    radius = np.hypot(rows - 32, columns - 32)
    ring = (radius < 20) & (radius > 14)
    rng = np.random.default_rng(0)
    for x, y in simulate_points(rng, ring, 100).astype(int):
        assert ring[y, x]


def test_correction_points_at_the_larger_error():
    target = np.zeros((32, 32), bool)
    target[8:20, 8:20] = True
    rng = np.random.default_rng(0)
    (x, y), positive = simulate_correction(rng, np.zeros_like(target), target)
    assert positive
    assert target[int(y), int(x)]
    (x, y), positive = simulate_correction(rng, np.ones_like(target), target)
    assert not positive
    assert not target[int(y), int(x)]
    (x, y), positive = simulate_correction(rng, target, target)
    assert positive
    assert target[int(y), int(x)]
    (x, y), positive = simulate_correction(rng, np.zeros_like(target), np.zeros_like(target))
    assert not positive
