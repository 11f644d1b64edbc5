"""Variants of BioSAM-2's recipe for few cases, of this project: less is trained, or the memory is trained too."""

from dataclasses import replace

from .biosam2 import RECIPE
from .recipe import DECODER, ENCODER, MEMORY

DECODER_ONLY = replace(
    RECIPE,
    name="decoder",
    purpose="mask decoder trained, everything else frozen: for few cases, and fast",
    source="of this project",
    trained=DECODER,
)

WITH_MEMORY = replace(
    RECIPE,
    name="memory",
    purpose="everything trained but the prompt encoder, on longer clips, so that sweeps are learnt too",
    source="of this project",
    trained=ENCODER | DECODER | MEMORY,
    stages=tuple(replace(stage, lengths=(1, 4, 6)) for stage in RECIPE.stages),
)
