"""docs/reproduce.md from beginning to end at small size: data made, checked, learnt from, measured, put in a table.

Real pixels of the shared data, arranged as published data sets are distributed. `make soak` runs it; results stay in
build/dry-run to be looked at, and docs/reproduce.md tells the figures.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT.parent / "shared" / "training-data"
VOLUMES = ROOT.parent / "shared" / "data"
OUT = ROOT / "build" / "dry-run"
STEPS = 60
VIDEO_FRAMES = 12
CELLS = 4

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not COLLECTION.is_dir(), reason="the collection of labelled images is not in ../shared"),
]


def run(*arguments, code=0):
    """The command, as a user runs it; its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "biosam2.cli", *map(str, arguments)],
        cwd=OUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def busi(folder):
    """Ultrasound of the breast under BUSI's names, with split files."""
    top = folder / "Dataset_BUSI_with_GT" / "malignant"
    top.mkdir(parents=True)
    images = sorted(p for p in (COLLECTION / "us_breast_brest_usg").glob("*.png") if "_label" not in p.stem)
    for number, path in enumerate(images, start=1):
        Image.open(path).convert("RGB").save(top / f"malignant ({number}).png")
        label = np.asarray(Image.open(path.with_name(f"{path.stem}_label.png"))) > 0
        Image.fromarray((255 * label).astype(np.uint8)).save(top / f"malignant ({number})_mask.png")
    names = [f"malignant/malignant ({number})" for number in range(1, len(images) + 1)]
    (folder / "BUSI_train.txt").write_text("\n".join(names[:-8]))
    (folder / "BUSI_val.txt").write_text("\n".join(names[-8:]))


def hippocampus(folder, count=14):
    """MR of the hippocampus as nnU-Net keeps it, with a file of two folds."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    labels = sorted((COLLECTION / "mr_hippocampus_msd").glob("*_label.nii.gz"))[:count]
    names = [path.name.removesuffix("_label.nii.gz") for path in labels]
    for name, path in zip(names, labels, strict=True):
        shutil.copy(path.with_name(f"{name}.nii.gz"), folder / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(path, folder / "labelsTr" / f"{name}.nii.gz")
    facts = {
        "name": "Hippocampus",
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(facts))
    folds = [{"train": names[:-6], "val": names[-6:]}, {"train": names[6:], "val": names[:6]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))


def cells(folder):
    """The time lapse as DAVIS keeps videos, with the largest cells of its first frame."""
    source = COLLECTION / "video_phase_t98g_usiigaci"
    frames = sorted((source / "t98g_timelapse").glob("*.png"))[:VIDEO_FRAMES]
    labels = [np.asarray(Image.open(source / "t98g_timelapse_label" / frame.name)) for frame in frames]
    counts = np.bincount(labels[0].ravel())
    counts[0] = 0
    chosen = np.argsort(-counts)[:CELLS]
    for name, first in (("lapse-a", 0), ("lapse-b", VIDEO_FRAMES // 2)):
        images, masks = folder / "JPEGImages" / name, folder / "Annotations" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for n in range(first, first + VIDEO_FRAMES // 2):
            Image.open(frames[n]).convert("L").save(images / f"{n:05}.jpg", quality=95)
            numbered = sum(k * (labels[n] == value) for k, value in enumerate(chosen, start=1))
            Image.fromarray(np.asarray(numbered).astype(np.uint8)).save(masks / f"{n:05}.png")
    lists = folder / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("lapse-a\n")
    (lists / "val.txt").write_text("lapse-b\n")


def test_the_whole_of_it():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    # 1. Three data sets, as they are distributed, become manifests; split files say what is learnt from.
    busi(OUT / "busi")
    hippocampus(OUT / "hippocampus")
    cells(OUT / "cells")
    assert "splits: train 11, val 8" in run("data", "make", "busi", "-o", "busi.csv")
    made = run(
        "data", "make", "hippocampus", "-o", "hippocampus.csv", "--splits", "hippocampus/splits_final.json", "--fold", 1
    )
    assert "splits: train 8, val 6" in made
    assert "splits: train 1, val 1" in run("data", "make", "cells", "-o", "cells.csv", "--modality", "microscopy")
    manifests = ("busi.csv", "hippocampus.csv", "cells.csv")
    for manifest in manifests:
        assert "can be used" in run("data", "check", manifest)
    # 2. One model learns from all three.
    data = [word for manifest in manifests for word in ("--data", manifest)]
    run(
        "train", "finetune", *data, "--from", "nano", "--recipe", "biosam2", "-o", "run", "--name", "tuned", "--steps",
        STEPS, "--batch", 4, "--learning-rate", 1e-4, "--warm-up", 10, "--validate-every", STEPS, "--workers", 1,
        "--seed", 1,
    )  # fmt: skip
    card = (OUT / "run" / "tuned.md").read_text()
    assert "tuned" in card
    # 3. Both models are measured on what neither learnt from, and on the shared volumes, and stand side by side.
    evaluate = ("evaluate", *data, "--split", "val", "-o", "result", "--protocol", "biosam2", "--table", "-q")
    run(*evaluate, "--model", "nano", "--model", "run/tuned.safetensors")
    check_table(OUT / "result", models=("nano", "tuned"))
    if VOLUMES.is_dir():
        shared = ROOT / "BioSAM2Slicer" / "biosam2" / "evaluation" / "shared-cases.csv"
        run(
            "evaluate", "--data", shared, "--root", VOLUMES, "--only", "mr-breast-lesion", "-o", "shared", "--protocol",
            "biosam2", "--table", "-q", "--model", "nano", "--model", "run/tuned.safetensors",
        )  # fmt: skip
        assert "| – | MR | lesion | volume | box | 1 |" in (OUT / "shared" / "table.md").read_text()


def check_table(folder, models):
    """The table holds every pipeline, and the means of the results."""
    results = list(csv.DictReader((folder / "results.csv").open()))
    table = list(csv.DictReader((folder / "table.csv").open()))
    assert {(row["pipeline"], row["prompt"]) for row in table} == {
        (pipeline, prompt) for pipeline in ("image", "volume", "video") for prompt in ("click1", "box")
    }
    assert {row["model"] for row in table} == set(models)
    for row in table:
        if row["target"] == "all targets":
            continue
        keys = ("dataset", "modality", "target", "pipeline", "prompt", "model")
        own = [float(one["dice"]) for one in results if all(one[key] == row[key] for key in keys)]
        assert float(row["dice"]) == pytest.approx(np.mean(own), abs=1e-5)
        assert 0 <= float(row["dice"]) <= 1
        if row["model"] == models[1] and int(row["cases"]) > 1:
            assert 0 < float(row["p"]) <= 1
    tex = (folder / "table.tex").read_text()
    lines = (folder / "table.md").read_text().splitlines()
    assert tex.count(r"\\") == len(lines) - 1
    assert re.search("Protocol biosam2", (folder / "report.html").read_text())
