"""Folders as published datasets are distributed become cases; what is incomplete or something else is named."""

import json
import shutil

import numpy as np
import published_folders as made
import pytest
from biosam2.datasets import load_dataset, open_case, save_dataset
from biosam2.datasets.case import colour, read_value, value_text
from biosam2.datasets.finding import find_cases
from biosam2.datasets.layout import DatasetOptions
from biosam2.datasets.patterns import paths_below
from biosam2.datasets.published import PUBLISHED
from biosam2.datasets.splits import canonical_split
from biosam2.errors import InputError

# Maker, layout, and for each case: name, modality, kind, split, number of targets.
FOLDERS = {
    "amos22": (
        made.amos22,
        [
            ("amos_0001", "CT", "3D", "train", 15),
            ("amos_0004", "CT", "3D", "train", 15),
            ("amos_0507", "MR", "3D", "train", 15),
            ("amos_0008", "CT", "3D", "val", 15),
        ],
    ),
    "flare22": (
        made.flare22,
        [("FLARE22_Tr_0001", "CT", "3D", "train", 13), ("FLARE22_Tr_0002", "CT", "3D", "train", 13)],
    ),
    "busi": (
        made.busi,
        [
            ("benign/benign (1)", "US", "2D", "train", 1),
            ("benign/benign (2)", "US", "2D", "val", 1),
            ("malignant/malignant (1)", "US", "2D", "val", 1),
            ("normal/normal (1)", "US", "2D", "train", 1),
        ],
    ),
    "camus": (
        made.camus,
        [
            (f"patient{p:04}_{view}_{time}", "US", "video" if "half" in time else "2D", split, 3)
            for times in (("ED", "ES"), ("half_sequence",))
            for p, split in ((1, "train"), (2, "test"))
            for view in ("2CH", "4CH")
            for time in times
        ],
    ),
    "acdc": (
        made.acdc,
        [
            ("patient101_ED", "MR", "3D", "test", 3),
            ("patient101_ES", "MR", "3D", "test", 3),
            ("patient001_ED", "MR", "3D", "train", 3),
            ("patient001_ES", "MR", "3D", "train", 3),
        ],
    ),
    "kvasir-seg": (
        made.kvasir,
        [("cju0qkwl35piu0993l0dewei2", "ES", "2D", "", 1), ("ck2bxpfgxu2mk0748gsh7xelu", "ES", "2D", "", 1)],
    ),
    "isic": (
        made.isic,
        [("ISIC_0000000", "dermoscopy", "2D", "train", 1), ("ISIC_0012255", "dermoscopy", "2D", "val", 1)],
    ),
    "drive": (made.drive, [("21_training", "fundus", "2D", "train", 1)]),
    "chase-db1": (made.chase, [("Image_01L", "fundus", "2D", "", 1), ("Image_01R", "fundus", "2D", "", 1)]),
    "montgomery": (
        made.montgomery,
        [("MCUCXR_0001_0", "X-ray", "2D", "", 2), ("MCUCXR_0104_1", "X-ray", "2D", "", 2)],
    ),
    "neurips-cells": (made.cells, [(f"cell_{n:05}", "microscopy", "2D", "", 6) for n in (1, 2, 3)]),
    "totalsegmentator": (
        made.totalsegmentator,
        [("s0000", "CT", "3D", "train", 3), ("s0011", "CT", "3D", "test", 3)],
    ),
    "endovis17": (made.endovis17, [("instrument_dataset_1", "ES", "video", "", 4)]),
    "endovis18": (made.endovis18, [("seq_1", "ES", "video", "", 11)]),
}


def test_every_published_layout_is_tested():
    assert set(FOLDERS) == set(PUBLISHED)


@pytest.mark.parametrize("layout", list(FOLDERS))
def test_a_folder_as_it_is_distributed(layout, tmp_path):
    maker, expected = FOLDERS[layout]
    maker(tmp_path / "data")
    cases = load_dataset(tmp_path / "data")
    facts = [(case.name, case.modality, case.kind, case.split, len(case.targets)) for case in cases]
    assert sorted(facts) == sorted(expected)
    assert {case.dataset for case in cases} == {layout}
    for ending in ("csv", "json"):
        save_dataset(tmp_path / f"cases.{ending}", cases)
        assert load_dataset(tmp_path / f"cases.{ending}") == cases
    for case in cases:
        sample = open_case(case)
        # Each has something to be found, but for what is empty by intent.
        found = [name for name, mask in sample.masks.items() if mask.any()]
        assert found or case.name == "normal/normal (1)"
        assert all(mask.shape == sample.volume.shape for mask in sample.masks.values())


