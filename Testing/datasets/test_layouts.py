"""Small real trees of each layout become cases whose masks are those that were stored; misfits are named."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2.datasets import load_dataset, npz, open_case
from biosam2.datasets.checking import check_all, refuse_misfits, summary
from biosam2.datasets.finding import find_cases
from biosam2.datasets.layout import DatasetOptions
from biosam2.datasets.pairs import role
from biosam2.errors import InputError
from biosam2.masks import dice
from PIL import Image

SHAPE = (5, 12, 10)
SPACING = (0.7, 0.8, 2.5)


@pytest.fixture
def labels():
    """uint8 (K, J, I): 1 in a corner, 2 in the middle."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, :4, :5] = 1
    array[2:4, 6:9, 6:9] = 2
    return array


@pytest.fixture
def image(labels):
    return (np.random.default_rng(0).normal(0, 9, SHAPE) + 50 * labels).astype(np.int16)


def write(path, array, origin=(1.0, 2.0, 3.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    if array.ndim == 4:
        itk = sitk.JoinSeries([on_grid(channel, origin) for channel in array])
    else:
        itk = on_grid(array, origin)
    sitk.WriteImage(itk, str(path))
    return path


def on_grid(array, origin):
    itk = sitk.GetImageFromArray(array)
    itk.SetSpacing(SPACING)
    itk.SetOrigin(origin)
    return itk


def picture(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(array)
    if palette:
        made = Image.fromarray(array, mode="P") if made.mode != "P" else made
        made.putpalette([n for colour in range(256) for n in (colour, 255 - colour, 7 * colour % 256)])
    made.save(path)
    return path


def masks_of(case):
    return open_case(case).masks


def same(found, expected):
    assert list(found) == list(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


# -- nnU-Net and the Decathlon --------------------------------------------------------------------


def test_nnunet_raw(tmp_path, image, labels):
    for split in ("Tr", "Ts"):
        for channel in (0, 1):
            write(tmp_path / f"images{split}" / f"case{split}_{channel:04}.nii.gz", image + np.int16(channel))
        write(tmp_path / f"labels{split}" / f"case{split}.nii.gz", labels)
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "T1", "1": "T2"},
                "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
                "file_ending": ".nii.gz",
            }
        )
    )
    cases = load_dataset(tmp_path)
    assert [(c.name, c.split, c.modality, c.kind) for c in cases] == [
        ("caseTr", "train", "T1", "3D"),
        ("caseTs", "test", "T1", "3D"),
    ]
    sample = open_case(cases[0])
    same(sample.masks, {"whole": labels > 0, "core": labels == 2})
    assert sample.volume.spacing == pytest.approx(SPACING)
    np.testing.assert_array_equal(sample.volume.array, image)
    second = find_cases(tmp_path, options=DatasetOptions(channel=1))[0]
    assert second.modality == "T2"
    np.testing.assert_array_equal(open_case(second).volume.array, image + 1)
    (tmp_path / "imagesTs" / "caseTs_0000.nii.gz").unlink()
    with pytest.raises(InputError, match="case caseTs: there is no image"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_decathlon(tmp_path, image, labels, channels):
    stored = np.stack([image + np.int16(n) for n in range(channels)]) if channels > 1 else image
    write(tmp_path / "imagesTr" / "la_003.nii.gz", stored)
    write(tmp_path / "labelsTr" / "la_003.nii.gz", labels)
    write(tmp_path / "imagesTs" / "la_004.nii.gz", stored)
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "modality": {str(n): f"MR{n}" for n in range(channels)},
                "labels": {"0": "background", "1": "atrium", "2": "wall"},
                "training": [{"image": "./imagesTr/la_003.nii.gz", "label": "./labelsTr/la_003.nii.gz"}],
                "test": ["./imagesTs/la_004.nii.gz"],
            }
        )
    )
    chosen = channels - 1
    (case,) = find_cases(tmp_path, options=DatasetOptions(channel=chosen))
    assert (case.name, case.split, case.modality) == ("la_003", "train", f"MR{chosen}")
    sample = open_case(case)
    same(sample.masks, {"atrium": labels == 1, "wall": labels == 2})
    np.testing.assert_array_equal(sample.volume.array, image + chosen)
    np.testing.assert_array_equal(sample.labels, labels)
    if channels > 1:
        with pytest.raises(InputError, match="no channel 9"):
            open_case(find_cases(tmp_path, options=DatasetOptions(channel=9))[0])


