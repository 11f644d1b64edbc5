"""What runs the network for a session: in this process, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..prompts import Prompt
from .settings import ModelFacts
from .state import SessionState


@dataclass(frozen=True, eq=False)
class Found:
    """What the network found on one slice of one segment while it propagated.

    Attributes:
        segment: its name.
        slice_index: the slice.
        mask: bool (rows, columns); without a voxel where `gone`.
        score: predicted IoU × probability that the segment is there, 0 to 1.
        update: whether the propagation came by; False for a prompted slice, whose result is there from the beginning.
        gone: whether what an earlier propagation had found there is taken back and nothing stands in its place.
        interpolated: whether the network did not run on the slice, and the mask lies between those of its neighbours.
    """

    segment: str
    slice_index: int
    mask: NDArray[np.bool_]
    score: float
    update: bool = True
    gone: bool = False
    interpolated: bool = False


class Run(Protocol):
    """A propagation under way."""

    def __iter__(self) -> Iterator[Found]:
        """Itself."""

    def __next__(self) -> Found:
        """The next result; those of prompted slices come first.

        Raises:
            StopIteration: it ran to its end.
            BioSAM2Error: it cannot go on; what was found stands.
        """

    def stop(self) -> list[Found]:
        """End it; what was found meanwhile and not taken yet, in order."""


class Executor(Protocol):
    """Runs entries and gives results. Holds nothing that it could not make again from a state.

    Every method is given the state that it is about; whatever the executor knows of it is reused, what it lacks is
    run again, propagations no further than their entries say.
    """

    @property
    def facts(self) -> ModelFacts:
        """The network."""

    @property
    def precision(self) -> str:
        """Which results are computed in: float32, bfloat16 or float16."""

    def check(self, state: SessionState, prompt: Prompt) -> None:
        """Refuse a prompt that fits the volume and that the network cannot take.

        Raises:
            PromptError: it vanishes at the network's resolution.
        """

    def predict(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """The network's answer to a prompted slice, bool (rows, columns), as the next propagation will begin with it.

        Raises:
            DeviceError: out of memory.
        """

    def logits(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.float32]:
        """The network's output for a slice with a result, before thresholding: float32 (rows, columns)."""

    def propagate(self, state: SessionState, entry_id: int) -> Run:
        """Begin the propagation that an entry in force asks for."""

    def forget(self, entry_id: int) -> None:
        """Forget a propagation and all later ones: the entry is not what it was."""

    def settle(self, state: SessionState) -> None:
        """Release what the state does not need and only undo or redo can reach."""

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """In idle time: encode one more slice around the one prompted last; whether there is more to do.

        Args:
            busy: whether somebody waits; then the slice is given up in the middle.
        """

    def close(self) -> None:
        """Release what is held elsewhere."""
