"""biosam2 segment --cases: a table of volumes, prompts typed or saved by 3D Slicer, failing rows named."""

import csv
import json

import biosam2
import numpy as np
import pytest
from biosam2.cli.cohort import read_table
from biosam2.cli.markups import read_markups
from biosam2.cli.segment import segment
from biosam2.errors import InputError
from biosam2.io import read_labelmap
from cli_helpers import files_below
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NETWORK = ("--model", "seer.safetensors", "--config", "seer.yaml")
BOX = "14,12,6:34,28,6"


def write_roi(path, volume, low, high, system="LPS"):
    """A region of interest around inclusive voxel bounds, as 3D Slicer saves it."""
    sign = np.array([-1, -1, 1]) if system == "RAS" else np.ones(3)
    centre = volume.lps_from_ijk((np.array(low) + high) / 2) * sign
    size = (np.array(high) - low + 1) * volume.spacing
    axes = sign[:, None] * volume.direction
    roi = {
        "type": "ROI", "coordinateSystem": system, "roiType": "Box", "center": centre.tolist(), "size": size.tolist(),
        "orientation": axes.ravel().tolist(), "controlPoints": [],
    }  # fmt: skip
    path.write_text(json.dumps({"@schema": "markups", "markups": [roi]}))


def write_points(path, volume, *places, system="LPS"):
    sign = (-1, -1, 1) if system == "RAS" else (1, 1, 1)
    points = [{"position": (volume.lps_from_ijk(p) * sign).tolist(), "positionStatus": "defined"} for p in places]
    points.append({"position": [0.0, 0.0, 0.0], "positionStatus": "undefined"})
    path.write_text(
        json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": points}]})
    )


def test_a_table_gives_what_single_commands_give(biosam2, folder, ball):
    write_roi(folder / "lesion box.mrk.json", ball, (14, 12, 6), (34, 28, 6), "RAS")
    (folder / "out").mkdir()
    (folder / "cohort.csv").write_text(
        "image,output,prompts,markups\n"
        f'ball.nrrd,out/typed.nrrd,"--segment lesion --box {BOX} --crop none",\n'
        "ball.nrrd,out/marked.nrrd,,lesion box.mrk.json\n"
        f'missing.nrrd,out/missing.nrrd,"--box {BOX}",\n'
    )
    ended = biosam2.here("segment", "--cases", "cohort.csv", "--first", "5", "--last", "7", *NETWORK)
    assert ended.code == 2
    assert "1 of 3 volumes were not segmented" in ended.last_line
    assert "line 4" in ended.last_line
    assert "missing.nrrd" in ended.last_line
    assert files_below(folder / "out") == {"typed.nrrd", "marked.nrrd"}
    for name, options in (("typed", ["--crop", "none"]), ("marked", [])):
        one = biosam2.here(
            "segment", "ball.nrrd", "-o", "one.nrrd", "--segment", "lesion", "--box", BOX, *options, "--first", "5",
            "--last", "7", *NETWORK, "-q",
        )  # fmt: skip
        assert one.code == 0, one.err
        expected = read_labelmap(folder / "one.nrrd").array
        np.testing.assert_array_equal(read_labelmap(folder / "out" / f"{name}.nrrd").array, expected)
        assert expected.any()


def test_processes_of_their_own_give_the_same(biosam2, folder):
    rows = [f'ball.nrrd,{n}.nrrd,"--box {BOX} --first 6 --last 6"' for n in range(2)]
    (folder / "cohort.csv").write_text("\n".join(["image,output,prompts", *rows]))
    ended = biosam2("segment", "--cases", "cohort.csv", "--jobs", "2", *NETWORK)
    assert ended.code == 0, ended.err
    assert "segmented: 2/2 volumes" in ended.err
    labels = [read_labelmap(folder / f"{n}.nrrd").array for n in range(2)]
    assert labels[0].any()
    np.testing.assert_array_equal(*labels)


