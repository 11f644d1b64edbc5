"""``biosam2 segment`` on the real cases, with the shipped model: here, with a worker, on a server, through a relay."""

from __future__ import annotations

import json
import os
from pathlib import Path

import biosam2
import numpy as np
import pytest
from biosam2.cli.app import cli
from biosam2.io import read_labelmap
from click.testing import CliRunner
from command_helpers import biosam2_command
from server_helpers import Served

CASES = ("ct-lung-nodule", "mr-brain-atlas", "mr-brain-tumour", "mr-breast-lesion", "mr-prostate-phantom")


@pytest.fixture(scope="module")
def nano():
    return biosam2.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def served(nano):
    with Served({"nano": nano}) as server:
        yield server


def one_of(folder: Path, stem: str) -> Path:
    return next(path for path in folder.glob(f"{stem}.*") if path.suffix != ".txt")


def asked(case: Path, around: int | None) -> list[str]:
    """The case's image with a box and a click on the slice where its largest structure is largest.

    Args:
        around: how many slices to either side are segmented; None for all.
    """
    image = one_of(case, "image")
    labels = read_labelmap(one_of(case, "label"), like=biosam2.read_volume(image)).array
    mask = labels == np.bincount(labels[labels > 0]).argmax()
    k = int(mask.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(mask[k])
    middle = len(rows) // 2
    prompts = [
        "--box", f"{columns.min()},{rows.min()},{k}:{columns.max()},{rows.max()},{k}",
        "--point", f"{columns[middle]},{rows[middle]},{k}",
    ]  # fmt: skip
    if around is not None:
        prompts += ["--first", str(max(0, k - around)), "--last", str(min(len(mask) - 1, k + around))]
    return [str(image), *prompts]


def same(folder: Path, names: tuple[str, ...]) -> None:
    """Assert that runs gave the same masks, which are not empty."""
    here = biosam2.read_volume(folder / "here.nrrd").array
    record = json.loads((folder / "here.json").read_text())
    assert here.any()
    for name in names:
        assert np.array_equal(biosam2.read_volume(folder / f"{name}.nrrd").array, here), name
        again = json.loads((folder / f"{name}.json").read_text())
        assert again["model"]["sha256"] == record["model"]["sha256"]
        assert again["labelmap_sha256"] == record["labelmap_sha256"]


@pytest.mark.parametrize("case", CASES)
def test_every_way_gives_the_same_mask_of_a_real_case(shared_data, served, tmp_path, case: str) -> None:
    arguments = asked(shared_data / case, around=1)
    for name, where in {
        "here": ["--model", "nano", "--device", "cpu"],
        "worker": ["--model", "nano", "--device", "cpu", "--worker"],
        "server": ["--server", served.url],
    }.items():
        reports = ["-q", "-o", str(tmp_path / f"{name}.nrrd"), "--record", str(tmp_path / f"{name}.json")]
        done = CliRunner().invoke(cli, ["segment", *arguments, *reports, *where])
        assert done.exit_code == 0, done.output
    same(tmp_path, ("worker", "server"))


@pytest.mark.soak
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_way_gives_the_same_masks_of_whole_cases(
    shared_data, serve, monkeypatch, tmp_path, case: str, exact: bool
) -> None:
    """Whole volumes, each run a process with as many threads as it takes by itself."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    arguments = [*asked(shared_data / case, around=None), *(["--exact"] if exact else [])]
    url = f"http://127.0.0.1:{serve('--model', 'nano')}"
    ways = {
        "here": ["--model", "nano", "--device", "cpu"],
        "worker": ["--model", "nano", "--device", "cpu", "--worker"],
        "server": ["--server", url],
        "relay": ["--server", url, "--worker"],
    }
    for name, where in ways.items():
        reports = ["-q", "-o", tmp_path / f"{name}.nrrd", "--record", tmp_path / f"{name}.json"]
        done = biosam2_command("segment", *arguments, *reports, *where, timeout=3600)
        assert done.returncode == 0, done.stderr
    same(tmp_path, ("worker", "server", "relay"))
    assert "OMP_NUM_THREADS" not in os.environ
