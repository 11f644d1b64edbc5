"""Pictures and videos in, masks and overlays out."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2.errors import DependencyError, InputError, OutputError
from biosam2.io import read_image, read_labelmap, read_video, read_volume, write_overlay_video, write_video_masks
from biosam2.io.colours import segment_colour
from biosam2.volume import Volume
from io_helpers import Segments, two_boxes
from PIL import Image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)
RGB = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize("extension", [".png", ".tif", ".bmp", ".tiff"])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_pictures(tmp_path, extension, array):
    Image.fromarray(array).save(tmp_path / f"p{extension}")
    volume = read_image(tmp_path / f"p{extension}")
    np.testing.assert_array_equal(volume.array[0], array)
    assert volume.shape == (1, 6, 9)
    assert volume.spacing == (1, 1, 1)


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_grey_of_16_bits(tmp_path, extension):
    Image.fromarray(DEEP).save(tmp_path / f"p{extension}")
    np.testing.assert_array_equal(read_image(tmp_path / f"p{extension}").array[0], DEEP)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_tiff_of_32_bits(tmp_path, dtype):
    Image.fromarray(DEEP.astype(dtype)).save(tmp_path / "p.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif").array[0], DEEP)


@pytest.mark.parametrize("name", ["p.png", "p.tif"])
def test_colour_of_16_bits_becomes_8(tmp_path, name):
    deep = RNG.integers(0, 65536, (6, 9, 3)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / name))
    assert np.abs(read_image(tmp_path / name).array[0].astype(int) - (deep >> 8)).max() <= 1


def test_jpeg(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 32, dtype=np.uint8)[None], 16, axis=0)
    Image.fromarray(smooth).save(tmp_path / "p.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "p.jpg").array[0].astype(int) - smooth).max() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_other_modes(tmp_path, mode):
    picture = Image.fromarray(RGB).convert(mode)
    path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    picture.save(path)
    expected = np.array(picture.convert("L" if mode in ("LA", "1") else "RGB"))
    found = read_image(path).array[0].astype(int)
    np.testing.assert_array_equal(found * 255 if mode == "1" else found, expected)


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.fromarray(RGB)
    exif = picture.getexif()
    exif[0x0112] = 6  # taken with the camera on its side
    picture.save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").array[0], np.rot90(RGB, -1))


def test_a_tiff_of_several_pages_is_a_volume(tmp_path):
    pages = [Image.fromarray(GREY + n) for n in range(4)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_volume(tmp_path / "stack.tif").array, [np.array(p) for p in pages])
    with pytest.raises(InputError, match=r"holds 4 slices; read it as a volume"):
        read_image(tmp_path / "stack.tif")


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.8])
def test_truncated_pictures(tmp_path, extension, part):
    path = tmp_path / f"p{extension}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(InputError, match=f"cannot read .*p{extension}"):
        read_image(path)


def test_frames_in_a_folder_are_in_natural_order(tmp_path):
    for number in (1, 2, 10, 9, 100):
        Image.fromarray(np.full((6, 9), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("frames of a study")
    video = read_video(tmp_path)
    assert video.array[:, 0, 0].tolist() == [1, 2, 9, 10, 100]


def test_frames_of_different_size_are_named(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY[:, :5]).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"a\.png is 9×6, b\.png is 5×6"):
        read_video(tmp_path)
    Image.fromarray(RGB).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png is 9×6 in colour"):
        read_video(tmp_path)


def write_film(path, frames, codec, pix_fmt):
    import av

    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")))
        film.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("f.avi", "mjpeg", "yuvj444p"), ("f.mp4", "mpeg4", "yuv420p"), ("f.mkv", "ffv1", "bgr0")],
)
def test_films(tmp_path, name, codec, pix_fmt):
    pytest.importorskip("av", reason="PyAV, which reads videos, is not installed")
    shades = [np.full((48, 64, 3), (10 * n, 255 - 10 * n, 100), np.uint8) for n in range(12)]
    write_film(tmp_path / name, shades, codec, pix_fmt)
    video = read_video(tmp_path / name)
    assert video.array.shape == (12, 48, 64, 3)
    assert video.metadata["fps"] == 25
    assert np.abs(video.array.astype(int) - shades).max() < 12


def test_grey_films_stay_grey(tmp_path):
    pytest.importorskip("av", reason="PyAV, which reads videos, is not installed")
    frames = [np.full((48, 64), 20 * n, np.uint8) for n in range(5)]
    write_film(tmp_path / "f.mkv", frames, "ffv1", "gray")
    np.testing.assert_array_equal(read_video(tmp_path / "f.mkv").array, frames)


@pytest.mark.parametrize("part", [0.0001, 0.2, 0.5])
def test_truncated_films(tmp_path, part):
    pytest.importorskip("av", reason="PyAV, which reads videos, is not installed")
    path = tmp_path / "f.mp4"
    write_film(path, list(RNG.integers(0, 256, (10, 48, 64, 3)).astype(np.uint8)), "mpeg4", "yuv420p")
    path.write_bytes(path.read_bytes()[: max(int(path.stat().st_size * part), 1)])
    with pytest.raises(InputError, match=r"cannot read .*f\.mp4"):
        read_video(path)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "f.mp4").write_bytes(b"0")
    with pytest.raises(DependencyError, match=r"pip install 'biosam2\[video\]'"):
        read_video(tmp_path / "f.mp4")
    with pytest.raises(DependencyError, match=r"pip install 'biosam2\[video\]'"):
        write_overlay_video(tmp_path / "o.mp4", two_boxes(Volume(np.zeros((4, 5, 6), np.uint8))))
    assert [p.name for p in tmp_path.iterdir()] == ["f.mp4"]


def test_an_overlay_is_in_the_window_that_is_given(tmp_path):
    pytest.importorskip("av", reason="PyAV, which writes videos, is not installed")
    session = two_boxes(Volume(np.full((4, 16, 16), 300, np.int16)))
    shown = []
    for number, window in enumerate([(300, 100), (300, 1000), (500, 200)]):
        write_overlay_video(tmp_path / f"{number}.mp4", session, window=window)
        shown.append(int(read_video(tmp_path / f"{number}.mp4").array[3, -2, -2].mean()))
    assert shown[2] < 10 < 110 < shown[0] < 145
    assert abs(shown[0] - shown[1]) < 10


def test_video_masks_hold_labels(tmp_path):
    session = two_boxes(Volume(np.zeros((12, 20, 30, 3), np.uint8)))
    write_video_masks(tmp_path / "masks", session)
    files = sorted((tmp_path / "masks").iterdir())
    assert [f.name for f in files] == [f"frame{n:05}.png" for n in range(12)]
    for number, file in enumerate(files):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(file))), session.labelmap()[number])
    np.testing.assert_array_equal(read_labelmap(tmp_path / "masks", like=session.volume).array, session.labelmap())


def test_a_folder_that_holds_something_is_not_touched(tmp_path):
    session = two_boxes(Volume(np.zeros((4, 5, 6), np.uint8)))
    (tmp_path / "masks").mkdir()
    write_video_masks(tmp_path / "masks", session)  # an empty folder is filled
    with pytest.raises(OutputError, match="is not empty"):
        write_video_masks(tmp_path / "masks", session)
    assert len(list((tmp_path / "masks").iterdir())) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["masks"]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_an_overlay_shows_each_segment_in_its_colour(tmp_path, colour, size):
    pytest.importorskip("av", reason="PyAV, which writes videos, is not installed")
    array = np.full((6, *size, 3) if colour else (6, *size), 100, np.uint8)
    left, right = np.zeros((2, 6, *size), bool)
    left[:, 8:40, 4:28] = True
    right[:3, 8:40, 36:60] = True
    session = Segments(Volume(array, metadata={"fps": 12.5}), {"left": left, "right": right})
    write_overlay_video(tmp_path / "o.mp4", session)

    film = read_video(tmp_path / "o.mp4")

    assert film.array.shape == (6, 48, 64, 3)  # even, as the codec asks
    assert film.metadata["fps"] == 12.5
    shown = film.array[0].astype(int)
    for number, (row, column) in enumerate([(24, 16), (24, 48)]):
        mixed = 0.65 * 100 + 0.35 * 255 * np.array(segment_colour(number))
        assert np.abs(shown[row, column] - mixed).max() < 20
    assert np.abs(shown[3, 32] - 100).max() < 12  # outside both
    assert np.abs(film.array[5][24, 48].astype(int) - 100).max() < 12  # the right one is gone by then


def test_an_overlay_windows_what_is_not_eight_bit(tmp_path):
    pytest.importorskip("av", reason="PyAV, which writes videos, is not installed")
    ramp = np.broadcast_to(np.linspace(-1000, 2000, 64), (3, 48, 64)).astype(np.float32)
    write_overlay_video(tmp_path / "o.mp4", Segments(Volume(ramp), {"s": np.zeros(ramp.shape, bool)}), fps=5)
    shown = read_video(tmp_path / "o.mp4").array[1, 24].astype(int)
    assert shown[1].max() < 20
    assert shown[62].min() > 235
    assert np.abs(shown[32] - 128).max() < 12


def test_what_is_no_film(tmp_path):
    session = two_boxes(Volume(np.zeros((4, 5, 6), np.uint8)))
    with pytest.raises(OutputError, match=r"known are \.mp4"):
        write_overlay_video(tmp_path / "o.txt", session)
    with pytest.raises(InputError, match="frame rate"):
        write_overlay_video(tmp_path / "o.mp4", session, fps=0)
    with pytest.raises(InputError, match="no segment yet"):
        write_overlay_video(tmp_path / "o.mp4", Segments(session.volume, {}))
