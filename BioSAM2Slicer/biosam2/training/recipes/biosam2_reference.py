"""BioSAM-2 as the authors' repository trains it, on single images with a memory bank across images.

https://github.com/ZhilingYan/Biomedical-SAM-2 (``train.py``, ``func/function.py``, ``cfg.py``), after Medical SAM 2:

- Adam, learning rate 1e-4, betas 0.9 and 0.999, no weight decay, no clipping of gradients; StepLR multiplies the rate
  by 0.9 every 10 of 150 epochs: here fifteen stages of one rate each. Batches of one image.
- One click, or a box that is off by a tenth; the single mask is trained by Dice and cross-entropy (``-DiceCEloss``).
- Memory attention conditions each image on a bank of 16 memories of other images. A new memory comes in where it is
  less like an entry than that entry's nearest neighbour, which it replaces, if its predicted IoU is not lower by more
  than 0.1. Memories are kept without gradients.
- The repository means to freeze the image encoder, against the paper's text; the loop that lets gradients into all
  other modules starts with the network itself, so that the encoder is trained all the same. It is trained here.

Otherwise than there: no dropout, as networks are trained in evaluation mode; the loss is taken at the mask decoder's
size, not enlarged to the image's; images are drawn at random, so that there are no epochs and the bank is never
emptied; bfloat16 only where the GPU has it.
"""

from ..schedule import Stage
from .recipe import DECODER, ENCODER, PromptMix, Recipe

_RATE, _FACTOR, _PARTS = 1e-4, 0.9, 15

RECIPE = Recipe(
    name="biosam2-reference",
    purpose="BioSAM-2's repository: single images with a memory bank of 16 across images, Dice and cross-entropy",
    source="https://github.com/ZhilingYan/Biomedical-SAM-2",
    begin="sam2.1-small",
    trained=ENCODER | DECODER | {"memory_attention"},
    stages=tuple(
        Stage(100, None, lengths=(1,), clips=1, targets=1, learning_rates=(_RATE * _FACTOR**n,) * 2)
        for n in range(_PARTS)
    ),
    batches=1,
    loss="dice-ce",
    prompts=PromptMix(frames=(0.5, 0.0, 0.5), corrections=(0, 0)),
    optimizer="adam",
    betas=(0.9, 0.999),
    warm_up=0,
    weight_decay=0.0,
    clip_norm=None,
    average=0.0,
    bank=16,
)
