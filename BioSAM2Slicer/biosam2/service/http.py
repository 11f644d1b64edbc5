"""A session on a server, over HTTP."""

from __future__ import annotations

import contextlib
import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event, Thread
from typing import Annotated, Any, TypeVar

import msgspec
import requests
import urllib3

from .. import __version__
from ..session.entries import plain
from ..session.settings import ModelFacts, Precision, SessionSettings
from ..volume import Volume
from . import messages as m
from .client import ClientSession
from .errors import ConnectionLostError, ProtocolError, RefusedError, ServiceError
from .framing import Decoder, Refused, encode
from .link import Notice, Progress
from .upload import upload, volume_id

# Seconds to reach the server, and between two pieces of an answer; the server gives a sign of life every ten.
_CONNECT, _READ, _SEND = 5.0, 40.0, 120.0
# Bytes that an answer may have which is no stream of the session's.
_MOST = 1 << 20
_BUSY = (502, 503, 504)
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)  # fmt: skip  # noqa: E501


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    status_code: int
    content: bytes

    def close(self) -> None:
        """As of a response that is a stream; nothing is open."""


_T = TypeVar("_T")
_Got = TypeVar("_Got", Answered, requests.Response)


class ServerInfo(msgspec.Struct):
    """What a client needs to know of a server."""

    biosam2: str
    protocol: int
    models: Annotated[list[ModelFacts], msgspec.Meta(min_length=1)]


class _Opened(msgspec.Struct):
    session: str
    model: ModelFacts
    precision: Precision
    heartbeat_seconds: Annotated[float, msgspec.Meta(gt=0)]


class RemoteSession(ClientSession):
    """A `biosam2.Session` on a server (``biosam2 serve``). Voxels, geometry and prompts are sent, and nothing else.

    Args:
        url: of the server, for example ``https://gpu.hospital:8443``.
        volume: the voxels; sent unless the server has them.
        api_key: what the server wants to be shown.
        model: one of the server's models; by default its first.
        verify: whether to check the server's certificate, or a file of those to trust.
        patience: the retry timeout: seconds for which a server that is out of reach is tried again.
        ahead: slices that the server may be ahead; hides the network's delay.
        settings: the other arguments of `ClientSession`.

    Raises:
        RefusedError: the key is wrong, the server is full, or it has no such model.
        ServiceError: the server is out of reach, or is no biosam2 server.

    Example:
        >>> with RemoteSession("http://127.0.0.1:8000", volume) as session:
        ...     session.add_prompt("lesion", Point(ijk=(120, 98, 12)))
        ...     masks = [update.mask for update in session.propagate()]
    """

    def __init__(
        self,
        url: str,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: str | None = None,
        policy: str | None = None,
        *,
        api_key: str | None = None,
        model: str | None = None,
        verify: bool | str = True,
        patience: float = 30.0,
        ahead: int = 16,
        **settings: Any,
    ) -> None:
        connector = HttpConnector(Http(url, api_key, verify, patience), volume, model)
        super().__init__(connector, volume, axis, window, crop, policy, ahead=ahead, **settings)