def test_what_was_segmented_is_in_the_results_and_is_not_done_again(biosam2, folder):
    def run(*rows):
        (folder / "cohort.csv").write_text("\n".join(["image,output,prompts", *rows]))
        times = {path.name: path.stat().st_mtime_ns for path in folder.glob("out*.nrrd")}
        ended = biosam2.here("segment", "--cases", "cohort.csv", "--results", "done.csv", *NETWORK, "-q")
        with open(folder / "done.csv", newline="") as stream:
            lines = [(line["output"].rpartition("/")[2], line["failure"]) for line in csv.DictReader(stream)]
        now = {path.name: path.stat().st_mtime_ns for path in folder.glob("out*.nrrd")}
        return ended, lines, {name for name, time in now.items() if times.get(name) != time}

    row = 'ball.nrrd,out{}.nrrd,"--box {} --first 6 --last 6"'
    rows = [row.format(0, BOX), row.format(1, BOX), f'none.nrrd,out2.nrrd,"--box {BOX}"']
    ended, lines, written = run(*rows)
    assert ended.code == 2
    assert written == {"out0.nrrd", "out1.nrrd"}
    assert [(name, bool(failure)) for name, failure in lines] == [
        ("out0.nrrd", False), ("out1.nrrd", False), ("out2.nrrd", True)
    ]  # fmt: skip
    with open(folder / "done.csv", "a") as stream:
        stream.write("a line that a crash c")
    # Nothing is done again but what failed, what has other prompts, and what is gone.
    ended, lines, written = run(rows[0], row.format(1, "10,10,6:30,30,6"), rows[2])
    assert (ended.code, written) == (2, {"out1.nrrd"})
    assert [name for name, _ in lines[3:]] == ["out1.nrrd", "out2.nrrd"]
    (folder / "out0.nrrd").unlink()
    ended, lines, written = run(rows[0])
    assert (ended.code, written) == (0, {"out0.nrrd"})
    (folder / "done.csv").write_text("a,b\n1,2\n")
    ended = biosam2.here("segment", "--cases", "cohort.csv", "--results", "done.csv", *NETWORK, "-q")
    assert ended.code == 2
    assert "another table" in ended.last_line


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_markups_are_the_prompts_that_they_were(folder, ball, system):
    write_points(folder / "lesion +.mrk.json", ball, (24, 20, 6), (20, 18, 6), system=system)
    write_points(folder / "lesion −_1.mrk.json", ball, (2, 3, 4), system=system)
    write_points(folder / "other.mrk.json", ball, (1, 1, 1), system=system)
    (segment_name, first), (_, second) = read_markups(folder / "lesion +.mrk.json")
    assert segment_name == "lesion"
    assert first.kind == "point"
    assert first.positive
    assert second.system == system.lower()
    ijk = (ball.ijk_from_lps if system == "LPS" else ball.ijk_from_ras)(first.places[0])
    np.testing.assert_allclose(ijk, (24, 20, 6), atol=1e-6)
    ((name, negative),) = read_markups(folder / "lesion −_1.mrk.json")
    assert (name, negative.positive) == ("lesion", False)
    assert read_markups(folder / "other.mrk.json")[0][0] == "other"


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_a_region_of_interest_is_the_box_of_its_voxels(folder, ball, system):
    from biosam2.cli.job import locate

    write_roi(folder / "x box.mrk.json", ball, (3, 4, 0), (47, 9, 11), system)
    found = read_markups(folder / "x box.mrk.json")
    assert found[0][1].kind == "box"
    ((name, box),) = locate(found, ball, "k")
    assert name == "x"
    assert (box.min_ijk, box.max_ijk) == ((3, 4, 0), (47, 9, 11))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.floats(-180, 180), st.tuples(*[st.floats(4, 20)] * 3))
def test_a_turned_region_is_the_box_around_it(folder, angle, size):
    from biosam2.cli.job import locate

    turn = np.radians(angle)
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    volume = biosam2.Volume(np.zeros((40, 60, 60), np.int16), direction=turned)
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "center": volume.lps_from_ijk((30, 30, 20)).tolist(),
        "size": list(size),
        "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1],
    }
    (folder / "sandbox.mrk.json").write_text(json.dumps({"markups": [markup]}))
    ((name, box),) = locate(read_markups(folder / "sandbox.mrk.json"), volume, "k")
    assert name == "sandbox"
    wide = (size[0] * abs(np.cos(turn)) + size[1] * abs(np.sin(turn))) / 2
    high = (size[0] * abs(np.sin(turn)) + size[1] * abs(np.cos(turn))) / 2
    half = np.array([wide, high, size[2] / 2])
    np.testing.assert_allclose(box.min_ijk, np.array([30, 30, 20]) - half, atol=0.51)
    np.testing.assert_allclose(box.max_ijk, np.array([30, 30, 20]) + half, atol=0.51)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,output,prompts\n", "has no rows"),
        ("image,output\na.nrrd,b.nrrd\n", "line 2"),
        ('image,output,prompts,colour\na.nrrd,b.nrrd,"--point 1,2,3",red\n', "colour"),
        ("image,output,prompts\na.nrrd,b.nrrd,--point 1,2,3\n", "quotes"),
        ("image,output,prompts\na.nrrd,b.nrrd,--box 1\n", "line 2"),
        ("image,output,prompts\na.nrrd,b.nrrd,--axis k\n", "nothing says what to segment"),
        ("image,output,prompts\na.nrrd,b.nrrd,'--box\n", "line 2"),
        ("image,output,prompts\na.nrrd,b.nrrd,--help\n", "line 2"),
        ('image,output,prompts\na.nrrd,b.nrrd,"--point 1,2,3"\nc.nrrd,b.nrrd,"--point 1,2,3"\n', "another row writes"),
        ("image,output,markups\na.nrrd,b.nrrd,none.mrk.json\n", "none.mrk.json"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_before_anything_is_done(folder, text, said):
    (folder / "cohort.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_table(segment, folder / "cohort.csv", {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", '{"markups": [{"type": "Line"}]}', '{"markups": [{"type": "ROI"}]}', "[]"])
def test_what_is_no_markup_is_refused(folder, text):
    (folder / "x.mrk.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.mrk\.json"):
        read_markups(folder / "x.mrk.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ball.nrrd", "--point", "1,2,3"), "-o OUTPUT"),
        (("--point", "1,2,3"), "give IMAGE"),
        (("ball.nrrd", "--cases", "x.csv"), "leave them out"),
        (("--cases", "x.csv", "--point", "1,2,3"), "leave them out"),
        (("ball.nrrd", "-o", "x.nrrd", "--point", "1,2,3", "--jobs", "2"), "--cases"),
        (("--cases", "x.csv"), "there is no file"),
    ],
)
def test_options_that_exclude_each_other(biosam2, folder, arguments, said):
    ended = biosam2.here("segment", *arguments)
    assert ended.code == 2
    assert said in ended.last_line