@pytest.mark.parametrize(
    "facts", [{}, {"labels": {"background": 0}}, {"labels": [1]}, {"labels": {"a": "b"}}, {"training": [3]}]
)
def test_a_damaged_description_is_named(tmp_path, facts):
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"dataset\.json"):
        find_cases(tmp_path)


# -- pairs ----------------------------------------------------------------------------------------


def test_busi_s_names(tmp_path):
    first, second = np.zeros((2, 14, 17), np.uint8)
    first[2:6, 3:8] = 255
    second[9:12, 10:15] = 255
    grey = np.arange(14 * 17, dtype=np.uint8).reshape(14, 17)
    picture(tmp_path / "benign" / "benign (1).png", np.stack([grey] * 3, axis=-1))
    picture(tmp_path / "benign" / "benign (1)_mask.png", first)
    picture(tmp_path / "benign" / "benign (1)_mask_1.png", second)
    picture(tmp_path / "normal" / "normal (7).png", grey)
    picture(tmp_path / "normal" / "normal (7)_mask.png", np.zeros_like(grey))
    cases = find_cases(tmp_path, options=DatasetOptions(modality="US", targets=(("lesion", ()),)))
    assert [(c.name, c.kind, c.modality) for c in cases] == [
        ("benign/benign (1)", "2D", "US"),
        ("normal/normal (7)", "2D", "US"),
    ]
    same(masks_of(cases[0]), {"lesion": ((first | second) > 0)[None]})
    findings = check_all(cases)
    assert findings[1].empty == ["lesion"]
    assert "normal/normal (7) (lesion)" in "\n".join(summary(findings))


def test_folders_of_images_and_masks(tmp_path, image, labels):
    for n in range(2):
        picture(tmp_path / "train" / "images" / f"{n}.jpg", np.full((8, 9), 100, np.uint8))
        picture(tmp_path / "train" / "masks" / f"{n}.png", np.eye(8, 9, dtype=np.uint8))
    cases = find_cases(tmp_path)
    assert [c.name for c in cases] == ["train/0", "train/1"]
    same(masks_of(cases[1]), {"target": np.eye(8, 9, dtype=bool)[None]})


def test_a_folder_for_each_case(tmp_path, image, labels):
    write(tmp_path / "one" / "image.nrrd", image)
    write(tmp_path / "one" / "label.nrrd", labels)
    write(tmp_path / "two" / "image.nii.gz", image)
    write(tmp_path / "two" / "label.nii.gz", (labels == 2).astype(np.uint8))
    one, two = load_dataset(tmp_path)
    same(masks_of(one), {"label 1": labels == 1, "label 2": labels == 2})
    same(masks_of(two), {"target": labels == 2})


