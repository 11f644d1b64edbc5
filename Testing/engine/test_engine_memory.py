"""The bank's policies, the feature cache, and what happens when memory runs out."""

from typing import get_args

import biosam2
import numpy as np
import pytest
import torch
from biosam2.cli import options
from biosam2.engine.features import EncodedFrame, FeatureCache
from biosam2.engine.memory import (
    POLICIES,
    DissimilarityPolicy,
    MemoryBank,
    NearestPolicy,
    PathPolicy,
    QualityGatePolicy,
    Reach,
    Sam2Policy,
    SliceMemory,
    Step,
)
from biosam2.errors import DeviceError, InputError
from biosam2.frames import Region
from biosam2.session.settings import Policy
from biosam2.speed import Speed

REACH = Reach(memories=4, pointers=6, conditioning=-1, past_pointers_only=True, signed_pointers=True, stride=1)


def remembered(s, score=1.0, direction=0.0, prompted=False):
    """A memory whose encoding is a unit vector at an angle, so that similarity is known."""
    features = torch.tensor([np.cos(direction), np.sin(direction)]).reshape(1, 2, 1, 1)
    return SliceMemory(
        s, Region(0, 0, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1, 2), torch.ones(1, 1), score, prompted,
        np.zeros(1, np.uint8), features, Region(0, 0, 1, 1),
    )  # fmt: skip


def bank(conditioning, propagated):
    prompted = {s: remembered(s, prompted=True) for s in conditioning}
    return MemoryBank(prompted, {m.slice_index: m for m in propagated}, {})


def recalled(policy, bank, s, backward=False, reach=REACH, count=30):
    recall = policy.recall(bank, Step(s, backward, count, reach), lambda m: m.features)
    memories = [(position, m.slice_index) for position, m in recall.memories]
    pointers = [(distance, m.slice_index) for distance, m in recall.pointers]
    return memories, pointers


def test_sam2_takes_the_slices_just_passed_whatever_their_quality():
    b = bank([2], [remembered(s, score=0.1) for s in range(3, 10)])
    memories, pointers = recalled(Sam2Policy(), b, 10)
    assert memories == [(0, 2), (1, 7), (2, 8), (3, 9)]
    assert pointers == [(8, 2), (1, 9), (2, 8), (3, 7), (4, 6), (5, 5)]


def test_sam2_backward_looks_the_other_way():
    b = bank([9], [remembered(s) for s in range(10, 13)] + [remembered(7), remembered(8)])
    memories, pointers = recalled(Sam2Policy(), b, 6, backward=True)
    assert memories == [(0, 9), (2, 8), (3, 7)]
    assert pointers[0] == (3, 9)


def test_conditioning_pointers_from_ahead_are_left_out():
    _, pointers = recalled(Sam2Policy(), bank([2, 12], []), 5)
    assert pointers == [(3, 2)]


def test_path_leaves_out_what_lies_beyond_the_start():
    """Conditioning slices on both sides; slices that an earlier propagation left behind the start are not seen."""
    b = bank([5, 12], [remembered(s) for s in (2, 3, 4, 6, 7, 13)])
    memories, pointers = recalled(PathPolicy(), b, 8)
    assert memories == [(0, 5), (0, 12), (2, 6), (3, 7)]
    assert [s for _, s in pointers] == [5, 7, 6]
    assert recalled(PathPolicy(), b, 6)[0] == [(0, 5), (0, 12)]
    assert recalled(Sam2Policy(), b, 6)[0] == [(0, 5), (0, 12), (1, 3), (2, 4)]
    assert recalled(PathPolicy(), b, 2, backward=True)[0] == [(0, 5), (0, 12), (2, 4), (3, 3)]
    assert recalled(PathPolicy(), b, 3, backward=True)[0] == [(0, 5), (0, 12), (3, 4)]


