"""Videos by PyAV: mp4, avi and whatever else FFmpeg decodes."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DependencyError, InputError
from ..volume import Volume
from .atomic import atomic_path, cannot_write
from .guards import available_memory, require_memory, unreadable


def read(path: Path) -> Volume:
    """Read every frame of a file's first video stream as RGB, or as grey where the stream is grey.

    Returns:
        Volume (K, J, I, 3) or (K, J, I), uint8; spacing 1; metadata["fps"] is the average frame rate,
        metadata["frame_times"] the seconds of each frame from the first.

    Raises:
        InputError: the video is damaged, holds no picture, or does not fit in memory.
        DependencyError: PyAV is not installed.
    """
    av = _av()
    frames: list[NDArray[Any]] = []
    times: list[float | None] = []
    with unreadable(path, "a video"), av.open(str(path)) as video:
        if not video.streams.video:
            raise InputError(f"{path} holds no video stream")
        stream = video.streams.video[0]
        rate = stream.average_rate
        require_memory(path, 2.0 * 3 * stream.width * stream.height * max(_count(stream), 1))
        grey = stream.format is not None and stream.format.name.startswith("gray")
        for frame in video.decode(stream):
            picture = frame.to_ndarray(format="gray" if grey else "rgb24")
            if frames and picture.shape != frames[0].shape:
                raise InputError(f"{path} changes its picture size at frame {len(frames)}; convert it to one size")
            # The header's number of frames may be absent or wrong.
            if len(frames) % 64 == 63 and picture.nbytes * len(frames) > available_memory():
                raise InputError(f"{path} does not fit in memory: stopped at frame {len(frames)}; cut it first")
            frames.append(picture)
            times.append(frame.time)
    if not frames:
        raise InputError(f"{path} holds no frame that can be decoded; it is damaged")
    metadata: dict[str, Any] = {"source": str(path), "calibrated": False} | ({"fps": float(rate)} if rate else {})
    known = [time for time in times if time is not None]
    if len(known) == len(frames) and all(early < late for early, late in pairwise(known)):
        metadata["frame_times"] = [time - known[0] for time in known]
    return Volume(np.stack(frames), metadata=metadata)


def write(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float, *, overwrite: bool = True) -> None:
    """Write RGB frames of one size as a video, H.264 where FFmpeg has it; atomic.

    Args:
        path: .mp4 or another container that FFmpeg knows by its extension.
        frames: uint8 (rows, columns, 3); odd sizes are padded by one pixel, as the codec asks.
        fps: frames a second.
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        OutputError: the file cannot be written.
        DependencyError: PyAV is not installed.
    """
    av = _av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with atomic_path(path, overwrite=overwrite) as temporary:
        try:
            with av.open(str(temporary), "w") as video:
                stream = video.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
                stream.pix_fmt = "yuv420p"
                for number, frame in enumerate(frames):
                    even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
                    if number == 0:
                        stream.height, stream.width = even.shape[:2]
                    video.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
                video.mux(stream.encode())
        except (av.FFmpegError, ValueError) as error:
            raise cannot_write(path, error) from error


def _av() -> ModuleType:
    try:
        import av
    except ImportError:
        raise DependencyError("reading and writing videos needs PyAV: pip install 'biosam2[video]'") from None
    av.logging.set_level(av.logging.PANIC)  # it would print on standard error
    return av


def _count(stream: Any) -> int:
    """Number of frames as the header says or lets guess, 0 if it does not."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base and stream.average_rate:
        return int(stream.duration * stream.time_base * stream.average_rate)
    return 0
