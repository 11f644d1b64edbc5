"""Clips from real cases: the collection's table, single images in motion, and training on both."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("monai")
pytest.importorskip("torchio")
pytest.importorskip("skimage")

from biosam2.cli.app import cli
from biosam2.datasets import load_dataset
from biosam2.errors import InputError
from biosam2.models.network import build_network, load_config
from biosam2.training.clips import ClipBatches
from biosam2.training.collection import collection_cases, source_of
from biosam2.training.nano import nano_settings, nano_trainer
from biosam2.training.real import RealClips, set_in_motion, validate_real
from biosam2.training.recipes import NANO_REAL
from biosam2.training.rounds import PromptSimulation
from biosam2.training.schedule import Stage
from click.testing import CliRunner

SIZE = 64
SHORT = replace(
    NANO_REAL,
    begin="",
    stages=(
        Stage(2, SIZE, (1,), 2, 2, (1e-3, 1e-3), real=1.0),
        Stage(2, SIZE, (1, 4), 4, 2, (1e-3, 1e-4), several=1.0, real=0.5),
    ),
    warm_up=1,
)
RUN = nano_settings(workers=0, device="cpu")


def _batches(cases, seed, clips, targets, lengths, size=SIZE):
    return ClipBatches(seed, clips, lengths, RealClips(cases, targets, size))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Pictures with discs of two sources, one of them share-alike, and a volume with a ball."""
    import SimpleITK as sitk

    folder = tmp_path_factory.mktemp("collection")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :80]
    table = []
    for source, licence, count in (("discs", "CC-BY-4.0", 16), ("others", "CC-BY-SA-4.0", 2)):
        (folder / source).mkdir()
        for number in range(count):
            labels = np.zeros((96, 80), np.uint8)
            for value in (1, 2):
                centre = rng.uniform(20, 60, 2)
                labels[np.hypot(rows - centre[0], columns - centre[1]) < 12] = value
            picture = (rng.normal(60, 10, labels.shape) + 60 * labels).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / source / f"{number}.png")
            Image.fromarray(labels).save(folder / source / f"{number}_label.png")
            names = {"*": "disc"} if source == "discs" else {"1": "left", "2": "right"}
            table.append((f"{source}/{number}.png", f"{source}/{number}_label.png", names, "2D", source, licence))
    (folder / "balls").mkdir()
    k, j, i = np.mgrid[:14, :48, :48]
    ball = ((k - 7) * 3) ** 2 + (j - 24) ** 2 + (i - 20) ** 2 < 225
    for name, array in (("1", rng.normal(100, 10, ball.shape) + 80 * ball), ("1_label", ball)):
        sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.int16)), folder / "balls" / f"{name}.nii.gz")
    table.append(("balls/1.nii.gz", "balls/1_label.nii.gz", {"1": "ball"}, "3D", "balls", "MIT"))
    with (folder / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "label", "modality", "target_names", "dimension", "source", "subject", "licence"))
        for image, label, names, dimension, source, licence in table:
            writer.writerow((image, label, "US", json.dumps(names), dimension, source, image, licence))
    return folder


@pytest.fixture(scope="module")
def cases(collection):
    return collection_cases(collection)


@pytest.fixture(scope="module")
def learnt(cases):
    return [case for case in cases if case.split == "train"]


@pytest.fixture(scope="module")
def a_network():
    return build_network(load_config("nano", [f"image_size={SIZE}", "image_encoder.trunk.window_spec=[8,4,4,2]"]))


def test_a_collection_becomes_cases_with_splits_by_licence_and_subject(cases):
    assert {source_of(case) for case in cases} == {"discs", "others", "balls"}
    assert {case.split for case in cases if source_of(case) == "others"} == {"unseen"}
    assert {case.split for case in cases if source_of(case) == "discs"} == {"train", "val"}
    assert [case.kind for case in cases if source_of(case) == "balls"] == ["3D"]
    disc = next(case for case in cases if source_of(case) == "discs")
    assert {target.name for target in disc.targets} <= {"disc 1", "disc 2"}
    assert [target.name for target in cases[16].targets] == ["left", "right"]


def test_one_subject_never_stands_on_both_sides(collection, tmp_path):
    """All images of a subject are of one split."""
    lines = (collection / "cases.csv").read_text().splitlines()
    fields = list(csv.DictReader(lines))
    for row in fields:
        row["image"], row["label"] = str(collection / row["image"]), str(collection / row["label"])
        row["subject"] = f"subject {len(row['image']) % 3}"
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fields[0])
        writer.writeheader()
        writer.writerows(fields)
    splits = {}
    for row, case in zip(fields, collection_cases(tmp_path), strict=True):
        if case.split != "unseen":
            assert splits.setdefault(row["subject"], case.split) == case.split


def test_some_targets_fill_the_frame(learnt):
    """A box around the whole frame is not strange to the network."""
    discs = [case for case in learnt if case.kind != "3D"]
    batches = ClipBatches(0, 4, (1,), RealClips(discs, 1, SIZE, regions=0.0))
    boxes = np.concatenate([batches.clip(n).prompt_masks.any(dim=-1).float().mean(dim=(1, 2)) for n in range(12)])
    assert 0.05 < np.mean(boxes > 0.97) < 0.5


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cases\.csv"):
        collection_cases(tmp_path)


