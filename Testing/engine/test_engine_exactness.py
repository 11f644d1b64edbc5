"""The engine gives the logits of sam2's own SAM2VideoPredictor, step for step."""

from types import SimpleNamespace

import biosam2
import numpy as np
import pytest
import torch
from biosam2.engine import tracker
from biosam2.models.network import load_config
from hydra.utils import instantiate
from networks import responsive_network
from omegaconf import OmegaConf, open_dict
from PIL import Image

sam2_video_predictor = pytest.importorskip("sam2.sam2_video_predictor")
TOLERANCE = 1e-3


def reference_network(model):
    config = OmegaConf.create(OmegaConf.to_container(model.config))
    with open_dict(config):
        config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
        config.add_all_frames_to_correct_as_cond = True
        config.fill_hole_area = 0
    network = instantiate(config, _recursive_=True).eval()
    network.load_state_dict(model.network.state_dict())
    return network


class Pair:
    """One segment in a session and in sam2's predictor, told the same things."""

    def __init__(self, model, network, volume, axis, folder, session=None, segment="x"):
        self.session = session or biosam2.Session(model, volume, axis=axis)
        self.segment = segment
        self.network = network
        frames = self.session.frames
        self.frames, self.size = frames, network.image_size
        for s in range(frames.count):
            Image.new("RGB", (8, 8)).save(folder / f"{s:05d}.jpg")
        self.state = network.init_state(str(folder))
        self.state["images"] = torch.stack([self.session.frame_tensor(s) for s in range(frames.count)])
        self.state["video_height"], self.state["video_width"] = frames.rows, frames.columns
        self.state["cached_features"] = {}
        self.given, self.told, self.painted = {}, {}, set()

    def ijk(self, row, column, s):
        return {"k": (column, row, s), "j": (column, s, row), "i": (s, column, row)}[self.session.axis]

    def point(self, s, row, column, positive=True):
        self.session.add_prompt(self.segment, biosam2.Point(self.ijk(row, column, s), positive))
        self._give(s, point=(row, column, positive))

    def box(self, s, row0, column0, row1, column1):
        low, high = self.ijk(row0, column0, s), self.ijk(row1, column1, s)
        self.session.add_prompt(self.segment, biosam2.Box(low, high))
        self._give(s, box=(row0, column0, row1, column1))

    def mask(self, s, mask):
        self.session.add_prompt(self.segment, biosam2.Mask(s, mask))
        self.painted.add(s)
        self.network.add_new_mask(self.state, s, 1, torch.as_tensor(mask))

    def _give(self, s, point=None, box=None):
        """Collected until the next propagation: all prompts of a slice are one call."""
        points, boxes = self.given.setdefault(s, ([], []))
        points += [point] if point else []
        boxes += [box] if box else []

    def flush(self):
        rows, columns = self.frames.rows, self.frames.columns
        for s, (points, boxes) in self.given.items():
            arguments = {}
            if points:
                half = 0.5 / self.size
                scaled = [((c + 0.5) / columns - half, (r + 0.5) / rows - half) for r, c, _ in points]
                arguments["points"] = np.array(scaled, np.float32)
                arguments["labels"] = np.array([int(p) for *_, p in points], np.int32)
            if boxes:
                r0, c0, r1, c1 = boxes[-1]
                low = [c0 / columns, r0 / rows]
                high = [(c1 + 1) / columns - 1 / self.size, (r1 + 1) / rows - 1 / self.size]
                for a in range(2):
                    if high[a] < low[a]:
                        low[a] = high[a] = (low[a] + high[a]) / 2
                arguments["box"] = np.array([*low, *high], np.float32)
            self.network.add_new_points_or_box(self.state, s, 1, normalize_coords=False, **arguments)
        # A slice without a new prompt is not told again: its logits would be fed back once more.
        self.told.update(self.given)
        self.given = {}

    def propagate_reference(self, direction="both", first=None, last=None):
        first, last = first or 0, self.frames.count - 1 if last is None else last
        self.network.propagate_in_video_preflight(self.state)
        start = min(self.state["output_dict_per_obj"][0]["cond_frame_outputs"])
        logits = {}
        for reverse in {"both": (False, True), "forward": (False,), "backward": (True,)}[direction]:
            steps = start - first if reverse else last - start
            for s, _, low in self.network.propagate_in_video(
                self.state, start_frame_idx=start, max_frame_num_to_track=steps, reverse=reverse
            ):
                logits[s] = low[0, 0].numpy()
        return logits

    def difference(self, expected):
        self.found = any((logits > 0).any() for logits in expected.values())
        return max(float(np.abs(self.session.logits(self.segment, s) - logits).max()) for s, logits in expected.items())

    def propagate(self, direction="both", first=None, last=None):
        """Propagate on both sides; the largest difference of logits."""
        self.flush()
        for update in self.session.propagate([self.segment], direction, first, last):
            if update.slice_index not in self.painted:
                assert (update.mask == (self.session.logits(self.segment, update.slice_index) > 0)).all()
        return self.difference(self.propagate_reference(direction, first, last))

    def again(self, s, row, column, positive=True):
        """Another click on a slice that was told before: sam2 gets the earlier ones with it."""
        points, boxes = self.told[s]
        self.given[s] = (list(points), list(boxes))
        self.point(s, row, column, positive)


