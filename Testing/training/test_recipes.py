"""Recipes: their stages stretch, their losses prefer what is right, the bank across images takes in what is new."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("monai")
pytest.importorskip("accelerate")

from biosam2.errors import InputError
from biosam2.training.bank import ImageBank
from biosam2.training.losses import LOSSES, Decoded
from biosam2.training.recipes import NANO, NANO_REAL, RECIPES
from biosam2.training.recipes.recipe import ALL_PARTS
from biosam2.training.schedule import Stage, learning_rate, stage_at, steps_of, stretched
from hypothesis import given
from hypothesis import strategies as st

EVERY = [*RECIPES.values(), NANO, NANO_REAL]


@given(lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=9), more=st.integers(0, 5000))
def test_stages_stretch_to_any_number_of_steps(lengths, more):
    stages = tuple(Stage(n, None, (1,), 1, 1, (1e-3, 1e-4)) for n in lengths)
    steps = len(stages) + more
    parts = stretched(stages, steps)
    assert steps_of(parts) == steps
    assert len(parts) == len(stages)
    for part, stage in zip(parts, stages, strict=True):
        assert abs(part.steps / steps - stage.steps / steps_of(stages)) <= len(stages) / steps
    with pytest.raises(InputError, match="too few for"):
        stretched(stages, len(stages) - 1)


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_a_recipe_says_where_it_comes_from_and_trains_what_there_is(recipe):
    assert recipe.source
    assert recipe.purpose
    assert recipe.trained <= ALL_PARTS
    assert recipe.loss in LOSSES
    rates = [learning_rate(recipe.stages, recipe.warm_up, step) for step in range(recipe.steps)]
    assert all(rate > 0 for rate in rates)
    assert stage_at(recipe.stages, recipe.steps - 1)[0] is recipe.stages[-1]


def test_the_reference_halves_its_rate_about_every_seven_parts():
    recipe = RECIPES["biosam2-reference"]
    rates = [learning_rate(recipe.stages, 0, step) for step in range(recipe.steps)]
    assert rates[0] == 1e-4
    assert len(set(rates)) == 15
    assert rates[-1] == pytest.approx(1e-4 * 0.9**14)


def test_medsam2_trains_the_encoder_more_slowly_the_nearer_to_the_image():
    recipe = RECIPES["medsam2"]
    blocks = [recipe.rate_of(f"image_encoder.trunk.blocks.{n}.attn.qkv.weight") for n in range(12)]
    assert blocks == sorted(blocks)
    assert blocks[11] == pytest.approx(0.6 * 0.9)
    assert recipe.rate_of("image_encoder.trunk.patch_embed.proj.weight") == pytest.approx(0.6 * 0.9**13)
    assert recipe.rate_of("image_encoder.neck.convs.0.conv.weight") == pytest.approx(0.6)
    assert recipe.rate_of("sam_mask_decoder.iou_token.weight") == 1.0


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_prefers_the_right_answer(name):
    truth = torch.zeros(2, 16, 16)
    truth[0, 4:10, 4:10] = 1
    area = truth.mean(dim=(1, 2))
    logits = (truth * 40 - 20)[:, None].expand(2, 4, 16, 16)
    present = torch.tensor([[20.0], [-20.0]])
    right = Decoded(logits, torch.ones(2, 4) * 0.999, present)
    wrong = Decoded(-logits, torch.ones(2, 4) * 0.999, -present)
    cost = [sum(LOSSES[name](decoded, truth, area, False).values()) for decoded in (right, wrong)]
    assert cost[0] < 0.6
    assert cost[1] > cost[0] + 0.4


class _Echo:
    """Memory attention that shows what it was given."""

    def memory_attention(self, curr, curr_pos, memory, memory_pos, num_obj_ptr_tokens):
        assert memory.shape == memory_pos.shape
        return curr[0] + memory.mean(dim=0)


def _memory(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1)


def test_the_bank_takes_a_memory_in_for_one_that_it_makes_needless():
    bank = ImageBank(_Echo(), capacity=3)
    features = torch.zeros(1, 2, 3)
    assert torch.equal(bank.condition(features, features), features)
    position = _memory(0.0, 0.0, 0.0)
    twins = [_memory(1.0, 0.0, 0.0), _memory(1.0, 0.01, 0.0)]
    for memory in (*twins, _memory(0.0, 1.0, 0.0)):
        bank.offer(memory, position, torch.tensor([0.8]))
    bank.offer(_memory(0.0, 0.0, 1.0), position, torch.tensor([0.65]))
    assert len(bank) == 3
    kept = [entry[0] for entry in bank.state()]
    assert not any(torch.equal(entry, _memory(0.0, 0.0, 1.0)) for entry in kept), "its predicted IoU is too low"
    bank.offer(_memory(0.0, 0.0, 1.0), position, torch.tensor([0.75]))
    kept = [entry[0] for entry in bank.state()]
    assert torch.equal(kept[-1], _memory(0.0, 0.0, 1.0))
    assert sum(torch.equal(entry, twin) for entry in kept for twin in twins) == 1, "one of two that are alike went"
    bank.offer(_memory(1.0, 1.0, 1.0), position, torch.tensor([0.99]))
    assert not torch.equal(bank.state()[-1][0], _memory(1.0, 1.0, 1.0)), "all entries are further from one another"
    assert torch.allclose(bank.condition(features, features), torch.stack(kept).mean(dim=0).reshape(1, 1, 3))
