"""The commands doing what they are for."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import av
import biosam2 as package
import numpy as np
import pydicom
import pytest
from biosam2.io import read_labelmap, read_segmentation, read_video, same_grid
from biosam2.volume import Volume
from cli_helpers import Biosam2
from PIL import Image
from pydicom.data import get_testdata_file

NET = ("--model", "seer.safetensors")


def test_segment_writes_segments_montage_and_record(biosam2: Biosam2, folder: Path, ball: Volume) -> None:
    ended = biosam2(
        *("segment", "ball.nrrd", "-o", "out.seg.nrrd", *NET, "--montage", "look.png", "--record", "run.json"),
        *("--segment", "ball", "--box", "15,11,6:33,29,6", "--point", "24,20,6", "--point", "2,2,6,-"),
        *("--segment", "half", "--mask", "ball-mask.nrrd=2@6", "--first", "3", "--last", "9"),
    )
    assert ended.code == 0, ended.err
    assert "14/14 slices" in ended.err
    assert "wrote out.seg.nrrd" in ended.out

    grid, masks = read_segmentation(folder / "out.seg.nrrd")
    assert list(masks) == ["ball", "half"]
    assert same_grid(ball, grid)
    drawn = read_labelmap(folder / "ball-mask.nrrd").array[6] == 2
    assert np.array_equal(masks["half"][6], drawn), "the user's own slice is kept"
    assert not masks["ball"][[0, 1, 2, 10, 11]].any(), "nothing outside --first and --last"
    with Image.open(folder / "look.png") as montage:
        assert montage.width > 500

    record = json.loads((folder / "run.json").read_text())
    assert record["input"]["path"] == "ball.nrrd"
    kinds = [e.get("prompt", {}).get("kind") for e in record["session"]["journal"]]
    assert kinds == ["box", "point", "point", "mask", None]
    assert str(folder) not in (folder / "run.json").read_text(), "no path but those that were typed"


def test_replay_gives_the_same_mask(biosam2: Biosam2, folder: Path) -> None:
    arguments = ("--point", "24,20,6", "--first", "4", "--last", "8", *NET, "--record", "run.json", "-q")
    assert biosam2("segment", "ball.nrrd", "-o", "first.nii.gz", *arguments).err == ""

    ended = biosam2("replay", "run.json", "-o", "again.nii.gz", "--montage", "again.png")
    assert ended.code == 0, ended.err
    assert "the same mask as recorded, bit for bit" in ended.out
    first, again = (read_labelmap(folder / name) for name in ("first.nii.gz", "again.nii.gz"))
    assert first.array.any()
    assert np.array_equal(first.array, again.array)

    (folder / "moved").mkdir()
    (folder / "run.json").rename(folder / "moved" / "run.json")
    (folder / "ball.nrrd").rename(folder / "moved" / "ball.nrrd")
    assert biosam2.here("replay", "moved/run.json").code == 0, "the input is found beside the record"


def test_millimetres_mean_the_same_as_voxels(biosam2: Biosam2, folder: Path, ball: Volume) -> None:
    def numbers(point: np.ndarray) -> str:
        return ",".join(f"{v:.4f}" for v in point)

    points = [(24, 20, 6), (2, 3, 6)]
    corners = [(15, 11, 6), (33, 29, 6)]
    ras = [ball.lps_from_ijk(p) * (-1, -1, 1) for p in points]
    lps = [ball.lps_from_ijk(c) for c in corners]
    common = (*NET, "--first", "5", "--last", "7", "-q")
    voxels = biosam2.here(
        *("segment", "ball.nrrd", "-o", "voxels.nrrd", *common),
        *("--box", "15,11,6:33,29,6", "--point", "24,20,6", "--point", "2,3,6,-"),
    )
    millimetres = biosam2.here(
        *("segment", "ball.nrrd", "-o", "mm.nrrd", *common),
        *("--lps", "--box", ":".join(numbers(c) for c in lps)),
        *("--ras", f"--point={numbers(ras[0])}", "--point", f"{numbers(ras[1])},-"),
    )
    assert (voxels.code, millimetres.code) == (0, 0), voxels.err + millimetres.err
    first, second = (read_labelmap(folder / f"{name}.nrrd").array for name in ("voxels", "mm"))
    assert first.any()
    assert np.mean(first == second) > 0.999


def test_a_segment_starts_from_a_mask(biosam2: Biosam2, folder: Path) -> None:
    ended = biosam2.here(
        *("segment", "ball.nrrd", "-o", "out.seg.nrrd", *NET, "-q", "--first", "6", "--last", "6"),
        *("--segment", "kept", "--start", "ball-mask.nrrd=1"),
        *("--segment", "corrected", "--start", "ball-mask.nrrd", "--point", "24,20,6"),
    )
    assert ended.code == 0, ended.err
    labels = read_labelmap(folder / "ball-mask.nrrd").array
    _, masks = read_segmentation(folder / "out.seg.nrrd")
    assert np.array_equal(masks["kept"], labels == 1)
    assert np.array_equal(masks["corrected"][5], labels[5] > 0)


def test_exact_leaves_out_everything_approximate(biosam2: Biosam2, folder: Path) -> None:
    common = ("segment", "ball.nrrd", "-o", "out.nrrd", *NET, "-q", "--point", "24,20,6", "--first", "6", "--last", "6")
    sessions = []
    for option in ((), ("--exact",), ("--crop", "none")):
        assert biosam2.here(*common, *option, "--record", "run.json").code == 0
        sessions.append(json.loads((folder / "run.json").read_text())["session"])
    assert [s["crop"] for s in sessions] == ["auto", None, None]
    assert sessions[1]["precision"] == "float32"
    assert [s["policy"] for s in sessions] == ["path", "sam2", "path"]


@pytest.mark.parametrize("axis", ["i", "coronal"])
def test_other_axes(biosam2: Biosam2, folder: Path, axis: str) -> None:
    ended = biosam2.here(
        *("segment", "ball.nrrd", "-o", "out.mha", *NET, "-q", "--axis", axis, "--point", "24,20,6"),
        *("--direction", "forward", "--first", "18", "--last", "26"),
    )
    assert ended.code == 0, ended.err
    along = {"i": 2, "coronal": 1}[axis]
    marked = np.flatnonzero(read_labelmap(folder / "out.mha").array.any(axis=tuple({0, 1, 2} - {along})))
    assert marked.min() >= {"i": 24, "coronal": 20}[axis]
    assert marked.max() <= 26


def test_image_gives_a_white_mask(biosam2: Biosam2, folder: Path) -> None:
    ended = biosam2.here(
        "image", "picture.png", "-o", "mask.png", "--box", "15,11:33,29", "--montage", "look.png", *NET
    )
    assert ended.code == 0, ended.err
    with Image.open(folder / "mask.png") as mask, Image.open(folder / "picture.png") as picture:
        assert mask.size == picture.size
        assert set(np.unique(np.asarray(mask))) == {0, 255}
    assert (folder / "look.png").is_file()


def test_image_numbers_several_segments(biosam2: Biosam2, folder: Path) -> None:
    segments = ("--segment", "a", "--point", "24,20", "--segment", "b", "--point", "5,5", "--point", "30,30,-")
    ended = biosam2.here("image", "picture.png", "-o", "mask.png", *segments, *NET, "--record", "run.json")
    assert ended.code == 0, ended.err
    with Image.open(folder / "mask.png") as mask:
        assert np.asarray(mask).max() == 2
    assert "bit for bit" in biosam2.here("replay", "run.json").out


def test_video_gives_a_mask_for_each_frame_and_a_film(biosam2: Biosam2, folder: Path) -> None:
    ended = biosam2.here(
        *("video", "frames", "-o", "masks", "--segment", "ball", "--point", "24,20,1", *NET),
        *("--montage", "look.png", "--record", "run.json"),
    )
    assert ended.code == 0, ended.err
    assert "4/4 frames" in ended.err
    masks = sorted(path.name for path in (folder / "masks").glob("*.png"))
    assert masks == [f"frame{n:05}.png" for n in range(4)]
    with Image.open(folder / "masks" / masks[1]) as mask:
        assert mask.size == (48, 40)
        assert set(np.unique(np.asarray(mask))) == {0, 1}
    with av.open(folder / "masks" / "overlay.mp4") as film:
        assert sum(1 for _ in film.decode(video=0)) == 4
    again = biosam2.here("replay", "run.json", "-o", "again")
    assert "bit for bit" in again.out
    assert (folder / "again" / masks[2]).read_bytes() == (folder / "masks" / masks[2]).read_bytes()


def test_video_gives_a_sequence_its_areas_and_a_film(biosam2: Biosam2, folder: Path) -> None:
    ended = biosam2.here(
        *("video", "frames", "-o", "ball.seq.nrrd", "--areas", "ball.csv", "--overlay", "ball.mp4"),
        *("--segment", "ball", "--point", "24,20,1", "--record", "run.json", *NET),
    )
    assert ended.code == 0, ended.err
    assert [line for line in ended.out.splitlines() if line.startswith("wrote")] == [
        f"wrote {name}" for name in ("ball.seq.nrrd", "ball.csv", "ball.mp4", "run.json")
    ]
    masks = read_video(folder / "ball.seq.nrrd")
    rows = list(csv.DictReader((folder / "ball.csv").open()))
    assert [int(row["pixels"]) for row in rows] == np.count_nonzero(masks.array, axis=(1, 2)).tolist()
    assert {(row["segment"], row["seconds"], row["mm2"]) for row in rows} == {("ball", "", "")}
    assert read_video(folder / "ball.mp4").shape == masks.shape
    outputs = [output["path"] for output in json.loads((folder / "run.json").read_text())["outputs"]]
    assert outputs == ["ball.seq.nrrd", "ball.csv", "ball.mp4"]
    refused = biosam2.here("segment", "ball.nrrd", "-o", "ball.seq.nrrd", "--point", "24,20,1", *NET)
    assert refused.code == 2
    assert "its extension is none of" in refused.last_line
    refused = biosam2.here("video", "frames", "-o", "m.nrrd", "--areas", "a.txt", "--point", "24,20,1", *NET)
    assert "its name must end in .csv" in refused.last_line


def test_one_slice_of_a_sequence_of_volumes_is_followed(biosam2: Biosam2, folder: Path, ball: Volume) -> None:
    grey = np.clip(ball.array[4:8] / 2 + 60, 0, 255).astype(np.uint8)  # (K, J, I), the same in each of three frames
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\nsizes: 48 40 4 3\n"
        "space directions: (1,0,0) (0,1,0) (0,0,2) none\nkinds: domain domain domain list\nencoding: raw\n"
        "space origin: (0,0,10)\n\n"
    )
    (folder / "heart.seq.nrrd").write_bytes(header.encode() + np.stack([grey] * 3).tobytes())
    run = ("video", "heart.seq.nrrd", "-o", "ball.seq.nrrd", "--point", "24,20,1", *NET, "-q")
    refused = biosam2.here(*run)
    assert refused.code == 2
    assert "choose the one to follow (--slice, 0 to 3)" in refused.last_line
    ended = biosam2.here(*run, "--slice", "2", "--record", "run.json")
    assert ended.code == 0, ended.err
    masks = read_video(folder / "ball.seq.nrrd")
    assert masks.shape == (3, 40, 48)
    assert masks.origin == (0, 0, 14)
    assert "bit for bit" in biosam2.here("replay", "run.json").out


def test_a_dicom_folder_gives_a_dicom_segmentation(biosam2: Biosam2, folder: Path) -> None:
    series = get_testdata_file("dicomdirtests/98892001/CT5N/2062", download=False)
    if series is None:
        pytest.skip("this pydicom does not carry its DICOMDIR test files")
    ended = biosam2.here("segment", Path(series).parent, "-o", "seg.dcm", "--point", "10,10,0", *NET, "-q")
    assert ended.code == 0, ended.err
    written = pydicom.dcmread(folder / "seg.dcm")
    assert written.Modality == "SEG"
    assert written.PatientID == pydicom.dcmread(series).PatientID


def test_ones_own_model_from_adding_to_removing(biosam2: Biosam2, folder: Path) -> None:
    assert biosam2.here("models", "add", "seer.safetensors", "--config", "seer.yaml", "--name", "mine").code == 0
    assert "mine" in biosam2.here("models", "list", "-q").out.split()
    row = next(line for line in biosam2.here("models", "list").out.splitlines() if line.startswith("mine"))
    assert row.split()[1:3] == ["yes", "128"]
    assert "mine: good" in biosam2.here("models", "verify", "mine").out
    ended = biosam2.here("image", "picture.png", "-o", "mask.png", "--point", "24,20", "--model", "mine", "-q")
    assert ended.code == 0, ended.err
    assert biosam2.here("models", "remove", "mine").code == 0
    assert "mine" not in biosam2.here("models", "list", "-q").out.split()


def test_the_list_of_models_names_the_one_to_begin_with(biosam2: Biosam2) -> None:
    ended = biosam2.here("models", "list", "--for", "mri")
    assert ended.out.splitlines()[-1] == (
        "for MR on a GPU: medsam2, 156 MB, CC-BY-SA-4.0, research and education only; "
        "without a network or on a CPU: nano"
    )
    ended = biosam2.here("models", "list", "--for", "US", "--target", "the heart")
    assert ended.out.splitlines()[-1].startswith("for US the heart on a GPU: medsam2-us-heart, 156 MB")


def test_info_says_which_device_and_why(biosam2: Biosam2) -> None:
    content = json.loads(biosam2("info", "--json").out)
    assert content["versions"]["biosam2"] == package.__version__
    assert content["devices"]["device"] in ("cpu", "mps", "cuda")
    assert content["devices"]["reason"]
    assert content["devices"]["reason"] in biosam2.here("info").out


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["segment", "--help"], ["models", "list"], ["models", "list", "--for", "MR"]]
)
def test_light_commands_load_no_torch(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from biosam2.cli.app import cli\n"
        "from biosam2.cli.outcome import run\n"
        f"code = run(cli, {arguments!r})\n"
        "heavy = {'torch', 'SimpleITK', 'av', 'highdicom', 'omegaconf', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout


def test_a_reader_that_goes_away_is_no_fault(biosam2: Biosam2) -> None:
    with biosam2.start("models", "list") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 141
