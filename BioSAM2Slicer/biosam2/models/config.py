"""A network's configuration: read, merged with overrides, and checked. It is data: it may name `sam2` classes only."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..resources import resource_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

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

_BACKBONE_STRIDE = 16
_DEEPEST_STRIDE = 32
_LARGEST_IMAGE = 4096
# Larger than any size that SAM 2's networks use (10000, a temperature, is their largest number).
_LARGEST_NUMBER = 65536
_MOST_LAYERS = 128
_LARGEST_FILE = 1 << 16
_DEEPEST_NESTING = 32
_PARTS = ("image_encoder", "memory_attention", "memory_encoder")

# Sizes that are one number in two places; a place that is absent from a configuration is not compared.
_D_MODEL = "memory_attention.d_model"
_MEMORY_WIDTH = "memory_encoder.out_dim"
_SAME = (
    ("image_encoder.neck.d_model", _D_MODEL),
    ("image_encoder.neck.position_encoding.num_pos_feats", _D_MODEL),
    ("memory_attention.layer.d_model", _D_MODEL),
    ("memory_attention.layer.self_attention.embedding_dim", _D_MODEL),
    ("memory_attention.layer.cross_attention.embedding_dim", _D_MODEL),
    ("memory_encoder.in_dim", _D_MODEL),
    ("memory_encoder.mask_downsampler.embed_dim", _D_MODEL),
    ("memory_encoder.fuser.layer.dim", _D_MODEL),
    ("memory_attention.layer.cross_attention.kv_in_dim", _MEMORY_WIDTH),
    ("memory_encoder.position_encoding.num_pos_feats", _MEMORY_WIDTH),
)


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] | None = None) -> DictConfig:
    """The resolved and checked configuration of a network.

    The rotary position tables (`feat_sizes`) follow `image_size`, so that an override of the size is enough.

    Args:
        source: a file's path; the name of a configuration of this package (``nano``) or of sam2's
            (``sam2.1_hiera_t``); or a mapping.
        overrides: OmegaConf dot-list changes, for example ``image_size=512``.

    Raises:
        ModelError: no such configuration, not YAML, sizes that do not fit together, or it asks for something
            other than `sam2` classes.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    where = "the configuration" if isinstance(source, Mapping) else f"configuration {source}"
    try:
        node: Any = dict(source) if isinstance(source, Mapping) else _config_text(str(source), where)
        node = OmegaConf.create(node)
        if not isinstance(node, DictConfig):
            raise ModelError(f"{where} is not a mapping of settings")
        node = node.get("model", node)
        if not isinstance(node, DictConfig):
            raise ModelError(f"{where} is not a mapping of settings")
        if overrides:
            node = OmegaConf.merge(node, OmegaConf.from_dotlist(list(overrides)))
        _check_plain(OmegaConf.to_container(node, resolve=False), where)
        node = OmegaConf.merge(node, _PREDICTOR_DEFAULTS)
        OmegaConf.resolve(node)
        check_config(node, where)
        _let_rotary_tables_follow(node)
    except (OmegaConfBaseException, yaml.YAMLError, RecursionError) as error:
        raise ModelError(f"{where} cannot be read: {first_line(error)}") from error
    return node