@pytest.mark.parametrize("above", ["", "download", "a/b"])
def test_a_dataset_may_lie_below_the_folder_that_is_given(above, tmp_path):
    made.busi(tmp_path / above)
    assert len(load_dataset(tmp_path)) == 4


# -- what the masks are ---------------------------------------------------------------------------


def test_amos_organs_have_the_values_of_its_description(tmp_path):
    case = load_dataset(made.amos22(tmp_path))[0]
    masks = open_case(case).masks
    labels = made.organs(15)
    for value, name in ((1, "spleen"), (6, "liver"), (9, "inferior vena cava"), (15, "prostate/uterus")):
        np.testing.assert_array_equal(masks[name], labels == value)


def test_frames_of_acdc_that_nothing_is_said_of_have_their_files_names(tmp_path):
    made.acdc(tmp_path)
    (tmp_path / "training" / "patient001" / "Info.cfg").write_text("ED: 7\nES: 12\n")
    (tmp_path / "testing" / "patient101" / "Info.cfg").unlink()
    assert sorted(case.name for case in load_dataset(tmp_path)) == [
        "patient001_ES", "patient001_frame01", "patient101_frame01", "patient101_frame12",
    ]  # fmt: skip


def test_flare_s_other_folders_are_read_too(tmp_path):
    cases = load_dataset(made.flare22(tmp_path, ("images", "labels")))
    np.testing.assert_array_equal(open_case(cases[0]).masks["left kidney"], made.organs(13) == 13)


def test_all_masks_of_an_image_of_busi_are_one_lesion(tmp_path):
    case = load_dataset(made.busi(tmp_path))[1]
    expected = made.disc(radius=7) | made.disc(radius=3, centre=(6, 6))
    np.testing.assert_array_equal(open_case(case).masks["lesion"][0], expected)


def test_colours_of_endovis_2018_are_classes(tmp_path):
    (case,) = load_dataset(made.endovis18(tmp_path))
    masks = open_case(case).masks
    shaft, kidney = np.zeros((3, 40, 48), bool), np.zeros((3, 40, 48), bool)
    shaft[:, 4:12, 5:20] = kidney[:, 20:30, 5:20] = True
    np.testing.assert_array_equal(masks["instrument shaft"], shaft)
    np.testing.assert_array_equal(masks["kidney parenchyma"], kidney)
    assert not masks["thread"].any()
    named = find_cases(tmp_path, options=DatasetOptions(targets=(("both", (colour("#00ff00"), colour("#FF3700"))),)))
    np.testing.assert_array_equal(open_case(named[0]).masks["both"], shaft | kidney)


def test_instruments_of_endovis_2017_are_targets_and_their_parts_values(tmp_path):
    (case,) = load_dataset(made.endovis17(tmp_path))
    assert [target.name for target in case.targets] == [
        "prograsp forceps, left",
        "bipolar forceps",
        "other instrument",
        "prograsp forceps, right",
    ]
    masks = open_case(case).masks
    np.testing.assert_array_equal(masks["prograsp forceps, left"], np.stack([made.disc()] * 3))
    (wrist,) = find_cases(tmp_path, options=DatasetOptions(targets=(("wrist", (20,)),)))
    expected = made.disc() & (np.arange(40)[:, None] < 16)
    np.testing.assert_array_equal(open_case(wrist).masks["wrist"][0], expected)


def test_cells_are_targets_or_a_sample_of_them(tmp_path):
    made.cells(tmp_path)
    cases = find_cases(tmp_path, options=DatasetOptions(instances=3))
    assert [[target.name for target in case.targets] for case in cases] == [["cell 7", "cell 207", "cell 507"]] * 3
    masks = open_case(cases[1]).masks
    assert [int(mask.sum()) for mask in masks.values()] == [96, 96, 96]


