"""The two sides' networks: the same weights in the engine's model and in `sam2`'s own predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from biosam2.models import load_model
from biosam2.models.model import Model
from biosam2.models.network import build_network, load_config
from hydra.utils import instantiate
from omegaconf import OmegaConf, open_dict

# Logit of presence that random weights are given, so that the segment is on every slice, or on none.
_PRESENCE = 10.0


def network_of(name: str, size: int | None = None, present: bool = True) -> Model:
    """A model for timing: ``nano`` or one of `sam2`'s configurations, with random weights.

    Args:
        name: for example ``nano`` or ``sam2.1_hiera_t``.
        size: side of the network's input, by default the configuration's.
        present: whether segments are found on every slice, or on none.
    """
    config = load_config(name, [f"image_size={size}"] if size else None)
    torch.manual_seed(0)
    network = build_network(config)
    with torch.no_grad():
        head = network.sam_mask_decoder.pred_obj_score_head.layers[-1]
        head.weight.zero_()
        head.bias.fill_(_PRESENCE if present else -_PRESENCE)
    network.requires_grad_(False)
    return Model(
        name=f"{name} with random weights",
        config=config,
        network=network,
        device=torch.device("cpu"),
        device_reason="asked for",
        sha256="",
        image_size=config.image_size,
        path=Path(),
    )


def trained(name: str = "nano") -> Model:
    """A registered model with its own weights, on the CPU."""
    return load_model(name, device="cpu")


def reference_of(model: Model) -> Any:
    """`sam2`'s SAM2VideoPredictor with a model's weights, as `build_sam2_video_predictor` sets it up.

    Two settings differ from its defaults: corrections are remembered (`add_all_frames_to_correct_as_cond`; without it
    SAM 2 forgets them), and holes are not filled, which needs an extension that is never built.
    """
    config = OmegaConf.create(OmegaConf.to_container(model.config, resolve=True))
    with open_dict(config):
        config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
        config.add_all_frames_to_correct_as_cond = True
        config.fill_hole_area = 0
    predictor = instantiate(config, _recursive_=True).eval()
    predictor.load_state_dict(model.network.state_dict())
    return predictor
