"""Records that were written before entries, settings and state had one definition each replay as they were."""

from __future__ import annotations

import json
from pathlib import Path

import biosam2
import numpy as np
import pytest
from biosam2.masks import dice
from biosam2.session.entries import from_json, to_json, unpack_mask
from biosam2.speed import Speed

RECORDS = sorted((Path(__file__).parent / "records").glob("*.json"))


@pytest.fixture(scope="module")
def volume() -> biosam2.Volume:
    """The voxels that the records were made with: two balls in noise."""
    k, j, i = np.mgrid[:12, :40, :48]
    ball = ((k - 6) * 3) ** 2 + (j - 20) ** 2 + (i - 24) ** 2 < 130
    other = ((k - 4) * 3) ** 2 + (j - 9) ** 2 + (i - 9) ** 2 < 40
    noise = np.random.default_rng(7).normal(0, 10, ball.shape)
    return biosam2.Volume((100 + 300 * ball + 150 * other + noise).astype(np.int16), (1.0, 1.0, 3.0))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_old_records_replay_to_the_same_masks(path: Path, volume: biosam2.Volume) -> None:
    """Equal where they were made; another processor may round a voxel at the border the other way.

    The masks are those of the shipped weights: when these changed, the ones before still gave the masks kept before.
    """
    kept = json.loads(path.read_text())
    session = biosam2.Session.from_record(kept["session"], biosam2.load_model("nano", device="cpu"), volume)
    assert set(session.segments) == set(kept["masks"])
    for name, mask in kept["masks"].items():
        assert dice(session.mask(name), unpack_mask(mask)) > 0.995, name
    again = session.to_record()
    assert [entry["op"] for entry in again["journal"]] == [entry["op"] for entry in kept["session"]["journal"]]
    # A setting that there was not yet is off.
    kept_settings = {name: value for name, value in kept["session"].items() if name != "journal"}
    expected = {"merge": None, "capacity": None} | kept_settings
    expected["speed"] = Speed().to_json() | expected["speed"]
    assert {name: value for name, value in again.items() if name != "journal"} == expected


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_old_entries_keep_their_meaning(path: Path) -> None:
    for data in json.loads(path.read_text())["session"]["journal"]:
        again = to_json(from_json(data))
        defaults = {"mask": None, "finished": [], "complete": False, "gone": [], "interpolated": [], "positive": True}
        prompt = again.get("prompt", {})
        assert {**defaults, **again, "prompt": {**defaults, **prompt}} == {
            **defaults,
            **data,
            "prompt": {**defaults, **data.get("prompt", {})},
        }
