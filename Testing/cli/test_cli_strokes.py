"""Scribbles, lassos and rulers on the command line: typed, from files of 3D Slicer, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from biosam2.cli.grammar import MarkupText
from biosam2.cli.job import locate
from biosam2.cli.markups import curve, read_markups
from biosam2.io import read_labelmap
from biosam2.prompts import Lasso, Line, Scribble
from biosam2.volume import Volume
from cli_helpers import Biosam2

NET = ("--model", "seer.safetensors", "--first", "5", "--last", "7", "-q")
OUTLINE = [(16, 12, 6), (32, 12, 6), (34, 20, 6), (32, 28, 6), (16, 28, 6)]


def write_markup(path: Path, kind: str, volume: Volume, places: list[tuple], system: str = "LPS") -> Path:
    """A markup with control points at voxels, as 3D Slicer saves it."""
    sign = (-1, -1, 1) if system == "RAS" else (1, 1, 1)
    points = [{"position": (volume.lps_from_ijk(p) * sign).tolist(), "positionStatus": "defined"} for p in places]
    markup = {"type": kind, "coordinateSystem": system, "controlPoints": points}
    path.write_text(json.dumps({"@schema": "markups", "markups": [markup]}))
    return path


def typed(places: list[tuple]) -> str:
    return ":".join(",".join(f"{v:g}" for v in place) for place in places)


def test_strokes_segment_and_are_replayed(biosam2: Biosam2, folder: Path, ball: Volume) -> None:
    write_markup(folder / "a line.mrk.json", "Line", ball, [(16, 20, 6), (32, 20, 6)], "RAS")
    write_markup(folder / "x.mrk.json", "Curve", ball, [(2, 3, 6), (6, 3, 6), (9, 5, 6)])
    ended = biosam2.here(
        *("segment", "ball.nrrd", "-o", "out.nrrd", *NET, "--record", "run.json", "--montage", "look.png"),
        *("--recist", "a line.mrk.json", "--scribble", "20,16,6:26,22,6", "--scribble", "x.mrk.json,-"),
        *("--segment", "drawn", "--lasso", typed(OUTLINE), "--lasso", "20,18,6:24,18,6:24,22,6:20,22,6,-"),
    )
    assert ended.code == 0, ended.err
    record = json.loads((folder / "run.json").read_text())
    prompts = [e["prompt"] for e in record["session"]["journal"] if e["op"] == "prompt"]
    assert [p["kind"] for p in prompts] == ["line", "scribble", "scribble", "lasso", "lasso"]
    assert [p.get("positive") for p in prompts] == [None, True, False, True, False]
    labels = read_labelmap(folder / "out.nrrd").array
    drawn = Lasso(6, [p[1::-1] for p in OUTLINE]).inside(labels.shape[1:]).copy()
    drawn[18:22, 20:24] = False
    assert np.array_equal(labels[6] == 2, drawn), "the user's own slice is kept"
    assert (labels == 1).any()
    again = biosam2.here("replay", "run.json")
    assert again.code == 0, again.err
    assert "the same mask as recorded, bit for bit" in again.out


def test_typed_places_and_a_file_are_the_same_prompt(folder: Path, ball: Volume) -> None:
    for kind, option, places in (("Line", "line", OUTLINE[:2]), ("Curve", "scribble", OUTLINE[:2])):
        path = write_markup(folder / f"a {option}.mrk.json", kind, ball, places)
        ((_, marked),) = locate([("a", MarkupText(option, path))], ball, "k")
        vertices = marked.ends if isinstance(marked, Line) else marked.polyline
        assert np.allclose([vertices[0], vertices[-1]], [p[1::-1] for p in places], atol=1e-4)
        assert marked.slice_index == 6


@pytest.mark.parametrize(
    ("name", "segment", "positive"),
    [
        ("liver scribble +", "liver", True),
        ("liver scribble −_2", "liver", False),
        ("liver scribble", "liver", True),
        ("left liver -", "left liver", False),
        ("scribble", "scribble", True),
    ],
)
def test_a_file_s_name_says_whose_it_is_and_its_sign(folder, ball, name, segment, positive) -> None:
    path = write_markup(folder / f"{name}.mrk.json", "Curve", ball, OUTLINE[:3])
    ((found, text),) = read_markups(path)
    assert (found, text.kind, text.positive) == (segment, "scribble", positive)
    for sign in (True, False):
        ((_, prompt),) = locate([("a", MarkupText("scribble", path, sign))], ball, "k")
        assert isinstance(prompt, Scribble)
        assert prompt.positive is sign


def test_markups_in_a_table_are_strokes_too(biosam2: Biosam2, folder: Path, ball: Volume) -> None:
    write_markup(folder / "t lasso +.mrk.json", "ClosedCurve", ball, OUTLINE)
    write_markup(folder / "t lasso −.mrk.json", "ClosedCurve", ball, [(20, 18, 6), (24, 18, 6), (22, 22, 6)])
    (folder / "cohort.csv").write_text(
        "image,output,markups\nball.nrrd,one.nrrd,t lasso +.mrk.json|t lasso −.mrk.json\n"
    )
    ended = biosam2.here("segment", "--cases", "cohort.csv", *NET)
    assert ended.code == 0, ended.err
    labels = read_labelmap(folder / "one.nrrd").array[6]
    assert labels[13, 24] == 1
    assert labels[19, 22] == 0


@pytest.mark.parametrize(
    ("option", "kind", "places", "says"),
    [
        ("scribble", "Curve", [(16, 12, 6), (32, 12, 6), (32, 20, 9)], "leaves its slice: it runs from slice 6 to 9"),
        ("scribble", "Curve", [(16, 12, 2), (32, 12, 6), (20, 12, 9)], 'start a second session with axis="j"'),
        ("scribble", "Curve", [(16, 12, 6)], "a scribble has 2 to 10000 vertices, not 1"),
        ("scribble", "Curve", [(16, 12, 6), (900, 12, 6)], "lies outside the image"),
        ("scribble", "ClosedCurve", OUTLINE, "holds a ClosedCurve; --scribble takes a Curve, --lasso this"),
        ("scribble", "Angle", OUTLINE, "holds a Angle; prompts are of the types Fiducial, ROI, Curve"),
        ("lasso", "ClosedCurve", OUTLINE[:2], "a lasso has 3 to 10000 vertices, not 2"),
        ("lasso", "ClosedCurve", [OUTLINE[n] for n in (0, 3, 1, 4)], "crosses itself near row"),
        ("line", "Line", OUTLINE[:1], "holds a Line of 1 points; 2 make a line"),
        ("line", "Line", [OUTLINE[0]] * 2, "two ends, at different places"),
    ],
)
def test_a_file_that_makes_no_stroke_is_told_in_one_line(
    biosam2: Biosam2, folder: Path, ball: Volume, option: str, kind: str, places: list, says: str
) -> None:
    write_markup(folder / "bad.mrk.json", kind, ball, places)
    ended = biosam2.here("segment", "ball.nrrd", "-o", "out.nrrd", *NET, f"--{option}", "bad.mrk.json")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert "bad.mrk.json" in ended.err
    assert re.search(says, ended.err), ended.err
    assert not (folder / "out.nrrd").exists()


@pytest.mark.parametrize(
    "arguments", [("--scribble", "1,2"), ("--lasso", "1,2,3:x"), ("--line", "1,2,3"), ("--line", "1,2,3:4,5,6:7,8,9")]
)
def test_typed_strokes_that_are_none(biosam2: Biosam2, folder: Path, arguments: tuple[str, str]) -> None:
    ended = biosam2.here("segment", "ball.nrrd", "-o", "out.nrrd", *NET, *arguments)
    assert ended.code == 2
    assert "I0,J0,K0:I1,J1,K1" in ended.err
    assert "nor a markups file" in ended.err


def test_a_curve_goes_through_its_control_points() -> None:
    points: Any = np.random.default_rng(1).normal(size=(7, 3))
    for closed in (True, False):
        drawn = curve(points, closed)
        assert np.allclose(drawn[::10], points)
        assert len(drawn) == (70 if closed else 61)