def test_nearest_knows_the_prompted_slice_that_was_passed_last():
    b = bank([5, 12], [remembered(s) for s in (3, 4, 6, 7, 11, 13)])
    assert recalled(NearestPolicy(), b, 8) == recalled(PathPolicy(), bank([5], [remembered(s) for s in (6, 7)]), 8)
    # What was passed before the later one is not seen any more.
    assert recalled(NearestPolicy(), b, 14)[0] == [(0, 12), (3, 13)]
    assert recalled(NearestPolicy(), b, 2, backward=True)[0] == [(0, 5), (2, 4), (3, 3)]
    assert recalled(NearestPolicy(), b, 9, backward=True)[0] == [(0, 12), (2, 11)]
    # A prompted slice that is answered again, with no other behind it.
    assert recalled(NearestPolicy(), b, 5)[0] == [(0, 5)]


def test_path_is_sam2_while_one_sweep_goes_forward_from_its_only_prompt():
    b = bank([2], [remembered(s) for s in range(3, 10)])
    assert recalled(PathPolicy(), b, 10) == recalled(Sam2Policy(), b, 10)


def test_quality_gate_reaches_past_weak_slices():
    scores = {5: 0.9, 6: 0.8, 7: 0.2, 8: 0.9, 9: 0.1}
    b = bank([2], [remembered(s, score=score) for s, score in scores.items()])
    memories, pointers = recalled(QualityGatePolicy(0.5), b, 10)
    assert memories == [(0, 2), (1, 5), (2, 6), (3, 8)]
    assert [s for _, s in pointers] == [2, 8, 6, 5]


def test_dissimilar_slices_replace_look_alikes():
    alike = [remembered(3, direction=0.0), remembered(4, direction=0.01), remembered(5, direction=1.0)]
    memories, _ = recalled(DissimilarityPolicy(), bank([2], [*alike, remembered(6, direction=2.5)]), 7)
    kept = {s for position, s in memories if position}
    assert 6 in kept
    assert len(kept) == 3
    assert not {3, 4} <= kept


def test_dissimilar_but_weak_slices_are_not_taken():
    strong = [remembered(s, score=0.9, direction=0.01 * s) for s in (3, 4, 5)]
    memories, _ = recalled(DissimilarityPolicy(), bank([2], [*strong, remembered(6, score=0.3, direction=2.5)]), 7)
    assert {s for position, s in memories if position} == {3, 4, 5}


def test_dissimilarity_grown_step_by_step_is_the_same_as_at_once():
    rng = np.random.default_rng(3)
    propagated = [remembered(s, score=rng.uniform(0.5, 1), direction=rng.uniform(0, 3)) for s in range(3, 15)]
    growing, policy = bank([2], []), DissimilarityPolicy()
    for memory in propagated:
        recalled(policy, growing, memory.slice_index)
        growing.propagated[memory.slice_index] = memory
    assert recalled(policy, growing, 15) == recalled(DissimilarityPolicy(), bank([2], propagated), 15)


def test_a_larger_bank_shares_the_oldest_position():
    swept = [remembered(s, direction=0.1 * s) for s in range(3, 12)]
    memories, _ = recalled(DissimilarityPolicy(capacity=8), bank([2], swept[:-1]), 11)
    assert memories == [(0, 2), *((1, s) for s in range(3, 9)), (2, 9), (3, 10)]
    full, _ = recalled(DissimilarityPolicy(capacity=8), bank([2], swept), 12)
    assert len(full) == 9
    assert recalled(DissimilarityPolicy(), bank([2], swept), 12) == recalled(
        DissimilarityPolicy(capacity=3), bank([2], swept), 12
    )
    alone, _ = recalled(DissimilarityPolicy(capacity=1), bank([2], swept), 12)
    assert len(alone) == 2


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"scope": "all"}])
def test_a_bank_that_cannot_be(wrong):
    with pytest.raises(InputError):
        DissimilarityPolicy(**wrong)