def test_structures_are_named_as_elsewhere(tmp_path):
    cases = load_dataset(made.totalsegmentator(tmp_path, "mri"))
    assert cases[0].modality == "MR"
    assert [target.name for target in cases[0].targets] == ["left kidney", "bladder", "vertebrae L1"]


@pytest.mark.parametrize("text", ["7", "#00ff7d"])
def test_values_are_written_as_they_are_read(text):
    assert value_text(read_value(text)) == text


# -- what is wrong --------------------------------------------------------------------------------


def refused(folder, layout=None, **options):
    with pytest.raises(InputError) as caught:
        find_cases(folder, layout, DatasetOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("layout", "removed", "said"),
    [
        ("amos22", "imagesTr/amos_0004.nii.gz", "AMOS22 in .* dataset.json lists 4 images and 1 are not there"),
        ("amos22", "labelsVa", "1 of 4 images have no label \\(imagesVa/amos_0008"),
        ("amos22", "imagesTr", "lists 4 images and 3 are not there"),
        ("flare22", "labelsTr/FLARE22_Tr_0002.nii.gz", "FLARE22 in .* 1 of 2 images have no label"),
        ("flare22", "imagesTr/FLARE22_Tr_0002_0000.nii.gz", "1 labels have no image"),
        ("flare22", "imagesTr", "1|2 labels have no image"),
        ("flare22", "labelsTr", "2 of 2 images have no label"),
        ("kvasir-seg", "Kvasir-SEG/masks", "Kvasir-SEG in .* 2 of 2 images have no label"),
        ("montgomery", "MontgomerySet/ManualMask/leftMask", "2 of 2 images have no label"),
        ("endovis18", "miccai_challenge_2018_release_1/seq_1/labels/frame001.png", "seq_1: frames and masks differ"),
        ("endovis17", "instrument_dataset_1/ground_truth", "has no labelled image"),
        ("totalsegmentator", "s0011/segmentations", "1 of 2 images have no label"),
        ("neurips-cells", "Training-labeled/images/cell_00002.png", "1 labels have no image"),
    ],
)
def test_a_half_downloaded_folder_is_named_for_what_it_is(layout, removed, said, tmp_path):
    FOLDERS[layout][0](tmp_path)
    path = tmp_path / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    import re

    assert re.search(said, refused(tmp_path))


def test_another_dataset_than_the_one_that_is_named(tmp_path):
    made.flare22(tmp_path)
    assert "does not hold AMOS22: it holds FLARE22" in refused(tmp_path, "amos22")
    shutil.rmtree(tmp_path / "imagesTr")
    shutil.rmtree(tmp_path / "labelsTr")
    (tmp_path / "amos22.zip").write_bytes(b"PK")
    assert "archives that are not unpacked (amos22.zip)" in refused(tmp_path, "amos22")
    assert "archives that are not unpacked (amos22.zip); unpack them" in refused(tmp_path)
    (tmp_path / "amos22.zip.part").write_bytes(b"PK")
    assert "is not finished (amos22.zip.part)" in refused(tmp_path)
    (tmp_path / "amos22.zip").unlink()
    (tmp_path / "amos22.zip.part").unlink()
    assert "it is empty; give the folder of a dataset" in refused(tmp_path)


def test_several_datasets_in_one_folder(tmp_path):
    made.busi(tmp_path / "busi")
    made.drive(tmp_path / "drive")
    assert "holds several datasets (BUSI, DRIVE); give the folder of one" in refused(tmp_path)
    assert len(find_cases(tmp_path, "drive")) == 1


@pytest.mark.parametrize("layout", list(FOLDERS))
def test_a_dataset_is_taken_for_one_only(layout, tmp_path):
    FOLDERS[layout][0](tmp_path)
    paths = paths_below(tmp_path)
    assert [name for name, dataset in PUBLISHED.items() if dataset.recognise(paths)] == [layout]


def test_a_folder_of_images_alone_and_a_file(tmp_path):
    made.amos22(tmp_path)
    said = refused(tmp_path / "imagesTr")
    assert "holds no labelled image: it holds 3 images (amos_0001.nii.gz …) and no labels that belong to them" in said
    assert "is a file; give the folder" in refused(tmp_path / "dataset.json")