def check_config(node: DictConfig, where: str = "the configuration") -> None:
    """Refuse a configuration that could do anything but build a SAM 2 network of a sensible size.

    Raises:
        ModelError: a ``_target_`` outside ``sam2.modeling``, none at the top, another of Hydra's keys, a file to
            load, a number beyond reason, or sizes that do not fit together.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True)
    if "_target_" not in plain:
        raise ModelError(f"{where} names no network (_target_ is missing); give the YAML file of a SAM 2 model")
    for key, value in _items(plain):
        if key == "_target_":
            if not isinstance(value, str) or not value.startswith("sam2.modeling."):
                raise ModelError(f"{where} names {value!r}; only classes of sam2.modeling may be built")
        elif key.startswith("_") and key.endswith("_"):
            # _partial_, _args_, _recursive_, _convert_: none is needed to describe a network.
            raise ModelError(f"{where} has the key {key!r}; of Hydra's keys only _target_ may be used")
        elif key == "weights_path" and value is not None:
            # Hiera would unpickle that file while it is built.
            raise ModelError(f"{where} names a file to load ({key}); remove that line: weights are the checkpoint's")
        elif isinstance(value, (int, float)) and not abs(value) <= _LARGEST_NUMBER:
            raise ModelError(f"{where} has {key} = {value}; numbers above {_LARGEST_NUMBER} make no network")
        elif key in {"num_layers", "stages"} and isinstance(value, int) and value > _MOST_LAYERS:
            raise ModelError(f"{where} has {value} layers in {key}; {_MOST_LAYERS} are the most")
    _check_sizes(plain, where)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _config_text(name: str, where: str) -> str:
    import yaml

    text = _find_config_text(name)
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        # A few lines of aliases to aliases unfold to gigabytes; deep nesting takes the parser minutes.
        if isinstance(event, yaml.AliasEvent):
            raise ModelError(f"{where} uses a YAML alias (*name); write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST_NESTING:
            raise ModelError(f"{where} cannot be read: it is nested more than {_DEEPEST_NESTING} deep")
    return text


def _find_config_text(name: str) -> str:
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise ModelError(f"configuration {name} is larger than 64 KiB; give the YAML file of a SAM 2 model")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise ModelError(f"configuration {name} cannot be read: {reason}") from error
    if name == path.name:
        try:
            return resource_path(f"Models/{name}.yaml").read_text(encoding="utf-8")
        except ModelError:
            for folder in ("configs/sam2.1", "configs/sam2"):
                shipped = importlib.resources.files("sam2").joinpath(folder, f"{name}.yaml")
                if shipped.is_file():
                    return shipped.read_text(encoding="utf-8")
    raise ModelError(f"there is no configuration named {name}; give a .yaml file or a name such as sam2.1_hiera_t")


def _check_plain(node: Any, where: str) -> None:
    # Resolvers such as ${oc.env:…} would let a configuration read the user's environment.
    if isinstance(node, dict):
        for value in node.values():
            _check_plain(value, where)
    elif isinstance(node, list):
        for value in node:
            _check_plain(value, where)
    elif isinstance(node, str) and "${" in node and ":" in node:
        raise ModelError(f"{where} uses the resolver {node!r}; only plain values may be used")


def _items(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of every mapping inside, with its value; the elements of a list come under the list's key."""
    if isinstance(node, dict):
        for inner, value in node.items():
            yield str(inner), value
            yield from _items(value, str(inner))
    elif isinstance(node, list):
        for value in node:
            yield key, value
            yield from _items(value, key)


def _check_sizes(node: dict[Any, Any], where: str) -> None:
    size = node.get("image_size")
    if not isinstance(size, int) or size <= 0 or size % _DEEPEST_STRIDE or size > _LARGEST_IMAGE:
        raise ModelError(
            f"{where} has image_size = {size}; it must be a multiple of {_DEEPEST_STRIDE}, at most {_LARGEST_IMAGE}"
        )
    for part in _PARTS:
        if not isinstance(node.get(part), dict) or "_target_" not in node[part]:
            raise ModelError(f"{where} describes no {part}; give the YAML file of a SAM 2 model")
    stride = node.get("backbone_stride", _BACKBONE_STRIDE)
    if stride != _BACKBONE_STRIDE:
        raise ModelError(f"{where} has backbone_stride = {stride}; SAM 2's decoder needs {_BACKBONE_STRIDE}")
    for one, other in _SAME:
        a, b = _value(node, one), _value(node, other)
        if a is not None and b is not None and a != b:
            raise ModelError(f"{where} has {one} = {a} but {other} = {b}; they must be equal")
    width, memory = _value(node, _D_MODEL), _value(node, _MEMORY_WIDTH)
    if isinstance(width, int) and width % 16:
        raise ModelError(f"{where} has {_D_MODEL} = {width}; it must be a multiple of 16")
    if isinstance(width, int) and isinstance(memory, int) and (memory <= 0 or width % memory):
        raise ModelError(f"{where} has {_D_MODEL} = {width} and {_MEMORY_WIDTH} = {memory}; the second must divide it")
    depth = sum(_integers(_value(node, "image_encoder.trunk.stages")))
    for block in _integers(_value(node, "image_encoder.trunk.global_att_blocks")):
        if depth and not 0 <= block < depth:
            # sam2 ignores it silently, and the network is another than the one that was meant.
            raise ModelError(f"{where} asks for global attention in block {block} of a trunk of {depth} blocks")


def _value(node: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _integers(value: Any) -> list[int]:
    return [number for number in value if isinstance(number, int)] if isinstance(value, list) else []


def _let_rotary_tables_follow(node: DictConfig) -> None:
    side = node.image_size // _BACKBONE_STRIDE

    def visit(inner: Any) -> None:
        if isinstance(inner, MutableMapping):
            if str(inner.get("_target_", "")).endswith(".RoPEAttention"):
                inner["feat_sizes"] = [side, side]
            for value in list(inner.values()):
                visit(value)

    visit(node)
