"""Published protocols: windows, sizes, prompts and tolerances are those that their sources give."""

from dataclasses import replace

import biosam2
import numpy as np
import pytest
from biosam2.cli import evaluate as command
from biosam2.datasets.published import PUBLISHED
from biosam2.errors import InputError
from biosam2.evaluation import preprocessing, protocol, user
from biosam2.evaluation.protocol import PROTOCOLS, get_protocol
from biosam2.evaluation.user import DEFAULT_MARKING, Marking, User, scaled_box
from biosam2.masks import numbered_pieces
from biosam2.models import load_model
from hypothesis import given, settings
from hypothesis import strategies as st

RNG = np.random.default_rng(3)


def volume(array, **given):
    return biosam2.Volume(np.asarray(array), (1.0, 1.0, 1.0), **given)


def test_the_command_s_words_are_the_library_s():
    assert command.PROTOCOLS == PROTOCOLS
    assert set(PROTOCOLS) == set(protocol._read().protocols)


# -- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "group"),
    [
        ("liver", "soft tissue"),
        ("lung_upper_lobe_left", "chest"),
        ("left lung", "chest"),
        ("brain", "brain"),
        ("inferior vena cava", "soft tissue"),
        ("globe", "soft tissue"),  # no lobe
    ],
)
def test_ct_windows_go_by_the_group_of_organs(target, group):
    assert preprocessing.ct_group(target) == group
    ct = volume(RNG.integers(-1000, 1000, (2, 8, 8)).astype(np.int16))
    assert preprocessing.window_of("medsam", ct, "CT", target) == preprocessing.CT_WINDOWS[group]


def test_windows_of_other_modalities():
    values = np.concatenate([np.zeros(500), RNG.normal(300, 50, 500)]).reshape(1, 25, 40)
    mr = volume(values.astype(np.float32))
    low, high = np.percentile(values[values > 0].astype(np.float32), (0.5, 99.5))
    assert preprocessing.window_of("medsam", mr, "MR FLAIR", "x") == pytest.approx(((low + high) / 2, high - low))
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5))
    assert preprocessing.window_of("percentiles", mr, "MR", "x") == pytest.approx(((low + high) / 2, high - low))
    assert preprocessing.window_of("engine", mr, "MR", "x") is None
    picture = volume(RNG.integers(3, 90, (1, 9, 9, 3)).astype(np.uint8))
    for rule, modality in (("full", "US"), ("medsam", "dermoscopy"), ("medsam", "CT")):
        assert preprocessing.window_of(rule, picture, modality, "x") == (127.5, 255.0)
    deep = volume(np.array([[[100, 4100]]], np.uint16))
    assert preprocessing.window_of("full", deep, "X-ray", "x") == (2100.0, 4000.0)
    flat = volume(np.full((1, 3, 3), 7, np.int16))
    for rule in ("medsam", "percentiles", "full"):
        assert preprocessing.window_of(rule, flat, "MR", "x")[1] > 0


# -- what counts of a target ----------------------------------------------------------------------


def reference_dust(mask, least, connectivity):
    """As cc3d.dust does, by scikit-image, which says of itself that it is for this."""
    from skimage.morphology import remove_small_objects

    return remove_small_objects(mask, max_size=least - 1, connectivity=connectivity)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 40))
def test_small_pieces_are_those_of_scikit_image(seed, area, size):
    mask = np.random.default_rng(seed).random((4, 9, 9)) > 0.7
    expected = reference_dust(mask, size, 3)
    expected = np.stack([reference_dust(one, area, 2) for one in expected])
    np.testing.assert_array_equal(preprocessing.without_small(mask, area, size), expected)


def test_a_target_that_is_large_enough_stays_the_same_object():
    mask = np.zeros((3, 20, 20), bool)
    mask[:, 2:18, 2:18] = True
    assert preprocessing.without_small(mask, 100, 700) is mask
    assert not preprocessing.without_small(mask, 100, 1000).any()
    picture = mask[:1]
    assert preprocessing.without_small(picture, 100, 1000) is picture  # a picture has no volume


def test_pieces_and_labelled_slices():
    mask = np.zeros((6, 9, 9), bool)
    mask[1, 1:3, 1:3] = True
    mask[3:5, 4:8, 4:8] = True
    assert np.bincount(numbered_pieces(mask).ravel()).tolist()[1:] == [32, 4]
    np.testing.assert_array_equal(preprocessing.largest_piece(mask), mask & (np.arange(6) > 2)[:, None, None])
    assert not preprocessing.largest_piece(np.zeros_like(mask)).any()
    assert preprocessing.labelled_slices(mask) == slice(1, 5)


