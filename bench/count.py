"""Multiply-adds of each part of the network for one frame, the bytes that must move, and the time that this takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from biosam2.engine.attention import ProjectedAttention, Remembered
from biosam2.engine.encoding import LeanEncoder
from biosam2.models.model import Model
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

# A full bank: the conditioning slice and the six before; and as many object pointers as SAM 2 attends to.
_MEMORIES = 7
_REPETITIONS = 5


@dataclass(frozen=True)
class Part:
    """One part of the network, for one frame and one segment.

    Attributes:
        name: of the part, and whose code does it.
        gmac: multiply-adds, 10⁹.
        mib: weights, what goes in and what comes out, 2²⁰ bytes: the least that must move.
        floor: seconds that the multiply-adds take at the speed of this machine's matrix product.
        seconds: CPU time that was measured, median.
    """

    name: str
    gmac: float
    mib: float
    floor: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def count(model: Model) -> list[Part]:
    """Every part of `sam2`'s network, and beside it what the engine does instead."""
    with torch.inference_mode():
        speed = _speed_of_matrix_product()
        return [_measured(name, work, weights, speed) for name, work, weights in _parts(model)]


def table(parts: Iterable[Part]) -> str:
    """Markdown."""
    lines = ["| part | GMAC | MiB | floor, s | measured, s |", "|---|---|---|---|---|"]
    lines += [f"| {p.name} | {p.gmac:.3g} | {p.mib:.3g} | {p.floor:.3g} | {p.seconds:.3g} |" for p in parts]
    return "\n".join(lines)


_Work = Callable[[], Any]


def _parts(model: Model) -> list[tuple[str, _Work, torch.nn.Module]]:
    network = model.network
    size, side = model.image_size, model.image_size // 16
    image = torch.randn(1, 3, size, size)
    levels = network.forward_image(image)["backbone_fpn"]
    frame, place = torch.randn(side * side, 1, network.hidden_dim), torch.randn(side * side, 1, network.hidden_dim)
    coarse = frame.permute(1, 2, 0).reshape(1, -1, side, side)
    memories = [torch.randn(1, network.mem_dim, side, side).bfloat16() for _ in range(_MEMORIES)]
    where = network.memory_encoder.position_encoding(memories[0])
    tokens = network.max_obj_ptrs_in_encoder * (network.hidden_dim // network.mem_dim)
    pointers = torch.randn(tokens, network.mem_dim)
    encoder, attention = LeanEncoder(network), ProjectedAttention(network)
    ages = range(_MEMORIES)
    projected = [(attention.project(m, where), age) for m, age in zip(memories, ages, strict=True)]

    def remember() -> Any:
        bank = torch.cat([*(m.float().flatten(2).permute(2, 0, 1) for m in memories), pointers[:, None]])
        positions = where.flatten(2).permute(2, 0, 1)
        ageing = torch.cat([*(positions + network.maskmem_tpos_enc[age] for age in ages), pointers[:, None]])
        return network.memory_attention([frame], bank, [place], ageing, tokens)

    def attend() -> Any:
        bank = Remembered(projected, pointers, pointers)
        return attention(frame.transpose(0, 1), place[:, 0], [0], [bank])

    def encode_memory() -> Any:
        mask = torch.randn(1, 1, size, size)
        return network._encode_new_memory([frame], [(side, side)], mask, torch.ones(1, 1), False)

    def decode() -> Any:
        return network._forward_sam_heads(coarse, high_res_features=list(levels[:2]), multimask_output=True)

    return [
        ("image encoder, sam2", lambda: network.forward_image(image), network.image_encoder),
        ("image encoder, biosam2", lambda: encoder(image), network.image_encoder),
        ("memory attention, full bank, sam2", remember, network.memory_attention),
        ("memory attention, full bank, biosam2", attend, network.memory_attention),
        ("projecting a memory, once, biosam2", lambda: attention.project(memories[0], where), network.memory_attention),
        ("mask decoder", decode, network.sam_mask_decoder),
        ("memory encoder", encode_memory, network.memory_encoder),
    ]


def _measured(name: str, work: _Work, weights: torch.nn.Module, speed: float) -> Part:
    with _counter() as counter:
        result = work()
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    gmac = counter.get_total_flops() / 2e9
    moved = sum(p.numel() * p.element_size() for p in weights.parameters()) + _bytes_of(result)
    return Part(name, gmac, moved / 2**20, gmac * 2e9 / speed, statistics.median(seconds))


def _counter() -> FlopCounterMode:
    def attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return sdpa_flop_count(q, k, v)

    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    )


def _bytes_of(result: Any) -> int:
    if isinstance(result, torch.Tensor):
        return result.numel() * result.element_size()
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return sum(_bytes_of(each) for each in result)
    return result.nbytes if hasattr(result, "nbytes") else 0


def _speed_of_matrix_product() -> float:
    """Operations per second of a product of two 1024 × 1024 matrices, the best of several."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(2 * _REPETITIONS):
        start = time.process_time()
        torch.mm(a, b)
        best = min(best, time.process_time() - start)
    return 2 * 1024**3 / best
