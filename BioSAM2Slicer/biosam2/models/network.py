"""Build a SAM 2 network from its configuration."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .. import extras
from ..errors import DependencyError, ModelError
from .config import check_config, first_line, load_config

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from sam2.modeling.sam2_base import SAM2Base

__all__ = ["build_network", "load_config", "require_engine"]

# sam2.1-large takes 860 MiB and about 1,000 tensors.
_LIMIT_MEGABYTES = 2048
_LIMIT_TENSORS = 20_000


def build_network(config: DictConfig, *, initialise: bool = True) -> SAM2Base:
    """The network that a configuration describes, in evaluation mode, on the CPU.

    CUDA is not touched, so that a network for the CPU takes no memory on a GPU.

    Args:
        config: of the network, as `load_config` gives it.
        initialise: whether it needs random weights; without them every weight must be loaded.

    Raises:
        ModelError: the configuration does not describe a `SAM2Base`, or its sizes do not fit together.
        DependencyError: torch or sam2 is not installed.
    """
    require_engine()
    from hydra.utils import instantiate
    from sam2.modeling.sam2_base import SAM2Base

    from . import construction

    check_config(config)
    try:
        limit = construction.SizeLimit(_LIMIT_MEGABYTES, _LIMIT_TENSORS)
        with limit, nullcontext() if initialise else construction.Uninitialised():
            network = instantiate(_prepared(config), _recursive_=True)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the configuration does not build: {first_line(error.__cause__ or error)}") from error
    if not isinstance(network, SAM2Base):
        raise ModelError(f"the configuration builds a {type(network).__name__}, not a SAM2Base")
    return network.eval()


def require_engine() -> None:
    """Import what a network is made of.

    Raises:
        DependencyError: a package is not installed, or is broken.
    """
    extras.require("engine", "a network")
    package = ""
    try:
        for package in ("torch", "omegaconf", "hydra", "safetensors", "sam2.modeling.sam2_base"):
            importlib.import_module(package)
    except (ImportError, OSError) as error:
        raise DependencyError(f"{package} is installed but broken ({first_line(error)}); install it anew") from error


def _prepared(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values for Hydra, its classes checked and kept away from CUDA."""
    from omegaconf import OmegaConf

    def visit(node: Any) -> Any:
        if isinstance(node, list):
            return [visit(value) for value in node]
        if not isinstance(node, Mapping):
            return node
        result = {key: visit(value) for key, value in node.items()}
        if "_target_" in node:
            name = _network_class(node["_target_"])
            if name == "RoPEAttention":
                result["_target_"] = "biosam2.models.construction.RoPEAttention"
            elif name == "PositionEmbeddingSine":
                result["warmup_cache"] = False  # on CUDA, and for compilation only
        return result

    prepared = visit(OmegaConf.to_container(config, resolve=True))
    prepared["compile_image_encoder"] = False  # needs a C++ compiler at the user's
    return prepared


def _network_class(target: str) -> str:
    """The name of the `sam2` network class that a target names.

    A prefix alone does not keep a configuration in bounds: `sam2.modeling.sam2_base.torch.hub.load` has it too.

    Raises:
        ModelError: it is not a network class that its own module defines.
    """
    from torch.nn import Module

    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, Module) and found.__module__ == module_name):
        raise ModelError(f"the configuration names {target!r}; only classes of sam2.modeling may be built")
    return name
