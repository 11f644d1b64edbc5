"""A result is whole under its name or not there: no permission, full disk, Ctrl-C, a writer that fails."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from biosam2.errors import OutputError
from biosam2.io import (
    atomic_folder,
    atomic_path,
    write_labelmap,
    write_overlay_video,
    write_segmentation,
    write_video_masks,
)
from biosam2.volume import Volume
from io_helpers import LABELMAPS, Segments


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")
        assert temporary.name == "x.txt"
        assert not (tmp_path / "x.txt").exists()
    assert (tmp_path / "x.txt").read_text() == "new"
    assert left_in(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    (tmp_path / "x.txt").write_text("old")
    with pytest.raises(failure):
        fail_in(atomic_path(tmp_path / "x.txt"), failure)
    assert (tmp_path / "x.txt").read_text() == "old"
    with pytest.raises(failure):
        fail_in(atomic_folder(tmp_path / "masks"), failure)
    assert left_in(tmp_path) == ["x.txt"]


def fail_in(atomic, failure) -> None:
    with atomic as temporary:
        (temporary / "one.png" if temporary.is_dir() else temporary).write_text("half")
        raise failure


def test_a_writer_that_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="left no file"), atomic_path(tmp_path / "x.txt"):
        pass
    assert left_in(tmp_path) == []


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for wrong, words in {
        tmp_path: "it is a folder",
        tmp_path / "absent" / "x": "create it first",
        tmp_path / "file" / "x": "create it first",
        tmp_path / ("x" * 300): "[Tt]oo long",
    }.items():
        with pytest.raises(OutputError, match=words), atomic_path(wrong) as temporary:
            temporary.write_text("x")
    with pytest.raises(OutputError, match="exists already"), atomic_path(tmp_path / "file", overwrite=False):
        pytest.fail("the body must not run")
    with pytest.raises(OutputError, match="a file has that name"), atomic_folder(tmp_path / "file"):
        pytest.fail("the body must not run")
    assert left_in(tmp_path) == ["file"]


def test_ctrl_c_before_a_file_has_its_name(tmp_path):
    """A real signal, at the last moment: the file is written and about to be renamed."""
    program = f"""
import os, signal, sys
import numpy as np
from pathlib import Path
from biosam2.io import write_segmentation
from biosam2.volume import Volume

class Session:
    volume = Volume(np.zeros((4, 16, 16), np.uint8))
    segments = ("noise",)
    def mask(self, name):
        return np.random.default_rng(0).random(self.volume.shape) < 0.5

def interrupt(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("s.seg.nrrd"):
        os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
sys.addaudithook(interrupt)
write_segmentation(Path({str(tmp_path)!r}) / "s.seg.nrrd", Session())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert left_in(tmp_path) == []


def noisy(shape=(24, 128, 128)) -> Segments:
    """A megabyte that does not compress."""
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(0, 256, (*shape, 3)).astype(np.uint8))
    return Segments(volume, {name: rng.random(shape) < 0.5 for name in "abcdefgh"})


def write_anything(name: str, folder: Path) -> None:
    session = noisy()
    if name == "masks":
        write_video_masks(folder / name, session)
    elif name.endswith(".mp4"):
        pytest.importorskip("av", reason="PyAV, which writes videos, is not installed")
        write_overlay_video(folder / name, session)
    elif name.endswith(".seg.nrrd"):
        write_segmentation(folder / name, session)
    else:
        write_labelmap(folder / name, session.volume, session.labelmap())


EVERYTHING = ["masks", "o.mp4", "s.seg.nrrd", *(f"l{extension}" for extension in LABELMAPS)]


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_full_disk(small_disk, name):
    """Each writer, on a file system of 64 KiB: one line, and nothing left."""
    with pytest.raises(OutputError) as caught:
        write_anything(name, small_disk)
    assert str(caught.value) == f"cannot write {small_disk / name}: the disk is full; free some space"
    assert left_in(small_disk) == []


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_folder_without_permission(tmp_path, name):
    (tmp_path / "mine").mkdir()
    write_anything(name, tmp_path / "mine")  # now every module is imported, whoever may read it
    with tempfile.TemporaryDirectory() as folder:  # where others may look: pytest's own folders are private
        os.chmod(folder, 0o555)
        try:
            if os.geteuid() == 0:  # root may write everywhere
                os.seteuid(65534)
            with pytest.raises(OutputError, match="no permission to write there"):
                write_anything(name, Path(folder))
        finally:
            os.seteuid(os.getuid())
        assert left_in(Path(folder)) == []


def test_a_read_only_disk(small_disk):
    if subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False).returncode:
        pytest.skip("remounting is not allowed here")
    with pytest.raises(OutputError, match=r"cannot write .*x\.txt: .*[Rr]ead-only"), atomic_path(small_disk / "x.txt"):
        pytest.fail("the body must not run")


@pytest.fixture
def small_disk(make_disk):
    """A file system of 64 KiB in memory."""
    return make_disk("64k").folder
