"""What the user can mend: exit code 2, one line that says what and how, and nothing left behind."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cli_helpers import Biosam2, Ended, files_below

POINT = ("--point", "24,20,6")
NET = ("--model", "seer.safetensors")


def assert_mendable(ended: Ended, says: str) -> None:
    """Exit code 2 and one line."""
    assert ended.code == 2, ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert ended.err.startswith("biosam2: error: ")
    assert says in ended.err
    assert ended.out == ""


@pytest.fixture
def bad_files(folder: Path) -> Path:
    """Inputs that cannot be segmented, in the user's folder."""
    whole = (folder / "ball.nrrd").read_bytes()
    (folder / "cut.nrrd").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.nii.gz").write_bytes(np.random.default_rng(0).bytes(3000))
    (folder / "empty.nrrd").touch()
    (folder / "nothing").mkdir()
    (folder / "text.txt").write_text("hello")
    sitk.WriteImage(sitk.Image([8, 8, 8, 3], sitk.sitkInt16), folder / "four.nii.gz")
    sitk.WriteImage(sitk.Image([9, 9, 9], sitk.sitkUInt8), folder / "other-grid.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 5, 6), np.nan, np.float32)), folder / "nan.nrrd")
    (folder / "bad.json").write_text("{")
    (folder / "other.json").write_text('{"format": "something else"}')
    (folder / "seer-256.yaml").write_text((folder / "seer.yaml").read_text().replace("d_model: 128", "d_model: 144"))
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("segment",), "nothing says what to segment"),
        (("segment", *POINT), "give IMAGE and -o OUTPUT"),
        (("sgement",), "No such command"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--wobble"), "No such option"),
        (("segment", "ball.nrrd", "-o", "t.nrrd"), "nothing says what to segment"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--start", "ball-mask.nrrd"), "nothing says what to segment"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--segment", "b"), "--segment b has no prompt"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--segment", " ", *POINT), "--segment needs a name"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--point", "1,2"), "'1,2' is not I,J,K"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--point", "24,20,12"), "k 0 to 11"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--point=-1,20,6"), "outside the image"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--ras", "--point", "900,0,0"), "mm (RAS) lies outside"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--box", "1,1,1:2,2,40"), "outside the image"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--mask", "missing.nrrd@6"), "there is no file missing.nrrd"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--mask", "other-grid.nrrd@6"), "does not lie on the image's voxels"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--mask", "ball-mask.nrrd@0"), "marks nothing on slice 0"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--mask", "ball-mask.nrrd@50"), "there is no such slice"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", "--mask", "ball-mask.nrrd=9@6"), "with label 9"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--axis", "z"), "'z' is not one of"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--window", "soft"), "abdomen"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--window", "40,0"), "must be positive"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--first", "7", "--last", "5"), "--first 7 lies after"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--last", "12"), "slices are 0 to 11"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--exact", "--crop", "auto"), "exclude each other"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--exact", "--policy", "quality"), "exclude each other"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--exact", "--merge", "progressive"), "exclude each other"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--capacity", "16"), "only the policy dissimilar"),
        (("segment", "ball.nrrd", "-o", "t.jpg", *POINT), "cannot write t.jpg"),
        (("segment", "ball.nrrd", "-o", "no/t.nrrd", *POINT), "there is no folder"),
        (("segment", "ball.nrrd", "-o", "nothing", *POINT), "cannot write nothing"),
        (("segment", "ball.nrrd", "-o", "./ball.nrrd", *POINT), "it is an input"),
        (("video", "frames", "-o", "masks.png", *POINT), "cannot write masks.png"),
        (("video", "frames", "-o", "masks.v2", *POINT), "cannot write masks.v2"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--montage", "m.jpg"), "must end in .png"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--record", "r.txt"), "must end in .json"),
        (("segment", "ball.nrrd", "-o", "t.dcm", *POINT, *NET), "DICOM"),
        (("segment", "missing.nrrd", "-o", "t.nrrd", *POINT), "there is no file missing.nrrd"),
        (("segment", "cut.nrrd", "-o", "t.nrrd", *POINT), "cannot read cut.nrrd"),
        (("segment", "noise.nii.gz", "-o", "t.nrrd", *POINT), "cannot read noise.nii.gz"),
        (("segment", "empty.nrrd", "-o", "t.nrrd", *POINT), "0 bytes"),
        (("segment", "nothing", "-o", "t.nrrd", *POINT), "is empty"),
        (("segment", "text.txt", "-o", "t.nrrd", *POINT), "text.txt"),
        (("segment", "four.nii.gz", "-o", "t.nrrd", *POINT), "four.nii.gz"),
        (("segment", "nan.nrrd", "-o", "t.nrrd", "--point", "1,1,1"), "nan.nrrd"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--model", "huge"), "there is no model 'huge'"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--model", "no.pt"), "there is no checkpoint no.pt"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--model", "sam2.1-tiny"), "models download sam2.1-tiny"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, *NET, "--config", "seer-256.yaml"), "seer"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, *NET, "--config", "sam2.1_hiera_t"), "seer.safetensors"),
        (("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, *NET, "--device", "abacus"), "there is no device"),
        (("image", "picture.png", "-o", "t.png", "--point", "24,20,6"), "is not I,J"),
        (("image", "picture.png", "-o", "t.png", "--point", "48,20"), "i 0 to 47, j 0 to 39"),
        (("image", "ball.nrrd", "-o", "t.png", "--point", "1,1"), "biosam2 segment"),
        (("video", "frames", "-o", "frames", *POINT), "it is an input"),
        (("video", "frames", "-o", "full", "--point", "1,1,1"), "is not empty"),
        (("video", "nothing", "-o", "t", "--point", "1,1,1"), "is empty"),
        (("replay", "bad.json"), "not JSON"),
        (("replay", "other.json"), "not a record"),
        (("replay", "missing.json"), "missing.json"),
        (("models", "download", "huge"), "there is no model 'huge'"),
        (("models", "list", "--target", "liver"), "--target goes with --for"),
        (("models", "list", "-q", "--for", "CT"), "--quiet lists names only"),
        (("models", "check", "nano"), "models verify nano"),
        (("models", "remove", "nano"), "part of the package"),
        (("models", "verify", "sam2.1-tiny"), "not downloaded"),
        (("models", "add", "seer.safetensors", "--config", "sam2.1_hiera_t"), "seer.safetensors"),
        (("models", "add", "missing.pt", "--config", "nano"), "missing.pt"),
    ],
)
def test_one_line_and_nothing_left(biosam2: Biosam2, bad_files: Path, arguments: tuple[str, ...], says: str) -> None:
    (bad_files / "full").mkdir()
    (bad_files / "full" / "something").touch()
    before = files_below(bad_files)
    assert_mendable(biosam2.here(*arguments), says)
    assert files_below(bad_files) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(biosam2: Biosam2, folder: Path) -> None:
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    ended = biosam2.here("segment", "ball.nrrd", "-o", "locked/t.nrrd", *POINT)
    assert_mendable(ended, "no permission")


