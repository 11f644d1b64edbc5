"""The image encoder without the work that leaves no trace in its result.

`sam2` interpolates the position embedding anew for every frame, projects windows' padding as if it were image, and
makes position encodings that nobody reads. Where windows divide the image the result is `sam2`'s to the last bit,
elsewhere up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock, do_pool
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.backbones.utils import window_partition, window_unpartition
from torch.nn.functional import interpolate, scaled_dot_product_attention

from .features import EncodedFrame

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# Levels of the pyramid that SAM 2 keeps: two fine ones, which one projection each narrows, and the coarse one.
_FINE = 2
_LEVELS = 3


class GivenUpError(Exception):
    """The encoding was given up, because something else is wanted."""


class LeanEncoder:
    """`sam2`'s `forward_image` for the levels that are used.

    Args:
        network: whose weights are used as they are at each call; it must be one that `suits`.
    """

    def __init__(self, network: SAM2Base) -> None:
        self.network = network
        self._position: tuple[object, torch.Tensor] | None = None

    @staticmethod
    def suits(network: SAM2Base) -> bool:
        """Whether the network's encoder is of the kind that SAM 2's own configurations describe."""
        encoder = network.image_encoder
        if type(encoder) is not ImageEncoder or type(encoder.trunk) is not Hiera or type(encoder.neck) is not FpnNeck:
            return False
        neck = encoder.neck
        return bool(
            encoder.scalp == 1
            and len(neck.convs) == _LEVELS + 1
            and neck.fuse_type == "sum"
            and set(neck.fpn_top_down_levels) == {2, 3}
            and network.use_high_res_features_in_sam
            and network.num_feature_levels == _LEVELS
        )

    def __call__(self, image: torch.Tensor, busy: Callable[[], bool] = lambda: False) -> EncodedFrame:
        """The encoded frame of an image (1, 3, S, S).

        Args:
            image: normalised.
            busy: asked before each block; once it says so, the work is given up.

        Raises:
            GivenUpError: it was given up.
        """
        trunk = self.network.image_encoder.trunk
        x = trunk.patch_embed(image)
        x = x + self._position_embedding(trunk, x)
        levels = []
        for number, block in enumerate(trunk.blocks):
            if busy():
                raise GivenUpError
            x = _block(block, x)
            if number in trunk.stage_ends:
                levels.append(x)
        return self._pyramid(levels)

    def _position_embedding(self, trunk: Hiera, x: torch.Tensor) -> torch.Tensor:
        """`trunk._get_pos_embed`, (1, H, W, C), kept until its weights change."""
        size = (x.shape[1], x.shape[2])
        weights = (trunk.pos_embed, trunk.pos_embed_window)
        if any(weight.is_inference() for weight in weights):  # their changes are not counted
            return trunk._get_pos_embed(size)
        state = (size, x.device, x.dtype, *((weight.data_ptr(), weight._version) for weight in weights))
        if self._position is None or self._position[0] != state:
            self._position = (state, trunk._get_pos_embed(size))
        return self._position[1]

    def _pyramid(self, levels: list[torch.Tensor]) -> EncodedFrame:
        """The neck (FPN): `levels` are (1, H, W, C), finest first."""
        neck, decoder = self.network.image_encoder.neck, self.network.sam_mask_decoder
        last = len(neck.convs) - 1
        maps = [neck.convs[last - level](x.permute(0, 3, 1, 2)) for level, x in enumerate(levels)]
        narrowed = (decoder.conv_s0, decoder.conv_s1)
        fine = tuple(narrow(wide) for narrow, wide in zip(narrowed, maps[:_FINE], strict=True))
        coarse, deepest = maps[_FINE:]
        above = interpolate(
            deepest.float(),
            scale_factor=2.0,
            mode=neck.fpn_interp_model,
            align_corners=None if neck.fpn_interp_model == "nearest" else False,
        )
        return EncodedFrame(coarse + above, fine)


def _block(block: MultiScaleBlock, x: torch.Tensor) -> torch.Tensor:
    """One block of the trunk; where windows reach beyond the image, only the image is projected.

    Padding is zeros, so that its queries, keys and values are the projection's bias.
    """
    size = block.window_size
    height, width = x.shape[1:3]
    if size == 0 or (height % size == 0 and width % size == 0):
        return block(x)
    attention = block.attn
    normed = block.norm1(x)
    shortcut = x if block.dim == block.dim_out else do_pool(block.proj(normed), block.pool)
    inside = attention.qkv(normed)
    padded_height, padded_width = (-(-n // size) * size for n in (height, width))
    padded = attention.qkv.bias.to(inside.dtype).repeat(len(x), padded_height, padded_width, 1)
    padded[:, :height, :width] = inside
    windows, _ = window_partition(padded, size)
    count = len(windows)
    q, k, v = windows.reshape(count, size * size, 3, attention.num_heads, -1).unbind(2)
    stride = 1
    if attention.q_pool:
        q = do_pool(q.reshape(count, size, size, -1), attention.q_pool)
        stride = size // q.shape[1]
        q = q.reshape(count, -1, attention.num_heads, k.shape[-1])
    seen = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    side = size // stride
    seen = window_unpartition(
        seen.reshape(count, side, side, -1),
        side,
        (padded_height // stride, padded_width // stride),
        tuple(shortcut.shape[1:3]),
    )
    x = shortcut + attention.proj(seen)
    return x + block.mlp(block.norm2(x))
