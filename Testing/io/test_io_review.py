"""What a person looked at and approved, in records and in DICOM SEG."""

import shutil
import subprocess

import numpy as np
import pytest
from biosam2 import record as records
from biosam2.errors import InputError
from biosam2.io import read_volume
from biosam2.io.dicom import seg
from biosam2.io.review import Review
from biosam2.volume import Volume
from dicom_helpers import write_series
from hypothesis import given
from hypothesis import strategies as st
from io_helpers import Segments
from pydicom import dcmread

REVIEW = Review(True, "Jörg Müller", "2026-05-17T09:30:00Z", "k", {"liver": (1, 2), "lesion": (2,)})


@pytest.fixture
def segments(tmp_path):
    """A liver on slices 1 to 3 and a lesion on 2 and 3 of a DICOM series of 5."""
    volume = Volume(np.arange(5 * 8 * 10, dtype=np.int16).reshape(5, 8, 10), (0.8, 0.9, 3.0), (1.0, 2.0, 3.0))
    write_series(tmp_path / "ct", volume, shuffle=1)
    liver, lesion = np.zeros((2, *volume.shape), bool)
    liver[1:4, 2:6, 3:7] = lesion[2:4, 3:5, 4] = True
    return Segments(read_volume(tmp_path / "ct"), {"liver": liver, "lesion": lesion})


@given(
    st.builds(
        Review,
        st.booleans(),
        st.text(max_size=9),
        st.just("2026-05-17T09:30:00Z"),
        st.sampled_from("kji"),
        st.dictionaries(st.text(max_size=9), st.sets(st.integers(0, 40)).map(lambda found: tuple(sorted(found)))),
    )
)
def test_a_review_comes_back_from_a_record(review):
    assert records.review_of(records.with_review({}, review)) == review


@pytest.mark.parametrize("damaged", [1, {}, {"approved": "x"}, {"approved": True, "looked_at": {"a": [[0, 10**9]]}}])
def test_a_damaged_review_is_refused(damaged):
    with pytest.raises(InputError, match="the review is damaged"):
        records.review_of({"review": damaged})


def test_a_dicom_seg_says_what_was_looked_at_and_approved(segments, tmp_path):
    seg.write(tmp_path / "seg.dcm", segments, review=REVIEW)
    written = dcmread(tmp_path / "seg.dcm")
    assert [(s.SegmentAlgorithmType, s.SegmentDescription) for s in written.SegmentSequence] == [
        ("SEMIAUTOMATIC", "A person looked at 2 of the 3 slices that show it, and approved the segmentation."),
        ("SEMIAUTOMATIC", "A person looked at 1 of the 2 slices that show it, and approved the segmentation."),
    ]
    done = written.ContributingEquipmentSequence[-1]
    assert written.ContentCreatorName == done.OperatorsName == "Müller^Jörg"
    assert (done.ContributionDateTime, done.ContributionDescription) == ("20260517093000+0000", "Approved by a person")
    assert "ApprovalStatus" not in written
    seen = {1: [], 2: []}
    for frame in written.PerFrameFunctionalGroupsSequence:
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        if "FrameComments" in frame.FrameContentSequence[0]:
            place = frame.PlanePositionSequence[0].ImagePositionPatient
            seen[number].append(round(float(segments.volume.ijk_from_lps([[float(v) for v in place]])[0, 2])))
    assert {number: sorted(slices) for number, slices in seen.items()} == {1: [1, 2], 2: [2]}
    for name, mask in seg.read(tmp_path / "seg.dcm", segments.volume).values():
        np.testing.assert_array_equal(mask, segments.mask(name))


def test_slices_along_another_axis_are_counted_and_no_frame_is_marked(segments, tmp_path):
    seg.write(tmp_path / "seg.dcm", segments, review=Review(axis="i", looked_at={"liver": (3, 4, 9)}))
    written = dcmread(tmp_path / "seg.dcm")
    assert written.SegmentSequence[0].SegmentDescription == "A person looked at 2 of the 4 slices that show it."
    assert written.ContributingEquipmentSequence[-1].ContributionDescription == "Looked at by a person, not approved"
    assert "ContentCreatorName" not in written
    assert not any("FrameComments" in f.FrameContentSequence[0] for f in written.PerFrameFunctionalGroupsSequence)


def test_dicom3tools_find_no_error_in_a_reviewed_seg(segments, tmp_path):
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    for name, review in (("plain", None), ("reviewed", REVIEW), ("account", Review(True, "jm", "", "j", {}))):
        seg.write(tmp_path / f"{name}.dcm", segments, review=review)
        done = subprocess.run([checker, "-new", tmp_path / f"{name}.dcm"], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "Segmentation" in said
        # The series that the files are made of has a patient without weight.
        assert [line for line in said.splitlines() if line.startswith(("Error", "Warning"))] == [
            "Warning - </PatientWeight(0010,1030)[1]> - Value is zero"
        ]
