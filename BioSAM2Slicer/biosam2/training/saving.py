"""Write what training leaves, whole or not at all: the state of a run, and a network's weights as a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..io import atomic_path
from ..io.atomic import cannot_write

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


def save_state(path: Path, content: Any) -> None:
    """`torch.save`, atomically.

    Raises:
        OutputError: it cannot be written; what was there stays as it was.
    """
    with atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's writer raises no OSError on a full disk
            raise cannot_write(path, error) from error


def save_weights(network: SAM2Base, path: Path, facts: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Write safetensors; the same weights and facts give the same bytes.

    Args:
        network: whose weights are written.
        path: of the checkpoint.
        facts: about its making; they go into the file's metadata, as JSON under ``biosam2``.
        dtype: in which the weights are stored.

    Raises:
        OutputError: it cannot be written; what was there stays as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in network.state_dict().items()}
    # One entry, because safetensors writes several in random order, and the checkpoint's hash would change with it.
    metadata = {"biosam2": json.dumps(facts, sort_keys=True)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise cannot_write(path, error) from error
