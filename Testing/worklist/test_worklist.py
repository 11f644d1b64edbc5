"""A worklist: what a person may do to its file, who has a case open, and several processes at once on one list."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import biosam2
import numpy as np
import psutil
import pytest
from biosam2.datasets import load_dataset, open_case
from biosam2.datasets.case import Case
from biosam2.datasets.work_table import STATES, WorkCase, WorkTable, is_worklist, read_table, table_text
from biosam2.errors import InputError, OutputError
from biosam2.io import itk
from biosam2.volume import Volume
from biosam2.worklist import Worklist, WorkTimer, find_work, make_worklist, template_of
from biosam2.worklist.claims import claim_path, read_claim
from biosam2.worklist.template import read_template, template_path
from desk import segments
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

DESK = Path(__file__).with_name("desk.py")
NAMES = ("one", "two", "three", "four")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of four volumes without labels."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in NAMES:
        itk.write(folder / f"{name}.nrrd", Volume(np.arange(128, dtype=np.int16).reshape(2, 8, 8)))
    return folder


@pytest.fixture
def worklist(scans: Path) -> Worklist:
    """A list of the four, one lesion each."""
    cases, _ = find_work(scans)
    return make_worklist(scans.parent / "list.csv", cases, template_of(["lesion=#ff8000"], "abdomen"))[0]


def desk(*arguments: object) -> subprocess.Popen[str]:
    """Start another process at the same list."""
    paths = [str(DESK.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, str(DESK), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def save(case, value: int = 1, **how) -> None:
    with case.saving(**how) as files:
        biosam2.write_segmentation(files.segmentation, segments(value))


# The file ------------------------------------------------------------------------------------------------------------

_texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)


@given(
    names=st.lists(_texts, min_size=1, max_size=5, unique_by=str.casefold),
    state=st.sampled_from(STATES),
    seconds=st.integers(0, 10**6).map(lambda tenths: tenths / 10),
    interactions=st.integers(0, 10**6),
    by=_texts,
    series=_texts,
    remark=_texts,
    delimiter=st.sampled_from(",;"),
    marked=st.booleans(),
)
def test_a_table_is_read_as_it_was_written(
    tmp_path_factory, names, state, seconds, interactions, by, series, remark, delimiter, marked
):
    path = tmp_path_factory.mktemp("table") / "list.csv"
    cases = tuple(
        WorkCase(
            name=name,
            image=path.parent / "scans" / f"{n}.nrrd",
            segmentation=path.parent / "list-results" / f"{n}.seg.nrrd",
            state=state,
            seconds=seconds,
            interactions=interactions,
            by=by,
            series=series,
            channel=n or None,
            others={"my remark": remark},
        )
        for n, name in enumerate(names)
    )
    table = WorkTable(cases, ("my remark", "State", "name", "image"), delimiter, marked)
    path.write_text(table_text(table, path), encoding="utf-8", newline="")
    assert is_worklist(path)
    again = read_table(path)
    assert again.cases == cases
    assert again.columns[:4] == table.columns
    assert (again.delimiter, again.marked) == (delimiter, marked)
    assert table_text(again, path) == path.read_bytes().decode("utf-8")


def test_what_a_person_did_in_a_spreadsheet_is_taken_and_kept(scans):
    """A row with an image only, words in capitals, commas in numbers, columns of their own, semicolons, the mark."""
    path = scans.parent / "by hand.csv"
    path.write_text(
        "\ufeffImage;State;Who;Seconds\nscans/one.nrrd;;Ann;\nscans/two.nrrd;In Work;;80,5\n;;;\n", encoding="utf-8"
    )
    worklist = Worklist(path)
    one, two = worklist.cases
    assert (one.name, one.state, two.state, two.seconds) == ("one", "new", "in work", 80.5)
    save(worklist.open("one"))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("\ufeffImage;State;Who;Seconds;name")
    assert "scans/one.nrrd;in work;Ann;" in text
    assert "by hand-results/one.seg.nrrd" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"image,label\na,b\n", "lacks the columns image and state"),
        (b"\xff\xfe\x00i", "CSV UTF-8"),
        (b"name,image,state\na,x.nrrd,done\n", "line 2: the state 'done' is none of new, in work"),
        (b"name,image,state\na,x.nrrd,new\na,y.nrrd,new\n", "line 3: two cases are called a"),
        (b"name,image,state\na,,new\n", "line 2 names no image"),
        (b"name,image,state,seconds\na,x.nrrd,new,long\n", "line 2: Expected `float`"),
        (b"name,image,state,seconds\na,x.nrrd,new,nan\n", "seconds and interactions"),
        (b"name,image,state,interactions\na,x.nrrd,new,-1\n", "seconds and interactions"),
        (b"name,image,state\na,x.nrrd,new,more\n", "line 2 has 4 cells for 3 columns"),
        (b"name,image,state,segmentation\na,x.nrrd,new,x.png\n", "must end in .seg.nrrd"),
        (b"name,image,state,segmentation\na,x,new,s.seg.nrrd\nb,y,new,s.seg.nrrd\n", "have one segmentation"),
        (b"name,image,state,name\na,x.nrrd,new,b\n", "has the column name twice"),
        (b'name,image,state\na,"x.nrrd,new\n', "unexpected end of data"),
        (b"name,image,state\na,x.nrrd,new\nb,y.nr", "line 3 is cut off"),
        (b"name,image,state\na\x00,x.nrrd,new\n", "cannot be"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_in_one_line_and_stays(tmp_path, content, said):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"list\.csv") as caught:
        _ = Worklist(path).cases
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_templates_are_kept_and_damaged_ones_refused(worklist):
    template = worklist.template
    assert [(s.name, s.terminology) for s in template.segments] == [("lesion", "")]
    assert template.segments[0].colour == pytest.approx((1, 128 / 255, 0))
    assert template.window == "abdomen"
    path = template_path(worklist.path)
    entry = "Category~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Regions~^^~^^"
    liver = {"name": "liver", "terminology": entry}
    path.write_text(json.dumps({"format": "biosam2-template-1", "segments": [liver], "window": [40, 400]}))
    assert worklist.template.segments[0].terminology == entry
    assert worklist.template.window == (40, 400)
    for text, said in (
        ("{", "is not a worklist's template"),
        ('{"format": "x"}', "this version of biosam2 reads"),
        ('{"format": "biosam2-template-1", "segments": [{"name": "a"}, {"name": "a"}]}', "a name of its own"),
        ('{"format": "biosam2-template-1", "segments": [{"name": "a", "colour": "red"}]}', "write #RRGGBB"),
        ('{"format": "biosam2-template-1", "segments": [{"name": "a", "terminology": "liver"}]}', "terminology"),
        ('{"format": "biosam2-template-1", "window": "moon"}', "there is no window 'moon'"),
        ('{"format": "biosam2-template-1", "window": [1, 0]}', "must be positive"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"list\.template\.json") as caught:
            read_template(path)
        assert said in str(caught.value)
    path.unlink()
    assert worklist.template.segments == ()


# Making ---------------------------------------------------------------------------------------------------------------


def test_a_folder_of_anything_becomes_a_list(scans):
    """Volumes, pictures, films and DICOM series are cases; masks, results and hidden files are none."""
    from pydicom.data import get_testdata_file

    shape = (4, 6)
    for place in ("skin/mole.png", "skin/mole_mask.png", "skin/mole.jpg", ".hidden/x.png", "list-results/x.png"):
        (scans / place).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros(shape, np.uint8)).save(scans / place)
    biosam2.write_segmentation(scans / "done.seg.nrrd", segments(3))
    (scans / "ct").mkdir()
    (scans / "ct" / "slice").write_bytes(Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes())
    (scans / "cine.dcm").write_bytes(Path(get_testdata_file("examples_ybr_color.dcm", download=False)).read_bytes())
    (scans / "film.mp4").write_bytes(b"a film")
    cases, targets = find_work(scans, modality="XX")
    assert targets == []
    assert {(c.name, c.kind, c.modality) for c in cases} == {
        *((name, "3D", "XX") for name in NAMES),
        ("ct", "2D", "XX"),
        ("film", "video", "XX"),
        ("scans", "video", "XX"),
        ("skin/mole.jpg", "2D", "XX"),
        ("skin/mole.png", "2D", "XX"),
    }
    films, _ = find_work(scans / "skin", kind="video")
    assert [(case.name, case.image, case.kind) for case in films] == [("skin", scans / "skin", "video")]
    with pytest.raises(InputError, match="neither a folder nor a manifest"):
        find_work(scans / "one.nrrd")
    (scans.parent / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        find_work(scans.parent / "nothing")


def test_a_labelled_dataset_s_targets_are_the_template_s(scans):
    manifest = scans.parent / "m.csv"
    manifest.write_text(
        "name,image,label,target,modality\n"
        + "".join(f"{n},scans/{n}.nrrd,m.nrrd,{t},CT\n" for n in NAMES for t in ("liver", "lesion"))
    )
    cases, targets = find_work(manifest)
    assert targets == ["liver", "lesion"]
    assert [(case.name, case.targets, case.modality, case.split) for case in cases] == [
        (name, (), "CT", "") for name in NAMES
    ]


def test_making_again_adds_what_is_new_and_keeps_the_work(worklist, scans):
    save(worklist.open("two"), seconds=4, interactions=2, state="approved")
    itk.write(scans / "five.nrrd", Volume(np.zeros((1, 4, 4), np.int16)))
    again, added = make_worklist(worklist.path, find_work(scans)[0])
    assert [case.name for case in added] == ["five"]
    assert [case.name for case in again.cases] == [*sorted(NAMES), "five"]
    assert again.case("two").state == "approved"
    assert again.template.window == "abdomen"
    other = scans.parent / "m.csv"
    other.write_text("image,label\n")
    with pytest.raises(InputError, match="is there and is no worklist"):
        make_worklist(other, find_work(scans)[0])
    assert other.read_text() == "image,label\n"


def test_a_series_and_a_volume_of_one_name_are_two_cases(tmp_path):
    from pydicom.data import get_testdata_file

    scans = tmp_path / "scans"
    (scans / "p1").mkdir(parents=True)
    (scans / "p1" / "slice").write_bytes(Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes())
    itk.write(scans / "p1.nii.gz", Volume(np.zeros((2, 4, 4), np.int16)))
    worklist, _ = make_worklist(tmp_path / "list.csv", find_work(scans)[0])
    assert [(case.name, case.image.name) for case in worklist.cases] == [
        ("p1.nii.gz", "p1.nii.gz"),
        ("p1/slice", "slice"),
    ]


def test_series_whose_identifiers_end_alike_are_two_cases(tmp_path):
    import pydicom
    from pydicom.data import get_testdata_file

    scans = tmp_path / "scans" / "both"
    scans.mkdir(parents=True)
    for study in "12":
        for number in "12":
            slice_ = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
            slice_.SeriesInstanceUID = f"1.2.{study}.7"
            slice_.SOPInstanceUID = f"1.2.{study}.7.{number}"
            slice_.save_as(scans / f"{study}{number}.dcm")
    worklist, _ = make_worklist(tmp_path / "list.csv", find_work(scans.parent)[0])
    assert [case.name for case in worklist.cases] == ["both 1.2.1.7", "both 1.2.2.7"]


def test_a_list_that_nobody_could_read_is_not_written(worklist, scans):
    cases = [Case("new", scans / f"new {n}.nrrd", (), kind="3D") for n in range(2)]
    before = worklist.path.read_bytes()
    with pytest.raises(InputError, match="two cases are called new"):
        make_worklist(worklist.path, cases)
    assert worklist.path.read_bytes() == before
    with pytest.raises(InputError, match="two cases are called new"):
        make_worklist(scans.parent / "first.csv", cases)
    assert not (scans.parent / "first.csv").exists()
    with pytest.raises(InputError, match="have one segmentation"):
        worklist.change("one", lambda case: replace(case, segmentation=worklist.case("two").segmentation))
    assert worklist.path.read_bytes() == before


def test_segmentations_of_lists_made_at_once_have_names_of_their_own(worklist, scans):
    """Where one list is grown by two processes, the names are chosen while it is locked."""
    others = [desk("grow", worklist.path, mark, 20) for mark in "+=&"]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    for other in others:
        other.communicate()
        assert other.returncode == 0
    assert len({case.segmentation for case in worklist.cases}) == len(worklist.cases) == len(NAMES) + 60


def test_what_is_typed_again_changes_the_template_and_leaves_the_rest(worklist):
    path = template_path(worklist.path)
    entry = "Category~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Regions~^^~^^"
    liver, lesion = (
        {"name": "liver", "colour": "#010203", "terminology": entry},
        {"name": "lesion", "colour": "#ff0000"},
    )
    path.write_text(json.dumps({"format": "biosam2-template-1", "segments": [liver, lesion], "window": [40, 400]}))
    earlier = worklist.template
    assert template_of([], "lung", earlier) == replace(earlier, window="lung")
    again = template_of(["cyst=#00ff00", "liver", "lesion=#0000ff"], None, earlier)
    assert [(s.name, s.colour, s.terminology) for s in again.segments] == [
        ("liver", earlier.segments[0].colour, entry),
        ("lesion", (0, 0, 1), ""),
        ("cyst", (0, 1, 0), ""),
    ]
    assert again.window == (40, 400)
    with pytest.raises(InputError, match="a name of its own"):
        template_of(["liver", "liver=#00ff00"], None, earlier)


# A case ---------------------------------------------------------------------------------------------------------------


def test_a_case_is_opened_saved_and_approved_and_then_is_training_data(worklist):
    case = worklist.open_next()
    assert case.name == "four"  # the first by name
    assert worklist.case("four").state == "new"
    with pytest.raises(InputError, match="no segmentation to approve"):
        case.set_state("approved")
    with case.saving(seconds=30.5, interactions=3) as files:
        biosam2.write_segmentation(files.segmentation, segments(40))
        files.record.write_text("{}")
    assert (worklist.case("four").state, case.files.record.read_text()) == ("in work", "{}")
    save(case, 50, seconds=10, interactions=1)
    assert (worklist.case("four").seconds, worklist.case("four").interactions) == (40.5, 4)
    assert sorted(p.name for p in case.files.segmentation.parent.iterdir()) == [
        "four.json",
        "four.open.json",
        "four.seg.nrrd",
    ]
    case.add_work(1, 1, "approved")
    case.close()
    assert not claim_path(case.files.segmentation).exists()
    save(worklist.open("one"), 7)
    (approved,) = load_dataset(worklist.path, split="approved")
    assert [target.name for target in approved.targets] == ["lesion"]
    assert int(open_case(approved).masks["lesion"].sum()) == 51
    assert [(c.name, c.split) for c in load_dataset(worklist.path)] == [("four", "approved"), ("one", "in work")]
    changed = worklist.case("four")
    assert changed.by
    assert changed.changed.endswith("Z")
    case.files.segmentation.unlink()
    with pytest.raises(InputError, match="four is approved, and its segmentation"):
        load_dataset(worklist.path, split="approved")


def test_work_on_an_approved_case_takes_the_approval_back_and_one_to_be_looked_at_stays(worklist):
    case = worklist.open("one")
    save(case, state="approved")
    save(case)
    assert worklist.case("one").state == "in work"
    case.set_state("to be looked at")
    save(case)
    assert worklist.case("one").state == "to be looked at"


def test_who_approves_an_approved_case_again_is_named(worklist, monkeypatch):
    case = worklist.open("one")
    for person in ("anna", "bert"):
        monkeypatch.setattr("biosam2.worklist.worklist.user_name", lambda person=person: person)
        monkeypatch.setattr("biosam2.worklist.worklist.now", lambda person=person: f"when {person} did")
        save(case, state="approved", seconds=2, interactions=1)
        saved = worklist.case("one")
        assert (saved.state, saved.by, saved.changed) == ("approved", person, f"when {person} did")
    assert (saved.seconds, saved.interactions) == (4, 2)


def test_files_that_change_under_an_approval_are_not_approved_before_they_are_whole(worklist):
    """The record has changed and the segmentation cannot take its place."""
    case = worklist.open("one")
    save(case, 20, state="approved")

    def disturbed():
        with case.saving(state="approved", seconds=5) as files:
            biosam2.write_segmentation(files.segmentation, segments(90))
            files.record.write_text("changed")
            case.files.segmentation.unlink()
            case.files.segmentation.mkdir()

    with pytest.raises(OutputError):
        disturbed()
    assert case.files.record.read_text() == "changed"
    assert (worklist.case("one").state, worklist.case("one").seconds) == ("in work", 0)


def test_a_process_knows_its_own_claim_after_the_clock_was_set(worklist, monkeypatch):
    """On Linux the system tells a process's start by the clock's present time."""
    case = worklist.open("one")
    begun = psutil.Process().create_time()
    monkeypatch.setattr("psutil.Process.create_time", lambda process: begun + 1)
    claim = read_claim(case.files.segmentation)
    assert claim.is_here
    assert not claim.is_stale
    worklist.open("one").close()


def test_a_failed_save_leaves_everything_as_it_was(worklist):
    case = worklist.open("one")
    save(case, 20, seconds=5)
    before = case.files.segmentation.read_bytes(), worklist.path.read_bytes()

    def disturbed():
        with case.saving(seconds=99) as files:
            files.segmentation.write_bytes(b"half")
            files.record.mkdir(parents=False)
            files.record.write_text("{}")

    with pytest.raises(OutputError):
        disturbed()
    assert (case.files.segmentation.read_bytes(), worklist.path.read_bytes()) == before
    assert not [p for p in case.files.segmentation.parent.iterdir() if p.name.endswith(".part")]


def test_the_next_case_goes_round_and_passes_over_what_is_done_or_open(worklist):
    save(worklist.open("one"), state="approved")
    with desk("hold", worklist.path, "three") as other:
        assert other.stdout.readline() == "open\n"
        assert worklist.open_next("four").name == "two"
        assert worklist.open_next("two").name == "four"
        assert worklist.open_next("one").name == "two"
        assert worklist.open_next(states=["approved"]).name == "one"
        assert worklist.open_next(states=["to be looked at"]) is None
        other.communicate("close\n")


def test_a_list_that_cannot_be_changed_keeps_what_was_approved(worklist):
    """The list is damaged by another program: nothing takes the place of the approved segmentation."""
    case = worklist.open("one")
    save(case, 20, state="approved")
    before, text = case.files.segmentation.read_bytes(), worklist.path.read_bytes()
    worklist.path.write_bytes(text[:60])
    with pytest.raises(InputError, match=r"list\.csv"):
        save(case, 90)
    assert case.files.segmentation.read_bytes() == before
    worklist.path.write_bytes(text)
    save(case, 90)
    assert worklist.case("one").state == "in work"
    assert case.files.segmentation.read_bytes() != before


def test_breaks_are_no_work():
    now = [0.0]
    timer = WorkTimer(idle=60, clock=lambda: now[0])
    for time in (10, 30, 1000):
        now[0] = time
        timer.interact()
    now[0] = 1010
    timer.notice()
    assert timer.take() == (10 + 20 + 60 + 10, 3)
    assert timer.take() == (0, 0)
    timer.put_back(100, 3)
    now[0] = 1020
    timer.notice()
    assert timer.take() == (110, 3)
    now[0] = 2000
    timer.restart()
    timer.interact()
    assert timer.take() == (0, 1)


# Several at once ------------------------------------------------------------------------------------------------------


def test_a_case_open_elsewhere_is_named_and_not_written(worklist):
    with desk("hold", worklist.path, "one") as other:
        assert other.stdout.readline() == "open\n"
        (name, claim), *rest = worklist.claims().items()
        assert (name, claim.process, rest) == ("one", other.pid, [])
        for refused in (lambda: worklist.open("one"), lambda: worklist.set_state("one", "to be looked at")):
            with pytest.raises(InputError, match=f"case one is open elsewhere .{claim.user} on {claim.host}"):
                refused()
        other.communicate("close\n")
    assert worklist.claims() == {}
    worklist.open("one")


def test_who_was_taken_over_cannot_save(worklist):
    with desk("save", worklist.path, "one") as other:
        assert other.stdout.readline() == "open\n"
        while other.stdout.readline().strip() != "3":
            pass
        mine = worklist.open("one", take_over=True)
        assert mine.recovered is None
        other.communicate()
        assert other.returncode == 1
    saved = mine.files.segmentation.read_bytes()
    assert int(mine.files.record.read_text()) == worklist.case("one").interactions >= 3
    again = worklist.open("one")  # this process itself may, as after a reload
    with pytest.raises(InputError, match="was taken over"):
        save(mine)
    mine.close()
    assert read_claim(mine.files.segmentation) is not None
    assert mine.files.segmentation.read_bytes() == saved
    again.close()


def test_a_case_can_be_released_for_a_computer_that_is_gone(worklist):
    with desk("save", worklist.path, "one") as other:
        assert other.stdout.readline() == "open\n"
        assert worklist.release("one").process == other.pid
        assert worklist.release("one") is None
        other.communicate()
        assert other.returncode == 1
    assert worklist.claims() == {}


def test_a_case_left_open_by_a_process_that_was_killed_is_free_and_whole(worklist):
    with desk("save", worklist.path, "one") as other:
        for line in other.stdout:
            if line.strip() == "5":
                other.send_signal(signal.SIGKILL)
                break
    assert worklist.claims() == {}
    case = worklist.open("one")
    assert case.recovered.process == other.pid
    assert case.recovered.saved
    assert worklist.case("one").state == "in work"
    assert worklist.case("one").interactions >= 5
    (found,) = load_dataset(worklist.path)
    assert open_case(found).masks["lesion"].any()


def test_a_claim_of_another_computer_or_an_unreadable_one_is_not_passed_over(worklist):
    case = worklist.open("one")
    path = claim_path(case.files.segmentation)
    text = path.read_text()
    path.write_text(text.replace(f'"process":{os.getpid()}', '"process":999999999'))
    assert worklist.claims() == {}
    for there in (
        text.replace('"host":"', '"host":"other-').replace(f'"process":{os.getpid()}', '"process":999999999'),
        text[:20],
    ):
        path.write_text(there)
        assert list(worklist.claims()) == ["one"]
        with pytest.raises(InputError, match="open elsewhere"):
            worklist.open("one")
    worklist.open("one", take_over=True)


def test_two_processes_lose_nothing_of_each_other_s(worklist):
    _count_at_once(worklist, desks=3, rounds=5)


def test_processes_that_take_the_next_case_never_take_the_same(worklist):
    desks = [desk("rush", worklist.path) for _ in range(3)]
    done = [name for each in desks for name in each.communicate()[0].split()]
    assert sorted(done) == sorted(NAMES)
    assert all((c.state, c.seconds, c.interactions) == ("approved", 1, 2) for c in worklist.cases)


@pytest.mark.soak
def test_many_processes_lose_nothing_over_a_long_time(worklist):
    _count_at_once(worklist, desks=8, rounds=100)


@pytest.mark.soak
def test_a_process_killed_at_any_moment_leaves_a_list_and_a_segmentation_that_are_whole(worklist):
    for number in range(60):
        with desk("save", worklist.path, "one") as other:
            assert other.stdout.readline() == "open\n"
            for _ in range(number % 7):
                other.stdout.readline()
            os.kill(other.pid, signal.SIGKILL)
        assert len(worklist.cases) == len(NAMES)
        if worklist.case("one").segmentation.exists():
            (found,) = load_dataset(worklist.path)
            open_case(found)


def _count_at_once(worklist: Worklist, desks: int, rounds: int) -> None:
    others = [desk("count", worklist.path, rounds) for _ in range(desks)]
    for other in others:
        other.communicate()
        assert other.returncode == 0
    assert [(case.seconds, case.interactions) for case in worklist.cases] == [(desks * rounds,) * 2] * len(NAMES)