def test_what_has_no_partner_or_several_is_named(tmp_path):
    picture(tmp_path / "a_mask.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"case a: .*a_mask\.png has no image"):
        find_cases(tmp_path)
    picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    picture(tmp_path / "a.bmp", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"2 images \(a\.bmp, a\.png\)"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("path", "name", "is_label"),
    [
        ("benign (1)_mask_1.png", "benign (1)", True),
        ("mask.png", "", True),
        ("images/x.png", "x", False),
        ("Labels/x.png", "x", True),
        ("p1/ct_image.nii.gz", "p1/ct", False),
        ("p1/ct-segmentation.nii.gz", "p1/ct", True),
        ("p1/ct.seg.nrrd", "p1/ct", True),
        ("masked man.png", "masked man", False),
    ],
)
def test_what_a_name_says(tmp_path, path, name, is_label):
    assert role((tmp_path / path).relative_to(tmp_path)) == (name, is_label)


# -- NPZ ------------------------------------------------------------------------------------------


def test_medsam_s_npz(tmp_path, image, labels):
    np.savez_compressed(tmp_path / "CT_Abd_1.npz", imgs=image.astype(np.uint8), gts=labels, spacing=SPACING)
    np.savez_compressed(tmp_path / "skin.npz", imgs=np.zeros((6, 7, 3), np.uint8), gts=np.eye(6, 7, dtype=np.uint8))
    volume, colour = load_dataset(tmp_path)
    assert (volume.modality, volume.kind, colour.kind) == ("CT", "3D", "2D")
    sample = open_case(volume)
    assert sample.volume.spacing == SPACING
    same(sample.masks, {"label 1": labels == 1, "label 2": labels == 2})
    flat = open_case(colour)
    assert flat.volume.array.shape == (1, 6, 7, 3)
    same(flat.masks, {"target": np.eye(6, 7, dtype=bool)[None]})


def test_an_npz_that_cannot_be_used_is_named(tmp_path, labels):
    path = tmp_path / "x.npz"
    np.savez(path, imgs=labels)
    with pytest.raises(InputError, match="holds imgs, but no gts"):
        load_dataset(tmp_path)
    np.savez(path, imgs=np.array([{"a": 1}], dtype=object), gts=labels)  # pickled: could run anything
    with pytest.raises(InputError, match=r"x\.npz"):
        npz.read_image(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"x\.npz"):
        npz.read_labels(path)
    np.savez(path, imgs=labels, gts=labels[:, :5])
    with pytest.raises(InputError, match=r"case x: .*10×5×5 voxels, not 10×12×5"):
        open_case(load_dataset(tmp_path)[0])


# -- videos ---------------------------------------------------------------------------------------


def test_davis(tmp_path):
    objects = np.zeros((3, 9, 11), np.uint8)
    objects[:, 1:4, 2:6] = 1
    objects[1:, 5:8, 5:9] = 2
    objects[2, 8, :] = 255
    for n in range(3):
        picture(tmp_path / "JPEGImages" / "480p" / "bear" / f"{n:05}.jpg", np.full((9, 11, 3), 40 * n, np.uint8))
        picture(tmp_path / "Annotations" / "480p" / "bear" / f"{n:05}.png", objects[n], palette=True)
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("bear\n")
    (case,) = load_dataset(tmp_path)
    assert (case.name, case.kind, case.split) == ("480p/bear", "video", "val")
    sample = open_case(case)
    assert sample.volume.array.shape == (3, 9, 11, 3)
    same(sample.masks, {"object 1": objects == 1, "object 2": objects == 2})
    (tmp_path / "Annotations" / "480p" / "bear" / "00001.png").unlink()
    with pytest.raises(InputError, match=r"case 480p/bear: .*00001"):
        load_dataset(tmp_path)


def test_davis_void_is_no_object(tmp_path):
    objects = np.zeros((9, 11), np.uint8)
    objects[1:4, 2:6] = 1
    objects[6:, :] = 255
    picture(tmp_path / "JPEGImages" / "480p" / "bear" / "00000.jpg", np.full((9, 11, 3), 40, np.uint8))
    picture(tmp_path / "Annotations" / "480p" / "bear" / "00000.png", objects, palette=True)
    (case,) = load_dataset(tmp_path)
    same(open_case(case).masks, {"object": (objects == 1)[None]})


def test_masks_in_jpeg_files_are_what_was_drawn(tmp_path):
    rows, columns = np.ogrid[:200, :240]
    disc = (rows - 90) ** 2 + (columns - 130) ** 2 < 60**2
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for folder, content in (("images", disc * 90 + 20), ("masks", disc * 255)):
        array = np.repeat(content.astype(np.uint8)[..., None], 3, axis=2)
        Image.fromarray(array).save(tmp_path / folder / "x.jpg", quality=75)
    (case,) = load_dataset(tmp_path)
    (mask,) = open_case(case).masks.values()
    assert dice(mask[0], disc) > 0.995
    with Image.open(tmp_path / "masks" / "x.jpg") as stored:
        assert len(np.unique(np.array(stored))) > 2  # there was something to be read away
    named = find_cases(tmp_path, options=DatasetOptions(targets=(("polyp", (255,)),)))
    same(masks_of(named[0]), {"polyp": mask})
    picture(tmp_path / "masks" / "x.jpg", (disc * 9).astype(np.uint8))  # as in an empty mask that is not quite black
    assert not masks_of(case)["target"].any()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 240, 3), np.uint8)).save(
        tmp_path / "masks" / "x.jpg"
    )
    with pytest.raises(InputError, match="in colour"):
        open_case(case)


