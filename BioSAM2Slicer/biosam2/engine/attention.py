"""Memory attention with what repeats from slice to slice done once. Equal to `sam2`'s up to rounding.

`sam2` projects and rotates the keys of every memory again at every slice, and multiplies attention weights with values
of the network's full width. Here a memory's rotated keys are made once; when a memory grows older only the part of its
keys that comes from its age changes, and that part is a sum of one term per column and one per row. And since

    softmax(q kᵀ) (m Wᵥ + bᵥ) = (softmax(q kᵀ) m) Wᵥ + bᵥ

weights are multiplied with the memory's own tokens, which are four times narrower than the values made from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.sam.transformer import RoPEAttention
from torch.nn.functional import avg_pool2d, linear

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# Queries and keys whose attention weights are held at once: few enough to stay in a CPU's cache.
_QUERIES, _KEYS = 512, 2048


@dataclass(frozen=True)
class ProjectedMemory:
    """One slice's memory as the attention layers look at it; without its age, which changes from slice to slice.

    Attributes:
        keys: (L, H, W, C), each layer's keys, rotated to their place.
        tokens: (H × W, M), the memory itself, float32.
    """

    keys: torch.Tensor
    tokens: torch.Tensor


@dataclass(frozen=True)
class Remembered:
    """What one segment's slice is compared with.

    Attributes:
        memories: each memory and its row in `maskmem_tpos_enc`, its age.
        pointers: (P, M), object pointers as tokens.
        pointer_positions: (P, M), their temporal positions.
    """

    memories: Sequence[tuple[ProjectedMemory, int]]
    pointers: torch.Tensor
    pointer_positions: torch.Tensor


class ProjectedAttention:
    """`sam2`'s memory attention over projected memories.

    Args:
        network: whose weights are used as they are at each call; it must be one that `suits`.
        pool: side of the square of memory tokens that are seen as one, a divisor of S/16. 1 is exact; more is
            approximate.
    """

    def __init__(self, network: SAM2Base, pool: int = 1) -> None:
        self.network = network
        self.pool = pool

    @staticmethod
    def suits(network: SAM2Base) -> bool:
        """Whether the network's memory attention is of the kind that SAM 2's own configurations describe."""
        attention = network.memory_attention
        if type(attention) is not MemoryAttention or not attention.batch_first or network.num_maskmem == 0:
            return False
        return all(_suits(layer) for layer in attention.layers)

    def project(self, encoded: torch.Tensor, position: torch.Tensor) -> ProjectedMemory:
        """Keys of an encoded memory.

        Args:
            encoded: (1, M, H, W), the memory.
            position: (1, M, H, W), its spatial positions.
        """
        height, width = encoded.shape[-2:]
        tokens = encoded[0].float().flatten(1).T.contiguous()
        placed = tokens + position[0].float().flatten(1).T
        keys = []
        for layer in self.network.memory_attention.layers:
            cross = layer.cross_attn_image
            rotated = _rotated(cross.k_proj(placed), cross, height, width)
            keys.append(_pooled(rotated.view(height, width, -1), self.pool))
        if self.pool > 1:
            tokens = _pooled(tokens.view(height, width, -1), self.pool).flatten(0, 1)
        return ProjectedMemory(torch.stack(keys), tokens)

    def __call__(
        self, current: torch.Tensor, position: torch.Tensor, which: Sequence[int], remembered: Sequence[Remembered]
    ) -> torch.Tensor:
        """Frames seen in the light of memories.

        Args:
            current: (F, N, C), encoded frames.
            position: (N, C), their spatial positions.
            which: for each of B segments, its frame.
            remembered: what each segment's frame is compared with.

        Returns:
            (B, N, C).
        """
        attention = self.network.memory_attention
        output = current + 0.1 * position if attention.pos_enc_at_input else current
        tokens = [torch.cat([*(memory.tokens for memory, _ in r.memories), r.pointers]) for r in remembered]
        for number, layer in enumerate(attention.layers):
            # Before the first look at a memory segments do not differ: it is done once for each frame.
            output = layer._forward_sa(output, position)
            if number == 0:
                output = output[list(which)]
            seen = layer.norm2(output)
            if layer.pos_enc_at_cross_attn_queries:
                seen = seen + position
            output = output + self._cross(number, layer, seen, tokens, remembered)
            hidden = layer.activation(layer.linear1(layer.norm3(output)))
            output = output + layer.linear2(hidden)
        return attention.norm(output)

    def _cross(
        self,
        number: int,
        layer: MemoryAttentionLayer,
        seen: torch.Tensor,
        tokens: Sequence[torch.Tensor],
        remembered: Sequence[Remembered],
    ) -> torch.Tensor:
        cross = layer.cross_attn_image
        batch, length, _ = seen.shape
        side = math.isqrt(length)
        queries = cross.q_proj(seen) * cross.internal_dim**-0.5
        attended = seen.new_empty(batch, length, tokens[0].shape[1])
        ages = self._ages(layer, side)
        for n in range(batch):
            rotated = _rotated(queries[n], cross, side, side)
            keys = self._keys(number, layer, remembered[n], ages, len(tokens[n]))
            attended[n] = attend(rotated, keys, tokens[n], self._bias(remembered[n], tokens[n]))
        # The projection of values and that of the output, which follow one another, are one matrix.
        weight = cross.out_proj.weight @ cross.v_proj.weight
        bias = linear(cross.v_proj.bias, cross.out_proj.weight, cross.out_proj.bias)
        return linear(attended, weight, bias)

    def _bias(self, remembered: Remembered, tokens: torch.Tensor) -> torch.Tensor | None:
        """A pooled token stands for several, a pointer only for itself: what each counts for, as a logit."""
        if self.pool == 1:
            return None
        bias = tokens.new_full((len(tokens),), 2 * math.log(self.pool))
        bias[len(tokens) - len(remembered.pointers) :] = 0.0
        return bias

    def _ages(self, layer: MemoryAttentionLayer, side: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """What each age adds to rotated keys: a term per column (W, C/2) and one per row (H, C/2)."""
        cross = layer.cross_attn_image
        half = cross.internal_dim // 2
        terms = []
        for age in linear(self.network.maskmem_tpos_enc[:, 0, 0], cross.k_proj.weight):
            # Axial rotation: the first half of a key turns with its column, the second with its row.
            turned = _rotated(age.expand(side * side, -1), cross, side, side).view(side, side, -1)
            turned = _pooled(turned, self.pool)
            terms.append((turned[0, :, :half], turned[:, 0, half:]))
        return terms

    def _keys(
        self,
        number: int,
        layer: MemoryAttentionLayer,
        remembered: Remembered,
        ages: Sequence[tuple[torch.Tensor, torch.Tensor]],
        length: int,
    ) -> torch.Tensor:
        cross = layer.cross_attn_image
        half = cross.internal_dim // 2
        keys = remembered.pointers.new_empty(length, cross.internal_dim)
        start = 0
        for memory, age in remembered.memories:
            base = memory.keys[number]
            height, width, _ = base.shape
            column, row = ages[age]
            target = keys[start : start + height * width].view(base.shape)
            torch.add(base[..., :half], column, out=target[..., :half])
            torch.add(base[..., half:], row[:, None], out=target[..., half:])
            start += height * width
        keys[start:] = cross.k_proj(remembered.pointers + remembered.pointer_positions)
        return keys


def attend(
    queries: torch.Tensor, keys: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(queries keysᵀ + bias) tokens, a block of weights at a time.

    Softmax is normalised as it goes (Milakov and Gimelshein 2018, arXiv 1805.02867). `torch`'s own fused attention
    takes only tokens that are as wide as the keys.

    Args:
        queries: (N, C).
        keys: (L, C).
        tokens: (L, M).
        bias: (L,), added to the logits of each key.

    Returns:
        (N, M).
    """
    result = queries.new_empty(len(queries), tokens.shape[1])
    for start in range(0, len(queries), _QUERIES):
        some = queries[start : start + _QUERIES]
        top = some.new_full((len(some), 1), -math.inf)
        total = some.new_zeros(len(some), 1)
        weighted = some.new_zeros(len(some), tokens.shape[1])
        for first in range(0, len(keys), _KEYS):
            weights = some @ keys[first : first + _KEYS].T
            if bias is not None:
                weights += bias[first : first + _KEYS]
            higher = torch.maximum(top, weights.amax(dim=1, keepdim=True))
            shrink = torch.exp(top - higher)
            weights.sub_(higher).exp_()
            total.mul_(shrink).add_(weights.sum(dim=1, keepdim=True))
            weighted.mul_(shrink).addmm_(weights, tokens[first : first + _KEYS])
            top = higher
        torch.div(weighted, total, out=result[start : start + _QUERIES])
    return result


def _suits(layer: torch.nn.Module) -> bool:
    if type(layer) is not MemoryAttentionLayer or not isinstance(layer.cross_attn_image, RoPEAttention):
        return False
    cross = layer.cross_attn_image
    return bool(
        cross.num_heads == 1
        and cross.rope_k_repeat
        and layer.pos_enc_at_cross_attn_keys
        and cross.kv_in_dim < cross.internal_dim
    )


def _rotated(sequence: torch.Tensor, attention: RoPEAttention, height: int, width: int) -> torch.Tensor:
    """A sequence (H × W, C) rotated to its places, as `apply_rotary_enc` does."""
    table = attention.freqs_cis
    if len(table) != height * width:
        table = attention.compute_cis(end_x=width, end_y=height)
    pairs = torch.view_as_complex(sequence.float().reshape(len(sequence), -1, 2))
    return torch.view_as_real(pairs * table.to(sequence.device)).flatten(1)


def _pooled(grid: torch.Tensor, pool: int) -> torch.Tensor:
    """Means of squares of a grid (H, W, C)."""
    if pool == 1:
        return grid
    return avg_pool2d(grid.permute(2, 0, 1)[None], pool)[0].permute(1, 2, 0).contiguous()