def test_what_was_remembered_goes_on_to_the_next_image():
    policy = DissimilarityPolicy(capacity=3, scope="images")
    first = bank([2], [remembered(s, direction=s) for s in (3, 4)])
    assert recalled(policy, first, 5)[0] == [(0, 2), (2, 3), (3, 4)]
    second = bank([20], [remembered(21, direction=2.2)])
    # Nearest first within the image; what is of another image is older, the latest of it nearest.
    assert recalled(policy, second, 22)[0] == [(0, 20), (1, 3), (2, 4), (3, 21)]
    assert recalled(policy, first, 5)[0] == [(0, 2), (2, 3), (3, 4)]  # looked at again, as it was
    apart = DissimilarityPolicy(capacity=3)
    recalled(apart, first, 5)
    assert recalled(apart, second, 22)[0] == [(0, 20), (3, 21)]


def test_prompted_slices_are_offered_and_shown_to_the_next_first_prompt():
    policy = DissimilarityPolicy(capacity=2, scope="images")
    step = Step(5, False, 30, REACH)
    assert policy.recall_first(step) is None
    for n in (1, 2):
        policy.offer(remembered(n, direction=n, prompted=True), step, lambda m: m.features)
    shown = policy.recall_first(step)
    assert [(position, memory.slice_index) for position, memory in shown.memories] == [(2, 1), (3, 2)]
    assert all(memory.lasting for _, memory in shown.memories)
    # The bank is full: one that is like none of them takes a place, one that is weak does not.
    policy.offer(remembered(3, direction=1.02, score=0.2), step, lambda m: m.features)
    assert {m.slice_index for _, m in policy.recall_first(step).memories} == {1, 2}
    policy.offer(remembered(4, direction=4.0), step, lambda m: m.features)
    assert 4 in {m.slice_index for _, m in policy.recall_first(step).memories}
    plain = DissimilarityPolicy()
    plain.offer(remembered(1), step, lambda m: m.features)
    assert plain.recall_first(step) is None


def test_images_of_other_sizes_share_one_bank(model):
    """The network is given the memories of other images, and another order gives other masks."""
    rng = np.random.default_rng(0)
    images = [
        biosam2.Volume(rng.normal(size=(1, rows, 40)).astype(np.float32), (1.0, 1.0, 1.0)) for rows in (30, 44, 50)
    ]

    def logits(order, **given):
        policy = DissimilarityPolicy(**given)
        found = {}
        for n in order:
            session = biosam2.Session(model, images[n], policy=policy)
            session.add_prompt("x", biosam2.Point((20, 15, 0)))
            list(session.propagate())
            found[n] = session.logits("x", 0)
        return found

    alone = logits((0, 1, 2))
    shared = logits((0, 1, 2), capacity=16, scope="images")
    np.testing.assert_array_equal(shared[0], alone[0])  # nothing is remembered yet
    assert not np.array_equal(shared[1], alone[1])
    np.testing.assert_array_equal(logits((0, 1, 2), capacity=16, scope="images")[2], shared[2])
    assert not np.array_equal(logits((1, 0, 2), capacity=1, scope="images")[2], shared[2])


def test_a_session_s_capacity_is_the_bank_s_and_is_recorded(model, volume):
    def found(**settings):
        session = biosam2.Session(model, volume, **settings)
        session.add_prompt("x", biosam2.Point((10, 8, 5)))
        list(session.propagate())
        return session, np.stack([session.logits("x", s) for s in range(session.number_of_slices)])

    session, small = found(policy="dissimilar", capacity=1)
    np.testing.assert_array_equal(small, found(policy=DissimilarityPolicy(capacity=1))[1])
    assert not np.array_equal(small, found(policy="dissimilar")[1])
    again = biosam2.Session.from_record(session.to_record(), model, volume)
    assert again.settings.capacity == 1
    np.testing.assert_array_equal(np.stack([again.logits("x", s) for s in range(len(small))]), small)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"policy": "path", "capacity": 16}, "only the policy dissimilar has a capacity, not path"),
        ({"policy": "dissimilar", "capacity": 0}, "holds one slice or more, not 0"),
        ({"policy": "dissimilar", "capacity": "many"}, "there is no capacity 'many'"),
    ],
)
def test_a_capacity_that_cannot_be(model, volume, wrong, said):
    with pytest.raises(InputError, match=said):
        biosam2.Session(model, volume, **wrong)