@pytest.mark.parametrize("rule", ["medsam", "medsam2"])
@pytest.mark.parametrize("colour", [False, True])
def test_slices_are_resized_and_results_come_back(rule, colour):
    mask = np.zeros((2, 60, 90), bool)
    mask[0, 20:44, 30:66] = True
    array = (200.0 * mask).astype(np.int16)
    if colour:
        array = np.repeat(array.astype(np.uint8)[..., None], 3, axis=3)
    shown = preprocessing.resized_volume(volume(array), (100.0, 200.0), rule, 48)
    assert shown.array.shape == (2, 48, 48, 3) if colour else (2, 48, 48)
    assert shown.array.dtype == np.uint8
    assert shown.spacing == (90 / 48, 60 / 48, 1.0)
    small = preprocessing.resized_mask(mask, 48)
    bright = shown.array > 127 if not colour else shown.array[..., 0] > 127
    assert (bright ^ small).sum() < 48  # the same rectangle, up to its border
    back = preprocessing.restored(small, mask.shape)
    assert back.shape == mask.shape
    assert biosam2.masks.dice(back, mask) > 0.97
    assert not back[1].any()


def test_medsam2_s_slices_are_pillow_s():
    from PIL import Image

    array = RNG.integers(0, 255, (1, 30, 50)).astype(np.uint8)
    shown = preprocessing.resized_volume(volume(array), (127.5, 255.0), "medsam2", 16)
    # As medsam2_infer_3D_CT.py: a picture in colours, resized with Pillow's default.
    reference = np.asarray(Image.fromarray(array[0]).convert("RGB").resize((16, 16)))[..., 0]
    np.testing.assert_array_equal(shown.array[0], reference)
    with pytest.raises(InputError, match="by itself"):
        preprocessing.resized_volume(volume(array), (127.5, 255.0), "engine", 16)


# -- prompts --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session():
    return biosam2.Session(load_model("nano", device="cpu"), volume(np.zeros((3, 40, 50), np.int16)))


def first_prompt(session, mask, kind, marking):
    marked = User(session, "x", mask, marking=marking)
    marked.start(kind)
    session.undo()
    return marked.prompts[0]


def horseshoe():
    """Its centre of mass is not on it."""
    mask = np.zeros((3, 40, 50), bool)
    mask[:, 10:30, 10:14] = mask[:, 10:30, 30:34] = mask[:, 26:30, 10:34] = True
    mask[:, 2:4, 44:48] = True  # a smaller piece
    return mask


def test_where_protocols_click(session):
    mask = horseshoe()
    places = {}
    for click in ("deepest", "random", "centroid"):
        point = first_prompt(session, mask, "click1", Marking(click=click))
        i, j, k = (int(v) for v in point.ijk)
        assert mask[k, j, i]
        assert point.ijk == first_prompt(session, mask, "click1", Marking(click=click)).ijk  # again the same
        places[click] = (i, j)
    assert places["deepest"] == user.middle(mask[1])[::-1]
    rows, columns = np.nonzero(user.largest_piece(mask[1]))
    distance = np.hypot(rows - rows.mean(), columns - columns.mean())
    i, j = places["centroid"]
    assert np.hypot(j - rows.mean(), i - columns.mean()) == pytest.approx(distance.min())
    drawn = {first_prompt(session, mask, "click1", Marking("random", seed=n)).ijk for n in range(8)}
    assert len(drawn) > 4


def test_boxes_are_off_by_as_much_as_is_said():
    mask = np.zeros((200, 300), bool)
    mask[80:121, 100:181] = True
    rng = np.random.default_rng(0)
    boxes = np.array([scaled_box(rng, mask, 0.1) for _ in range(4000)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert widths.std() == pytest.approx(8.0, rel=0.05)
    assert heights.std() == pytest.approx(4.0, rel=0.05)
    assert np.allclose(boxes[:, [0, 1]] + boxes[:, [2, 3]], (280, 200))
    assert scaled_box(rng, mask, 0.0) == (100, 80, 180, 120)
    edge = np.zeros((20, 20), bool)
    edge[0:15, 0:15] = True
    loose = np.array([scaled_box(rng, edge, 0.5) for _ in range(200)])
    assert loose.min() >= 0
    assert loose.max() <= 19
    assert (loose[:, :2] < loose[:, 2:]).all()


# -- what the file says ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_says_where_it_comes_from(name):
    fixed = get_protocol(name)
    assert fixed.name == name
    assert len(fixed.sources) >= 2
    assert fixed.open
    assert set(fixed.ways) == {"2D", "3D", "video"}
    for dataset, tolerance in fixed.tolerances.items():
        assert tolerance.source
        # Names that no dataset has would be passed over in silence.
        known = {target for part in PUBLISHED[dataset].parts for target in getattr(part.targets, "keys", list)()}
        assert set(tolerance.targets) <= known
        assert set(tolerance.labelled_slices) <= known


def test_tolerances_of_flare():
    fixed = get_protocol("biosam2")
    duodenum = fixed.surface("flare22", "duodenum")
    assert (duodenum.others, duodenum.labelled_slices, duodenum.least_dice) == (7, (), 0.2)
    assert fixed.surface("flare22", "aorta").labelled_slices == ("aorta",)
    assert fixed.surface("amos22", "bladder").others == 2
    assert fixed.surface("", "liver").others == 2
    with pytest.raises(InputError, match="no protocol"):
        get_protocol("mine")


def test_no_protocol_changes_nothing():
    fixed = protocol.DEFAULT_PROTOCOL
    assert fixed.marking == DEFAULT_MARKING
    assert fixed.window_rule("3D") == "engine"
    assert replace(DEFAULT_MARKING) == Marking("deepest", 0.0, 0)
