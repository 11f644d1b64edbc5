"""Datasets whose layout is known, as they are distributed. To add one is to add a `Distribution`.

What was read to learn a layout stands in its `source`; targets have one name in all datasets, so that protocols find
them (`inferior vena cava` is AMOS22's `postcava`).
"""

from __future__ import annotations

from . import acdc, cells, endovis, totalsegmentator
from .patterns import Distribution, Groups, Marks, Part, valued

_AMOS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder",
    "prostate/uterus",
)  # fmt: skip
_FLARE = (
    "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
    "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney",
)  # fmt: skip


def _amos_modality(groups: Groups) -> str:
    return "MR" if int(groups["id"]) >= 500 else "CT"


AMOS22 = Distribution(
    "amos22",
    "AMOS22",
    "readme.md of https://zenodo.org/records/7262581 (ids below 500 are CT, the others MR); labels of its dataset.json",
    (
        Part(
            r"images(?P<part>Tr|Va)/(?P<name>amos_(?P<id>\d{4}))\.nii\.gz",
            valued("labels{part}/{name}.nii.gz", _AMOS),
            _amos_modality,
            split="{part}",
        ),
    ),
    files=r"(images|labels)(Tr|Va|Ts)/amos_\d{4}\.nii\.gz",
    listing="dataset.json",
)
FLARE22 = Distribution(
    "flare22",
    "FLARE22",
    "https://github.com/JunMa11/FLARE, FLARE22/Evaluation (order of the labels); file names as in "
    "https://github.com/bowang-lab/MedSAM, pre_CT_MR.py",
    (
        Part(
            r"images(?P<part>Tr|)/(?P<name>FLARE22_Tr_\d{4})_0000\.nii\.gz",
            valued("labels{part}/{name}.nii.gz", _FLARE),
            "CT",
            split="Tr",
        ),
    ),
    files=r"(images|labels)(Tr|)/FLARE22_Tr_\d{4}(_0000)?\.nii\.gz",
)
BUSI = Distribution(
    "busi",
    "BUSI",
    "https://www.kaggle.com/datasets/aryashah2k/breast-ultrasound-images-dataset; split files as in "
    "https://github.com/ZhilingYan/Biomedical-SAM-2, train.py",
    (
        Part(
            r"(?P<class>benign|malignant|normal)/(?P<name>(?:benign|malignant|normal) \(\d+\))\.png",
            {"lesion": Marks("{class}/{name}_mask*.png")},
            "US",
            "2D",
            "{class}/{name}",
        ),
    ),
    splits=("BUSI_train.txt", "BUSI_val.txt", "BUSI_test.txt"),
)
CAMUS = Distribution(
    "camus",
    "CAMUS",
    "https://humanheart-project.creatis.insa-lyon.fr (CAMUS_public: database_nifti, database_split); the first release "
    "as .mhd",
    (
        Part(
            r"(?P<patient>patient\d{4})/(?P<name>patient\d{4}_[24]CH_(ED|ES))(?P<ending>\.nii\.gz|\.mhd)",
            valued("{patient}/{name}_gt{ending}", ("left ventricle", "myocardium", "left atrium")),
            "US",
            "2D",
        ),
        Part(
            r"(?P<patient>patient\d{4})/(?P<name>patient\d{4}_[24]CH_half_sequence)(?P<ending>\.nii\.gz)",
            valued("{patient}/{name}_gt{ending}", ("left ventricle", "myocardium", "left atrium")),
            "US",
            "video",
        ),
    ),
    splits=("database_split/subgroup_*.txt", "../database_split/subgroup_*.txt"),
)
ACDC = Distribution(
    "acdc",
    "ACDC",
    "https://www.creatis.insa-lyon.fr/Challenge/acdc; labels as in https://github.com/MIC-DKFZ/nnUNet, "
    "dataset_conversion/Dataset027_ACDC.py",
    (
        Part(
            r"(?P<part>training|testing)/(?P<patient>patient\d{3})/(?P<name>patient\d{3}_frame(?P<frame>\d\d))\.nii\.gz",
            valued("{part}/{patient}/{name}_gt.nii.gz", ("right ventricle", "myocardium", "left ventricle")),
            "MR",
            name=acdc.case_name,
            split="{part}",
            labelled=False,
        ),
    ),
)
KVASIR = Distribution(
    "kvasir-seg",
    "Kvasir-SEG",
    "https://datasets.simula.no/kvasir-seg",
    (
        Part(
            r"images/(?P<name>c[jk][a-z0-9]{23})\.jpg",
            {"polyp": Marks("masks/{name}.jpg")},
            "ES",
            "2D",
        ),
    ),
)
ISIC = Distribution(
    "isic",
    "ISIC (2016 to 2018, lesion segmentation)",
    "https://challenge.isic-archive.com/data",
    (
        Part(
            r"ISIC2018_Task1-2_(?P<part>Training|Validation|Test)_Input/(?P<name>ISIC_\d{7})\.jpg",
            {"lesion": Marks("ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png")},
            "dermoscopy",
            "2D",
            split="{part}",
            labelled=False,
        ),
        Part(
            r"ISIC-2017_(?P<part>Training|Validation|Test_v2)_Data/(?P<name>ISIC_\d{7})\.jpg",
            {"lesion": Marks("ISIC-2017_{part}_Part1_GroundTruth/{name}_segmentation.png")},
            "dermoscopy",
            "2D",
            split="{part}",
            labelled=False,
        ),
        Part(
            r"ISBI2016_ISIC_Part1_(?P<part>Training|Test)_Data/(?P<name>ISIC_\d{7})\.jpg",
            {"lesion": Marks("ISBI2016_ISIC_Part1_{part}_GroundTruth/{name}_Segmentation.png")},
            "dermoscopy",
            "2D",
            split="{part}",
            labelled=False,
        ),
    ),
)
DRIVE = Distribution(
    "drive",
    "DRIVE",
    "https://drive.grand-challenge.org",
    (
        Part(
            r"(?P<part>training|test)/images/(?P<name>(?P<id>\d\d)_(training|test))\.tif",
            {"vessels": Marks("{part}/1st_manual/{id}_manual1.gif")},
            "fundus",
            "2D",
            split="{part}",
            labelled=False,
        ),
    ),
)
CHASE = Distribution(
    "chase-db1",
    "CHASE_DB1",
    "https://blogs.kingston.ac.uk/retinal/chasedb1",
    (Part(r"(?P<name>Image_\d\d[LR])\.jpg", {"vessels": Marks("{name}_1stHO.png")}, "fundus", "2D"),),
)
MONTGOMERY = Distribution(
    "montgomery",
    "Montgomery County chest X-rays",
    "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Montgomery-County-CXR-Set",
    (
        Part(
            r"CXR_png/(?P<name>MCUCXR_\d{4}_[01])\.png",
            {
                "left lung": Marks("ManualMask/leftMask/{name}.png"),
                "right lung": Marks("ManualMask/rightMask/{name}.png"),
            },
            "X-ray",
            "2D",
        ),
    ),
)
NEURIPS_CELLS = Distribution(
    "neurips-cells",
    "NeurIPS 2022 cell segmentation",
    "https://neurips22-cellseg.grand-challenge.org (images/cell_00001.bmp, labels/cell_00001_label.tiff)",
    (
        Part(
            r"images/(?P<name>cell_\d{5})\.(bmp|png|tif|tiff|jpg|jpeg)",
            ("labels/{name}_label.tiff", cells.targets),
            "microscopy",
            "2D",
        ),
    ),
)
TOTALSEGMENTATOR = Distribution(
    "totalsegmentator",
    "TotalSegmentator",
    "https://zenodo.org/records/10047292 (CT) and https://zenodo.org/records/14710732 (MR)",
    (
        Part(
            r"(?P<name>s\d{4})/(?P<scan>ct|mri)\.nii\.gz",
            ("{name}/segmentations/*.nii.gz", totalsegmentator.targets),
            totalsegmentator.modality,
        ),
    ),
    splits=("meta.csv",),
)
ENDOVIS17 = Distribution(
    "endovis17",
    "EndoVis 2017 robotic instruments",
    "https://endovissub2017-roboticinstrumentsegmentation.grand-challenge.org; folders as in "
    "https://github.com/ternaus/robot-surgery-segmentation, README.md",
    (
        Part(
            r"(?P<name>instrument_dataset_\d+)/left_frames",
            ("{name}/ground_truth/*_labels", endovis.instruments),
            "ES",
            "video",
            labelled=False,
        ),
    ),
)
ENDOVIS18 = Distribution(
    "endovis18",
    "EndoVis 2018 robotic scenes",
    "https://endovissub2018-roboticscenesegmentation.grand-challenge.org, arXiv 2001.11190",
    (Part(r"(?P<name>seq_\d+)/left_frames", ("{name}/labels", endovis.scene), "ES", "video", labelled=False),),
)

PUBLISHED = {
    one.name: one
    for one in (
        AMOS22, FLARE22, TOTALSEGMENTATOR, ACDC, CAMUS, BUSI, ENDOVIS17, ENDOVIS18, KVASIR, ISIC, DRIVE, CHASE,
        MONTGOMERY, NEURIPS_CELLS,
    )
}  # fmt: skip
