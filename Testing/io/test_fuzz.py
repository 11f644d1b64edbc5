"""Damaged files of every format are read or refused in one line: no traceback, no hang, no crash."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2.io import write_segmentation
from biosam2.volume import Volume
from dicom_helpers import SHIPPED, write_enhanced, write_series
from io_helpers import two_boxes
from PIL import Image

WORKER = Path(__file__).with_name("fuzz_worker.py")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Small whole files of every format that is read."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    smooth = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(0, 1000, (6, 20, 24))), 1.5)
    voxels = sitk.Cast(smooth, sitk.sitkInt16)
    array = sitk.GetArrayFromImage(voxels)
    for name in ("plain.nrrd", "plain.nii", "plain.mha", "plain.vtk"):
        sitk.WriteImage(voxels, str(folder / name))
    for name in ("packed.nrrd", "packed.nii.gz", "packed.mha"):
        sitk.WriteImage(voxels, str(folder / name), useCompression=True)
    for extension in ("mhd", "nhdr", "hdr"):
        (folder / extension).mkdir()
        sitk.WriteImage(voxels, str(folder / extension / f"main.{extension}"), useCompression=extension != "hdr")
    rgb = rng.integers(0, 256, (4, 12, 10, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(folder / "colour.mha"))
    overlapping = two_boxes(Volume(array))
    overlapping.masks["both"] = np.ones(array.shape, bool)
    write_segmentation(folder / "overlap.seg.nrrd", overlapping)
    write_segmentation(folder / "video-masks.seq.nrrd", two_boxes(Volume(array, metadata={"fps": 25.0})))

    grey = Image.fromarray((array[0] % 256).astype(np.uint8))
    for extension in ("png", "jpg", "tif", "bmp"):
        Image.fromarray(rgb[0]).save(folder / f"image-rgb.{extension}")
        grey.save(folder / f"image-grey.{extension}")
    Image.fromarray(array[0].astype(np.uint16)).save(folder / "image-16.png")
    grey.convert("P").save(folder / "image-palette.png")
    grey.save(folder / "stack.tif", save_all=True, append_images=[grey, grey], compression="tiff_lzw")
    (folder / "video-frames").mkdir()
    for number in range(3):
        grey.save(folder / "video-frames" / f"f{number}.png")
    write_films(folder)

    for name in ("CT_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "examples_palette"):
        shutil.copy(SHIPPED / f"{name}.dcm", folder)
    shutil.copy(SHIPPED / "SC_rgb_jpeg_dcmtk.dcm", folder / "image-jpeg.dcm")
    shutil.copy(SHIPPED / "examples_ybr_color.dcm", folder / "video-ybr.dcm")
    write_enhanced(folder / "enhanced.dcm", Volume(array.astype(np.uint16)))
    write_series(folder / "series", Volume(array[:4]))
    return folder


def write_films(folder: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV, which reads videos, is not installed")
    for name, codec, pix_fmt in (
        ("video.mp4", "mpeg4", "yuv420p"),
        ("video-h264.mp4", "libx264", "yuv420p"),
        ("video.avi", "mjpeg", "yuvj420p"),
        ("video.mkv", "ffv1", "bgr0"),
    ):
        with av.open(str(folder / name), "w") as film:
            stream = film.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
            for shade in range(0, 200, 20):
                frame = np.full((48, 64, 3), shade, np.uint8)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            film.mux(stream.encode())


def run(corpus: Path, scratch: Path, n_mutations: int) -> Counter:
    """Try mutations 0 to n, going on after a crash; give how many were read and refused.

    Fails with the numbers of those that ended otherwise.
    """
    outcomes: Counter = Counter()
    faults = []
    first = 0
    while first < n_mutations:
        command = [sys.executable, str(WORKER), str(corpus), str(scratch), str(first), str(n_mutations)]
        worker = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        lines = worker.stdout.splitlines()
        for line in lines:
            if line.startswith("done"):
                outcomes[line.split()[2]] += 1
                if " FAULT " in line:
                    faults.append(line)
        first = int(lines[-1].split()[1]) + 1 if lines else n_mutations
        if worker.returncode:
            faults.append(f"exit code {worker.returncode} after {lines[-1:]}: {worker.stderr[-2000:]}")
            for left in scratch.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        elif worker.stderr.strip():
            faults.append(f"printed: {worker.stderr[:2000]}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    return outcomes


def test_every_file_of_the_corpus_is_good(corpus):
    from fuzz_worker import reader_of

    for entry in sorted(corpus.iterdir()):
        target = next((f for f in entry.iterdir() if f.stem == "main"), entry) if entry.is_dir() else entry
        assert reader_of(entry.name)(target) is not None


def test_damaged_files(corpus, tmp_path):
    n_mutations = 2 * len(list(corpus.iterdir()))
    outcomes = run(corpus, tmp_path, n_mutations)
    assert outcomes.total() == n_mutations
    assert outcomes["refused"] > n_mutations // 4


@pytest.mark.soak
def test_a_thousand_damaged_files(corpus, tmp_path):
    outcomes = run(corpus, tmp_path, 1000)
    assert outcomes.total() == 1000
