"""A network ready to run, and how one is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from . import registry
from .hashing import sha256_of

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from sam2.modeling.sam2_base import SAM2Base

DEFAULT_MODEL = "nano"

_SUFFIXES = {".pt", ".pth", ".ckpt", ".safetensors"}


@dataclass
class Model:
    """A SAM 2 network with its weights, on its device.

    Attributes:
        name: the registry's name, or the checkpoint's file name without suffix.
        config: the network's resolved configuration; sam2's own predictor builds from it.
        network: in evaluation mode, float32, without gradients.
        device: where the network is.
        device_reason: why it is there, in words.
        sha256: hash of the checkpoint file.
        image_size: side of the square input, in pixels.
        path: the checkpoint file.
        description: what the model is for, where the registry says.
        licence: of the weights, and what their host asks beside it, where the registry says.
    """

    name: str
    config: DictConfig
    network: SAM2Base
    device: torch.device
    device_reason: str
    sha256: str
    image_size: int
    path: Path
    description: str = ""
    licence: str = ""

    def copied_to(self, device: torch.device, reason: str) -> Model:
        """The same weights in a network of their own on another device; who shares this one keeps it where it is.

        Args:
            device: where the copy runs; nothing more is allocated on this model's device.
            reason: why it runs there, in words.
        """
        from .network import build_network

        network = build_network(self.config, initialise=False)
        network.load_state_dict({name: tensor.cpu() for name, tensor in self.network.state_dict().items()})
        return replace(self, network=network.to(device), device=device, device_reason=reason)


def load_model(
    name_or_path: str | Path | None = None,
    device: str = "auto",
    *,
    checkpoint: str | Path | None = None,
    config: str | Path | None = None,
) -> Model:
    """Load a model. Nothing is downloaded.

    Args:
        name_or_path: a name of `biosam2 models list` (by default ``nano``), or a checkpoint's path.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        checkpoint: a checkpoint's path, instead of `name_or_path`.
        config: the configuration of a checkpoint given by path: a name such as ``sam2.1_hiera_t`` or a YAML file.
            By default the YAML file beside the checkpoint that has its name.

    Raises:
        ModelError: no such model, not downloaded, damaged, or it does not fit its configuration.
        DeviceError: no such device.
        DependencyError: torch or sam2 is not installed.
    """
    if name_or_path is not None and checkpoint is not None:
        raise ModelError("give a model's name or a checkpoint, not both")
    if checkpoint is None and name_or_path is not None and _is_path(name_or_path):
        checkpoint = name_or_path
    if checkpoint is not None:
        return _load_file(Path(checkpoint), config, device)
    if config is not None:
        raise ModelError("a configuration goes with a checkpoint; give checkpoint=PATH too, or leave it out")
    return _load_entry(registry.get(str(name_or_path or DEFAULT_MODEL)), device)


def _is_path(name_or_path: str | Path) -> bool:
    if isinstance(name_or_path, Path):
        return True
    looks_so = Path(name_or_path).suffix in _SUFFIXES or Path(name_or_path).exists()
    return looks_so and not registry.is_known(name_or_path)


def _load_entry(entry: registry.ModelEntry, device: str) -> Model:
    path = registry.path_of(entry)
    sha256 = registry.verify(entry)
    return _load(
        entry.name,
        path,
        entry.config,
        entry.overrides,
        device,
        sha256,
        description=entry.description,
        licence=entry.conditions,
    )


def _load_file(path: Path, config: str | Path | None, device: str) -> Model:
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    if config is None:
        beside = path.with_suffix(".yaml")
        if not beside.is_file():
            raise ModelError(f"checkpoint {path} needs its configuration; give config=NAME or a YAML file")
        config = beside
    return _load(path.stem, path, config, (), device, sha256_of(path))


def _load(
    name: str,
    path: Path,
    config: str | Path,
    overrides: tuple[str, ...],
    device: str,
    sha256: str,
    description: str = "",
    licence: str = "",
) -> Model:
    # Imported here, so that listing models, and `import biosam2`, need no torch.
    from .network import build_network, require_engine

    require_engine()
    from .. import devices
    from .checkpoint import load_weights
    from .config import load_config

    node = load_config(config, overrides)
    network = build_network(node, initialise=False)
    chosen, reason = devices.choose(device)
    load_weights(network, path)
    network.requires_grad_(False)
    return Model(
        name=name,
        config=node,
        network=network.to(chosen),
        device=chosen,
        device_reason=reason,
        sha256=sha256,
        image_size=node.image_size,
        path=path,
        description=description,
        licence=licence,
    )
