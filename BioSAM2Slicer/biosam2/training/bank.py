"""A memory bank across images, as BioSAM-2's repository keeps it (see `recipes.biosam2_reference`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_TOLERATED = 0.1  # that a new memory's predicted IoU may lie below the one's that it replaces


class ImageBank:
    """Memories of earlier images that every image is conditioned on.

    Args:
        network: whose memory attention reads them.
        capacity: most entries.
    """

    def __init__(self, network: SAM2Base, capacity: int) -> None:
        self._network = network
        self._capacity = capacity
        self._entries: list[tuple[Tensor, Tensor, float]] = []  # (1, C, H, W) features and positions, predicted IoU

    def __len__(self) -> int:
        return len(self._entries)

    def condition(self, features: Tensor, positions: Tensor) -> Tensor:
        """An image's features in the light of the bank; unchanged while it is empty.

        Args:
            features: (HW, N, C).
            positions: their position code, of the same shape.
        """
        if not self._entries:
            return features
        memory = torch.cat([entry[0].flatten(2).permute(2, 0, 1) for entry in self._entries])
        code = torch.cat([entry[1].flatten(2).permute(2, 0, 1) for entry in self._entries])
        count = features.shape[1]
        return self._network.memory_attention(
            curr=[features],
            curr_pos=[positions],
            memory=memory.expand(-1, count, -1),
            memory_pos=code.expand(-1, count, -1),
            num_obj_ptr_tokens=0,
        )

    def offer(self, memories: Tensor, positions: Tensor, ious: Tensor) -> None:
        """Take in new memories, each in an empty place or for an entry that it makes needless.

        Args:
            memories: (N, C, H, W).
            positions: their position code, of the same shape.
            ious: predicted, (N,).
        """
        for memory, code, iou in zip(memories.detach(), positions.detach(), ious.detach().tolist(), strict=True):
            entry = (memory[None].float(), code[None].float(), float(iou))
            if len(self._entries) < self._capacity:
                self._entries.append(entry)
            else:
                self._replace(entry)

    def state(self) -> list[tuple[Tensor, Tensor, float]]:
        """What a saved run keeps of it."""
        return list(self._entries)

    def load(self, state: list[Any], device: torch.device) -> None:
        """Take what a saved run kept."""
        self._entries = [(memory.to(device), code.to(device), iou) for memory, code, iou in state]

    def _replace(self, new: tuple[Tensor, Tensor, float]) -> None:
        """Exchange the nearest neighbour of the entry that the new one is least like, if those two are more alike."""
        kept = functional.normalize(torch.stack([memory.flatten() for memory, _, _ in self._entries]), dim=1)
        alike = kept @ kept.T
        alike.fill_diagonal_(-torch.inf)
        to_new = kept @ functional.normalize(new[0].flatten(), dim=0)
        least = int(to_new.argmin())
        neighbour = int(alike[least].argmax())
        better = new[2] > self._entries[neighbour][2] - _TOLERATED
        if float(to_new[least]) < float(alike[least, neighbour]) and better:
            del self._entries[neighbour]
            self._entries.append(new)
