"""Messages: whatever way the bytes arrive, and whatever bytes arrive."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
import zlib

import msgspec
import numpy as np
import pytest
from biosam2.prompts import Box, Lasso, Line, Mask, Point, Scribble
from biosam2.service import arrays, framing
from biosam2.service import messages as m
from biosam2.service.errors import ProtocolError
from biosam2.service.framing import MAGIC, Decoder, Limits, Refused, encode
from biosam2.session.entries import Prompted, Propagated, Started
from biosam2.session.settings import SessionSettings
from biosam2.speed import Speed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = st.sampled_from(
    [np.dtype(t) for t in ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")]
)
ARRAYS = DTYPES.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=1, max_dims=4, max_side=9)))
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
NAMES = st.text(max_size=20)
INDICES = st.integers(-(2**62), 2**62)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
THREE = st.tuples(NUMBERS, NUMBERS, NUMBERS)
PROMPTS = st.one_of(
    st.builds(Point, ijk=THREE, positive=st.booleans()),
    st.builds(lambda a, b: Box(tuple(map(min, a, b)), tuple(map(max, a, b))), THREE, THREE),
    st.builds(Mask, INDICES, MASKS),
    st.builds(Scribble, INDICES, st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2), st.booleans()),
    st.builds(Lasso, INDICES, st.just([(0, 0), (0, 5), (5, 0)]), st.booleans(), st.none() | MASKS),
    st.builds(Line, INDICES, st.tuples(NUMBERS, NUMBERS).map(lambda place: [(1e9, 1e9), place])),
)
IDS = st.integers(0, 2**62)
HEADS = st.builds(m.Head, id=IDS, finished=st.none() | IDS, complete=st.booleans())
ENTRIES = st.builds(
    m.SentEntry,
    id=IDS,
    parent=IDS,
    entry=st.one_of(
        st.builds(Prompted, NAMES, PROMPTS),
        st.builds(Started, NAMES, hnp.arrays(bool, (3, 4, 5))),
        st.builds(Propagated, st.lists(NAMES, max_size=3).map(tuple), NAMES, st.none() | INDICES, st.none() | INDICES),
    ),
    finished=IDS,
    complete=st.booleans(),
)
SETTINGS = st.builds(
    SessionSettings,
    axis=st.sampled_from("ijk"),
    window=st.tuples(NUMBERS, NUMBERS),
    crop=st.sampled_from([None, "auto"]),
    speed=st.builds(
        Speed,
        encoder=st.sampled_from([True, False, "bfloat16"]),
        stop=st.none() | st.integers(1, 9),
        local=st.booleans(),
    ),
)
MESSAGES = st.one_of(
    st.builds(m.Cancel, id=IDS),
    st.builds(m.CheckPrompt, id=IDS, head=HEADS, prompt=PROMPTS),
    st.builds(m.Sync, id=IDS, entries=st.lists(ENTRIES, max_size=3)),
    st.builds(m.Create, id=IDS, settings=SETTINGS),
    st.builds(m.Propagate, id=IDS, head=HEADS, credit=st.integers(1, 10_000), skip=IDS),
    st.builds(
        m.Update,
        id=IDS,
        number=IDS,
        segment=NAMES,
        slice_index=INDICES,
        mask=MASKS,
        score=NUMBERS,
    ),
    st.builds(m.LogitsAnswer, id=IDS, logits=ARRAYS),
    st.builds(m.Progress, id=IDS, stage=NAMES, fraction=st.none() | st.floats(0, 1)),
)


def same(a: object, b: object) -> bool:
    if isinstance(a, msgspec.Struct):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in a.__struct_fields__)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def feed(decoder: Decoder, pieces: list[bytes]) -> list:
    return [found for piece in pieces for found in decoder.feed(piece)]


def frame(head: bytes, body: bytes = b"") -> bytes:
    return MAGIC + struct.pack("<II", len(head), len(body)) + head + body


@settings(deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_messages_survive_any_cutting_of_the_stream(messages: list, cuts: list[int], deflate: bool) -> None:
    stream = b"".join(encode(message, deflate=deflate) for message in messages)
    got = feed(Decoder(m.Message), in_pieces(stream, cuts))
    assert len(got) == len(messages)
    assert all(same(a, b) for a, b in zip(messages, got, strict=True))


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_garbage_is_reported_and_does_not_hide_what_follows(garbage: bytes, cuts: list[int]) -> None:
    # A whole magic in the garbage promises a frame, and bytes then belong to it.
    garbage = garbage.replace(MAGIC[:1], b"")
    got = feed(Decoder(m.Message), in_pieces(garbage + encode(m.Cancel(id=7)), cuts))
    assert [type(x) for x in got] == [Refused, m.Cancel][0 if garbage else 1 :]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_head_is_refused_or_understood(head: bytes) -> None:
    decoder: Decoder = Decoder(m.Asked)
    got = feed(decoder, [frame(head), encode(m.Cancel(id=1))])
    assert len(got) == 2
    assert isinstance(got[1], m.Cancel)


@settings(deadline=None)
@given(MESSAGES, st.data())
def test_a_changed_byte_does_no_harm(message: msgspec.Struct, data: st.DataObject) -> None:
    good = bytearray(encode(message))
    place = data.draw(st.integers(12, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    got = feed(Decoder(m.Message), [bytes(good), encode(m.Cancel(id=1))])
    assert len(got) == 2
    assert isinstance(got[1], m.Cancel)


@settings(deadline=None)
@given(MESSAGES, st.data())
def test_a_truncated_message_waits_and_yields_nothing(message: msgspec.Struct, data: st.DataObject) -> None:
    whole = encode(message)
    decoder: Decoder = Decoder(m.Message)
    assert feed(decoder, [whole[: data.draw(st.integers(0, len(whole) - 1))]]) == []


@pytest.mark.parametrize(("head", "body"), [(2**32 - 1, 0), (10, 2**32 - 1), (300_000, 10)])
def test_a_frame_that_announces_too_much_is_passed_over(head: int, body: int) -> None:
    decoder: Decoder = Decoder(m.Asked, Limits(head=1 << 18, body=1 << 20, decoded=1 << 20))
    (refused,) = feed(decoder, [MAGIC + struct.pack("<II", head, body)])
    assert "too large" in refused.reason
    block = bytes(1 << 16)
    for _ in range(0, min(head + body, 1 << 22), len(block)):
        assert feed(decoder, [block]) == [] or head + body < 1 << 22
        assert len(decoder._buffer) <= len(block)


def test_what_follows_a_frame_that_is_too_large_is_understood() -> None:
    decoder: Decoder = Decoder(m.Asked, Limits(body=1000))
    large = encode(
        m.CheckPrompt(
            id=1,
            head=m.Head(id=1),
            prompt=Mask(0, np.random.default_rng(1).random((200, 200)) > 0.5),
        )
    )
    refused, undo = feed(decoder, [large + encode(m.Cancel(id=2))])
    assert "too large" in refused.reason
    assert isinstance(undo, m.Cancel)


def array_message(description: list, body: bytes) -> bytes:
    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(description))
    entry = {"op": "start", "segment": "a", "mask": array}
    head = {"op": "sync", "id": 1, "entries": [{"id": 1, "parent": 0, "entry": entry}]}
    return frame(msgspec.msgpack.encode(head), body)


@pytest.mark.parametrize(
    ("description", "body", "says"),
    [
        (["object", [3], False, 24], bytes(24), "no array type"),
        (["O", [3], False, 24], bytes(24), "no array type"),
        (["<f4", [], False, 0], b"", "shape"),
        (["<f4", [0], False, 0], b"", "shape"),
        (["<f4", [-3, -3], False, 36], bytes(36), "shape"),
        (["<f4", [1] * 5, False, 4], bytes(4), "shape"),
        (["<f4", [2**40], False, 4], bytes(4), "more than the limit"),
        (["<f4", [2**31, 2**31, 2**31], False, 4], bytes(4), "more than the limit"),
        (["<f4", [10], False, 4], bytes(4), "needs 40"),
        (["<f4", [1], False, 400], bytes(4), "longer"),
        (["<f4", [1], False, 4], bytes(5), "more bytes"),
        (["<f4", [1], True, 4], bytes(4), "damaged"),
        (["u1", [5], True, len(zlib.compress(bytes(9)))], zlib.compress(bytes(9)), "where"),
        (["u1", [9], True, 8], zlib.compress(bytes(9))[:8], "where they should"),
        (["u1", [9], False, -9], b"", "shape"),
        ("no description", b"", "cannot be read"),
    ],
)  # fmt: skip
def test_arrays_that_lie_are_refused(description: list, body: bytes, says: str) -> None:
    (refused,) = feed(Decoder(m.Asked), [array_message(description, body)])
    assert isinstance(refused, Refused)
    assert says in refused.reason
    assert "\n" not in refused.reason


def test_a_decompression_bomb_unfolds_to_no_more_than_it_says() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    data = array_message(["u1", [100], True, len(bomb)], bomb)
    tracemalloc.start()
    (refused,) = feed(Decoder(m.Asked), [data])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(refused, Refused)
    assert peak < 2 << 20


def test_many_arrays_share_one_limit() -> None:
    limits = Limits(decoded=1000)
    one = m.Update(id=1, number=1, segment="a", slice_index=1, mask=np.ones((20, 30), bool), score=1.0)
    two = m.Update(id=1, number=1, segment="a", slice_index=1, mask=np.ones((20, 30), bool), score=1.0)
    two.prepared = [m.Prepared(segment="b", slice_index=1, mask=one.mask, score=1.0)]
    understood, refused = feed(Decoder(m.Reply, limits), [encode(one) + encode(two)])
    assert isinstance(understood, m.Update)
    assert "limit" in refused.reason


@pytest.mark.parametrize(
    "head", [b"\x91" * 100_000, *(kind + b"\xff\xff\xff\xff\x01" for kind in (b"\xdd", b"\xdf", b"\xc9", b"\xdb"))]
)
def test_deep_and_endless_messagepack_is_refused(head: bytes) -> None:
    (refused,) = feed(Decoder(m.Asked), [frame(head)])
    assert isinstance(refused, Refused)


def test_every_message_has_a_name_of_its_own_and_no_unknown_fields() -> None:
    (refused,) = feed(Decoder(m.Asked), [frame(msgspec.msgpack.encode({"op": "cancel", "id": 1, "path": "/etc"}))])
    assert "path" in refused.reason
    (refused,) = feed(Decoder(m.Asked), [encode(m.Done(id=1))])
    assert isinstance(refused, Refused)


@pytest.mark.parametrize(
    "prompt",
    [
        Point((1, 2.5, 3), False),
        Box((0, 0, 1), (3, 4, 1)),
        Mask(2, np.eye(4, dtype=bool)),
        Scribble(2, [(1, 2.5), (3, 4)], False),
        Lasso(2, [(1, 2.5), (3, 4), (0, 9)], False, np.eye(4, dtype=bool)),
        Line(2, [(1, 2.5), (3, 4)]),
    ],
)
def test_prompts_travel(prompt: object) -> None:
    (got,) = feed(Decoder(m.Asked), [encode(m.CheckPrompt(id=1, head=m.Head(id=1), prompt=prompt))])  # type: ignore[arg-type]
    assert got.prompt == prompt


def test_a_prompt_that_is_none_is_refused_as_one() -> None:
    prompt = {"kind": "point", "ijk": [0.0, float("nan"), 0.0], "positive": True}
    head = {"op": "check_prompt", "id": 1, "head": {"id": 1}, "prompt": prompt}
    (refused,) = feed(Decoder(m.Asked), [frame(msgspec.msgpack.encode(head))])
    assert "finite" in refused.reason


def test_only_plain_arrays_travel() -> None:
    with pytest.raises(ProtocolError, match="complex"):
        encode(m.LogitsAnswer(id=1, logits=np.zeros(3, complex)))
    with pytest.raises(ProtocolError, match="object"):
        arrays.type_name(np.dtype(object))


@settings(deadline=None)
@given(ARRAYS, st.booleans())
def test_arrays_of_every_layout_survive(array: np.ndarray, deflate: bool) -> None:
    for view in (array, array.T, array[::-1], array.astype(array.dtype.newbyteorder(">"))):
        description, data = arrays.pack(view, deflate)
        assert np.array_equal(arrays.unpack(description, data), view, equal_nan=array.dtype.kind == "f")


def test_no_pickle_in_what_reads_bytes() -> None:
    for module in (arrays, framing, m):
        assert not {"pickle", "marshal", "eval"} & set(vars(module))
