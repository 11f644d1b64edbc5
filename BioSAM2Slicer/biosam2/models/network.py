"""Build a SAM 2 network from its configuration. A configuration is data: it may name `sam2` classes only."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..resources import resource_path

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from sam2.modeling.sam2_base import SAM2Base

# What build_sam2_video_predictor sets by default beyond the YAML file (sam2 1.1.0, build_sam.py): on prompted
# slices the memory encodes the mask that the user saw, and an unstable single mask gives way to a multimask.
_PREDICTOR_DEFAULTS = {
    "binarize_mask_from_pts_for_mem_enc": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}


def load_config(source: str | Path | Mapping[str, Any], overrides: list[str] | None = None) -> DictConfig:
    """The resolved configuration of a network.

    Args:
        source: a file's path; the name of one of ours (``nano``) or of sam2's (``sam2.1_hiera_t``); or a mapping.
        overrides: OmegaConf dot-list changes, for example ``image_size=512``.

    Raises:
        ModelError: no such configuration, not YAML, or it names something other than `sam2` classes.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    where = "the configuration" if isinstance(source, Mapping) else f"configuration {source}"
    try:
        if isinstance(source, Mapping):
            node = OmegaConf.create(dict(source))
        else:
            node = OmegaConf.create(_config_text(str(source)))
        if not isinstance(node, DictConfig):
            raise ModelError(f"{where} is not a mapping of settings")
        node = node.get("model", node)
        _check_interpolations(OmegaConf.to_container(node, resolve=False), where)
        if overrides:
            node = OmegaConf.merge(node, OmegaConf.from_dotlist(overrides))
        node = OmegaConf.merge(node, _PREDICTOR_DEFAULTS)
        OmegaConf.resolve(node)
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{where} cannot be read: {str(error).splitlines()[0]}") from error
    check_targets(node, where)
    return node


def check_targets(node: Any, where: str = "the configuration") -> None:
    """Refuse a configuration that would call anything but `sam2`.

    Raises:
        ModelError: a ``_target_`` outside ``sam2.``, or none at the top.
    """
    targets = list(_targets(node))
    for target in targets:
        if not isinstance(target, str) or not target.startswith("sam2.modeling."):
            raise ModelError(f"{where} names {target!r}; only sam2.modeling.* classes may be built")
    if not isinstance(node, Mapping) and "_target_" not in node:
        raise ModelError(f"{where} names no network (_target_ is missing)")


def build_network(config: DictConfig) -> SAM2Base:
    """The network that a configuration describes, with random weights, in evaluation mode, on the CPU.

    Raises:
        ModelError: the configuration does not describe a `SAM2Base`, or its sizes do not fit together.
    """
    from hydra.utils import instantiate
    from sam2.modeling.sam2_base import SAM2Base

    check_targets(config)
    try:
        network = instantiate(config, _recursive_=True)
    except Exception as error:
        cause = error.__cause__ or error
        raise ModelError(f"the configuration does not build: {str(cause).splitlines()[0]}") from error
    if not isinstance(network, SAM2Base):
        raise ModelError(f"the configuration builds a {type(network).__name__}, not a SAM2Base")
    return network.eval()


def _config_text(name: str) -> str:
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise ModelError(f"there is no configuration file {name}")
        return path.read_text()
    try:
        return resource_path(f"Models/{name}.yaml").read_text()
    except ModelError:
        for folder in ("configs/sam2.1", "configs/sam2"):
            shipped = importlib.resources.files("sam2").joinpath(folder, f"{name}.yaml")
            if shipped.is_file():
                return shipped.read_text()
    raise ModelError(f"there is no configuration named {name}; give a .yaml file or a name such as sam2.1_hiera_t")


def _targets(node: Any) -> Iterator[Any]:
    if hasattr(node, "items"):
        for key, value in node.items():
            if key == "_target_":
                yield value
            else:
                yield from _targets(value)
    elif isinstance(node, (list, tuple)) or type(node).__name__ == "ListConfig":
        for value in node:
            yield from _targets(value)


def _check_interpolations(node: Any, where: str) -> None:
    # Resolvers such as ${oc.env:…} would let a configuration read the user's environment.
    if isinstance(node, dict):
        for value in node.values():
            _check_interpolations(value, where)
    elif isinstance(node, list):
        for value in node:
            _check_interpolations(value, where)
    elif isinstance(node, str) and "${" in node and ":" in node:
        raise ModelError(f"{where} uses the resolver {node!r}; only plain values may be used")
