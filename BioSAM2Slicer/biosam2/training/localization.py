"""Teach a network where things are, before it sees a single image.

From random weights, a decoder needs thousands of images to find out that a prompt's coordinates and an image's
positions are written in the same code, and says "nothing" until then; and the memory needs as long to look where it
looked before. Two things shorten that to a minute: attention that starts by matching like with like and near with near,
and a first stage on featureless images, where a click means a disc and a box an ellipse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .losses import DecoderTap, segmentation_loss

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_SHARPNESS = 4.0  # of the first attention maps
_NEARNESS = 2.0  # of the memory's: its rotary code then favours the same place, about one token around
_LOUDNESS = 8.0  # of what memory adds to an image's features, which are several times as strong
_QUIET = 0.1  # first masks are near zero everywhere
_DISC = 0.11  # radius of what a click means, of the frame
_SEEN = 0.3  # strength of the noise that stands for image features


@torch.no_grad()
def prepare_attention(network: SAM2Base) -> None:
    """Let attention start as similarity of position, and masks near zero."""
    from sam2.modeling.sam.transformer import Attention

    prepare_memory(network)
    decoder = network.sam_mask_decoder
    for name, module in decoder.transformer.named_modules():
        if isinstance(module, Attention) and "self_attn" not in name:
            module.q_proj.weight.mul_(_SHARPNESS)
            module.k_proj.load_state_dict(module.q_proj.state_dict())
    for head in decoder.output_hypernetworks_mlps:
        head.layers[-1].weight.mul_(_QUIET)
        head.layers[-1].bias.mul_(_QUIET)


@torch.no_grad()
def prepare_memory(network: SAM2Base) -> None:
    """Let every place look at the same place in its memories, and hear what is there.

    Equal biases of queries and keys give, once rotated by their positions, a score that falls with distance.
    """
    for layer in network.memory_attention.layers:
        for projection in (layer.cross_attn_image.q_proj, layer.cross_attn_image.k_proj):
            projection.bias.fill_(_NEARNESS)
        layer.cross_attn_image.out_proj.weight.mul_(_LOUDNESS)


def localization_loss(network: SAM2Base, rng: np.random.Generator, objects: int) -> Tensor:
    """The loss on clicks and boxes over featureless images.

    Args:
        network: gradients flow into its decoder.
        rng: source of randomness.
        objects: prompts of each kind.
    """
    size, device = network.image_size, network.no_mem_embed.device
    side = size // 4
    grid = torch.arange(side) * 4 + 1.5
    losses = []
    for kind in ("click", "box"):
        centres = torch.from_numpy(rng.uniform(0.08, 0.92, (objects, 2)).astype(np.float32)) * size
        if kind == "click":
            radii = torch.full((objects, 2), _DISC * size)
            points, labels = centres[:, None], torch.ones(objects, 1, dtype=torch.int32)
        else:
            radii = torch.from_numpy(np.exp(rng.uniform(np.log(0.03), np.log(0.4), (objects, 2))).astype(np.float32))
            radii = radii * size
            points = torch.stack([centres - radii, centres + radii], dim=1)
            labels = torch.tensor([2, 3], dtype=torch.int32).expand(objects, 2)
        x = (grid[None, None, :] - centres[:, 0, None, None]) / radii[:, 0, None, None]
        y = (grid[None, :, None] - centres[:, 1, None, None]) / radii[:, 1, None, None]
        truth = (x * x + y * y < 1).float()
        channels = network.hidden_dim
        features = [
            torch.from_numpy(rng.standard_normal((objects, c, s, s), dtype=np.float32)).to(device) * _SEEN
            for c, s in ((channels // 8, side), (channels // 4, side // 2), (channels, side // 4))
        ]
        with DecoderTap(network.sam_mask_decoder) as tap:
            network._forward_sam_heads(
                features[2] + network.no_mem_embed.reshape(1, -1, 1, 1),
                {"point_coords": points.to(device), "point_labels": labels.to(device)},
                None,
                features[:2],
                multimask_output=kind == "click",
            )
            truth = truth.to(device)
            with torch.autocast(device.type, enabled=False):
                terms = segmentation_loss(tap.take(), truth, truth.mean(dim=(1, 2)), ambiguous=False)
        losses.append(sum(terms.values(), start=torch.zeros(())))
    return torch.stack(losses).mean()
