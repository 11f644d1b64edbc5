"""The engine's optimisations: the exact ones change nothing, the approximate ones do what they say."""

import json

import biosam2
import numpy as np
import pytest
import torch
from biosam2 import Box, Mask, Point
from biosam2.engine import tracker
from biosam2.engine.attention import ProjectedAttention, attend
from biosam2.engine.encoding import LeanEncoder
from biosam2.engine.features import FeatureCache
from biosam2.engine.spill import Spill
from biosam2.errors import InputError
from biosam2.masks import dice
from biosam2.models.network import build_network, load_config
from biosam2.speed import Speed
from biosam2.synthetic.phantom import ct_phantom
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import responsive_network, with_presence

EXACT = ("encoder", "attention", "release", "disk")


@pytest.fixture(scope="module")
def long_volume():
    """24 × 16 × 20 voxels: longer than the memory bank reaches in either direction."""
    array = np.random.default_rng(3).normal(0, 100, (24, 16, 20)).astype(np.int16)
    return biosam2.Volume(array, spacing=(1, 1, 1))


def painted():
    mask = np.zeros((16, 20), bool)
    mask[4:11, 6:16] = True
    return mask


def visited(updates):
    return [u.slice_index for u in updates]


# -- settings --------------------------------------------------------------------------------------


def test_defaults_are_exact():
    assert Speed().is_exact
    assert Speed(attention=False).is_exact
    for approximate in (
        Speed(pool=2),
        Speed(conditioning=1),
        Speed(stop=3),
        Speed(local=True),
        Speed(encoder="bfloat16"),
    ):
        assert not approximate.is_exact


def test_settings_from_text():
    assert Speed.parse("") == Speed()
    assert Speed.parse("stop=5, local,-attention") == Speed(stop=5, local=True, attention=False)
    assert Speed.parse("encoder=bfloat16,stride=auto") == Speed(encoder="bfloat16", stride="auto")
    assert Speed.from_json(json.loads(json.dumps(Speed(encoder="bfloat16").to_json()))) == Speed(encoder="bfloat16")


@pytest.mark.parametrize(
    "text", ["fast", "stop", "stop=x", "stop=0", "local=1", "-stop=3", "stop=-1", "encoder=4", "-encoder=bfloat16"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(InputError) as caught:
        Speed.parse(text)
    assert "\n" not in str(caught.value)


def test_a_record_keeps_the_settings(model, volume):
    speed = Speed(stop=4, local=True, attention=False)
    session = biosam2.Session(model, volume, speed=speed)
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate(last=6))
    record = json.loads(json.dumps(session.to_record()))
    again = biosam2.Session.from_record(record, model, volume)
    assert again.speed == speed
    assert (again.mask("x") == session.mask("x")).all()
    record["speed"]["warp"] = True
    with pytest.raises(InputError, match="warp"):
        biosam2.Session.from_record(record, model, volume)


# -- exact -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(model, long_volume):
    return rounds(model, long_volume, Speed())


def rounds(model, volume, speed):
    """Two segments, a correction beyond the bank's reach, and a second propagation."""
    session = biosam2.Session(model, volume, speed=speed)
    session.add_prompt("a", Point((11, 7, 12)))
    session.add_prompt("b", Point((3, 4, 12)))
    list(session.propagate(first=10, last=21))
    session.add_prompt("a", Point((5, 12, 20), positive=False))
    list(session.propagate(["a"], first=11, last=22))
    return [session.logits(name, s) for name in "ab" for s in range(11, 22)]


@pytest.fixture
def projected(monkeypatch):
    """Memories are projected for few tokens too."""
    monkeypatch.setattr(tracker, "_MANY_TOKENS", 1)


@pytest.mark.parametrize("off", [("encoder",), ("attention",), ("release", "disk"), EXACT])
def test_a_short_cut_changes_not_one_bit_where_tokens_are_few(model, long_volume, expected, off):
    found = rounds(model, long_volume, Speed(**dict.fromkeys(off, False)))
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


@pytest.mark.usefixtures("projected")
@pytest.mark.parametrize("off", [(), ("encoder",), ("release", "disk")])
def test_projected_memories_change_nothing(model, long_volume, expected, off):
    found = rounds(model, long_volume, Speed(**dict.fromkeys(off, False)))
    # Wider than the comparison with SAM 2: where a pixel of a prompted mask lies within rounding of zero (here one
    # does), its memory sees it on one side or on the other. Logits reach 75.
    assert max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)) < 1e-2
    assert all(((a > 0) == (b > 0)).all() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["nano", "sam2.1_hiera_t", "sam2.1_hiera_b+"])
