"""Read a checkpoint as data: no code in it is ever run, and it is compared with the network before it is loaded."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .config import first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

# sam2 keeps the weights under "model", Lightning and many others under "state_dict".
_WRAPPERS = ("model", "state_dict")


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a checkpoint's weights into a network, as float32.

    Raises:
        ModelError: see `read_checkpoint` and `check_weights`.
    """
    weights = read_checkpoint(path)
    check_weights(weights, network, path)
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """The named weights in a safetensors file or in a file by `torch.save`, on the CPU, in the type they are stored in.

    What a file is, is told by its content, not by its name.

    Raises:
        ModelError: absent, empty, truncated, of another format, with code in it, or without weights.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ModelError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if not head:
        raise ModelError(f"checkpoint {path} is empty; download or copy it again")
    if head.startswith(b"PK"):
        content = _read_torch(path)
    elif head[8:9] == b"{":
        content = _read_safetensors(path)
    else:
        # Also pickles and tar files as torch wrote them until 2020: torch 2.5 could be made to run code by those.
        raise ModelError(
            f"checkpoint {path} is neither safetensors nor PyTorch's zip format; "
            "download it again or save it anew with a current PyTorch"
        )
    return _named_weights(content, path)


def check_weights(weights: Mapping[str, torch.Tensor], network: nn.Module, path: str | Path) -> None:
    """Compare a checkpoint's names, shapes and values with what a network needs.

    Raises:
        ModelError: naming the first weight that is absent, unknown, of another shape, or not finite.
    """
    import torch

    needed = network.state_dict()
    mend = "give the configuration that it was trained with"
    for name, tensor in needed.items():
        if name not in weights:
            raise ModelError(f"checkpoint {path} lacks {name}, which the network has; {mend}")
        here, there = tuple(weights[name].shape), tuple(tensor.shape)
        if here != there:
            raise ModelError(f"{name} is {here} in checkpoint {path}, {there} in the network; {mend}")
    for name, tensor in weights.items():
        if name not in needed:
            raise ModelError(f"checkpoint {path} has {name}, which the network lacks; {mend}")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"checkpoint {path} is damaged: {name} holds values that are not finite; get it again")


def _read_torch(path: Path) -> Any:
    import pickle

    import torch

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about odd pickles; they are read or refused
            with zipfile.ZipFile(file) as archive:
                # torch stores without compression; a compressed entry could unfold to any size.
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ModelError(f"checkpoint {path} is a compressed zip file, not one by torch.save")
                if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                    raise ModelError(f"checkpoint {path} is a TorchScript program; save its state_dict instead")
            file.seek(0)
            # From a path torch would judge by the file's name.
            return torch.load(file, map_location="cpu", weights_only=True)
    except (ModelError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"checkpoint {path} holds code or objects besides weights and was refused; "
            "ask for it as safetensors or as a plain state_dict"
        ) from error
    except Exception as error:
        # torch raises whatever its parsers raise on a damaged file: RuntimeError, KeyError, EOFError, BadZipFile …
        raise ModelError(f"checkpoint {path} is damaged ({first_line(error)}); download or copy it again") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"checkpoint {path} is damaged ({first_line(error)}); download or copy it again") from error


def _named_weights(content: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"checkpoint {path} holds no named weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ModelError(f"checkpoint {path} holds {str(name)[:60]!r}, which is not a weight")
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
            raise ModelError(f"checkpoint {path} holds {name} in a form (sparse, quantised) that is not supported")
    return dict(content)
