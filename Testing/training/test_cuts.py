"""Clips from labelled cases: consecutive slices either way, beyond the target's end, labels moved with the image."""

import numpy as np
import pytest
import torch

pytest.importorskip("monai")
pytest.importorskip("torchio")

from biosam2.datasets import load_dataset
from biosam2.errors import BioSAM2Error
from biosam2.training.augmentation import augment_clip
from biosam2.training.clips import SamplerIndices
from biosam2.training.cuts import CaseBatches, Cutting
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = 64
FIELDS = ("images", "masks", "areas", "prompt_masks", "points", "boxes")


def _batches(dataset, name="*", **cutting):
    cases = [case for case in load_dataset(dataset) if name in ("*", case.name)]
    return CaseBatches(cases, Cutting(SIZE, **{"lengths": (3,), **cutting}), seed=5)


def _slices(batch):
    """First and last slice of each clip, from the batch's title."""
    words = batch.title.replace(";", "").split()
    return [(int(words[n - 1]), int(words[n + 1])) for n, word in enumerate(words) if word == "to"]


def test_the_same_place_gives_the_same_batch(dataset):
    one, other = (_batches(dataset, clips=2).batch(3, 1) for _ in range(2))
    assert one.title == other.title
    for name in FIELDS:
        assert torch.equal(getattr(one.clip, name), getattr(other.clip, name)), name


def test_clips_are_consecutive_slices_in_both_directions_and_beyond_the_target(dataset):
    source = _batches(dataset, "volume-0", lengths=(4,), targets=1, augment=False)
    batches = [source.batch(0, number) for number in range(24)]
    spans = [span for batch in batches for span in _slices(batch)]
    assert {abs(last - first) for first, last in spans} == {3}
    assert {np.sign(last - first) for first, last in spans} == {-1, 1}
    absent = [batch for batch in batches if (batch.clip.areas == 0).any()]
    assert absent, "no clip goes on where the target has ended"
    assert all((batch.clip.areas[:, :, batch.clip.prompted] > 0).all() for batch in batches)


def test_a_clip_shows_the_volume_s_own_slices(dataset):
    source = _batches(dataset, "volume-0", targets=1, augment=False)
    study = source._study(source.cases[0])
    view = study.views[0]
    whole = 0
    for number in range(12):
        batch = source.batch(1, number)
        ((first, last),) = _slices(batch)
        order = range(first, last + (1 if last > first else -1), 1 if last > first else -1)
        expected = torch.stack([view.frames.picture(s)[0] for s in order])
        shown = batch.clip.images[0].float() / 255
        if torch.allclose(shown, expected, atol=1 / 254):
            whole += 1
    assert 2 <= whole <= 11, "some clips are whole frames, others are crops around the target"


def test_a_picture_in_colour_is_a_clip_of_one_frame(dataset):
    clip = _batches(dataset, "picture", targets=1).batch(0, 0).clip
    assert clip.images.shape == (1, 1, 3, SIZE, SIZE)
    assert clip.masks.shape == (1, 1, 1, SIZE // 4, SIZE // 4)


def test_volumes_are_cut_along_the_axes_that_were_asked_for(dataset):
    source = _batches(dataset, "volume-1", axes=("j", "i"))
    axes = {source.batch(0, number).title.split("axis ")[1][0] for number in range(12)}
    assert axes == {"i", "j"}


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_labels_move_with_the_image(seed):
    rows, columns = np.indices((SIZE, SIZE))
    ellipse = ((rows - 26) / 12) ** 2 + ((columns - 38) / 8) ** 2 < 1
    masks = torch.from_numpy(np.stack([ellipse] * 3))[None]
    image = masks.float() * 0.7 + 0.15
    changed, moved = augment_clip(np.random.default_rng(seed), image, masks)
    assert changed.shape == image.shape
    assert moved.shape == masks.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert float(changed[moved].mean()) > float(changed[~moved].mean()) + 0.15
    again = augment_clip(np.random.default_rng(seed), image, masks)
    assert torch.equal(again[0], changed)
    assert torch.equal(again[1], moved)


@given(first=st.integers(0, 5), steps=st.integers(0, 5), share=st.integers(1, 4), processes=st.integers(1, 4))
def test_processes_share_the_places_of_each_step(first, steps, share, processes):
    number = share * processes
    parts = [list(SamplerIndices(first, first + steps, number, p, processes)) for p in range(processes)]
    assert {len(part) for part in parts} == {steps * share}
    assert sorted(place for part in parts for place in part) == list(SamplerIndices(first, first + steps, number))


def test_a_case_that_cannot_be_opened_is_told_as_a_value(dataset, tmp_path):
    """A process that makes data must not turn it into a traceback."""
    broken = tmp_path / "broken.csv"
    (tmp_path / "image.nrrd").write_bytes(b"NRRD0004\nnonsense")
    broken.write_text("name,image,label\nbroken,image.nrrd,image.nrrd\n")
    given = CaseBatches(load_dataset(broken), Cutting(SIZE), seed=0)[0, 0]
    assert isinstance(given, BioSAM2Error)
    assert "case broken" in str(given)