@pytest.mark.parametrize("choices", [(1,), (5,)])
def test_batches_follow_from_seed_and_index(learnt, choices):
    for index in range(4):
        one, same = (_batches(learnt, 3, 3, 2, choices).clip(index) for _ in range(2))
        assert torch.equal(one.images, same.images)
        assert torch.equal(one.masks, same.masks)
        assert one.masks.shape[1:] == (2, choices[0], SIZE // 4, SIZE // 4)
        assert one.prompt_masks[:, :, :, :].any(dim=(2, 3)).all()
        assert (one.areas[:, :, one.prompted] > 0).all()
    assert not torch.equal(one.images, _batches(learnt, 4, 3, 2, choices).clip(3).images)


def test_longer_clips_come_fewer(learnt):
    batches = _batches(learnt, 3, 6, 1, (1, 3))
    assert {batches.clip(n).images.shape[:2] for n in range(8)} == {(6, 1), (2, 3)}


@given(seed=st.integers(0, 10_000), prompted=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_what_is_set_in_motion_stays_with_its_mask(seed, prompted):
    """A bright disc on dark ground stays bright within its mask and dark beyond; the prompted frame does not move."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    disc = torch.hypot(rows - 30.0, columns - 34.0) < 11
    image = disc.float()[None]
    moved, masks = set_in_motion(np.random.default_rng(seed), image, disc[None], 6, prompted)
    assert moved.shape == (1, 6, SIZE, SIZE)
    assert torch.allclose(moved[:, prompted], image, atol=1e-4)
    assert torch.equal(masks[:, prompted], disc[None])
    for frame in range(6):
        wrong = (moved[0, frame] > 0.5) ^ masks[0, frame]
        assert wrong.sum() <= 0.02 * disc.sum() or not masks[0, frame].any()


def test_targets_end_within_some_clips(learnt):
    """Frames without the target teach a network where it ends."""
    batches = _batches(learnt, 5, 1, 1, (8,))
    ends = [bool((batches.clip(n).areas == 0).any()) for n in range(12)]
    assert any(ends)
    assert not all(ends)


@pytest.mark.parametrize("swept_before", [False, True])
@pytest.mark.parametrize("kind", ["click", "box", "mask"])
def test_several_prompted_frames_train_the_memory(a_network, learnt, kind, swept_before):
    clip = _batches(learnt, 1, 2, 1, (5,)).clip(0)
    for seed in range(3):
        answers = PromptSimulation(a_network, clip, np.random.default_rng(seed)).answer_several(kind, 3, swept_before)
        assert torch.isfinite(answers.loss)
        assert set(answers.masks) == set(range(5))
        assert ("several swept again" if swept_before else "several swept") in answers.dice
    a_network.zero_grad()
    answers.loss.backward()
    assert a_network.maskmem_tpos_enc.grad.any()
    assert a_network.memory_encoder.out_proj.weight.grad.any()


def test_validation_names_sources_and_splits(a_network, cases):
    found = validate_real(a_network, [case for case in cases if case.split != "train"], images=2, volumes=1)
    assert {"val", "unseen", "val discs", "unseen others"} <= set(found)
    assert {"click", "click+1", "box", "box+1", "box+2"} <= set(found["val"])
    assert all(0 <= value <= 1 for means in found.values() for value in means.values())


def test_resuming_on_real_cases_gives_the_same_bits(tmp_path, learnt):
    def steps(trainer, count):
        batches = trainer._batches()
        return [trainer.train_step(next(batches)) for _ in range(count)]

    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
    whole = steps(nano_trainer(tmp_path / "whole", RUN, learnt, recipe=SHORT), 4)
    first = nano_trainer(tmp_path / "pieces", RUN, learnt, recipe=SHORT)
    begun = steps(first, 3)
    first.save()
    assert begun + steps(nano_trainer(tmp_path / "pieces", RUN, learnt, recipe=SHORT), 1) == whole


def test_real_stages_need_real_cases(tmp_path):
    with pytest.raises(InputError, match="name a manifest"):
        nano_trainer(tmp_path, RUN, recipe=SHORT)


def test_a_run_goes_on_from_the_shipped_weights(tmp_path, learnt):
    from biosam2 import load_model

    trainer = nano_trainer(tmp_path, RUN, learnt, recipe=SHORT, begin="nano")
    shipped = load_model("nano", device="cpu").network.state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in trainer.network.state_dict().items())


def test_the_command_trains_on_a_collection(tmp_path, collection, monkeypatch):
    from biosam2.training import collection as module
    from biosam2.training import recipes

    monkeypatch.setattr(recipes, "NANO_REAL", SHORT)
    manifest = tmp_path / "cases.json"
    made = CliRunner().invoke(module.main, [str(collection), "-o", str(manifest)])
    assert made.exit_code == 0, made.output
    assert "2 unseen" in made.output
    assert {case.split for case in load_dataset(manifest)} == {"train", "val", "unseen"}
    packed = tmp_path / "cases.zip"
    made = CliRunner().invoke(cli, ["data", "pack", str(manifest), "-o", str(packed), "--size", "64"])
    assert made.exit_code == 0, made.output
    command = ["train", "nano", "-o", str(tmp_path / "run"), "--workers", "0", "-q", "--device", "cpu", "--data"]
    ran = CliRunner().invoke(cli, [*command, str(packed)])
    assert ran.exit_code == 0, ran.output
    line = json.loads((tmp_path / "run" / "validation.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 4
    assert {"val", "unseen"} <= set(line["dice"])
    refused = CliRunner().invoke(cli, [*command, str(manifest)])
    assert isinstance(refused.exception, InputError)
    assert "a run with other cases (balls/1, discs/" in str(refused.exception)
