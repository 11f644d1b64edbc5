"""Devices: chosen visibly, never silently."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from biosam2 import devices
from biosam2.errors import DeviceError, InputError

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@NO_CUDA
def test_auto_falls_back_and_says_why() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("there is an MPS device")
    device, reason = devices.choose()
    assert device == torch.device("cpu")
    assert "no CUDA" in reason
    assert "no MPS" in reason


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_asking_for_what_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(DeviceError, match="no CUDA") as error:
        devices.choose(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu:", "meta", "xpu", "cuda:-1"])
def test_names_that_are_no_device(name: str) -> None:
    with pytest.raises(DeviceError, match="use auto"):
        devices.choose(name)


def test_the_cpu_can_be_asked_for() -> None:
    assert devices.choose("cpu") == (torch.device("cpu"), "asked for")


@pytest.fixture
def a_cuda_build(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """torch as it answers when it is a CUDA build with one GPU. Computing on it fails where there is none."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    return monkeypatch


@NO_CUDA
def test_a_gpu_that_does_not_compute_is_not_chosen(a_cuda_build: pytest.MonkeyPatch) -> None:
    device, reason = devices.choose("auto")
    assert device.type in {"cpu", "mps"}
    if device.type == "cpu":
        assert "Old GPU does not run this build of torch" in reason
    with pytest.raises(DeviceError, match="Old GPU does not run this build of torch"):
        devices.choose("cuda")
    with pytest.raises(DeviceError, match="there are 1 CUDA devices, counted from 0"):
        devices.choose("cuda:1")


@NO_CUDA
def test_the_drivers_complaint_is_the_reason(a_cuda_build: pytest.MonkeyPatch) -> None:
    def unavailable() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\nmore", stacklevel=1)
        return False

    a_cuda_build.setattr(torch.cuda, "is_available", unavailable)
    with pytest.raises(DeviceError, match="driver on your system is too old; use auto or cpu"):
        devices.choose("cuda")


def test_describe_shows_what_info_needs() -> None:
    shown = devices.describe()
    assert shown["torch"] == torch.__version__
    assert shown["cpu_threads"] >= 1
    assert shown["reason"]
    assert isinstance(shown["cuda_devices"], list)


def test_precision_is_float32_unless_asked() -> None:
    cpu = torch.device("cpu")
    assert devices.precision_of(cpu) == "float32"
    one = torch.ones(2, 2)
    with devices.autocast(cpu):
        assert (one @ one).dtype == torch.float32
    with devices.autocast(cpu, "auto"):
        assert (one @ one).dtype == torch.float32
    with devices.autocast(cpu, "bfloat16"):
        assert (one @ one).dtype == torch.bfloat16
    assert (one @ one).dtype == torch.float32


def test_an_unknown_precision_is_refused() -> None:
    with (
        pytest.raises(InputError, match="no precision 'half'; use auto, float32"),
        devices.autocast(torch.device("cpu"), "half"),
    ):
        pass


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_bfloat16_only_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert devices.precision_of(torch.device("cuda")) == precision


def test_exact_on_cuda_keeps_convolutions_from_tf32() -> None:
    before = torch.backends.cudnn.allow_tf32
    with devices.autocast(torch.device("cuda"), "float32"):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_real_allocation_failure_is_recognised() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert devices.out_of_memory(error.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Any, expected: bool) -> None:
    assert devices.out_of_memory(error) is expected