def test_policies_have_the_same_names_where_torch_is_not_loaded():
    assert set(POLICIES) == set(get_args(Policy)) == set(options.POLICIES)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_policies_run_in_a_session(model, volume, policy):
    session = biosam2.Session(model, volume, policy=policy)
    session.add_prompt("x", biosam2.Point((11, 7, 1)))
    assert len(list(session.propagate())) == 10


# -- the feature cache -----------------------------------------------------------------------------


def frame(n):
    return EncodedFrame(torch.full((1, 1, 4, 4), float(n)), ())


def test_cache_keeps_to_its_budget_and_drops_the_oldest():
    cache = FeatureCache(budget=3 * frame(0).nbytes)
    for n in range(4):
        cache.get(n, lambda n=n: frame(n))
    cache.get(1, lambda: pytest.fail("1 was dropped"))
    cache.get(4, lambda: frame(4))
    assert cache.nbytes == cache.budget
    encoded = []
    cache.get(2, lambda: encoded.append(2) or frame(2))
    assert encoded == [2]
    cache.get(1, lambda: pytest.fail("1 was dropped though it was used"))


def test_second_propagation_encodes_nothing(model, volume, monkeypatch):
    session = biosam2.Session(model, volume)
    session.add_prompt("x", biosam2.Point((11, 7, 5)))
    list(session.propagate())
    embed = model.network.image_encoder.trunk.patch_embed
    monkeypatch.setattr(embed, "forward", lambda *_: pytest.fail("encoded again"))
    list(session.propagate())


def test_a_small_budget_changes_nothing_but_time(model, volume):
    def run(cache):
        session = biosam2.Session(model, volume, features=cache)
        session.add_prompt("x", biosam2.Point((11, 7, 5)))
        list(session.propagate())
        session.add_prompt("x", biosam2.Point((2, 2, 8), positive=False))
        list(session.propagate())
        return [session.logits("x", s) for s in range(10)]

    for a, b in zip(run(FeatureCache(budget=1)), run(FeatureCache()), strict=True):
        assert (a == b).all()


def ahead(model, volume, **settings):
    session = biosam2.Session(model, volume, **settings)
    session.add_prompt("x", biosam2.Point((11, 7, 5)))
    session.predict("x", 5)
    return session


@pytest.mark.parametrize("crop", [None, "auto"])
def test_what_was_encoded_ahead_is_not_encoded_again(model, volume, crop, monkeypatch):
    """The nearest first; the masks are those of a session that did not look ahead."""
    plain = ahead(model, volume, crop=crop)
    list(plain.propagate())
    session = ahead(model, volume, crop=crop)
    order = []
    encode = session._executor.tracker._encode
    monkeypatch.setattr(session._executor.tracker, "_encode", lambda s, *more: order.append(s) or encode(s, *more))
    while session.encode_ahead(lambda: False):
        pass
    assert order == [6, 4, 7, 3, 8, 2, 9, 1, 0]
    list(session.propagate())
    if crop is None:
        assert len(order) == 9
    for s in range(10):
        np.testing.assert_array_equal(session.logits("x", s), plain.logits("x", s))


def test_looking_ahead_gives_way(model, volume):
    """Given up between two blocks, nothing is kept of it; done again, it is whole."""
    cache = FeatureCache()
    session = ahead(model, volume, features=cache)
    before = len(cache)
    asked = 0

    def busy():
        nonlocal asked
        asked += 1
        return asked > 2

    assert session.encode_ahead(busy)
    assert asked == 3
    assert len(cache) == before
    assert session.encode_ahead(lambda: False)
    assert len(cache) == before + 1


def test_looking_ahead_costs_no_kept_slice(model, volume):
    cache = FeatureCache()
    session = ahead(model, volume, features=cache)
    cache.budget = 3 * cache.nbytes // len(cache)
    while session.encode_ahead(lambda: False):
        assert cache.nbytes <= cache.budget
    assert len(cache) == 3


