"""When the frames of a video were taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume


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


def rate_of(times: NDArray[np.float64]) -> float | None:
    """The mean frame rate, per second; None where the times do not grow."""
    return (len(times) - 1) / float(times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None
