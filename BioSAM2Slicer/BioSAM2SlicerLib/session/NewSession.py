"""What a session that begins now is set to: axis and window, by the volume and what the user chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biosam2.frames import CT_PRESETS, resolve_window
from biosam2.session import SessionSettings

from ..scene.Parameters import Parameters
from ..scene.VolumeGeometry import VolumeGeometry, volumeOf


class NewSession:
    """Settings for one volume.

    Args:
        parameters: gives what the user chose.
    """

    def __init__(self, parameters: Callable[[], Parameters]) -> None:
        self._parameters = parameters
        self._volume: Any = None
        # The automatic window, and what it was found for.
        self._automatic: tuple[int, tuple[float, float]] = (-1, (0.0, 1.0))

    def open(self, volumeNode: Any) -> None:
        """Set sessions on this volume; None for none."""
        self._volume = volumeNode

    def axis(self, asked: str) -> str:
        """The axis of a session that is to begin along one: a single picture and a video have one axis only."""
        single = [a for a in "kji" if VolumeGeometry(self._volume).count(a) == 1]
        return "k" if self._parameters().film else single[0] if single else asked

    def settings(self, axis: str) -> SessionSettings:
        """Of a session that begins along an axis.

        Raises:
            InputError: voxels or window cannot be used.
        """
        parameters = self._parameters()
        crop = "auto" if parameters.crop else None
        return SessionSettings.resolve(volumeOf(self._volume), axis, self.window(), parameters.policy, crop=crop)

    def window(self) -> tuple[float, float]:
        """(centre, width) in which the network would see the volume.

        Raises:
            InputError: the voxels cannot be used.
        """
        chosen = self._parameters().window
        if chosen in CT_PRESETS:
            return CT_PRESETS[chosen]
        if chosen == "view" and self._volume.IsA("vtkMRMLScalarVolumeNode"):
            display = self._volume.GetScalarVolumeDisplayNode()
            if display is not None and display.GetWindow() > 0:
                return (display.GetLevel(), display.GetWindow())
        key = self._volume.GetImageData().GetMTime()
        if self._automatic[0] != key:
            # Percentiles of all voxels, which takes a moment.
            self._automatic = (key, resolve_window(None, volumeOf(self._volume)))
        return self._automatic[1]
