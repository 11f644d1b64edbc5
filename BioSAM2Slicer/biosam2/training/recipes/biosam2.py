"""BioSAM-2 as its paper describes it.

Yan et al., Biomedical SAM 2: Segment Anything in Biomedical Images and Videos, arXiv 2408.03286, section 3: SAM 2's
image encoder and mask decoder are fine-tuned, the prompt encoder is frozen, and what the memory holds is used as it is.

From the paper: what is trained. From SAM 2 (arXiv 2408.00714, section 4): clips of neighbouring frames, clicks that
correct the prediction, boxes and masks as prompts. Of this project: the losses, the learning rate (1e-4 made results
worse on few cases; docs/finetuning.md), averaged weights, clips of three slices, as the memory is not trained.
"""

from ..schedule import Stage
from .recipe import DECODER, ENCODER, Recipe

RECIPE = Recipe(
    name="biosam2",
    purpose="BioSAM-2's recipe: image encoder and mask decoder trained, prompt encoder and memory frozen",
    source="https://arxiv.org/abs/2408.03286",
    begin="sam2.1-small",
    trained=ENCODER | DECODER,
    stages=(Stage(1000, None, lengths=(1, 3), clips=1, targets=2, learning_rates=(1e-5, 0.0), hold=50),),
    batches=8,
    warm_up=50,
)