class Http:
    """Requests to one server, with its key, and with errors that say what is wrong.

    Args:
        url, api_key, verify, patience: see `RemoteSession`.
    """

    def __init__(self, url: str, api_key: str | None, verify: bool | str, patience: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise ServiceError(f"{url!r} is no server's address; give http://HOST:PORT or https://HOST:PORT")
        self.url = url.rstrip("/")
        self.patience = patience
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"biosam2/{__version__}"
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key}"
        self.verify = verify

    def send(self, method: str, path: str, read: float | None = None, **content: Any) -> Answered:
        """One request, once, and all that it is answered.

        Raises:
            ServiceError: an address or a certificate that cannot be used, or an answer that does not end.
            requests.ConnectionError, requests.Timeout: no answer.
        """
        return self._whole(self.stream(method, path, read, **content))

    def stream(self, method: str, path: str, read: float | None = None, **content: Any) -> requests.Response:
        """One request, once; its answer is to be read as it comes.

        Raises:
            ServiceError: an address or a certificate that cannot be used.
            requests.ConnectionError, requests.Timeout: no answer.
        """
        try:
            return self._session.request(
                method,
                f"{self.url}{path}",
                timeout=(_CONNECT, read or _READ),
                verify=self.verify,
                allow_redirects=False,
                stream=True,
                **content,
            )
        except (requests.exceptions.SSLError, requests.exceptions.InvalidURL, OSError) as error:
            if isinstance(error, requests.exceptions.SSLError):
                raise ServiceError(
                    f"the certificate of {self.url} is not trusted; give the file of its authority ({_line(error)})"
                ) from error
            if isinstance(error, _BROKEN):
                raise
            raise ServiceError(f"{self.url} cannot be used: {_line(error)}") from error

    def patiently(self, once: Callable[[], _Got]) -> _Got:
        """The outcome of one request, made again while the server is out of reach or busy, until the retry timeout.

        Args:
            once: makes the request.

        Raises:
            RefusedError: the server is busy all the time.
            ServiceError: it is out of reach all the time.
        """
        until = time.monotonic() + self.patience
        never = Event()
        for tries in itertools.count():
            try:
                got = once()
                if got.status_code not in _BUSY or time.monotonic() > until:
                    return got
                got.close()
            except _BROKEN as error:
                if time.monotonic() > until:
                    raise ServiceError(
                        f"the server {self.url} is out of reach ({_reason(error)}); check that it runs, and "
                        "check firewall and proxy"
                    ) from error
            never.wait(min(0.1 * 2**tries, 2.0))
        raise AssertionError("never here")

    def checked(self, got: _Got, *good: int) -> _Got:
        """A response of one of the good codes.

        Raises:
            RefusedError: the server does not let this client in.
            ServiceError: any other.
        """
        code = got.status_code
        if code in good:
            return got
        try:
            whole = got if isinstance(got, Answered) else self._whole(got)
            detail = str(self.understood(whole, dict[str, Any])["detail"])[:500]
        except (KeyError, ServiceError, *_BROKEN):
            text = f"{self.url} answers with code {code} and is no biosam2 server, or a proxy before it"
            raise ServiceError(text) from None
        kind = RefusedError if code in (401, 403, 404, 503, 507) else ServiceError
        raise kind(f"the server {self.url} says: {detail}")

    def understood(self, answered: Answered, kind: type[_T]) -> _T:
        """What an answer says in JSON.

        Raises:
            ServiceError: it is not of the kind.
        """
        try:
            return msgspec.json.decode(answered.content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ServiceError(f"{self.url} is no biosam2 server; check the address") from error

    def _whole(self, response: requests.Response) -> Answered:
        """A response, read to its end, which lets its connection be used again.

        Raises:
            ServiceError: it does not end.
        """
        content = bytearray()
        until = time.monotonic() + _READ
        with response:
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > _MOST or time.monotonic() > until:
                    raise ServiceError(f"{self.url} answers without end and is no biosam2 server; check the address")
        return Answered(response.status_code, bytes(content))

    @property
    def headers(self) -> dict[str, str]:
        """What every request shows."""
        return {str(k): str(v) for k, v in self._session.headers.items()}

    @property
    def cookies(self) -> dict[str, str]:
        """What a load balancer knows its server by."""
        return self._session.cookies.get_dict()

    def forget_cookies(self) -> None:
        """Have a load balancer choose a server anew."""
        self._session.cookies.clear()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


class HttpConnector:
    """Opens sessions on a server, sending the volume when it is not there."""

    def __init__(self, http: Http, volume: Volume, model: str | None) -> None:
        self._http = http
        self._volume = volume
        self._model = model
        self._name: str | None = None

    def open(self, settings: SessionSettings, progress: Progress, notice: Notice) -> tuple[HttpLink, m.Created]:
        """A new session."""
        http = self._http
        http.forget_cookies()
        progress("reaching the server", None)
        server = server_info(http)
        if server.protocol != m.PROTOCOL:
            raise ServiceError(
                f"the server runs biosam2 {server.biosam2[:40]} and this is {__version__}, which do not understand "
                "each other; install the same on both sides"
            )
        if self._name is None:
            progress("hashing the volume", None)
            self._name = volume_id(self._volume)
        asked = {"volume": self._name, "model": self._model, **plain(settings)}

        def once() -> Answered:
            answered = http.send("POST", "/sessions", json=asked)
            if answered.status_code in _BUSY:
                # Behind a load balancer another server may have room.
                http.forget_cookies()
            return answered

        for _ in range(3):
            there = http.patiently(lambda: http.send("HEAD", f"/volumes/{self._name}"))
            if there.status_code == 404:
                self._upload(progress)
            answered = http.patiently(once)
            try:
                opened = http.understood(http.checked(answered, 201), _Opened)
            except RefusedError as error:
                # Another volume may have taken its place meanwhile.
                if answered.status_code != 404 or "volume" not in str(error):
                    raise
                refused = error
            else:
                created = m.Created(id=0, model=opened.model, precision=opened.precision)
                return HttpLink(http, opened.session, opened.heartbeat_seconds), created
        raise refused

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _upload(self, progress: Progress) -> None:
        def frames() -> Iterator[bytes]:
            for data, fraction in upload(self._volume):
                yield data
                progress("sending the volume", fraction)

        http = self._http
        http.checked(http.patiently(lambda: http.send("PUT", f"/volumes/{self._name}", _SEND, data=frames())), 204)


class HttpLink:
    """A session on a server, kept alive by heartbeats."""

    def __init__(self, http: Http, session: str, heartbeat_seconds: float) -> None:
        self._http = http
        self._path = f"/sessions/{session}"
        self._closed = Event()
        given = (http, http.cookies, self._path, heartbeat_seconds, self._closed)
        Thread(target=_beat, args=given, name="heartbeat", daemon=True).start()
        # Forgotten without being closed, it does not keep its place on the server.
        weakref.finalize(self, self._closed.set)

    def ask(self, request: m.Request) -> Iterator[m.Reply]:
        """Send a request; see `Link.ask`."""
        body = encode(request, deflate=True)
        return self._answers(self._post(lambda: self._http.stream("POST", f"{self._path}/messages", data=body)))

    def tell(self, request: m.Request) -> None:
        """Send what has no answer; see `Link.tell`."""
        body = encode(request, deflate=True)
        self._post(lambda: self._http.send("POST", f"{self._path}/messages", data=body))

    def close(self) -> None:
        """End the session on the server, if it can be reached."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(*_BROKEN, ServiceError):
                self._http.send("DELETE", self._path, _CONNECT)

    def _post(self, once: Callable[[], _Got]) -> _Got:
        try:
            got = self._http.patiently(once)
        except ServiceError as error:
            raise ConnectionLostError(str(error)) from error
        if got.status_code == 404:
            got.close()
            raise ConnectionLostError("the server does not know the session any more")
        return self._http.checked(got, 200, 204)

    def _answers(self, response: requests.Response) -> Iterator[m.Reply]:
        """The answers of one response as they come."""
        decoder: Decoder[m.Reply] = Decoder(m.Reply)
        with contextlib.suppress(*_BROKEN), response:
            pieces = response.iter_content(chunk_size=None)
            for data in pieces:
                for reply in decoder.feed(data):
                    if isinstance(reply, Refused):
                        raise ProtocolError(f"{self._http.url} answers what is not understood: {reply.reason}")
                    if isinstance(reply, m.Answer):
                        # The end of the stream follows; read, so that the connection can be used again.
                        with contextlib.suppress(*_BROKEN):
                            next(pieces, None)
                    yield reply


def _beat(http: Http, cookies: dict[str, str], path: str, seconds: float, closed: Event) -> None:
    """Send signs of life until the session is closed, to the server that has it."""
    with requests.Session() as session:
        session.headers.update(http.headers)
        session.cookies.update(cookies)
        while not closed.wait(seconds):
            with contextlib.suppress(requests.RequestException):
                session.post(f"{http.url}{path}/heartbeat", timeout=_CONNECT, verify=http.verify).close()


def server_info(http: Http) -> ServerInfo:
    """What the server says of itself.

    Raises:
        RefusedError: it wants another key.
        ServiceError: it is out of reach, or is no biosam2 server.
    """
    return http.understood(http.checked(http.patiently(lambda: http.send("GET", "/info")), 200), ServerInfo)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return "it does not answer"
    if isinstance(error, requests.Timeout):
        return "it fell silent"
    return "the connection was refused or broke off"
