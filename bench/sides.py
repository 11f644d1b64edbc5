"""One conversation about a volume, held by the engine and by `sam2`'s predictor alike."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import biosam2
import numpy as np
import sam2.sam2_video_predictor
import sam2.utils.misc
import torch
from biosam2.engine.features import DEFAULT_DISK, FeatureCache
from biosam2.frames import Frames
from biosam2.models.model import Model
from biosam2.speed import Speed
from numpy.typing import NDArray
from PIL import Image

# Its progress bars would disturb those of the bench.
for _module in (sam2.sam2_video_predictor, sam2.utils.misc):
    _module.tqdm = lambda items, **_: items


class Side(Protocol):
    """What a phase asks of either side. Segments are numbers; rows and columns are the slice's own."""

    def open(self) -> None:
        """Begin anew on the volume."""

    def click(self, segment: int, slice_index: int, row: float, column: float) -> NDArray[np.bool_]:
        """Click into a segment; its mask on that slice."""

    def paint(self, segment: int, slice_index: int, mask: NDArray[np.bool_]) -> None:
        """Give a segment's mask on a slice."""

    def rest(self) -> None:
        """Do what can be done while the user does nothing."""

    def propagate(self) -> int:
        """Carry all segments through the volume both ways; the number of masks that came."""


class EngineSide:
    """The engine.

    Args:
        model: the network.
        volume: the voxels, along axis k.
        speed: its optimisations.
        budget: bytes of encoded slices that it may keep.
    """

    def __init__(self, model: Model, volume: biosam2.Volume, speed: Speed, budget: int) -> None:
        self.model, self.volume, self.speed, self.budget = model, volume, speed, budget
        self.session: biosam2.Session

    def open(self) -> None:
        """See `Side`."""
        cache = FeatureCache(self.budget, DEFAULT_DISK if self.speed.disk else 0)
        self.session = biosam2.Session(self.model, self.volume, features=cache, speed=self.speed)

    def click(self, segment: int, slice_index: int, row: float, column: float) -> NDArray[np.bool_]:
        """See `Side`."""
        self.session.add_prompt(str(segment), biosam2.Point((column, row, slice_index)))
        return self.session.predict(str(segment), slice_index)

    def paint(self, segment: int, slice_index: int, mask: NDArray[np.bool_]) -> None:
        """See `Side`."""
        self.session.add_prompt(str(segment), biosam2.Mask(slice_index, mask))

    def rest(self) -> None:
        """See `Side`."""
        while self.session.encode_ahead(lambda: False):
            pass

    def propagate(self) -> int:
        """See `Side`."""
        return sum(1 for _ in self.session.propagate())


class PredictorSide:
    """`sam2`'s SAM2VideoPredictor.

    Args:
        predictor: the network.
        volume: the voxels, along axis k.
    """

    def __init__(self, predictor: Any, volume: biosam2.Volume) -> None:
        self.predictor = predictor
        self.frames = Frames(volume, "k", None, predictor.image_size)
        self.state: dict[str, Any]

    def open(self) -> None:
        """See `Side`. It holds all frames as floats from the beginning on."""
        frames = self.frames
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            # It reads folders of JPEGs only: one frame of them, and then it is given the frames themselves.
            Image.new("RGB", (8, 8)).save(Path(folder) / "0.jpg")
            self.state = self.predictor.init_state(folder)
        self.state["num_frames"] = frames.count
        self.state["images"] = torch.stack([frames.tensor(s) for s in range(frames.count)])
        self.state["video_height"], self.state["video_width"] = frames.rows, frames.columns
        self.state["cached_features"] = {}

    def click(self, segment: int, slice_index: int, row: float, column: float) -> NDArray[np.bool_]:
        """See `Side`."""
        frames, half = self.frames, 0.5 / self.predictor.image_size
        point = [(column + 0.5) / frames.columns - half, (row + 0.5) / frames.rows - half]
        _, segments, logits = self.predictor.add_new_points_or_box(
            self.state,
            slice_index,
            segment,
            points=np.array([point], np.float32),
            labels=np.array([1], np.int32),
            clear_old_points=False,
            normalize_coords=False,
        )
        return (logits[segments.index(segment), 0] > 0).numpy()

    def paint(self, segment: int, slice_index: int, mask: NDArray[np.bool_]) -> None:
        """See `Side`."""
        self.predictor.add_new_mask(self.state, slice_index, segment, torch.as_tensor(mask))

    def rest(self) -> None:
        """It does nothing."""

    def propagate(self) -> int:
        """See `Side`."""
        count = 0
        for reverse in (False, True):
            for _, segments, logits in self.predictor.propagate_in_video(self.state, reverse=reverse):
                count += len(segments)
                (logits > 0).numpy()
        return count
