"""What building a network safely takes from torch. Imported only when a network is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from sam2.modeling.position_encoding import compute_axial_cis
from sam2.modeling.sam import transformer
from torch.overrides import TorchFunctionMode


class RoPEAttention(transformer.RoPEAttention):
    """sam2's rotary attention with its table made where the weights are.

    sam2's constructor moves the table to CUDA wherever there is CUDA, which takes a context on the GPU (some
    hundred megabytes) even for a network that stays on the CPU. Its `forward` moves the table by itself.
    """

    def __init__(
        self,
        *args: Any,
        rope_theta: float = 10000.0,
        rope_k_repeat: bool = False,
        feat_sizes: tuple[int, int] = (64, 64),
        **kwargs: Any,
    ) -> None:
        transformer.Attention.__init__(self, *args, **kwargs)
        width = self.internal_dim // self.num_heads
        self.compute_cis = partial(compute_axial_cis, dim=width, theta=rope_theta)
        self.freqs_cis = self.compute_cis(end_x=feat_sizes[0], end_y=feat_sizes[1])
        self.rope_k_repeat = rope_k_repeat


class NetworkTooLargeError(Exception):
    """A network that would take more memory than any that this package serves."""


class SizeLimit(TorchFunctionMode):
    """Within this context weights are counted before they are allocated, and stopped at a limit.

    A few digits in a configuration ask for terabytes; Linux would grant them and then kill the process.
    """

    _BY_SIZE = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)

    def __init__(self, megabytes: int, tensors: int) -> None:
        super().__init__()
        self._elements_left = (megabytes << 20) // 4
        self._tensors_left = tensors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._BY_SIZE:
            size = args or (kwargs["size"],)
            self._spend(math.prod(size[0] if isinstance(size[0], Sequence) else size))
        elif func is torch.Tensor.clone:  # layers that are repeated are copied
            self._spend(args[0].numel())
        return func(*args, **kwargs)

    def _spend(self, elements: int) -> None:
        self._elements_left -= elements
        self._tensors_left -= 1
        if self._elements_left < 0 or self._tensors_left < 0:
            raise NetworkTooLargeError("it is larger than any SAM 2 network; check its sizes")


class Uninitialised(TorchFunctionMode):
    """Within this context layers are left without the random values that a checkpoint will replace.

    Those take most of the time of loading: seconds for a large network.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