def test_davis_with_255_alone_has_one_object(tmp_path):
    objects = np.zeros((9, 11), np.uint8)
    objects[1:4, 2:6] = 255
    picture(tmp_path / "JPEGImages" / "cow" / "00000.jpg", np.full((9, 11, 3), 40, np.uint8))
    picture(tmp_path / "Annotations" / "cow" / "00000.png", objects)
    (case,) = load_dataset(tmp_path)
    same(masks_of(case), {"object": (objects == 255)[None]})


# -- geometry and segmentations -------------------------------------------------------------------


def test_labels_that_lie_elsewhere_are_named(tmp_path, image, labels):
    write(tmp_path / "good" / "image.nrrd", image)
    write(tmp_path / "good" / "label.nrrd", labels)
    write(tmp_path / "shifted" / "image.nrrd", image)
    write(tmp_path / "shifted" / "label.nrrd", labels, origin=(1.0, 2.0, 5.0))
    write(tmp_path / "cut" / "image.nrrd", image)
    write(tmp_path / "cut" / "label.nrrd", labels[:4])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "image.nrrd").write_bytes((tmp_path / "good" / "image.nrrd").read_bytes()[:300])
    write(tmp_path / "torn" / "label.nrrd", labels)
    findings = check_all(find_cases(tmp_path))
    assert [f.case.name for f in findings if f.problem] == ["cut", "shifted", "torn"]
    with pytest.raises(InputError) as caught:
        refuse_misfits(findings)
    message = str(caught.value)
    assert message.startswith("3 of 4 cases cannot be used")
    assert "case shifted" in message
    assert "first voxel lies at" in message
    assert "\n" not in message


def test_a_segmentation_cut_to_what_is_drawn_finds_its_place(tmp_path, image, labels):
    from biosam2.io import write_segmentation
    from biosam2.volume import Volume

    class Drawn:
        segments = ("left", "right")

        def __init__(self, first):
            cut = labels[first:]
            self.volume = Volume(cut, SPACING, (1.0, 2.0, 3.0 + first * SPACING[2]))
            self._masks = {"left": cut == 1, "right": cut > 0}

        def mask(self, name):
            return self._masks[name]

        def labelmap(self):
            return self.volume.array

    write(tmp_path / "x.nrrd", image)
    write_segmentation(tmp_path / "x.seg.nrrd", Drawn(1))
    (case,) = load_dataset(tmp_path)
    same(masks_of(case), {"left": labels == 1, "right": labels > 0})
    (tmp_path / "x.seg.nrrd").unlink()
    shifted = Drawn(1)
    shifted.volume = Volume(shifted.volume.array, SPACING, (1.0, 2.0, 4.0))
    write_segmentation(tmp_path / "x.seg.nrrd", shifted)
    with pytest.raises(InputError, match=r"case x: .*x\.seg\.nrrd does not lie"):
        open_case(load_dataset(tmp_path)[0])


def test_a_colour_picture_is_no_mask(tmp_path):
    picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    picture(tmp_path / "a_mask.png", np.random.default_rng(0).integers(0, 255, (4, 4, 3)).astype(np.uint8))
    with pytest.raises(InputError, match="in colour"):
        open_case(load_dataset(tmp_path)[0])


def test_a_folder_of_nothing_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(InputError, match="none of the known layouts: it holds 1 files and no image"):
        load_dataset(tmp_path)


def test_the_shared_folder_is_a_dataset_as_it_is(shared_data):
    cases = load_dataset(shared_data)
    assert {case.name for case in cases} >= {"ct-lung-nodule", "mr-brain-atlas", "mr-prostate-phantom"}
    phantom = next(case for case in cases if case.name == "mr-prostate-phantom")
    assert [target.values for target in phantom.targets] == [(1,), (7,), (8,), (9,)]
