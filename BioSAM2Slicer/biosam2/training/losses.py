"""What a prediction is measured by: the masks, their predicted quality, and whether the object is there at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from ..extras import import_monai

if TYPE_CHECKING:
    from sam2.modeling.sam.mask_decoder import MaskDecoder

_monai = import_monai("monai.losses")
_DICE = _monai.DiceLoss(sigmoid=True, reduction="none", smooth_nr=0.5, smooth_dr=0.5)
_DICE_CE = _monai.DiceCELoss(sigmoid=True, squared_pred=True)
_FOCAL = _monai.FocalLoss(gamma=2.0, alpha=0.25, reduction="none")
_FOCAL_WEIGHT = 20.0
_MARGIN = 16.0  # cells that a target's cross entropy is spread over beyond its own
_ALL_MASKS_WEIGHT = 0.6  # of all candidates' mean, so that none is left behind by the best
_PRESENCE_WEIGHT = 2.0
_CERTAIN = 12 / 256**2  # a target smaller than this may be called present or absent
_AMBIGUOUS_WEIGHT = 0.3  # of the single mask where one click may mean several things


@dataclass
class Decoded:
    """One call of the mask decoder for N objects: all candidates, before any is chosen.

    Args:
        masks: logits (N, 4, S/4, S/4), the single mask first.
        ious: predicted quality (N, 4).
        presence: logit of the object being there (N, 1).
    """

    masks: Tensor
    ious: Tensor
    presence: Tensor


class DecoderTap:
    """Keeps what a mask decoder predicted last; SAM 2 itself hands on the chosen mask only.

    Used as a context manager around the calls of a network in evaluation mode, so that memory and choices are those of
    inference while every candidate can be trained.
    """

    def __init__(self, decoder: MaskDecoder) -> None:
        self._decoder = decoder
        self._predict = decoder.predict_masks
        self.last: Decoded | None = None

    def __enter__(self) -> DecoderTap:
        def predict_masks(*args: Any, **kwargs: Any) -> Any:
            masks, ious, tokens, presence = self._predict(*args, **kwargs)
            self.last = Decoded(masks.float(), ious.float(), presence.float())
            return masks, ious, tokens, presence

        self._decoder.predict_masks = predict_masks
        return self

    def __exit__(self, *_: object) -> None:
        del self._decoder.predict_masks

    def take(self) -> Decoded:
        """The last prediction, once."""
        decoded, self.last = self.last, None
        if decoded is None:
            raise RuntimeError("the mask decoder has not been called")
        return decoded


def segmentation_loss(decoded: Decoded, target: Tensor, area: Tensor, ambiguous: bool) -> dict[str, Tensor]:
    """The terms of one prediction; their sum is what is minimised.

    Args:
        decoded: N objects.
        target: coverage of each cell, 0..1, (N, S/4, S/4).
        area: the target's share of the frame, (N,); 0 means absent, a few pixels leave presence open. Where a target
            is absent its masks are to be empty: SAM 2 leaves them open, but one number per object teaches a small
            network too slowly where a sweep should end.
        ambiguous: whether the prompt was a single click.
    """
    present = area > 0
    terms = {"mask": decoded.masks.sum() * 0, "iou": decoded.ious.sum() * 0}
    if present.any():
        logits, truth = decoded.masks[present], target[present][:, None].expand(-1, 4, -1, -1)
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=(2, 3))
        cross_entropy = cross_entropy / (2 * truth.sum(dim=(2, 3)) + _MARGIN)  # small targets count as much as large
        dice = _DICE(logits.flatten(0, 1)[:, None], truth.flatten(0, 1)[:, None]).reshape(-1, 4)
        each = cross_entropy + dice
        best = each[:, 1:].min(dim=1).values + _ALL_MASKS_WEIGHT * each[:, 1:].mean(dim=1)
        terms["mask"] = (best + (_AMBIGUOUS_WEIGHT if ambiguous else 1.0) * each[:, 0]).mean()
        iou = _iou(logits, truth)
        # Cross entropy, not a distance: predictions saturate at 0 while all masks are bad, and must come back.
        quality = decoded.ious[present]
        # No number: binary_cross_entropy would stop the process, and CUDA with it, before anybody could say why.
        usable = bool(torch.isfinite(quality).all())
        terms["iou"] = functional.binary_cross_entropy(quality, iou) if usable else quality.sum()
    absent = area == 0
    if absent.any():
        logits = decoded.masks[absent]
        excess = functional.softplus(logits).sum(dim=(2, 3)) / (logits.detach().sigmoid().sum(dim=(2, 3)) + _MARGIN)
        terms["absent"] = excess.mean()
    certain = absent | (area >= _CERTAIN)
    presence = functional.binary_cross_entropy_with_logits(decoded.presence[:, 0], present.float(), reduction="none")
    terms["presence"] = _PRESENCE_WEIGHT * (presence * certain).sum() / certain.sum().clamp(min=1)
    return terms


def dice_ce_loss(decoded: Decoded, target: Tensor, area: Tensor, ambiguous: bool) -> dict[str, Tensor]:
    """Dice and cross-entropy of the single mask, as BioSAM-2's repository has it; see `segmentation_loss`."""
    return {"mask": _DICE_CE(decoded.masks[:, :1], target[:, None])}


def sam2_loss(decoded: Decoded, target: Tensor, area: Tensor, ambiguous: bool) -> dict[str, Tensor]:
    """SAM 2's loss (arXiv 2408.00714, appendix D.2); see `segmentation_loss` for the arguments.

    20 times focal loss and Dice loss of the best of three masks, absolute error of every predicted IoU, cross-entropy
    of the presence. The single mask is trained in the same way beside the three, as SAM 2 does by turns.
    """
    present = area > 0
    terms = {"mask": decoded.masks.sum() * 0, "iou": decoded.ious.sum() * 0}
    if present.any():
        logits, truth = decoded.masks[present], target[present][:, None].expand(-1, 4, -1, -1)
        flat, wanted = logits.flatten(0, 1)[:, None], truth.flatten(0, 1)[:, None]
        focal = _FOCAL(flat, wanted).mean(dim=(1, 2, 3)).reshape(-1, 4)
        each = _FOCAL_WEIGHT * focal + _DICE(flat, wanted).reshape(-1, 4)
        terms["mask"] = (each[:, 1:].min(dim=1).values + each[:, 0]).mean()
        terms["iou"] = (decoded.ious[present] - _iou(logits, truth)).abs().mean()
    terms["presence"] = functional.binary_cross_entropy_with_logits(decoded.presence[:, 0], present.float())
    return terms


@torch.no_grad()
def _iou(logits: Tensor, truth: Tensor) -> Tensor:
    """IoU of logits and truths (N, M, rows, columns), (N, M)."""
    shown, true = logits > 0, truth > 0.5
    return (shown & true).sum(dim=(2, 3)) / (shown | true).sum(dim=(2, 3)).clamp(min=1)


Loss = Callable[[Decoded, Tensor, Tensor, bool], dict[str, Tensor]]
LOSSES: dict[str, Loss] = {"all-masks": segmentation_loss, "dice-ce": dice_ce_loss, "sam2": sam2_loss}
