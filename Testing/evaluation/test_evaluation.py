"""The measuring itself: hand-made masks, a simulated user, a resolution's ceiling, classical tools, and a whole run."""

import json

import biosam2
import numpy as np
import pytest
import torch
from biosam2 import masks
from biosam2.engine.memory import DissimilarityPolicy
from biosam2.errors import InputError
from biosam2.evaluation import card, classical, metrics, tables, user
from biosam2.evaluation.cases import TargetCase, shared_cases, synthetic_cases
from biosam2.evaluation.ceiling import ceiling, squeezed
from biosam2.evaluation.measure import CROP, EXACT, Results, measure
from biosam2.evaluation.runs import EvaluationSettings, run
from biosam2.frames import Frames
from biosam2.models.network import build_network, load_config
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

# How long an example takes says more about what else the machine does.
unhurried = settings(deadline=None, derandomize=True, max_examples=40)


@pytest.fixture(scope="module")
def case():
    """A bright ellipsoid in noise, 9 × 40 × 48 voxels, and a dim one beside it that is not the target."""
    rng = np.random.default_rng(3)
    k, j, i = np.ogrid[:9, :40, :48]
    mask = ((k - 4) / 3) ** 2 + ((j - 18) / 7) ** 2 + ((i - 15) / 6) ** 2 <= 1
    other = ((k - 4) / 3) ** 2 + ((j - 18) / 7) ** 2 + ((i - 36) / 6) ** 2 <= 1
    array = rng.normal(0, 5, mask.shape) + 100 * mask + 40 * other
    return TargetCase("made", "ball", biosam2.Volume(array.astype(np.int16), spacing=(1.0, 1.0, 2.0)), mask)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A nano of random weights that says everywhere that the target is there."""
    torch.manual_seed(1)
    network = build_network(load_config("nano"))
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)
    path = tmp_path_factory.mktemp("model") / "random.pt"
    torch.save({"model": network.state_dict()}, path)
    return biosam2.load_model(checkpoint=path, config="nano", device="cpu")


# -- metrics --------------------------------------------------------------------------------------


def test_metrics_of_masks_made_by_hand():
    a = np.zeros((2, 4, 4), bool)
    b = a.copy()
    a[0, :2, :2] = True  # 4 voxels
    b[0, :2, 1:4] = True  # 6 voxels, 2 of them shared
    assert masks.dice(a, b) == pytest.approx(2 * 2 / 10)
    assert metrics.iou(a, b) == pytest.approx(2 / 8)
    assert masks.dice(a, a) == metrics.iou(a, a) == 1
    assert masks.dice(a, ~a) == metrics.iou(a, ~a) == 0


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert masks.dice(empty, empty) == metrics.iou(empty, empty) == 1
    assert masks.dice(empty, full) == metrics.iou(empty, full) == 0


@unhurried
@given(arrays(bool, (2, 5, 6)), arrays(bool, (2, 5, 6)))
def test_dice_is_monai_s(a, b):
    from monai.metrics import compute_dice

    def batch(mask):
        return torch.from_numpy(mask)[None, None].float()

    theirs = float(compute_dice(batch(a), batch(b), ignore_empty=False))
    assert masks.dice(a, b) == pytest.approx(theirs, abs=1e-6)


# -- the user -------------------------------------------------------------------------------------


def test_the_middle_slice_is_the_middle_one_of_those_with_the_target():
    target = np.zeros((9, 3, 3), bool)
    target[[1, 2, 3, 4, 7], 1, 1] = True
    assert user.middle_slice(target) == 3


@unhurried
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any))
def test_a_click_lies_in_the_largest_piece(mask):
    row, column = user.middle(mask)
    piece = user.largest_piece(mask)
    assert piece[row, column]
    assert not (piece & ~mask).any()


def test_a_click_lies_deepest_inside():
    mask = np.zeros((20, 20), bool)
    mask[2:13, 3:14] = True
    mask[15:18, 15:18] = True
    assert user.middle(mask) == (7, 8)


@unhurried
@given(st.data())
def test_a_correction_lies_where_it_is_wrong(data):
    shape = data.draw(st.tuples(st.integers(1, 10), st.integers(1, 10)))
    shown, target = data.draw(arrays(bool, shape)), data.draw(arrays(bool, shape))
    found = user.correction(shown, target)
    if found is None:
        assert np.array_equal(shown, target)
        return
    row, column, positive = found
    assert target[row, column] == positive
    assert shown[row, column] != positive


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_places_on_slices_go_back_and_forth(case, axis):
    frames = Frames(case.volume, axis, None, 256)
    assert frames.from_ijk(user.to_ijk(frames, 2, 3, 4)) == (2, 3, 4)


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_the_user_marks_the_target_on_any_axis(case, model, axis):
    session = biosam2.Session(model, case.volume, axis=axis)
    clicks, box = user.User(session, "clicks", case.mask), user.User(session, "box", case.mask)
    clicks.start("click3")
    box.start("box")
    first = clicks.prompts[0]
    i, j, k = (int(v) for v in first.ijk)
    assert first.positive
    assert case.mask[k, j, i]
    assert len(clicks.prompts) == 3
    (low, high) = (np.array(v, int) for v in (box.prompts[0].min_ijk, box.prompts[0].max_ijk))
    assert low["ijk".index(axis)] == high["ijk".index(axis)] == box.slice_index
    inside = np.moveaxis(case.mask, {"k": 0, "j": 1, "i": 2}[axis], 0)[box.slice_index]
    others = [n for n, a in reversed(list(enumerate("ijk"))) if a != axis]
    part = tuple(slice(low[n], high[n] + 1) for n in others)
    assert inside[part].sum() == inside.sum()
    assert all(inside[part].any(axis=a)[[0, -1]].all() for a in (0, 1))


# -- the ceiling ----------------------------------------------------------------------------------


def test_the_ceiling_rises_with_resolution_and_with_a_crop(case):
    reached = [ceiling(case, size) for size in (32, 64, 128, 256)]
    assert reached == sorted(reached)
    assert reached[0] < 0.9 < reached[-1]
    assert ceiling(case, 32, crop="auto") > ceiling(case, 32)


def test_a_mask_as_large_as_its_cells_comes_back_whole():
    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    region = Frames(biosam2.Volume(np.zeros((1, 16, 16))), "k", (0, 1), 64).whole
    assert np.array_equal(squeezed(mask, region, 64), mask)
    assert not squeezed(mask & (np.indices(mask.shape).sum(axis=0) == 8), region, 16).any()


# -- classical tools ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["click1", "box", "mask"])
@pytest.mark.parametrize("name", classical.TOOLS)
def test_classical_tools_find_a_bright_ball(case, model, name, kind):
    someone = user.User(biosam2.Session(model, case.volume), "ball", case.mask)
    someone.start(kind)
    found = classical.segment(classical.TOOLS[name], someone.session.frames, someone.prompts)
    assert found.shape == case.mask.shape
    assert masks.dice(found, case.mask) > 0.6


def test_classical_tools_keep_a_drawn_slice_and_heed_a_negative_click(case, model):
    frames = Frames(case.volume, "k", None, 256)
    drawn = np.zeros((40, 48), bool)
    drawn[10:20, 10:20] = True
    for tool in classical.TOOLS.values():
        assert np.array_equal(classical.segment(tool, frames, [biosam2.Mask(4, drawn)])[4], drawn)
        clicks = [biosam2.Point((15, 18, 4)), biosam2.Point((15, 30, 4), positive=False)]
        assert not classical.segment(tool, frames, clicks)[4, 30, 15]


# -- the whole ------------------------------------------------------------------------------------


def test_the_prompted_slice_is_put_into_a_memory_bank_by_the_propagation_alone(case, model, monkeypatch):
    monkeypatch.setattr(biosam2.Session, "predict", lambda *_: pytest.fail("it would be in the bank twice"))
    found = run(case, model, "box", EvaluationSettings(policy="dissimilar", capacity=2, beyond=1))
    session = biosam2.Session(model, case.volume, crop="auto")
    for prompt in found.prompts:
        session.add_prompt("ball", prompt)
    k = round(found.prompts[0].min_ijk[2])
    monkeypatch.undo()
    assert found.slice_dice == masks.dice(session.predict("ball", k), case.mask[k])


@pytest.mark.parametrize(("field", "value"), [("capacity", 4), ("scope", "images")])
def test_a_policy_of_ones_own_has_its_capacity_and_scope(field, value):
    with pytest.raises(InputError, match="leave them out"):
        EvaluationSettings(policy=DissimilarityPolicy(), **{field: value})


def test_a_run_gives_a_mask_for_every_round(case, model):
    found = run(case, model, "click1", EvaluationSettings(rounds=2, beyond=1))
    assert len(found.masks) == 3
    assert 0 <= found.slice_dice <= 1
    touched = np.flatnonzero(found.masks[0].any(axis=(1, 2)))
    assert touched[0] >= 0
    assert touched[-1] <= 8


def test_a_refused_prompt_is_noted_and_scores_nothing(model):
    mask = np.zeros((3, 300, 300), bool)
    mask[:, 10, 10] = True
    tiny = TargetCase("made", "speck", biosam2.Volume(mask.astype(np.uint8)), mask)
    found = run(tiny, model, "mask", EvaluationSettings(crop=None, rounds=1))
    assert "too small" in found.note
    assert found.dice(tiny) == [0, 0]


def test_measured_figures_become_tables_in_a_card(case, model):
    lines = []
    results = measure(
        [case], model, ["box"], [CROP, EXACT, "watershed"], EvaluationSettings(rounds=1), report=lines.append
    )
    assert [r.method for r in results.records] == [CROP, EXACT, "watershed"]
    assert len(lines) == 1
    assert json.loads(json.dumps(results.to_json()))["records"][0]["target"] == "ball"
    text = tables.tables(results)
    assert "| made | ball |" in text
    assert "wins against" in text
    card_text = "# A model\n\n<!-- figures: written by a command, do not edit -->\nold\n<!-- end of figures -->\n\nEnd."
    once = tables.insert(card_text, text)
    assert "old" not in once
    assert once.startswith("# A model")
    assert once.endswith("End.")
    assert tables.insert(once, text) == once
    with pytest.raises(biosam2.BioSAM2Error, match="lacks the lines"):
        tables.insert("# A model", text)


def test_the_command_says_what_is_wrong(tmp_path, capsys, model):
    assert card.main(["--data", str(tmp_path), "--model", str(model.path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("biosam2: ")


def test_the_shared_cases_are_what_their_readme_says(shared_data):
    found = {}
    for one in shared_cases(shared_data):
        found[one.title] = np.flatnonzero(one.mask.any(axis=(1, 2))).size
    assert found["mr-brain-tumour: tumour"] == 7
    assert found["ct-lung-nodule: nodule"] == found["mr-breast-lesion: lesion"] == 3
    assert {title.partition(": ")[2] for title in found if "atlas" in title} == {
        "caudate, left", "putamen, left", "thalamus, left", "cerebellum",
    }  # fmt: skip


def test_generated_cases_are_the_same_for_the_same_seed():
    first, again = (next(synthetic_cases(1, 1)) for _ in range(2))
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.mask, again.mask)
    assert first.mask.shape == first.volume.shape
    assert 0 < first.mask.mean() < 0.6


def test_classical_results_are_taken_over_where_nothing_they_depend_on_changed(case, model, tmp_path):
    def measured(volume, known=None):
        part = TargetCase("made", "ball", volume, case.mask[2:7])
        return measure([part], model, ["box"], [CROP, "watershed"], EvaluationSettings(rounds=0), known=known)

    array = case.volume.array[2:7]
    first = measured(biosam2.Volume(array))
    stored = Results.from_json(json.dumps({"model": "a", **first.to_json()}).encode(), tmp_path / "figures.json")
    assert stored == first
    # The time that it took the first time shows that it did not run again.
    assert measured(biosam2.Volume(array), stored).records[1] == first.records[1]
    assert first.records[0].key == ""
    assert measured(biosam2.Volume(array + np.int16(1)), stored).records[1].key != first.records[1].key
    with pytest.raises(biosam2.BioSAM2Error, match="does not hold figures"):
        Results.from_json(b"[]", tmp_path / "figures.json")