def test_short_cuts_suit_the_known_networks(name):
    network = build_network(load_config(name), initialise=False)
    assert LeanEncoder.suits(network)
    assert ProjectedAttention.suits(network)


@pytest.mark.parametrize("override", ["image_size=224", "image_encoder.trunk.window_spec=[8,4,14,7]"])
def test_windows_that_reach_beyond_the_image(override):
    network = responsive_network(load_config("nano", [override]))
    size = network.image_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        levels = network.forward_image(image)["backbone_fpn"]
        own = LeanEncoder(network)(image)
    for expected, found in zip(levels, (*own.fine, own.coarse), strict=True):
        assert float((expected - found).abs().max()) < 1e-4


def test_changed_weights_are_noticed():
    network = responsive_network(load_config("nano"))
    image = torch.zeros(1, 3, 256, 256)
    with torch.inference_mode():
        encoder = LeanEncoder(network)
        before = encoder(image).coarse
    with torch.no_grad():
        network.image_encoder.trunk.pos_embed.normal_()
    with torch.inference_mode():
        after = encoder(image).coarse
        assert float((after - network.forward_image(image)["backbone_fpn"][-1]).abs().max()) < 1e-4
    assert float((after - before).abs().max()) > 1e-3


def test_memories_out_of_reach_are_let_go(model, long_volume):
    session = biosam2.Session(model, long_volume)
    session.add_prompt("x", Point((11, 7, 0)))
    list(session.propagate())
    propagated = session._executor._bank(session.state, "x").propagated
    held = {s for s, memory in propagated.items() if memory.features is not None}
    # Those around the start, where the next propagation begins, and those that the sweep looked at last.
    assert held <= set(range(1, 7)) | set(range(17, 24))
    assert not session._executor.tracker._projections


# -- approximate -----------------------------------------------------------------------------------


def test_a_sweep_ends_where_the_segment_is_absent(model, long_volume):
    session = biosam2.Session(with_presence(model, -10.0), long_volume, speed=Speed(stop=3))
    session.add_prompt("x", Mask(12, painted()))
    assert visited(session.propagate()) == [12, 13, 14, 15, 11, 10, 9]
    assert (session.mask("x").any(axis=(1, 2)) == (np.arange(24) == 12)).all()


def test_a_sweep_goes_on_to_a_prompted_slice(model, long_volume):
    session = biosam2.Session(with_presence(model, -10.0), long_volume, speed=Speed(stop=3))
    session.add_prompt("x", Mask(10, painted()))
    session.add_prompt("x", Mask(17, painted()))
    assert visited(session.propagate()) == [*range(10, 21), 9, 8, 7]


def test_what_lay_beyond_the_end_is_taken_back(model, volume):
    network = with_presence(model, 10.0)
    session = biosam2.Session(network, volume, speed=Speed(stop=2))
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate())
    before = session.mask("x").any(axis=(1, 2))
    assert before[8:].any()
    with torch.no_grad():
        network.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-10.0)
    updates = list(session.propagate())
    assert {u.slice_index for u in updates} == {3, 4, 5, 6, 7} | set(np.flatnonzero(before).tolist())
    assert not any(u.mask.any() for u in updates if u.slice_index != 5)
    assert (session.mask("x").any(axis=(1, 2)) == (np.arange(10) == 5)).all()
    session.undo()
    assert (session.mask("x").any(axis=(1, 2)) == before).all()


