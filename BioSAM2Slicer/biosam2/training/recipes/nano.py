"""`nano`, the network that is shipped: from nothing on generated cases, and from there on real ones. Of this project.

From nothing: bare prompts come first, which teach the decoder where things are; then single frames, which teach the
encoder; then clips, which teach the memory too; all at half the size, where a step costs a quarter; then clips at full
size; at last clips that are corrected and swept again.

With labelled cases of many sources (see `training.collection`) a trained network goes on: real images and generated
ones are mixed, and clips are prompted on several frames.
"""

from ..schedule import Stage
from .recipe import ALL_PARTS, PromptMix, Recipe

FROM_NOTHING = Recipe(
    name="nano",
    purpose="the shipped model, from generated cases",
    source="of this project",
    trained=ALL_PARTS,
    stages=(
        Stage(500, 128, (), 1, 20, (1e-3, 8e-4), real=0.0),
        Stage(1500, 128, (1,), 8, 3, (8e-4, 6e-4), real=0.0),
        Stage(1200, 128, (3, 4), 4, 4, (6e-4, 6e-4), real=0.0),
        Stage(800, 256, (3, 4, 5), 1, 4, (4e-4, 1e-5), real=0.0),
        Stage(500, 256, (1, 3, 4), 1, 4, (3e-4, 1e-5), real=0.0),
        Stage(900, 128, (4, 6), 3, 4, (4e-4, 2e-4), again=0.5, real=0.0),
        Stage(500, 256, (1, 4, 5), 1, 4, (2e-4, 1e-5), again=0.5, real=0.0),
        Stage(450, 128, (6, 8), 2, 4, (3e-4, 2e-4), again=0.6, real=0.0),
        Stage(450, 256, (1, 5), 1, 4, (2e-4, 1e-5), again=0.6, real=0.0),
    ),
    batches=1,
    prompts=PromptMix(clips=(0.15, 0.15, 0.35, 0.35), frames=(0.0, 0.3, 0.7), foreign=0.5),
    average=0.998,
    decay_idle=True,  # as the shipped weights were trained
)

WITH_CASES = Recipe(
    name="nano-real",
    purpose="the shipped model, from labelled cases of many sources and generated ones",
    source="of this project",
    begin="nano",
    trained=ALL_PARTS,
    stages=(
        Stage(2700, 256, (1,), 4, 3, (3e-4, 3e-4), real=0.75),
        Stage(1200, 128, (1, 6, 8), 8, 3, (3e-4, 2e-4), again=0.25, several=0.35, real=0.6),
        Stage(1300, 256, (1, 4, 6), 4, 3, (2e-4, 5e-6), again=0.25, several=0.35, real=0.65),
        Stage(1500, 128, (1, 8, 10), 8, 3, (3e-4, 3e-4), again=0.25, several=0.4, real=0.6),
        Stage(1300, 256, (1, 5, 7), 4, 3, (2.5e-4, 4e-6), again=0.25, several=0.35, real=0.65),
        Stage(500, 256, (1, 1, 4, 6), 4, 3, (1.5e-4, 3e-6), again=0.25, several=0.35, real=0.75),
    ),
    batches=1,
    prompts=FROM_NOTHING.prompts,
    average=0.998,
    decay_idle=True,
)