def test_nothing_is_encoded_ahead_without_a_prompt_or_where_it_is_off(model, volume):
    assert not biosam2.Session(model, volume).encode_ahead(lambda: False)
    assert not ahead(model, volume, speed=Speed(ahead=False)).encode_ahead(lambda: False)


def layouts(frame):
    return [(t.shape, t.stride(), t.dtype) for t in (frame.coarse, *frame.fine)]


def test_what_memory_has_no_room_for_comes_back_from_the_disk(model, volume, monkeypatch):
    """Ten slices with room for three: the second propagation encodes nothing, and the bits are the same."""
    whole = biosam2.Session(model, volume)
    cache = FeatureCache(disk=1 << 30)
    tight = biosam2.Session(model, volume, features=cache)
    for session in (whole, tight):
        session.add_prompt("x", biosam2.Point((11, 7, 5)))
        list(session.propagate())
        cache.budget = 3 * cache.nbytes // max(len(cache), 1)
    encode = tight._executor.tracker._encode
    list(tight.propagate())  # what was more than the new budget went to the disk
    encoded = []
    monkeypatch.setattr(tight._executor.tracker, "_encode", lambda s, *more: encoded.append(s) or encode(s, *more))
    list(tight.propagate())
    for _ in range(2):
        list(whole.propagate())
    assert encoded == []
    assert len(cache) == 3
    assert cache.nbytes <= cache.budget
    for s in range(10):
        np.testing.assert_array_equal(whole.logits("x", s), tight.logits("x", s))
        a, b = (session._executor.tracker.encode(s, session.frames.whole) for session in (whole, tight))
        assert layouts(a) == layouts(b)
        assert torch.equal(a.coarse, b.coarse)


def test_the_disk_has_a_budget_too_and_frames_can_be_forgotten():
    size = frame(0).nbytes
    cache = FeatureCache(budget=size, disk=2 * size)
    for n in range(5):
        cache.get(n, lambda n=n: frame(n))
    assert [n for n in range(5) if cache.holds(n)] == [2, 3, 4]
    assert cache.get(3, lambda: pytest.fail("3 was lost")).coarse.eq(3).all()
    cache.discard([3])
    assert not cache.holds(3)
    cache.clear()
    assert not any(cache.holds(n) for n in range(5))
    assert cache.nbytes == 0


def test_without_room_on_the_disk_slices_are_encoded_again(monkeypatch, tmp_path):
    cache = FeatureCache(budget=frame(0).nbytes, disk=1 << 20)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    for each in (cache, FeatureCache(budget=frame(0).nbytes, disk=1 << 20)):
        for n in (0, 1, 0):
            assert each.get(n, lambda n=n: frame(n)).coarse.eq(n).all()
        assert not each.holds(1)


def test_two_sessions_can_share_a_cache(model, volume):
    cache = FeatureCache()
    other = biosam2.Volume(volume.array[:, ::-1].copy())
    masks = []
    for shared in (cache, None):
        sessions = [biosam2.Session(model, v, features=shared) for v in (volume, other)]
        for session in sessions:
            session.add_prompt("x", biosam2.Point((11, 7, 5)))
            list(session.propagate())
        masks.append([session.mask("x") for session in sessions])
    assert all((a == b).all() for a, b in zip(*masks, strict=True))


def test_undone_results_let_go_of_their_memories(model, volume):
    session = biosam2.Session(model, volume)
    session.add_prompt("x", biosam2.Point((11, 7, 5)))
    list(session.propagate())
    first = [m for m in session._executor._bank(session.state, "x").results() if m.features is not None]
    assert first
    list(session.propagate())
    live = {id(m) for m in session._executor._bank(session.state, "x").results()}
    assert all(m.features is None for m in first if id(m) not in live)


# -- out of memory ---------------------------------------------------------------------------------


class Exhausted(torch.cuda.OutOfMemoryError):
    pass


def failing(network_method, times):
    calls = []

    def method(*arguments, **keywords):
        calls.append(1)
        if len(calls) <= times:
            raise Exhausted("CUDA out of memory. Tried to allocate 20 GiB")
        return network_method(*arguments, **keywords)

    return method


