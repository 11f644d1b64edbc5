"""What a video's segmentation is written as: a sequence of labelmaps, and areas over time."""

import csv

import numpy as np
import pytest
from biosam2.errors import InputError
from biosam2.io import movies, read_video, read_volume, write_areas, write_segmentation
from biosam2.io.times import frame_times
from biosam2.volume import Volume
from dicom_helpers import SHIPPED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_helpers import Segments, grids, two_boxes
from pydicom import dcmread

round_trip = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@round_trip
@given(grid=grids(), steps=st.lists(st.floats(0.001, 10), min_size=6, max_size=6), timed=st.booleans())
def test_a_sequence_is_read_as_it_was_written(grid, steps, timed, tmp_path):
    frames = grid.shape[0]
    times = np.cumsum(steps)[:frames] - steps[0]
    metadata = {"frame_times": times.tolist()} if timed else {}
    video = Volume(grid.array, grid.spacing, grid.origin, grid.direction, metadata)
    found = two_boxes(video)
    path = tmp_path / "masks.seq.nrrd"
    write_segmentation(path, found)
    again = read_video(path)
    np.testing.assert_array_equal(again.array, found.labelmap())
    np.testing.assert_allclose(again.ijk_to_lps, video.ijk_to_lps, atol=1e-9)
    if timed and frames > 1:
        np.testing.assert_allclose(frame_times(again), times, atol=1e-6)
    elif not timed:
        assert frame_times(again) is None
    written = path.read_bytes()
    write_segmentation(path, found)
    assert path.read_bytes() == written


def test_sequences_that_are_no_video_of_grey_frames_are_refused(tmp_path):
    path = tmp_path / "a.seq.nrrd"
    header = "NRRD0004\ntype: unsigned char\ndimension: {}\nsizes: {}\nkinds: {}\nencoding: raw\n\n"
    for text, said in (
        (
            header.format(4, "2 2 3 2", "domain domain domain list"),
            "3 slices in each of 2 frames; choose the one to follow",
        ),
        (header.format(3, "2 2 2", "domain domain domain"), "is no sequence of images"),
        ("NRRD0004\n", "cannot read"),
    ):
        path.write_bytes(text.encode() + bytes(24))
        with pytest.raises(InputError, match=r"a\.seq") as caught:
            read_video(path)
        assert said in str(caught.value)
    for wrong in (3, -1):
        path.write_bytes(header.format(4, "2 2 3 2", "domain domain domain list").encode() + bytes(24))
        with pytest.raises(InputError, match=f"has no slice {wrong}; its slices are 0 to 2"):
            read_video(path, wrong)
    with pytest.raises(InputError, match="leave the slice out"):
        read_video(SHIPPED / "examples_ybr_color.dcm", 0)
    with pytest.raises(InputError, match="use read_video"):
        read_volume(path)


def test_areas_count_pixels_and_square_millimetres(tmp_path):
    array = np.zeros((3, 4, 5), np.uint8)
    left, right = np.zeros((2, 3, 4, 5), bool)
    left[0, :2, :2] = left[2, 0] = right[2, 0, 1] = True
    video = Volume(array, spacing=(0.5, 0.25, 3), metadata={"frame_times": [0, 0.1, 0.4]})
    write_areas(tmp_path / "a.csv", Segments(video, {"left": left, "right": right}))
    assert (tmp_path / "a.csv").read_text() == (
        "frame,seconds,segment,pixels,mm2\n"
        "0,0.0000,left,4,0.5\n0,0.0000,right,0,0\n"
        "1,0.1000,left,0,0\n1,0.1000,right,0,0\n"
        "2,0.4000,left,5,0.625\n2,0.4000,right,1,0.125\n"
    )
    unknown = Volume(array, metadata={"calibrated": False})
    write_areas(tmp_path / "b.csv", Segments(unknown, {"left": left}))
    first, *_ = csv.DictReader((tmp_path / "b.csv").open())
    assert first == {"frame": "0", "seconds": "", "segment": "left", "pixels": "4", "mm2": ""}
    with pytest.raises(InputError, match="no segment"):
        write_areas(tmp_path / "c.csv", Segments(video, {}))


def test_a_cine_s_frame_times_are_those_of_its_vector(tmp_path):
    cine = dcmread(SHIPPED / "examples_ybr_color.dcm")
    frames = int(cine.NumberOfFrames)
    assert read_video(SHIPPED / "examples_ybr_color.dcm").metadata["calibrated"]
    del cine.FrameTime
    cine.FrameTimeVector = [0.0, *([20.0, 60.0] * frames)[: frames - 1]]
    cine.FrameIncrementPointer = 0x00181065
    del cine.SequenceOfUltrasoundRegions
    cine.save_as(tmp_path / "uneven.dcm")
    video = read_video(tmp_path / "uneven.dcm")
    assert not video.metadata["calibrated"]
    times = frame_times(video)
    assert times[:4] == pytest.approx([0, 0.02, 0.08, 0.1])
    assert video.metadata["fps"] == pytest.approx((frames - 1) / times[-1])
    cine.FrameTimeVector = [0.0, 20.0]
    cine.save_as(tmp_path / "short.dcm")
    assert "frame_times" not in read_video(tmp_path / "short.dcm").metadata


def test_a_film_says_when_its_frames_are(tmp_path):
    pytest.importorskip("av")
    movies.write(tmp_path / "f.mp4", (np.full((16, 16, 3), 20 * n, np.uint8) for n in range(6)), 12.5)
    film = read_video(tmp_path / "f.mp4")
    assert frame_times(film) == pytest.approx(np.arange(6) / 12.5, abs=1e-3)
    assert film.metadata["calibrated"] is False


def test_frame_times_follow_from_the_rate_where_frames_have_none():
    array = np.zeros((3, 1, 1))
    assert frame_times(Volume(array)) is None
    assert frame_times(Volume(array, metadata={"fps": 4.0})) == pytest.approx([0, 0.25, 0.5])
    assert frame_times(Volume(array, metadata={"fps": 4.0, "frame_times": [0, 1]})) == pytest.approx([0, 0.25, 0.5])