def test_a_correction_is_followed_from_its_slice(model, long_volume):
    session = biosam2.Session(model, long_volume, speed=Speed(local=True))
    session.add_prompt("x", Point((11, 7, 4)))
    first = visited(session.propagate())
    assert first == [*range(4, 24), *range(3, -1, -1)]
    session.add_prompt("x", Point((3, 3, 12), positive=False))
    again = visited(session.propagate())
    assert again[0] == 12
    assert len(again) == len(set(again))
    assert min(again) > 4  # beyond the other prompted slice nothing changes


def test_a_correction_outside_the_range_takes_effect_inside(model, long_volume):
    session = biosam2.Session(model, long_volume, speed=Speed(local=True))
    session.add_prompt("x", Point((11, 7, 4)))
    list(session.propagate())
    session.add_prompt("x", Point((3, 3, 8), positive=False))
    assert visited(session.propagate(first=10, last=14))[0] == 10


def test_slices_never_seen_are_swept_though_far_from_the_correction(model, long_volume):
    session = biosam2.Session(model, long_volume, speed=Speed(local=True))
    session.add_prompt("x", Point((11, 7, 12)))
    list(session.propagate(first=8, last=16))
    session.add_prompt("x", Point((3, 3, 12), positive=False))
    list(session.propagate())
    assert session.finished_slices("x") == tuple(range(24))