@pytest.mark.parametrize("speed", ["", "-disk"])
def test_a_file_that_outgrows_the_disk(biosam2: Biosam2, folder: Path, checkpoint: Path, speed: str) -> None:
    """A write that fails in the middle, as on a full disk; the earlier file stays as it was."""
    resource = pytest.importorskip("resource", reason="only Unix limits files")
    (folder / "t.nii").write_bytes(b"an earlier result")
    before = files_below(folder)
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}));"
    arguments = ["segment", "ball.nrrd", "-o", "t.nii", *POINT, *NET, "-q", "--first", "6", "--last", "6"]
    arguments.append(f"--speed={speed}")
    # The measuring of coverage writes files too, and would meet the limit.
    environment = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    done = subprocess.run(
        [sys.executable, "-c", f"{script} from biosam2.cli import main; main({arguments!r})"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    warned, error = done.stderr.splitlines(keepends=True)[:-1], done.stderr.splitlines(keepends=True)[-1]
    assert_mendable(Ended(done.returncode, done.stdout, error), "cannot write t.nii")
    # The temporary file of the logits meets the limit first, and memory takes its place.
    assert [line.partition("(")[0] for line in warned] == [
        "biosam2: warning: results are kept in memory, because no temporary file can be written "
    ] * (speed != "-disk")
    assert files_below(folder) == before
    assert (folder / "t.nii").read_bytes() == b"an earlier result"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("streams", [("stdout",), ("stdout", "stderr")])
def test_standard_output_on_a_full_disk(biosam2: Biosam2, unbuffered: str, streams: tuple[str, ...]) -> None:
    """Python's buffer fails at another moment than the write itself; the exit code is the same."""
    with open("/dev/full", "w") as full:
        ended = biosam2("models", "list", PYTHONUNBUFFERED=unbuffered, **dict.fromkeys(streams, full))
    assert ended.code == 2
    assert ended.err == ("" if "stderr" in streams else "biosam2: error: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_standard_streams(closing: str) -> None:
    command = f'exec "{sys.executable}" -m biosam2.cli models list {closing}'
    assert subprocess.run(command, shell=True, capture_output=True, check=False).returncode == 0


def test_replay_refuses_another_input_or_model(biosam2: Biosam2, folder: Path) -> None:
    run = ("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, "--first", "6", "--last", "6", *NET, "-q")
    assert biosam2.here(*run, "--record", "run.json").code == 0
    record = json.loads((folder / "run.json").read_text())

    def replayed(**changes: object) -> Ended:
        (folder / "changed.json").write_text(json.dumps({**record, **changes}))
        return biosam2.here("replay", "changed.json", "-q")

    assert replayed().code == 0
    assert_mendable(replayed(input={**record["input"], "sha256": "0" * 64}), "not the input of the record")
    assert_mendable(replayed(input={**record["input"], "path": "gone.nrrd"}), "--input")
    assert_mendable(replayed(model={**record["model"], "sha256": "0" * 64}), "not that of the record")
    assert_mendable(replayed(model=None), "model.name")
    assert_mendable(replayed(session={**record["session"], "journal": [{"op": "dance"}]}), "journal")
    assert_mendable(replayed(session={**record["session"], "journal": [1]}), "journal")
    ended = replayed(labelmap_sha256="0" * 64, versions={**record["versions"], "torch": "1.0"})
    assert ended.code == 2
    assert "torch 1.0 then" in ended.last_line


def test_a_fault_of_ours_shows_its_traceback(biosam2: Biosam2, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from biosam2.cli import job

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(job, "locate", broken)
    ended = biosam2.here("segment", "ball.nrrd", "-o", "t.nrrd", *POINT)
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert ended.last_line.startswith("biosam2: internal error: ZeroDivisionError")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried…"), "out of memory"),
        (PermissionError(13, "Permission denied", "secret.nrrd"), "secret.nrrd: Permission denied"),
    ],
)
def test_what_the_system_refuses(
    biosam2: Biosam2, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    from biosam2.cli import job

    def refused(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(job, "read", refused)
    assert_mendable(biosam2.here("segment", "ball.nrrd", "-o", "t.nrrd", *POINT), says)


def _places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Every place in JSON data."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from _places(inner, (*path, key))


def _damaged(record: dict, path: tuple, junk: object) -> dict:
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return copy


@pytest.mark.parametrize("number", [20, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_damaged_record_is_never_a_fault_of_ours(biosam2: Biosam2, folder: Path, number: int) -> None:
    run = ("segment", "ball.nrrd", "-o", "t.nrrd", "--first", "5", "--last", "7", *NET, "-q", "--record", "run.json")
    prompts = (*POINT, "--box", "15,11,6:33,29,6", "--segment", "b", "--mask", "ball-mask.nrrd@6")
    assert biosam2.here(*run, *prompts).code == 0
    record = json.loads((folder / "run.json").read_text())
    junk = (None, [], {}, "x", "", -1, 0.5, 1e30, True, [None], {"op": "undo"})
    cases = [(path, value) for path in _places(record) for value in junk]
    random.Random(0).shuffle(cases)
    for path, value in cases[:number]:
        (folder / "damaged.json").write_text(json.dumps(_damaged(record, path, value)))
        ended = biosam2.here("replay", "damaged.json", "-q")
        assert ended.code in (0, 2), (path, value, ended.err)
        assert "Traceback" not in ended.err, (path, value, ended.err)
