"""What a client and a host say to each other. Each class is one message; its fields are all that it can carry.

A client sends requests with ids of its own choosing, rising from 1; the host answers each with any number of
`Progress` and `Update` and then one of the final answers (subclasses of `Answer`), all with the request's id. A
request that comes again under the same id, because its answer was lost, is not done again but answered again.
`Grant` and `Cancel` get no answer. `Notice` may come at any time.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..prompts import Prompt
from ..session.entries import Entry
from ..session.settings import ModelFacts, Precision, SessionSettings
from .protocol import PROTOCOL as PROTOCOL

Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
Name: TypeAlias = Annotated[str, Meta(max_length=1000)]
Text: TypeAlias = Annotated[str, Meta(max_length=4000)]
Credit: TypeAlias = Annotated[int, Meta(ge=1, le=10_000)]
Three: TypeAlias = tuple[float, float, float]
Names: TypeAlias = Annotated[list[Name], Meta(max_length=1000)]


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class _Part(msgspec.Struct, eq=False, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag=_snake):
    """Common to everything that travels."""


# -- entries -----------------------------------------------------------------------------------------


class SentEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry on its way to a host.

    Attributes:
        id: of the entry.
        parent: the entry before it, 0 for none.
        entry: a propagation travels without its finished slices.
        finished: how many updates a propagation had; the host runs it that far.
        complete: whether it then ran to its end.
    """

    id: Number
    parent: Number
    entry: Entry
    finished: Number = 0
    complete: bool = False


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The state that a request is about: an entry, and with it all before it.

    Attributes:
        id: of the last entry in force, 0 for none.
        finished: how many updates the last propagation in force had; None while it is running.
        complete: whether it ran to its end.
    """

    id: Number
    finished: Number | None = 0
    complete: bool = False


# -- requests ----------------------------------------------------------------------------------------


class Request(_Part):
    """What a client asks."""

    id: Number


class Hello(Request):
    """The first message. Answered by `Welcome`."""

    protocol: int
    client: Name


class LoadModel(Request):
    """Load a network: `biosam2.load_model`'s arguments. Answered by `Progress` … `ModelLoaded`."""

    name: Text | None = None
    checkpoint: Text | None = None
    config: Text | None = None
    device: Name = "auto"


class OpenVolume(Request):
    """Map a ``.npy`` file of this computer as the volume; it must stay until answered. Answered by `Done`."""

    path: Text
    spacing: Three
    origin: Three
    direction: tuple[Three, Three, Three]


class Create(Request):
    """Begin a session on the model and volume, instead of any earlier one. Answered by `Created`."""

    settings: SessionSettings


class Sync(Request):
    """Entries that the host lacks, each after its parent. Answered by `Done`, or by `Stale` if it lacks more."""

    entries: Annotated[list[SentEntry], Meta(max_length=10_000)]


class CheckPrompt(Request):
    """`Executor.check`. Answered by `Done`, or by `Stale` where the host lacks the head."""

    head: Head
    prompt: Prompt


class Predict(Request):
    """`Executor.predict`. Answered by `MaskAnswer`, or by `Stale`."""

    head: Head
    segment: Name
    slice_index: int


class Logits(Request):
    """`Executor.logits`. Answered by `LogitsAnswer`, or by `Stale`."""

    head: Head
    segment: Name
    slice_index: int


class Propagate(Request):
    """`Executor.propagate`, begun at once. Answered by `Update` … `Propagated`, or by `Stale`.

    Attributes:
        head: the entry that asks for it.
        skip: updates at the beginning that the client has already and that are not sent.
        credit: updates that may be sent before a `Grant` allows more.

    It can be asked for again under its id after the connection broke: it goes on, and `skip` says how many updates had
    arrived.
    """

    head: Head
    credit: Credit
    skip: Number = 0


class Grant(Request):
    """More updates of a running `Propagate` may be sent. No answer.

    Attributes:
        of: the id of the propagation.
        credit: how many more.
        received: how many arrived so far, skipped ones counted; these need not be kept for a client that comes back.
    """

    of: Number
    credit: Credit
    received: Number