def test_a_dataset_that_is_there_twice(tmp_path):
    made.flare22(tmp_path / "one")
    made.flare22(tmp_path / "two")
    assert "holds FLARE22 more than once" in refused(tmp_path)


def test_an_instrument_that_is_not_in_the_table(tmp_path):
    made.endovis17(tmp_path)
    masks = tmp_path / "instrument_dataset_1" / "ground_truth"
    (masks / "Other_labels").rename(masks / "Spoon_labels")
    assert "Spoon_labels is of no instrument" in refused(tmp_path)


def test_the_decathlon_that_lacks_a_file(tmp_path):
    for part in ("imagesTr", "labelsTr"):
        made.volume(tmp_path / part / "spleen_2.nii.gz", made.organs(1))
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("spleen_1", "spleen_2")]
    facts = {"name": "Spleen", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": pairs}
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    assert "Decathlon's Spleen" in refused(tmp_path)
    assert "4 files and 2 are not there (imagesTr/spleen_1.nii.gz …)" in refused(tmp_path)


# -- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "split"),
    [("Tr", "train"), ("BUSI_val", "val"), ("subgroup_testing", "test"), ("Test_v2", "test"), ("fold", ""), ("", "")],
)
def test_words_for_splits(word, split):
    assert canonical_split(word) == split


def splits_of(folder, *files, **options):
    cases = find_cases(folder, options=DatasetOptions(split_files=files, **options))
    return [case.split for case in cases]


def test_split_files_of_all_kinds(tmp_path):
    folder = made.flare22(tmp_path / "data")
    lists = {"train": ["FLARE22_Tr_0002"], "val": ["FLARE22_Tr_0001_0000.nii.gz"]}
    for split, names in lists.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(f"imagesTr/{name}" for name in names) + "\n\n")
    assert splits_of(folder, tmp_path / "train.txt", tmp_path / "val.txt") == ["val", "train"]
    assert splits_of(folder, tmp_path / "train.txt") == ["", "train"]
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    assert splits_of(folder, tmp_path / "splits.json") == ["val", "train"]
    other = {"train": ["FLARE22_Tr_0001"], "val": ["FLARE22_Tr_0002"]}
    (tmp_path / "splits_final.json").write_text(json.dumps([lists, other]))
    assert splits_of(folder, tmp_path / "splits_final.json") == ["val", "train"]
    assert splits_of(folder, tmp_path / "splits_final.json", fold=1) == ["train", "val"]
    (tmp_path / "all.csv").write_text("image_id;split\nFLARE22_Tr_0001;test\nFLARE22_Tr_0002;train\n")
    assert splits_of(folder, tmp_path / "all.csv") == ["test", "train"]


def test_a_given_split_takes_the_place_of_the_distributed_one(tmp_path):
    folder = made.camus(tmp_path / "data")
    (tmp_path / "train.txt").write_text("patient0002\n")
    cases = find_cases(folder, options=DatasetOptions(split_files=(tmp_path / "train.txt",)))
    assert {case.name[:11]: case.split for case in cases} == {"patient0001": "", "patient0002": "train"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train.txt": "FLARE22_Tr_0009\n"}, "1 of the 1 names in train.txt are no case"),
        ({"names.txt": "FLARE22_Tr_0001\n"}, "does not say which split"),
        (
            {"train.txt": "FLARE22_Tr_0001\n", "val.txt": "FLARE22_Tr_0001\n"},
            "is train in train.txt and val in val.txt",
        ),
        ({"splits.json": "[[]]"}, "names no splits"),
        ({"splits.json": "[]"}, "has no fold 0"),
        ({"splits.json": "{"}, "cannot read"),
        ({"splits.csv": "a,b\n1,2\n"}, "no column 'split'"),
        ({"train.txt": "\n"}, "hold no names"),
        ({"splits.json": '{"train": ["", {"label": "a"}]}'}, "hold no names"),
        ({"all.csv": "name,split\n  ,train\n"}, "hold no names"),
        ({}, "there is no file"),
    ],
)
def test_split_files_that_do_not_fit(files, said, tmp_path):
    made.flare22(tmp_path / "data")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    named = tuple(tmp_path / name for name in files) or (tmp_path / "none.txt",)
    assert said in refused(tmp_path / "data", split_files=named)
