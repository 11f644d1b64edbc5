"""Compute devices: which one, and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import extras
from .errors import DependencyError, DeviceError, InputError

if TYPE_CHECKING:
    import torch

_PRECISIONS = ("auto", "float32", "bfloat16", "float16")

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, MPS
    "can't allocate memory",  # CPU, Linux and macOS
    "not enough memory",  # CPU, Windows
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def choose(device: str = "auto") -> tuple[torch.device, str]:
    """A device that works, and the reason for it in words.

    Args:
        device: ``auto`` (CUDA before MPS before CPU), ``cuda``, ``cuda:1``, ``mps`` or ``cpu``.

    Raises:
        DeviceError: no such device, or it cannot run this build of torch. Only ``auto`` falls back.
        DependencyError: torch is not installed.
    """
    torch = _torch()

    if device == "auto":
        obstacles = []
        for kind in ("cuda", "mps"):
            obstacle = _obstacle(torch.device(kind))
            if obstacle is None:
                return torch.device(kind), f"{_label(torch.device(kind))} is there"
            obstacles.append(obstacle)
        return torch.device("cpu"), "; ".join(obstacles)
    try:
        chosen = torch.device(device)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DeviceError(f"there is no device {device!r}; use auto, cpu, cuda, cuda:N or mps") from error
    if chosen.type not in {"cpu", "cuda", "mps"}:
        raise DeviceError(f"device {device!r} is not supported; use auto, cpu, cuda, cuda:N or mps")
    obstacle = _obstacle(chosen)
    if obstacle is not None:
        raise DeviceError(f"device {device!r} cannot be used: {obstacle}; use auto or cpu")
    return chosen, "asked for"


def describe() -> dict[str, Any]:
    """Everything about torch and the devices that `biosam2 info` shows; keys in the order to show them.

    Raises:
        DependencyError: torch is not installed.
    """
    torch = _torch()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the obstacle tells it
        count = torch.cuda.device_count()
    device, reason = choose("auto")
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cuda_devices": [
            {
                "name": torch.cuda.get_device_name(n),
                "memory_bytes": torch.cuda.get_device_properties(n).total_memory,
            }
            for n in range(count)
        ],
        "cuda_obstacle": _obstacle(torch.device("cuda")),
        "mps_obstacle": _obstacle(torch.device("mps")),
        "cpu_threads": torch.get_num_threads(),
        "device": str(device),
        "reason": reason,
        "precision": precision_of(device),
    }


def precision_of(device: torch.device, precision: str = "auto") -> str:
    """What ``auto`` means on a device: bfloat16 where CUDA has it in hardware, else float32. Others mean themselves.

    Raises:
        InputError: no such precision.
    """
    import torch

    if precision not in _PRECISIONS:
        raise InputError(f"there is no precision {precision!r}; use {', '.join(_PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    return "float32"


def quick_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: of processors, those with AVX512_BF16 or AMX."""
    import torch

    if device.type != "cpu":
        return True
    if hasattr(torch.cpu, "get_capabilities"):  # since torch 2.10
        known = torch.cpu.get_capabilities()
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in asked if ask is not None)


@contextmanager
def autocast(device: torch.device, precision: str = "float32") -> Iterator[None]:
    """Run the network in this precision. Anything but ``float32`` is approximate.

    ``float32`` on CUDA also keeps convolutions from TF32, which torch allows them by default.
    """
    import torch

    name = precision_of(device, precision)
    if name != "float32":
        with torch.autocast(device.type, dtype=getattr(torch, name)):
            yield
    elif device.type == "cuda":
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
    else:
        yield


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device, or of the computer, did not suffice."""
    import torch

    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _OUT_OF_MEMORY)


def _torch() -> ModuleType:
    extras.require("engine", "computing", "torch")
    try:
        import torch
    except (ImportError, OSError) as error:
        raise DependencyError(f"torch is installed but broken ({error}); install it anew") from error
    return torch


def _obstacle(device: torch.device) -> str | None:
    """Why a device cannot be used, or None when it computed a sum."""
    import torch

    if device.type == "cpu":
        return None
    if device.type == "mps":
        if not torch.backends.mps.is_built():
            return "no MPS: torch is built without it"
        if not torch.backends.mps.is_available():
            return "no MPS: it needs an Apple GPU and macOS 14 or later"
    else:
        if torch.version.cuda is None and torch.version.hip is None:
            return "no CUDA: torch is a CPU build"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            available = torch.cuda.is_available()
        if not available:
            # torch only warns of a driver that is too old.
            reason = str(caught[0].message).splitlines()[0] if caught else "no NVIDIA GPU or no driver"
            return f"no CUDA: {reason}"
        if (device.index or 0) >= torch.cuda.device_count():
            return f"there are {torch.cuda.device_count()} CUDA devices, counted from 0"
    try:
        # A GPU that is older or newer than this build of torch is listed as available and fails here.
        if float((torch.ones(2, device=device) * 2).sum()) != 4:
            return f"{_label(device)} computes wrongly"
    except (RuntimeError, AssertionError) as error:
        return f"{_label(device)} does not run this build of torch ({str(error).splitlines()[0]})"
    return None


def _label(device: torch.device) -> str:
    import torch

    return f"CUDA device {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "MPS"
