"""Policies that were tried: what they keep, and when a rival is in sight."""

from pathlib import Path

import biosam2
import numpy as np
import pytest
from biosam2.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def policies(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import policies

    return policies


@pytest.fixture(scope="module")
def model():
    return biosam2.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def volume():
    k, j, i = np.ogrid[:14, :40, :48]
    ball = ((k - 7) * 3) ** 2 + (j - 20) ** 2 + (i - 20) ** 2 < 200
    return biosam2.Volume((100 + 300 * ball).astype(np.int16), (1.0, 1.0, 3.0))


@pytest.mark.usefixtures("policies")
def test_targets_that_no_pattern_fits_are_an_error():
    from bench.cases import cases_of

    with pytest.raises(InputError, match="no target on 1 or more slices fits 'liver'"):
        list(cases_of(None, None, 0, only="liver"))


def test_a_second_sweep_is_conditioned_on_the_best_slices_of_the_first(policies, model, volume):
    def shown(policy, sweeps):
        session = biosam2.Session(model, volume, policy=policy)
        session.add_prompt("x", biosam2.Box((7, 7, 7), (33, 33, 7)))
        for second in range(sweeps):
            if isinstance(policy, policies.TwoPass):
                policy.second = bool(second)
            list(session.propagate())
        return session

    plain, first = shown("path", 1), shown(policies.TwoPass(), 1)
    np.testing.assert_array_equal(first.logits("x", 9), plain.logits("x", 9))
    policy = policies.TwoPass(most=2, apart=2, least=0.0)
    again = shown(policy, 2)
    assert not np.array_equal(again.logits("x", 9), shown("path", 2).logits("x", 9))
    (chosen,) = policy._best.values()
    assert chosen[0].score == max(
        plain.score("x", s) for s in range(14) if abs(s - 7) >= 2 and plain.mask("x")[s].any()
    )
    assert len(chosen) == 2
    assert abs(chosen[0].slice_index - chosen[1].slice_index) >= 2


def test_a_rival_is_a_large_piece_elsewhere(policies):
    chosen = np.zeros((20, 20), bool)
    chosen[2:8, 2:8] = True
    grown, rival, speck = chosen.copy(), chosen.copy(), chosen.copy()
    grown[8, 2:8] = True
    rival[12:17, 12:17] = True
    speck[8, 8] = True
    assert not policies._rivalled(chosen, np.stack([chosen, grown, speck]))
    assert policies._rivalled(chosen, np.stack([chosen, grown, rival]))


def test_anchors_look_at_the_candidates_of_the_slice_before(policies, model, volume, monkeypatch):
    """Where every choice is sure and rivalled, each sixth slice is kept."""
    monkeypatch.setattr(policies, "_rivalled", lambda chosen, candidates: len(candidates) == 3)
    policy = policies.Anchors(model)
    try:
        session = biosam2.Session(model, volume, policy=policy)
        session.add_prompt("x", biosam2.Mask(7, volume.array[7] > 300))
        list(session.propagate(direction="forward"))
    finally:
        policy.close()
    (kept,) = (kept for _, kept, _ in policy._kept.values())
    assert policy.found == len(kept) == 1
    assert kept[0].mask.any()