@pytest.fixture(params=["k", "j", "i"])
def pair(request, model, volume, tmp_path):
    return Pair(model, reference_network(model), volume, request.param, tmp_path)


@pytest.fixture
def pair_k(model, volume, tmp_path):
    return Pair(model, reference_network(model), volume, "k", tmp_path)


@pytest.fixture(params=["sam2's attention", "projected memories"])
def attention(request, monkeypatch):
    """Either way of memory attention, which the engine chooses by the number of tokens."""
    monkeypatch.setattr(tracker, "_MANY_TOKENS", 1 if request.param == "projected memories" else 10**9)


def centre(pair):
    return pair.frames.count // 2, pair.frames.rows * 0.45, pair.frames.columns * 0.55


def test_one_click_on_each_axis(pair):
    s, row, column = centre(pair)
    pair.point(s, row, column)
    assert pair.propagate() < TOLERANCE
    assert pair.found


def test_corrections_on_each_axis(pair):
    s, row, column = centre(pair)
    pair.point(s, row, column)
    assert pair.propagate() < TOLERANCE
    pair.point(s - 2, row - 3, column - 3, False)
    pair.point(s + 3, row + 1, column)
    assert pair.propagate() < TOLERANCE


def test_one_segment_of_few_tokens_equals_to_the_last_bit(pair):
    """Whatever the weights: nothing is left that a network could amplify."""
    s, row, column = centre(pair)
    pair.point(s, row, column)
    assert pair.propagate() == 0
    pair.point(s - 2, row - 3, column - 3, False)
    assert pair.propagate() == 0
    assert pair.propagate("backward", last=s) == 0
    assert pair.found


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_one_direction(pair_k, direction):
    s, row, column = centre(pair_k)
    pair_k.point(s, row, column)
    assert pair_k.propagate(direction) < TOLERANCE


def test_range(pair_k):
    s, row, column = centre(pair_k)
    pair_k.point(s, row, column)
    assert pair_k.propagate(first=s - 2, last=s + 1) < TOLERANCE


def test_first_slice_prompted(pair_k):
    pair_k.point(0, 7, 11)
    pair_k.propagate()
    pair_k.again(0, 3, 3, False)
    assert pair_k.propagate() < TOLERANCE


def test_box_with_clicks(pair_k):
    s, row, column = centre(pair_k)
    pair_k.box(s, 4, 6, 10, 15)
    pair_k.point(s, row, column)
    pair_k.point(s, 1, 1, False)
    assert pair_k.propagate() < TOLERANCE


def test_box_of_one_voxel(pair_k):
    pair_k.box(6, 7, 11, 7, 11)
    assert pair_k.propagate() < TOLERANCE


def test_mask_then_click_refines_it(pair_k):
    mask = np.zeros((16, 20), bool)
    mask[4:11, 6:16] = True
    pair_k.mask(6, mask)
    pair_k.point(6, 2, 2, False)
    assert pair_k.propagate() < TOLERANCE