def test_pooled_memories_give_nearly_the_same(model, volume, long_volume):
    found = rounds(model, long_volume, Speed(pool=2))
    assert all(np.isfinite(logits).all() for logits in found)
    # One token for a memory that is the same everywhere says what all its tokens say.
    network = model.network
    memory = torch.full((1, network.mem_dim, 16, 16), 0.5)
    nowhere = torch.zeros_like(memory)
    with torch.inference_mode():
        assert ProjectedAttention(network, 2).project(memory, nowhere).tokens.shape == (64, network.mem_dim)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 511, 512, 513, 1100]),
    st.sampled_from([1, 2047, 2048, 2049, 5000]),
    st.booleans(),
    st.sampled_from([0.1, 1.0, 30.0]),
    st.integers(0, 2**31),
)
def test_attending_block_by_block_is_attending_at_once(queries, keys, biased, sharpness, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k, tokens = (torch.randn(n, c, generator=generator) for n, c in ((queries, 16), (keys, 16), (keys, 8)))
    bias = torch.randn(keys, generator=generator) if biased else None
    logits = (sharpness * q).double() @ k.double().T + (bias if biased else 0.0)
    expected = torch.softmax(logits, dim=1) @ tokens.double()
    torch.testing.assert_close(attend(sharpness * q, k, tokens, bias).double(), expected, rtol=1e-4, atol=1e-4)


def test_fewer_conditioning_slices(model, long_volume):
    session = biosam2.Session(model, long_volume, speed=Speed(conditioning=1))
    assert session._executor.tracker.reach.conditioning == 1


@pytest.fixture
def quick(monkeypatch):
    """The processor counts as one that multiplies bfloat16 quickly."""
    monkeypatch.setattr(tracker, "quick_bfloat16", lambda device: True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("suits", [True, False])
def test_only_the_encoder_computes_in_bfloat16(model, volume, monkeypatch, suits):
    monkeypatch.setattr(LeanEncoder, "suits", staticmethod(lambda network: suits))
    exact, half = (tracker_of(model, volume, encoder) for encoder in (True, "bfloat16"))
    whole = exact.frames.whole
    a, b = exact.encode(5, whole), half.encode(5, whole)
    for one, other in zip((a.coarse, *a.fine), (b.coarse, *b.fine), strict=True):
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        torch.testing.assert_close(other, one, rtol=0, atol=0.05 * float(one.abs().max()))
    prompt = Point((11, 7, 5)).alone(exact.frames)
    assert half.prompt(prompt, whole).low_logits.dtype == torch.float32


def tracker_of(model, volume, encoder):
    return biosam2.Session(model, volume, speed=Speed(encoder=encoder))._executor.tracker


@pytest.mark.usefixtures("quick")
def test_an_encoder_in_bfloat16_is_near_to_the_exact_one_and_can_be_done_again(nano, generated):
    volume, target, box = generated
    masks = []
    for encoder in (True, "bfloat16"):
        session = biosam2.Session(nano, volume, window="abdomen", crop="auto", speed=Speed(encoder=encoder))
        session.add_prompt(target, box)
        list(session.propagate(first=13, last=19))
        masks.append(session.mask(target))
    record = json.loads(json.dumps(session.to_record()))
    assert record["speed"]["encoder"] == "bfloat16"
    again = biosam2.Session.from_record(record, nano, volume)
    assert again.speed == Speed(encoder="bfloat16")
    assert all((again.logits(target, s) == session.logits(target, s)).all() for s in session.finished_slices(target))
    assert masks[0].any()
    assert dice(*masks) > 0.95
    exact = biosam2.Session(nano, volume, window="abdomen", crop="auto")
    assert not np.array_equal(exact_logits(exact, target, box), session.logits(target, 16))


def exact_logits(session, target, box):
    session.add_prompt(target, box)
    session.predict(target, 16)
    list(session.propagate(first=16, last=16))
    return session.logits(target, 16)


@pytest.fixture(scope="module")
def nano():
    return biosam2.load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def generated():
    """The generated CT of the demo, its lesion, and a box around it."""
    return ct_phantom().volume, "lesion", Box((49, 99, 16), (83, 125, 16))


def test_a_processor_without_quick_bfloat16_is_told(model, volume, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True}, raising=False)
    with pytest.warns(RuntimeWarning, match="AVX512_BF16 or AMX") as caught:
        tracker_of(model, volume, "bfloat16")
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


@pytest.mark.usefixtures("quick")
def test_frames_encoded_in_bfloat16_are_not_taken_for_exact_ones(model, volume):
    cache = FeatureCache()
    frames = []
    for encoder in (True, "bfloat16"):
        of = biosam2.Session(model, volume, features=cache, speed=Speed(encoder=encoder))._executor.tracker
        frames.append(of.encode(5, of.frames.whole))
        assert of.encode(5, of.frames.whole) is frames[-1]
    assert not torch.equal(frames[0].coarse, frames[1].coarse)


def test_a_shared_cache_encodes_each_slice_once(model, volume, monkeypatch):
    cache = FeatureCache()
    encoded = []
    forward = model.network.image_encoder.trunk.forward
    monkeypatch.setattr(model.network.image_encoder.trunk, "forward", lambda x: encoded.append(1) or forward(x))

    def run(**settings):
        session = biosam2.Session(model, volume, features=cache, speed=Speed(encoder=False), **settings)
        session.add_prompt("x", Point((11, 7, 5)))
        list(session.propagate())
        return session.mask("x")

    first = run()
    assert len(encoded) == 10
    assert (run() == first).all()
    assert len(encoded) == 10
    run(window=(0, 50))
    assert len(encoded) == 20
    other = biosam2.Session(model, volume.with_array(-volume.array), features=cache, speed=Speed(encoder=False))
    other.add_prompt("x", Point((11, 7, 5)))
    other.predict("x", 5)
    assert len(encoded) == 21


# -- the temporary file ----------------------------------------------------------------------------


def test_stored_tensors_keep_their_values():
    spill = Spill()
    tensors = [torch.randn(1, 1, 300, 300 + n) for n in range(60)]  # more than one block
    stored = [spill.store(t) for t in tensors]
    for before, after in zip(tensors, stored, strict=True):
        assert torch.equal(before, after)


def test_without_a_disk_they_stay_in_memory(monkeypatch, tmp_path, recwarn):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    spill = Spill()
    tensor = torch.randn(1, 1, 64, 64)
    with pytest.warns(RuntimeWarning, match="kept in memory"):
        stored = spill.store(tensor)
    assert torch.equal(stored, tensor)
    assert stored.data_ptr() != tensor.data_ptr()
    assert torch.equal(spill.store(tensor), tensor)
    assert not recwarn.list  # it is said once
