"""What a session is set to: one definition for Python, messages, records and Slicer's panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

import msgspec

from ..errors import InputError
from ..frames import resolve_axis, resolve_window
from ..speed import Speed
from ..volume import Volume

Axis: TypeAlias = Literal["i", "j", "k"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
Policy: TypeAlias = Literal["sam2", "path", "nearest", "quality", "dissimilar"]


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A session's settings, resolved for a volume.

    Attributes:
        axis: index axis along which slices are counted.
        window: (centre, width) in the voxels' unit.
        crop: None (exact): the network runs on whole slices; ``"auto"`` (approximate): on a crop around a target that
            fills less than a quarter of the slice, following it as it grows.
        policy: the memory policy: ``"sam2"`` (exact), ``"path"``, ``"nearest"``, ``"quality"`` or ``"dissimilar"``
            (approximate); None for an object of the caller's own, which no record can name.
        capacity: how many slices ``"dissimilar"`` remembers; None for as many as the network has slots for.
        merge: None (exact): a click's answer is the slice's new mask; ``"progressive"`` (approximate): of what it
            changes only the parts that the clicks point at (see `engine.merging`).
        precision: ``"float32"`` (exact); ``"bfloat16"``, ``"float16"`` or ``"auto"`` (approximate).
        speed: which optimisations are on; by default the exact ones.
    """

    axis: Axis
    window: tuple[float, float]
    crop: Literal["auto"] | None = None
    policy: Policy | None = "sam2"
    capacity: int | None = None
    merge: Literal["progressive"] | None = None
    precision: Precision = "float32"
    speed: Speed = Speed()

    def __post_init__(self) -> None:
        if self.capacity is None:
            return
        if self.capacity < 1:
            raise InputError(f"a memory bank holds one slice or more, not {self.capacity}")
        if self.policy != "dissimilar":
            raise InputError(f"only the policy dissimilar has a capacity, not {self.policy}; leave one out")

    @classmethod
    def resolve(
        cls,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        policy: Any = None,
        **options: Any,
    ) -> SessionSettings:
        """Settings from what a user gives.

        Args:
            volume: which the axis and the window are resolved for.
            axis: ``"i"``, ``"j"``, ``"k"``, or ``"axial"``, ``"coronal"``, ``"sagittal"``.
            window: (centre, width) in the voxels' unit, the name of a CT preset, or None for robust percentiles.
            policy: a name; None for ``"sam2"``; anything else is an object of the caller's own.
            options: the other attributes, see the class; None for the default.

        Raises:
            InputError: an unknown axis, window, policy or value of an option, or a capacity without its policy.
            TypeError: an unknown option.
        """
        if policy is None or isinstance(policy, str):
            options["policy"] = policy
        given = {name: _checked(name, value) for name, value in options.items() if value is not None}
        if not (policy is None or isinstance(policy, str)):
            given["policy"] = None
        centre, width = resolve_window(window, volume)
        return cls(
            axis=resolve_axis(axis, volume),  # type: ignore[arg-type]
            window=(float(centre), float(width)),
            **given,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SessionSettings:
        """Settings from JSON data.

        Raises:
            InputError: they are none.
        """
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from error
            raise InputError(f"these are no settings of a session: {error}") from error


def _checked(name: str, value: Any) -> Any:
    """An option's value.

    Raises:
        InputError: the option cannot be that.
        TypeError: there is no such option.
    """
    kinds = get_type_hints(SessionSettings)
    if name not in kinds:
        raise TypeError(f"a session has no setting {name!r}")
    try:
        return msgspec.convert(value, kinds[name])
    except msgspec.ValidationError as error:
        choices = [choice for kind in (kinds[name], *get_args(kinds[name])) for choice in get_args(kind)]
        named = ", ".join(choice for choice in choices if isinstance(choice, str))
        advice = f"; use {named}" if named else ""
        raise InputError(f"there is no {_NAMES.get(name, name)} {value!r}{advice}") from error


_NAMES = {"policy": "memory policy"}


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
    device_reason: str
    image_size: int