def test_mask_replaces_clicks(pair_k):
    mask = np.zeros((16, 20), bool)
    mask[4:11, 6:16] = True
    pair_k.point(6, 7, 11)
    pair_k.propagate()
    pair_k.mask(6, mask)
    assert pair_k.propagate() < TOLERANCE
    assert (pair_k.session.mask("x")[6] == mask).all()


def test_repeated_propagation_and_another_click(pair_k):
    s, row, column = centre(pair_k)
    pair_k.point(s, row, column)
    assert pair_k.propagate() < TOLERANCE
    assert pair_k.propagate() < TOLERANCE
    pair_k.again(s, row + 2, column + 1)
    assert pair_k.propagate() < TOLERANCE


def test_removed_prompts_leave_their_result_as_memory(pair_k):
    s, row, column = centre(pair_k)
    pair_k.point(s, row, column)
    pair_k.point(s + 3, row, column)
    pair_k.propagate()
    pair_k.session.remove_prompt("x", 1)
    pair_k.network.clear_all_prompts_in_frame(pair_k.state, s + 3, 1)
    assert pair_k.propagate() < TOLERANCE


@pytest.mark.usefixtures("attention")
@pytest.mark.parametrize("seed", range(4))
def test_random_rounds(pair_k, seed):
    """Clicks anywhere, on any slice, in any order, with propagations of any range between."""
    rng = np.random.default_rng(seed)
    clicked = set()
    for _ in range(4):
        for _ in range(rng.integers(1, 3)):
            s, row, column = int(rng.integers(10)), float(rng.uniform(0, 15)), float(rng.uniform(0, 19))
            positive = bool(rng.random() < 0.7)
            tell = pair_k.again if s in clicked and s not in pair_k.given else pair_k.point
            tell(s, row, column, positive)
            clicked.add(s)
        start = min(clicked)
        first = int(rng.integers(0, start + 1))
        last = int(rng.integers(start, 10))
        direction = ["both", "forward", "backward"][rng.integers(3)]
        if not (direction == "backward" and start == 0):
            assert pair_k.propagate(direction, first, last) < TOLERANCE
    assert pair_k.propagate() < TOLERANCE
    assert pair_k.found


@pytest.mark.usefixtures("attention")
def test_segments_are_independent(model, volume, tmp_path):
    """Several segments swept together equal as many predictors, each with a state of its own."""
    session = biosam2.Session(model, volume)
    network = reference_network(model)
    pairs = []
    for n, (name, s) in enumerate([("a", 6), ("b", 6), ("c", 3)]):
        folder = tmp_path / name
        folder.mkdir()
        pairs.append(Pair(model, network, volume, "k", folder, session, name))
        pairs[-1].point(s, 4 + 3 * n, 8 + 4 * n)
        pairs[-1].flush()
    list(session.propagate())
    for each in pairs:
        assert each.difference(each.propagate_reference()) < TOLERANCE
    assert any(each.found for each in pairs)


@pytest.mark.parametrize(
    "override",
    ["max_cond_frames_in_attn=2", "memory_temporal_stride_for_eval=2", "only_obj_ptrs_in_the_past_for_eval=false"],
)
def test_other_reaches(volume, tmp_path, override):
    """Networks whose memory reaches differently: few conditioning slices, a stride, pointers from ahead."""
    config = load_config("nano", [override])
    model = SimpleNamespace(
        config=config, network=responsive_network(config), device=torch.device("cpu"), image_size=256
    )
    pair = Pair(model, reference_network(model), volume, "k", tmp_path)
    for s in (2, 5, 8):
        pair.point(s, 7, 11)
    assert pair.propagate() < TOLERANCE
    pair.point(7, 2, 2, False)
    assert pair.propagate() < TOLERANCE


def test_a_wrong_memory_would_be_noticed(pair_k, monkeypatch):
    """The comparison is sharp: forgetting one memory slot breaks it."""
    s, row, column = centre(pair_k)
    pair_k.point(s, row, column)
    policy = pair_k.session._executor.tracker.policy
    select = policy.select
    monkeypatch.setattr(policy, "select", lambda *a: select(*a)[:-1])
    assert pair_k.propagate() > TOLERANCE
