"""A run's state made small, in parts, to be taken to another machine.

The averaged weights are kept in float16. The present weights as their difference from them, and the optimizer's
moments (of the second its root), are kept in float8 with a scale for each tensor: 5 bytes a parameter instead of 16. A
run that goes on from it is not the same in its last bits; Adam's moments are forgotten within some fifty steps anyhow.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..io import atomic_path
from .files import save_state
from .trainer import STATE

_FORMAT = "biosam2-handover-1"
_KINDS = {"exp_avg": torch.float8_e4m3fn, "exp_avg_sq": torch.float8_e5m2}
_NAME = re.compile(r"state-(\w{12})-(\d+)-of-(\d+)\.part")


def hand_over(run: str | Path, folder: str | Path, part: float = 15.0) -> list[Path]:
    """Write a run's saved state to a folder in small parts; those of an earlier state are removed.

    Args:
        run: folder of the run.
        folder: of the parts; made if it is not there.
        part: size of each at most, MiB.

    Raises:
        InputError: the run has no state.
        OutputError: the folder cannot be written; the earlier parts are still there.
    """
    source, target = Path(run) / STATE, Path(folder)
    if not source.is_file():
        raise InputError(f"{run} holds no {STATE}; train first")
    stream = io.BytesIO()
    torch.save(_small(torch.load(source, map_location="cpu", weights_only=True)), stream)
    content = stream.getvalue()
    length = max(1, int(part * 2**20))
    pieces = [content[begin : begin + length] for begin in range(0, len(content), length)]
    target.mkdir(parents=True, exist_ok=True)
    earlier = _parts(target)
    written = []
    for number, piece in enumerate(pieces, start=1):
        path = target / f"state-{hashlib.sha256(content).hexdigest()[:12]}-{number}-of-{len(pieces)}.part"
        with atomic_path(path) as partial:
            partial.write_bytes(piece)
        written.append(path)
    for path in earlier:
        if path not in written:
            path.unlink()
    return written


def take_over(folder: str | Path, run: str | Path) -> bool:
    """Make a run's state of the parts in a folder, unless the run is as far already; returns whether it did.

    Raises:
        InputError: parts are missing or damaged.
        OutputError: the run's folder cannot be written.
    """
    source, target = Path(folder), Path(run) / STATE
    content = _joined(source)
    if content is None:
        return False
    small = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if small["format"] != _FORMAT:
        raise InputError(f"{source} holds a state of another version; hand it over again")
    if target.is_file() and torch.load(target, map_location="cpu", weights_only=True)["step"] >= small["step"]:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    save_state(target, _whole(small))
    return True


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.part") if _NAME.fullmatch(path.name))


def _joined(folder: Path) -> bytes | None:
    """The newest state whose parts are all there; None where there are no parts.

    Raises:
        InputError: parts are missing or damaged.
    """
    states: dict[tuple[str, int], dict[int, Path]] = {}
    for path in _parts(folder):
        digest, number, count = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]  # `_parts` looked
        states.setdefault((digest, int(count)), {})[int(number)] = path
    whole = {key: parts for key, parts in states.items() if len(parts) == key[1]}
    if states and not whole:
        (_, count), parts = next(iter(states.items()))
        missing = next(number for number in range(1, count + 1) if number not in parts)
        raise InputError(f"{folder} lacks part {missing} of {count} of the state; copy all of them")
    if not whole:
        return None
    (digest, _), parts = max(whole.items(), key=lambda item: item[1][1].stat().st_mtime_ns)
    content = b"".join(parts[number].read_bytes() for number in sorted(parts))
    if hashlib.sha256(content).hexdigest()[:12] != digest:
        raise InputError(f"the parts of the state in {folder} are damaged; copy them again")
    return content


def _small(state: dict[str, Any]) -> dict[str, Any]:
    average = {name: _half(value) for name, value in state["average"].items()}
    network = {
        name: _scaled(value - average[f"module.{name}"].to(value.dtype), torch.float8_e4m3fn)
        for name, value in state["network"].items()
        if value.is_floating_point()
    }
    optimizer = state["optimizer"]
    moments = {index: _small_moments(of) for index, of in optimizer["state"].items()}
    small = {**state, "format": _FORMAT, "average": average, "network": network}
    return {**small, "optimizer": {**optimizer, "state": moments}}


def _whole(small: dict[str, Any]) -> dict[str, Any]:
    average = {name: value.float() if value.is_floating_point() else value for name, value in small["average"].items()}
    network = {}
    for name, value in average.items():
        bare = name.removeprefix("module.")
        if bare != name:
            network[bare] = value + _unscaled(small["network"][bare]) if bare in small["network"] else value
    optimizer = small["optimizer"]
    moments = {index: _whole_moments(of) for index, of in optimizer["state"].items()}
    state = {name: value for name, value in small.items() if name != "format"}
    return {**state, "average": average, "network": network, "optimizer": {**optimizer, "state": moments}}


def _small_moments(of: dict[str, Tensor]) -> dict[str, Any]:
    return {
        name: _scaled(value.sqrt() if name == "exp_avg_sq" else value, _KINDS[name]) if name in _KINDS else value
        for name, value in of.items()
    }


def _whole_moments(of: dict[str, Any]) -> dict[str, Tensor]:
    whole = {name: _unscaled(value) if name in _KINDS else value for name, value in of.items()}
    whole["exp_avg_sq"] = whole["exp_avg_sq"].square()
    return whole


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def _scaled(value: Tensor, kind: torch.dtype) -> tuple[Tensor, float]:
    """A tensor in float8, and what it was divided by."""
    scale = float(value.abs().max()) / torch.finfo(kind).max if value.numel() else 0.0
    return (value / scale if scale > 0 else torch.zeros_like(value)).to(kind), scale


def _unscaled(pair: tuple[Tensor, float]) -> Tensor:
    value, scale = pair
    return value.float() * scale
