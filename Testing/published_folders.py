"""Small folders of exactly the layout and the names of published datasets, with pixels made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from biosam2.datasets.published import AMOS22
from numpy.typing import NDArray
from PIL import Image

SHAPE = (6, 24, 20)
SPACING = (1.5, 1.5, 5.0)


def organs(count: int, shape: Sequence[int] = SHAPE) -> NDArray[np.uint8]:
    """Labels (K, J, I): a block for each of so many values, in rows."""
    labels = np.zeros(shape, np.uint8)
    for value in range(1, count + 1):
        row, column = divmod(value - 1, 4)
        labels[1:5, 1 + 5 * row : 5 + 5 * row, 1 + 5 * column : 5 + 5 * column] = value
    return labels


def volume(path: Path, array: NDArray, spacing: Sequence[float] = SPACING) -> Path:
    """Write a NIfTI or MetaImage file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(list(spacing)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
    return path


def picture(path: Path, array: NDArray) -> Path:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def disc(rows: int = 40, columns: int = 48, radius: int = 9, centre: Sequence[int] = (20, 22)) -> NDArray[np.bool_]:
    """A disc, bool (rows, columns)."""
    y, x = np.ogrid[:rows, :columns]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def photo(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture in colours that shows a mask."""
    return np.repeat((60 + 120 * mask).astype(np.uint8)[..., None], 3, axis=2)


def amos22(folder: Path, ids: Sequence[int] = (1, 4, 507), validation: Sequence[int] = (8,)) -> Path:
    """amos22.zip, unpacked: ``dataset.json``, images and labels of training and validation, images of testing."""
    labels = organs(15)
    entries: dict[str, list] = {"training": [], "validation": []}
    for part, key, numbers in (("Tr", "training", ids), ("Va", "validation", validation)):
        for number in numbers:
            name = f"amos_{number:04}.nii.gz"
            rng = np.random.default_rng(number)
            values = 40.0 * labels + rng.normal(0, 8, SHAPE) - (0 if number >= 500 else 200)
            volume(folder / f"images{part}" / name, values.astype(np.float32))
            volume(folder / f"labels{part}" / name, labels)
            entries[key].append({"image": f"./images{part}/{name}", "label": f"./labels{part}/{name}"})
    volume(folder / "imagesTs" / "amos_0002.nii.gz", np.zeros(SHAPE, np.int16))
    words = [name for part in AMOS22.parts for name in part.targets]
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "name": "AMOS",
                "licence": "CC-BY-SA 4.0",
                "modality": {"0": "CT"},
                "labels": {"0": "background", **{str(n): name for n, name in enumerate(words, start=1)}},
                **entries,
                "test": [{"image": "./imagesTs/amos_0002.nii.gz"}],
            }
        )
    )
    return folder


def flare22(folder: Path, folders: Sequence[str] = ("imagesTr", "labelsTr")) -> Path:
    """FLARE22's labelled training set: no ``dataset.json``, images with a channel's number."""
    labels = organs(13)
    for number in (1, 2):
        volume(folder / folders[0] / f"FLARE22_Tr_{number:04}_0000.nii.gz", (30 * labels).astype(np.int16))
        volume(folder / folders[1] / f"FLARE22_Tr_{number:04}.nii.gz", labels)
    return folder


def busi(folder: Path) -> Path:
    """Dataset_BUSI_with_GT, with an image of two masks, and the reference's split files beside it."""
    top = folder / "Dataset_BUSI_with_GT"
    for kind, number in (("benign", 1), ("benign", 2), ("malignant", 1), ("normal", 1)):
        name = f"{kind} ({number})"
        mask = disc(radius=5 + number) & (kind != "normal")
        picture(top / kind / f"{name}.png", photo(mask))
        picture(top / kind / f"{name}_mask.png", (255 * mask).astype(np.uint8))
    picture(top / "benign" / "benign (2)_mask_1.png", (255 * disc(radius=3, centre=(6, 6))).astype(np.uint8))
    (folder / "BUSI_train.txt").write_text("benign/benign (1)\nnormal/normal (1)\n")
    (folder / "BUSI_val.txt").write_text("benign/benign (2)\nmalignant/malignant (1)\n")
    return folder


def camus(folder: Path, patients: Sequence[int] = (1, 2)) -> Path:
    """CAMUS_public: both views at both times, half sequences, and the lists of patients."""
    for patient in patients:
        name = f"patient{patient:04}"
        for view in ("2CH", "4CH"):
            stem = folder / "database_nifti" / name / f"{name}_{view}"
            for time in ("ED", "ES"):
                volume(stem.with_name(f"{stem.name}_{time}.nii.gz"), organs(3)[2], (0.3, 0.3))
                volume(stem.with_name(f"{stem.name}_{time}_gt.nii.gz"), organs(3)[2], (0.3, 0.3))
            volume(stem.with_name(f"{stem.name}_half_sequence.nii.gz"), organs(3), (0.3, 0.3, 1.0))
            volume(stem.with_name(f"{stem.name}_half_sequence_gt.nii.gz"), organs(3), (0.3, 0.3, 1.0))
            (stem.parent / f"Info_{view}.cfg").write_text("ED: 1\nES: 6\n")
    (folder / "database_split").mkdir()
    (folder / "database_split" / "subgroup_training.txt").write_text("patient0001\n")
    (folder / "database_split" / "subgroup_testing.txt").write_text("patient0002\npatient0499\n")
    return folder


def acdc(folder: Path) -> Path:
    """ACDC: a folder for each patient with both frames, their labels, the 4D file and ``Info.cfg``."""
    labels = organs(3)
    for part, number in (("training", 1), ("testing", 101)):
        patient = folder / part / f"patient{number:03}"
        for frame in (1, 12):
            volume(patient / f"patient{number:03}_frame{frame:02}.nii.gz", (40 * labels).astype(np.int16))
            volume(patient / f"patient{number:03}_frame{frame:02}_gt.nii.gz", labels)
        four = sitk.JoinSeries([sitk.GetImageFromArray((40 * labels).astype(np.int16))] * 3)
        sitk.WriteImage(four, str(patient / f"patient{number:03}_4d.nii.gz"))
        (patient / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
    return folder


def kvasir(folder: Path) -> Path:
    """Kvasir-SEG: images and masks as JPEG, and the boxes."""
    for name in ("cju0qkwl35piu0993l0dewei2", "ck2bxpfgxu2mk0748gsh7xelu"):
        picture(folder / "Kvasir-SEG" / "images" / f"{name}.jpg", photo(disc()))
        picture(folder / "Kvasir-SEG" / "masks" / f"{name}.jpg", photo(disc()) // 180 * 255)
    (folder / "Kvasir-SEG" / "kavsir_bboxes.json").write_text("{}")
    return folder


def isic(folder: Path) -> Path:
    """ISIC 2018, task 1, training and validation, with the attribution files; and images of testing."""
    for part, number in (("Training", 0), ("Validation", 12255)):
        top = folder / f"ISIC2018_Task1-2_{part}_Input"
        picture(top / f"ISIC_{number:07}.jpg", photo(disc()))
        (top / "ATTRIBUTION.txt").write_text("CC-0\n")
        truth = folder / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_{number:07}_segmentation.png"
        picture(truth, (255 * disc()).astype(np.uint8))
    picture(folder / "ISIC2018_Task1-2_Test_Input" / "ISIC_0012169.jpg", photo(disc()))
    return folder


def drive(folder: Path) -> Path:
    """DRIVE: TIFF images, masks of the field of view and of the vessels as GIF; none of the vessels for testing."""
    for part, number in (("training", 21), ("test", 1)):
        word = "training" if part == "training" else "test"
        picture(folder / part / "images" / f"{number:02}_{word}.tif", photo(disc()))
        picture(folder / part / "mask" / f"{number:02}_{word}_mask.gif", (255 * disc(radius=18)).astype(np.uint8))
    picture(folder / "training" / "1st_manual" / "21_manual1.gif", (255 * disc()).astype(np.uint8))
    return folder


def chase(folder: Path) -> Path:
    """CHASE_DB1: all in one folder, two observers."""
    for eye in "LR":
        picture(folder / f"Image_01{eye}.jpg", photo(disc()))
        picture(folder / f"Image_01{eye}_1stHO.png", disc())
        picture(folder / f"Image_01{eye}_2ndHO.png", disc(radius=8))
    return folder


def montgomery(folder: Path) -> Path:
    """MontgomerySet: radiographs, a mask for each lung, and the readings."""
    top = folder / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        picture(top / "CXR_png" / f"{name}.png", photo(disc())[..., 0])
        picture(top / "ManualMask" / "leftMask" / f"{name}.png", 255 * disc(centre=(20, 34)).astype(np.uint8))
        picture(top / "ManualMask" / "rightMask" / f"{name}.png", 255 * disc(centre=(20, 12)).astype(np.uint8))
    (top / "ClinicalReadings").mkdir()
    (top / "ClinicalReadings" / "MCUCXR_0001_0.txt").write_text("Patient's Sex: F\n")
    return folder


def cells(folder: Path, count: int = 6) -> Path:
    """NeurIPS 2022 cell segmentation, training: images of several formats, 16-bit labels with a value for each cell."""
    labels = np.zeros((40, 60), np.uint16)
    for n in range(count):
        labels[5 + 18 * (n % 2) : 17 + 18 * (n % 2), 2 + 10 * (n // 2) : 10 + 10 * (n // 2)] = 100 * n + 7
    for number, ending in ((1, "bmp"), (2, "png"), (3, "tif")):
        picture(folder / "Training-labeled" / "images" / f"cell_{number:05}.{ending}", photo(labels > 0))
        picture(folder / "Training-labeled" / "labels" / f"cell_{number:05}_label.tiff", labels)
    return folder


def totalsegmentator(folder: Path, scan: str = "ct") -> Path:
    """TotalSegmentator: a folder for each scan, a file for each structure, and ``meta.csv``."""
    labels = organs(3)
    for name in ("s0000", "s0011"):
        volume(folder / name / f"{scan}.nii.gz", (40 * labels).astype(np.int16))
        for value, structure in ((1, "kidney_left"), (2, "urinary_bladder"), (3, "vertebrae_L1")):
            volume(folder / name / "segmentations" / f"{structure}.nii.gz", (labels == value).astype(np.uint8))
    rows = (
        "image_id;age;gender;institute;study_type;split\ns0000;61;m;A;ct abdomen;train\ns0011;50;f;B;ct thorax;test\n"
    )
    (folder / "meta.csv").write_text(rows, encoding="utf-8-sig")
    return folder


def endovis17(folder: Path, frames: int = 3) -> Path:
    """EndoVis 2017, training: frames of both eyes, a folder of masks for each instrument; the parts are its values."""
    top = folder / "instrument_dataset_1"
    mask = disc()
    parts = np.where(mask, 10, 0).astype(np.uint8)
    parts[:16] = np.where(mask[:16], 20, 0)
    for n in range(frames):
        for eye in ("left", "right"):
            picture(top / f"{eye}_frames" / f"frame{n:03}.png", photo(mask))
        for instrument in ("Left_Prograsp_Forceps", "Right_Prograsp_Forceps", "Maryland_Bipolar_Forceps", "Other"):
            own = parts if instrument == "Left_Prograsp_Forceps" else np.zeros_like(parts)
            picture(top / "ground_truth" / f"{instrument}_labels" / f"frame{n:03}.png", own)
    (top / "camera_calibration.txt").write_text("\n")
    return folder


def endovis18(folder: Path, frames: int = 3) -> Path:
    """EndoVis 2018, training: sequences in a release, masks in the colours of the classes."""
    top = folder / "miccai_challenge_2018_release_1" / "seq_1"
    mask = np.zeros((40, 48, 3), np.uint8)
    mask[4:12, 5:20] = (0, 255, 0)
    mask[20:30, 5:20] = (255, 55, 0)
    for n in range(frames):
        for eye in ("left", "right"):
            picture(top / f"{eye}_frames" / f"frame{n:03}.png", photo(mask.any(axis=2)))
        picture(top / "labels" / f"frame{n:03}.png", mask)
    return folder