def test_out_of_memory_once_is_tried_again_in_smaller_pieces(model, volume, monkeypatch):
    def run():
        session = biosam2.Session(model, volume)
        for name, i in (("a", 8), ("b", 14)):
            session.add_prompt(name, biosam2.Point((i, 7, 5)))
        list(session.propagate(last=7))
        return session.labelmap()

    expected = run()
    attention = model.network.memory_attention
    monkeypatch.setattr(attention, "forward", failing(attention.forward, 1))
    assert (run() == expected).all()


def test_out_of_memory_on_the_cpu_is_one_clear_line(model, volume, monkeypatch):
    session = biosam2.Session(model, volume)
    session.add_prompt("x", biosam2.Point((11, 7, 5)))
    list(session.propagate(last=5, first=5))
    monkeypatch.setattr(model.network, "_forward_sam_heads", failing(None, 99))
    with pytest.raises(DeviceError, match="out of memory on the CPU"):
        list(session.propagate())
    assert session.finished_slices("x") == (5,)


def test_a_gpu_that_is_full_from_the_first_slice_on_is_left_for_good(checkpoint, volume, monkeypatch):
    """The encoder runs out of memory within the step of a prompt: nothing of the step stays on the device."""
    model = biosam2.load_model(checkpoint=checkpoint, config="nano", device="cpu")
    session = biosam2.Session(model, volume)
    encode = session._executor.tracker._encode

    def full(*arguments):
        if session.model.device.type == "cuda":
            raise Exhausted("CUDA out of memory. Tried to allocate 2 GiB")
        return encode(*arguments)

    monkeypatch.setattr(session._executor.tracker, "_encode", full)
    model.device = torch.device("cuda")  # there is none here; tensors that went there would raise
    session.add_prompt("x", biosam2.Point((11, 7, 5)))
    with pytest.warns(RuntimeWarning, match="going on with the CPU"):
        assert session.predict("x", 5).shape == (16, 20)
    assert session.model.device.type == "cpu"
    assert len(list(session.propagate())) == 10


def test_one_session_s_out_of_memory_moves_nobody_else(checkpoint, volume, monkeypatch):
    """Two sessions share a network, as on a server: one goes on with a copy on the CPU, the other stays where it is."""
    model = biosam2.load_model(checkpoint=checkpoint, config="nano", device="cpu")
    one, other = biosam2.Session(model, volume), biosam2.Session(model, volume)
    for session in (one, other):
        session.add_prompt("x", biosam2.Point((11, 7, 5)))
    expected = [update.mask for update in other.propagate()]
    work = failing(lambda items: [one.model.device.type for _ in items], 2)
    model.device = torch.device("cuda")  # there is none here; only the way out is tested
    with pytest.warns(RuntimeWarning, match="going on with the CPU"):
        assert one._executor.tracker._within_memory([1], work) == ["cpu"]
    assert one.model is not model
    assert "out of memory" in one.model.device_reason
    assert other.model is model
    assert (model.device.type, model.device_reason) == ("cuda", other.model.device_reason)
    assert all(np.array_equal(a, u.mask) for a, u in zip(expected, one.propagate(), strict=True))


def test_going_to_the_cpu_is_said(checkpoint, volume, monkeypatch):
    model = biosam2.load_model(checkpoint=checkpoint, config="nano", device="cpu")
    session = biosam2.Session(model, volume)
    session.add_prompt("x", biosam2.Point((11, 7, 5)))
    work = failing(lambda items: [torch.device("cpu") == session.model.device for _ in items], 2)
    model.device = torch.device("cuda")  # there is none here; only the way out is tested
    with pytest.warns(RuntimeWarning, match="cuda is out of memory .*going on with the CPU"):
        assert session._executor.tracker._within_memory([1], work) == [True]
    assert session.model.device.type == "cpu"
    assert "out of memory" in session.model.device_reason
    assert len(list(session.propagate())) == 10
