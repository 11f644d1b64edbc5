"""When the frames of a video were taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume

_UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3}
"""Seconds in the units that the index of a sequence may have."""


def frame_times(volume: Volume) -> NDArray[np.float64] | None:
    """Seconds of each frame from the first, (K,); None where the source does not say when they were taken.

    The times are those that the source gives its frames (a DICOM frame time vector, a video's time stamps, a sequence's
    index), else they follow from its frame rate.
    """
    given = volume.metadata.get("frame_times")
    if given is not None and len(given) == volume.shape[0]:
        return np.asarray(given, np.float64)
    rate = volume.metadata.get("fps")
    return np.arange(volume.shape[0]) / float(rate) if rate else None


def metadata_of_index(values: Sequence[str], unit: str) -> dict[str, Any]:
    """What the index of a sequence says of a video's frames, as its volume's metadata.

    Args:
        values: of the index, one for each frame.
        unit: of the values.

    Returns:
        ``frame_times``, seconds of each frame from the first, and ``fps``, the mean rate; empty where the values are
        no growing times.
    """
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return {}
    if unit not in _UNITS or not len(numbers) or not np.isfinite(numbers).all() or (np.diff(numbers) <= 0).any():
        return {}
    times = (numbers - numbers[0]) * _UNITS[unit]
    rate = rate_of(times)
    return {"frame_times": times.tolist(), **({"fps": rate} if rate else {})}


def rate_of(times: NDArray[np.float64]) -> float | None:
    """The mean frame rate, per second; None where the times do not grow."""
    return (len(times) - 1) / float(times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None
