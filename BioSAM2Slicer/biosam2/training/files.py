"""Files of a run: its state and a network's weights, written whole or not at all; and what its cases' files hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..datasets import Case
from ..errors import InputError
from ..io import atomic_path, files_of
from ..io.atomic import cannot_write
from ..models.hashing import sha256_of

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


def digests(cases: Sequence[Case]) -> dict[str, str]:
    """Case → SHA-256 over the SHA-256 of its image's and its labels' files, in order.

    Raises:
        InputError: a file is not there.
    """
    found = {}
    hashes: dict[Path, list[str]] = {}  # targets share files
    for case in cases:
        digest = hashlib.sha256()
        for path in (case.image, *(label for target in case.targets for label in target.labels)):
            if not path.exists():
                raise InputError(f"case {case.name}: there is no file {path}; correct the dataset")
            if path not in hashes:
                hashes[path] = [sha256_of(file) for file in files_of(path)]
            for value in hashes[path]:
                digest.update(value.encode())
        found[case.name] = digest.hexdigest()
    return found
