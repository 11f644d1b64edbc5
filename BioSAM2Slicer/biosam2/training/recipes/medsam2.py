"""MedSAM2: full fine-tuning of SAM 2.1 tiny on frames of 512 pixels.

Ma et al., MedSAM2: Segment Anything in 3D Medical Images and Videos, arXiv 2504.03600, and the configurations of
https://github.com/bowang-lab/MedSAM2 (``sam2/configs/sam2.1_hiera_tiny_finetune512_dev.yaml``):

- Everything is trained. AdamW with weight decay 0.1 of matrices; learning rate 5e-5, of the image encoder 3e-5, which
  falls by a factor of 0.9 for each block towards the image; cosine decay to a tenth; gradients clipped to a norm of
  0.1.
- Clips of 8 frames. A box or clicks, half of each, on one or two frames; up to 2 frames are corrected by clicks.
- SAM 2's loss: 20 focal + 1 Dice + 1 absolute error of the predicted IoU + 1 cross-entropy of the presence.

Otherwise than there: a device holds one clip at a time, and a step is 8 of them; corrections are one or two clicks, not
seven; frames are varied as everywhere here; losses are taken at the mask decoder's size.
"""

from ..schedule import Stage
from .recipe import ALL_PARTS, PromptMix, Recipe

_ENCODER_RATE = 3e-5 / 5e-5
_DECAY, _BLOCKS = 0.9, 12  # of Hiera tiny
_TRUNK = "image_encoder.trunk"

RECIPE = Recipe(
    name="medsam2",
    purpose="MedSAM2's recipe: everything trained, on clips of 8 frames of 512 pixels, by SAM 2's loss",
    source="https://arxiv.org/abs/2504.03600",
    begin="sam2.1-tiny",
    trained=ALL_PARTS,
    stages=(Stage(1000, 512, lengths=(8,), clips=1, targets=3, learning_rates=(5e-5, 5e-6), again=0.3, several=0.35),),
    batches=8,
    loss="sam2",
    prompts=PromptMix(clips=(0.25, 0.25, 0.5, 0.0), skipped=0.0),
    betas=(0.9, 0.999),
    warm_up=0,
    weight_decay=0.1,
    clip_norm=0.1,
    rates=(
        ("image_encoder", _ENCODER_RATE),
        (f"{_TRUNK}.patch_embed", _ENCODER_RATE * _DECAY ** (_BLOCKS + 1)),
        *((f"{_TRUNK}.blocks.{n}", _ENCODER_RATE * _DECAY ** (_BLOCKS - n)) for n in range(_BLOCKS)),
    ),
    average=0.0,
)