class Cancel(Request):
    """Stop the running propagation after the slice that it is at. No answer; `Propagated` comes earlier."""


class VolumeHeader(_Part):
    """What the voxels are that follow as `Chunk`s on their way to a server.

    Attributes:
        dtype: as `arrays` names it.
        shape: (K, J, I) or (K, J, I, 3).
    """

    dtype: Name
    shape: Annotated[list[int], Meta(min_length=3, max_length=4)]
    spacing: Three
    origin: Three
    direction: tuple[Three, Three, Three]


class Chunk(_Part):
    """A piece of a volume on its way to a server: the next bytes of its voxels, C order, little-endian."""

    data: np.ndarray


# -- answers -----------------------------------------------------------------------------------------


class Answer(_Part):
    """What a host says last about a request."""

    id: Number


class Welcome(Answer):
    """Who answers."""

    protocol: int
    biosam2: Name
    relay: bool = False


class ModelLoaded(Answer):
    """The network is there."""

    model: ModelFacts


class Created(Answer):
    """There is a session.

    Attributes:
        model: the network that it runs.
        precision: see `Executor.precision`.
    """

    model: ModelFacts
    precision: Precision


class Stale(Answer):
    """The host does not have the head that the request is about, or has it otherwise; send `Sync` with all of it."""


class Done(Answer):
    """It is done."""


class MaskAnswer(Answer):
    """One slice, bool (rows, columns)."""

    mask: np.ndarray


class LogitsAnswer(Answer):
    """One slice, float32 (rows, columns)."""

    logits: np.ndarray


class Prepared(_Part):
    """A result on a prompted slice: it is there from the moment when a propagation begins, wherever its range leads."""

    segment: Name
    slice_index: int
    mask: np.ndarray
    score: float


class Propagated(Answer):
    """The propagation is over, or was stopped.

    Attributes:
        count: updates that it made, skipped ones counted.
        complete: whether it ran to its end.
        prepared: where it did not run to its end, or made no update.
    """

    count: int
    complete: bool
    prepared: list[Prepared] = []


class Failure(Answer):
    """It could not be done.

    Attributes:
        id: of the request, 0 when it could not be read.
        kind: the error's class, see `errors.error_of`.
        text: one line.
    """

    kind: Name
    text: Text


class Progress(_Part):
    """How far long work is.

    Attributes:
        stage: what is being done, in words.
        fraction: 0 to 1, None where it cannot be known.
        models: names of the models that a server has, once it was asked.
    """

    id: Number
    stage: Text
    fraction: float | None = None
    models: Names = []


class Update(_Part):
    """What the network found on one slice of one segment, see `Found`.

    Attributes:
        number: counted from 1 in its propagation.
        mask: bool (rows, columns).
        prepared: with the first update, the results on prompted slices.
        gone: whether nothing stands there any more.
        interpolated: whether the network did not run on the slice.
    """

    id: Number
    number: Number
    segment: Name
    slice_index: int
    mask: np.ndarray
    score: float
    prepared: list[Prepared] = []
    gone: bool = False
    interpolated: bool = False


class Notice(_Part):
    """Something that the user should read."""

    text: Text


Final: TypeAlias = Welcome | ModelLoaded | Created | Stale | Done | MaskAnswer | LogitsAnswer | Propagated | Failure
Reply: TypeAlias = Final | Progress | Update | Notice
AboutHead: TypeAlias = CheckPrompt | Predict | Logits | Propagate
Asked: TypeAlias = Hello | LoadModel | OpenVolume | Create | Sync | AboutHead | Grant | Cancel
Uploaded: TypeAlias = VolumeHeader | Chunk
Message: TypeAlias = Asked | Reply | Uploaded


def as_mask(array: NDArray[Any]) -> NDArray[np.bool_]:
    """An array that should be a mask.

    Raises:
        ProtocolError: it is not bool.
    """
    if array.dtype != bool:
        from .errors import ProtocolError

        raise ProtocolError(f"a mask is an array of bool, not {array.dtype}")
    return array
