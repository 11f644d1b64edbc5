"""What a session is set to: one definition for Python, messages, records and Slicer's panel."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import msgspec

from ..errors import InputError
from ..frames import resolve_axis, resolve_window
from ..speed import Speed
from ..volume import Volume

Axis: TypeAlias = Literal["i", "j", "k"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
Policy: TypeAlias = Literal["sam2", "path", "quality", "dissimilar"]


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A session's settings, resolved for a volume.

    Attributes:
        axis: index axis along which slices are counted.
        window: (centre, width) in the voxels' unit.
        crop: None (exact): the network runs on whole slices; ``"auto"`` (approximate): on a crop around a target that
            fills less than a quarter of the slice, following it as it grows.
        policy: the memory policy: ``"sam2"`` (exact), ``"path"``, ``"quality"`` or ``"dissimilar"`` (approximate);
            None for an object of the caller's own, which no record can name.
        precision: ``"float32"`` (exact); ``"bfloat16"``, ``"float16"`` or ``"auto"`` (approximate).
        speed: which optimisations are on; by default the exact ones.
    """

    axis: Axis
    window: tuple[float, float]
    crop: Literal["auto"] | None = None
    policy: Policy | None = "sam2"
    precision: Precision = "float32"
    speed: Speed = Speed()

    @classmethod
    def resolve(
        cls,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: str | None = None,
        policy: Any = None,
        precision: str = "float32",
        speed: Speed | None = None,
    ) -> SessionSettings:
        """Settings from what a user gives.

        Args:
            volume: which the axis and the window are resolved for.
            axis: ``"i"``, ``"j"``, ``"k"``, or ``"axial"``, ``"coronal"``, ``"sagittal"``.
            window: (centre, width) in the voxels' unit, the name of a CT preset, or None for robust percentiles.
            crop: None or ``"auto"``; see the class.
            policy: a name; None for ``"sam2"``; anything else is an object of the caller's own.
            precision: of the network's arithmetic; see the class.
            speed: None for the exact optimisations.

        Raises:
            InputError: an unknown axis, window, crop, policy or precision.
        """
        if crop not in (None, "auto"):
            raise InputError(f"crop must be None or 'auto', not {crop!r}")
        if isinstance(policy, str) and policy not in get_args(Policy):
            raise InputError(f"there is no memory policy {policy!r}; use one of {', '.join(get_args(Policy))}")
        if precision not in get_args(Precision):
            raise InputError(f"there is no precision {precision!r}; use auto, float32, bfloat16 or float16")
        centre, width = resolve_window(window, volume)
        return cls(
            axis=resolve_axis(axis, volume),  # type: ignore[arg-type]
            window=(float(centre), float(width)),
            crop=crop,  # type: ignore[arg-type]
            policy="sam2" if policy is None else policy if isinstance(policy, str) else None,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            speed=speed or Speed(),
        )


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the network that draws, wherever it is.

    Attributes:
        name: as its registry calls it.
        sha256: hash of the checkpoint.
        device: where it runs.
        device_reason: why there.
        image_size: side of its square input, in pixels.
    """

    name: str
    sha256: str
    device: str
    device_reason: str = ""
    image_size: int = 0
