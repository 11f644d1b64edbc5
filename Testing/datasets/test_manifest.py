"""The manifest: written and read again it says the same; what is wrong with one is said by line or by name."""

from pathlib import Path

import pytest
from biosam2.datasets import Case, Target, load_dataset, save_dataset
from biosam2.errors import BioSAM2Error, InputError, OutputError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

words = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="/\\|~"), min_size=1, max_size=8)
names = st.lists(words, min_size=1, max_size=2).map(" ".join).filter(str.isprintable)
files = st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)
paths = files.map(lambda parts: Path("/data").joinpath(*parts))


@st.composite
def datasets(draw):
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return [
        Case(
            name,
            draw(paths),
            tuple(
                Target(
                    target,
                    tuple(draw(st.lists(paths, min_size=1, max_size=2))),
                    tuple(draw(st.lists(st.integers(1, 999), max_size=3))),
                    draw(st.sampled_from([None, 1, 12])),
                )
                for target in draw(st.lists(names, min_size=1, max_size=3, unique=True))
            ),
            draw(st.sampled_from(["", "CT", "MR", "US"])),
            draw(st.sampled_from(["", "train", "val"])),
            draw(st.sampled_from(["2D", "3D", "video"])),
            draw(st.sampled_from(["", "1.2.3"])),
            draw(st.sampled_from([None, 0, 2])),
        )
        for name in chosen
    ]


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=datasets(), ending=st.sampled_from([".csv", ".json"]))
def test_a_manifest_comes_back_as_it_was(cases, ending, tmp_path):
    path = tmp_path / f"manifest{ending}"
    save_dataset(path, cases)
    assert load_dataset(path) == cases


def test_files_beside_the_manifest_move_with_it(tmp_path):
    (tmp_path / "a").mkdir()
    case = Case("one", tmp_path / "a" / "x.nrrd", (Target("t", (tmp_path / "a" / "y.nrrd",)),))
    save_dataset(tmp_path / "m.csv", [case])
    (tmp_path / "moved").mkdir()
    (tmp_path / "m.csv").rename(tmp_path / "moved" / "m.csv")
    assert load_dataset(tmp_path / "moved" / "m.csv")[0].image == tmp_path / "moved" / "a" / "x.nrrd"
    assert load_dataset(tmp_path / "moved" / "m.csv", root=tmp_path) == [case]


def test_a_hand_written_table_needs_little(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("﻿image,label,target,values\na.nrrd,b.nrrd,liver,1\na.nrrd,b.nrrd,tumour,2 3\n", encoding="utf-8")
    (case,) = load_dataset(path)
    assert case.name == "a"
    assert [(t.name, t.values) for t in case.targets] == [("liver", (1,)), ("tumour", (2, 3))]


def test_splits_are_chosen_by_name(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("image,label,split\na.png,b.png,train\nc.png,d.png,val\n")
    assert [case.name for case in load_dataset(path, split="val")] == ["c"]
    with pytest.raises(InputError, match="'train', 'val'"):
        load_dataset(path, split="test")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\n", "no cases"),
        ("image\na.png\n", "label"),
        ("image,label,kind\na.png,b.png,4D\n", "line 2"),
        ("image,label,values\na.png,b.png,one\n", "line 2"),
        ("image,label,colour\na.png,b.png,red\n", "colour"),
        ("image,label,target,split\na.png,b.png,x,train\na.png,b.png,y,val\n", "line 3"),
        ("image,label,target\na.png,b.png,x\na.png,b.png,x\n", "case a"),
        ("image,label\na.png,b.png,c,d\n", "line 2"),
        ("image,label\na.png,b.png\0\n", "cannot be"),
        ('image,label\n"a.png,b.png\n', "label"),
        ("\xff\xfe", "m.csv"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(tmp_path, text, said):
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BioSAM2Error) as caught:
        load_dataset(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x", "cases": []}', '{"format": 3', "[" * 100000])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"m\.json"):
        load_dataset(path)


def test_what_cannot_be_kept_is_refused(tmp_path):
    case = Case("one", tmp_path / "a.png", (Target("t", (tmp_path / "b.png",)),))
    with pytest.raises(OutputError, match="csv or"):
        save_dataset(tmp_path / "m.txt", [case])
    with pytest.raises(InputError, match="two cases are called one"):
        save_dataset(tmp_path / "m.csv", [case, case])
    odd = Case("one", tmp_path / "a.png", (Target("t", (tmp_path / "b|c.png",)),))
    with pytest.raises(OutputError, match="json"):
        save_dataset(tmp_path / "m.csv", [odd])
    assert list(tmp_path.iterdir()) == []
