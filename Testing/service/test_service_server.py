"""The server over real sockets: equality, broken networks, hostile clients, several users."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading

import biosam2
import numpy as np
import psutil
import pytest
import requests
from biosam2 import Point
from biosam2.service import RemoteSession, WorkerSession
from biosam2.service import messages as m
from biosam2.service.errors import RefusedError, ServiceError
from biosam2.service.framing import Limits, encode
from biosam2.service.server.app import MEDIA_TYPE, Settings
from biosam2.service.server.leases import TimeOuts
from biosam2.service.upload import header_of, upload, volume_id
from biosam2.session.entries import Started
from biosam2.session.settings import SessionSettings
from biosam2.speed import Speed
from hypothesis import HealthCheck, given, settings
from server_helpers import Answering, Cutting, Served, metrics
from service_helpers import same_state, same_updates

KEY = "a key of some length"


@pytest.fixture(scope="module")
def served(model):
    limits = Limits(head=1 << 16, body=1 << 20, decoded=1 << 20)
    with Served({"small": model}, Settings(api_key=KEY, volume_memory=4 << 20, limits=limits)) as server:
        yield server


@pytest.fixture
def shown() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


def work(session) -> dict:
    """A round of operations, whose outcome is compared."""
    session.add_prompt("a", Point((11, 10, 2)))
    told = {"click": session.predict("a", 2), "first": list(session.propagate())}
    session.add_prompt("b", Point((4, 4, 3)))
    session.add_prompt("a", Point((15, 4, 4), positive=False))
    told["second"] = list(session.propagate())
    session.undo()
    session.redo()
    told["logits"] = session.logits("a", 4)
    return told


def same_outcome(there: dict, here: dict) -> None:
    assert np.array_equal(there["click"], here["click"])
    same_updates(there["first"], here["first"])
    same_updates(there["second"], here["second"])
    assert np.array_equal(there["logits"], here["logits"])


def test_a_session_on_a_server_is_a_session(served, model, volume) -> None:
    here = biosam2.Session(model, volume)
    with RemoteSession(served.url, volume, api_key=KEY) as there:
        same_outcome(work(there), work(here))
        same_state(there, here)
        assert there.model.sha256 == model.sha256


def test_a_relay_is_a_session_and_has_no_torch(served, model, volume, monkeypatch) -> None:
    monkeypatch.setenv("BIOSAM2_API_KEY", KEY)
    here = biosam2.Session(model, volume)
    with WorkerSession(volume, server=served.url) as there:
        same_outcome(work(there), work(here))
        same_state(there, here)
        loaded = {region.path for region in psutil.Process(there.process_id).memory_maps()}
    assert not [path for path in loaded if "torch" in path]


def test_a_volume_is_sent_once(served, volumes) -> None:
    volume = volumes(100)
    stages: list[list[str]] = []
    for _ in range(2):
        stages.append([])
        with RemoteSession(
            served.url, volume, api_key=KEY, on_progress=lambda stage, _: stages[-1].append(stage)
        ) as session:
            session.add_prompt("a", Point((11, 10, 2)))
    assert "sending the volume" in stages[0]
    assert "sending the volume" not in stages[1]


def test_nothing_of_the_patients_is_sent(volume) -> None:
    secret = biosam2.Volume(volume.array, metadata={"name": "Doe^Jane", "files": ["/home/jane/ct.dcm"]})
    sent = b"".join(data for data, _ in upload(secret))
    assert b"Doe" not in sent
    assert b"jane" not in sent
    assert volume_id(secret) == volume_id(biosam2.Volume(volume.array))
    assert volume_id(volume) != volume_id(secret)  # another spacing


@pytest.mark.parametrize("where", [300, 1500, 4000])
def test_a_cut_in_mid_upload_is_mended(served, volumes, where: int) -> None:
    volume = volumes(200 + where)
    with Cutting(served.port) as network:
        network.up = [700 + where]
        with RemoteSession(network.url, volume, api_key=KEY) as session:
            session.add_prompt("a", Point((11, 10, 2)))
            assert session.predict("a", 2).any()
        assert network.cuts == 1


@pytest.mark.parametrize("cuts", [2, pytest.param(12, marks=pytest.mark.soak)])
def test_cuts_in_mid_stream_are_mended_unnoticed(served, model, volumes, cuts: int) -> None:
    volume = volumes(3, slices=12 * cuts)
    here = biosam2.Session(model, volume)
    here.add_prompt("a", Point((11, 10, 9)))
    notices: list[str] = []
    with Cutting(served.port) as network:
        with RemoteSession(network.url, volume, api_key=KEY, ahead=4, on_notice=notices.append) as there:
            there.add_prompt("a", Point((11, 10, 9)))
            network.down = [400 + 60 * (n % 5) for n in range(cuts)]
            same_updates(list(there.propagate()), list(here.propagate()))
            same_state(there, here)
        assert network.cuts == cuts
    assert notices == []


def test_a_restarted_server_costs_a_pause_and_a_notice(model, volume) -> None:
    here = biosam2.Session(model, volume)
    for session in (here,):
        session.add_prompt("a", Point((11, 10, 2)))
    notices: list[str] = []
    first = Served({"small": model})
    with first, RemoteSession(first.url, volume, ahead=1, on_notice=notices.append) as there:
        there.add_prompt("a", Point((11, 10, 2)))
        updates = there.propagate()
        got = [next(updates), next(updates)]
        first.stop()
        with Served({"small": model}, port=first.port):
            got += list(updates)
            same_updates(got, list(here.propagate()))
            same_state(there, here)
            there.close()
    assert len(notices) == 1
    assert "finished masks are kept" in notices[0]


def test_a_session_that_the_server_ended_is_opened_again(served, volume) -> None:
    notices: list[str] = []
    with RemoteSession(served.url, volume, api_key=KEY, on_notice=notices.append) as session:
        session.add_prompt("a", Point((11, 10, 2)))
        before = session.predict("a", 2)
        requests.delete(
            f"{served.url}{session.executor.link._path}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
        )
        assert np.array_equal(session.predict("a", 2), before)
    assert len(notices) == 1


def reply(text: bytes):
    def handle(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(text)

    return handle


def silent(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


@pytest.mark.parametrize(
    ("handle", "says"),
    [
        (reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "no biosam2 server"),
        (reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), "no biosam2 server"),
        (reply(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"), "code 302"),
        (reply(b"\x00\xff garbage \r\n\r\n"), "out of reach"),
        (reply(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "code 503"),
        (reply(b""), "out of reach"),
        (silent, "fell silent"),
    ],
)
def test_what_is_no_server_is_a_clear_error(volume, monkeypatch, handle, says: str) -> None:
    from biosam2.service import http

    monkeypatch.setattr(http, "_READ", 0.2)
    with Answering(handle) as other, pytest.raises(ServiceError, match=says) as raised:
        RemoteSession(other.url, volume, patience=0.2)
    assert "\n" not in str(raised.value)


HTML = b"HTTP/1.1 %s\r\nContent-Length: 13\r\nContent-Type: text/html\r\n\r\n<html></html>"


@pytest.mark.parametrize("lie", [b"", b"\x00\xff garbage \r\n\r\n", HTML % b"503 Busy", HTML % b"502 Bad Gateway"])
def test_a_server_that_lies_for_a_moment_goes_unnoticed(served, model, volume, lie: bytes) -> None:
    here = biosam2.Session(model, volume)
    notices: list[str] = []
    with Cutting(served.port) as network:
        with RemoteSession(network.url, volume, api_key=KEY, ahead=2, on_notice=notices.append) as there:
            for session in (here, there):
                session.add_prompt("a", Point((11, 10, 2)))
            network.lies = [lie]
            assert np.array_equal(there.predict("a", 2), here.predict("a", 2))
            network.lies = [lie]
            same_updates(list(there.propagate()), list(here.propagate()))
            same_state(there, here)
        assert network.lies == []
    assert notices == []


def test_a_proxy_that_answers_for_the_server_is_a_clear_error_and_the_session_goes_on(served, volume) -> None:
    with Cutting(served.port) as network, RemoteSession(network.url, volume, api_key=KEY) as session:
        session.add_prompt("a", Point((11, 10, 2)))
        before = session.predict("a", 2)
        for lie, says in ((HTML % b"200 OK", "not understood"), (HTML % b"404 Not Found", "biosam2")):
            network.lies = [lie]
            with contextlib.suppress(ServiceError):
                session.predict("a", 2)
                assert says == "biosam2"  # an unknown session is opened again
        assert np.array_equal(session.predict("a", 2), before)


def test_what_the_server_says_at_opening_is_checked(volume) -> None:
    model = b'{"name": "a", "sha256": "", "device": "", "device_reason": "", "image_size": 1}'
    info = b'{"biosam2": "1", "protocol": %d, "models": [%s]}' % (m.PROTOCOL, model)

    def handle(connection: socket.socket) -> None:
        asked = connection.recv(1 << 16)
        content = info if asked.startswith(b"GET /info") else b'{"session": 7}'
        code = b"204 None" if asked.startswith(b"HEAD") else b"201 Created"
        code = b"200 OK" if content is info else code
        body = b"" if asked.startswith(b"HEAD") else content
        connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (code, len(body)) + body)

    with Answering(handle) as other, pytest.raises(ServiceError, match="is no biosam2 server"):
        RemoteSession(other.url, volume)


def test_an_answer_without_end_is_not_read_to_its_end(volume) -> None:
    def endless(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(1 << 16))

    with Answering(endless) as other, pytest.raises(ServiceError, match="without end"):
        RemoteSession(other.url, volume)


def test_no_server_and_no_address_are_clear_errors(volume) -> None:
    with Answering(silent) as gone:
        pass
    with pytest.raises(ServiceError, match="out of reach"):
        RemoteSession(gone.url, volume, patience=0.1)
    with pytest.raises(ServiceError, match="no server's address"):
        RemoteSession("gpu.hospital", volume)


def test_keys_that_are_wrong_or_missing_are_refused(served, volume) -> None:
    with pytest.raises(RefusedError, match="wants an API key"):
        RemoteSession(served.url, volume)
    with pytest.raises(RefusedError, match="not the server's"):
        RemoteSession(served.url, volume, api_key="another key of some length")
    with pytest.raises(RefusedError, match="no model"):
        RemoteSession(served.url, volume, api_key=KEY, model="none such")
    for method, path in [("GET", "/info"), ("PUT", f"/volumes/{'0' * 64}"), ("POST", "/sessions"), ("DELETE", f"/sessions/{'a' * 32}")]:  # fmt: skip  # noqa: E501
        assert requests.request(method, served.url + path, timeout=30).status_code == 401
    assert requests.get(f"{served.url}/healthz", timeout=30).json() == {"status": "ok"}


def put(served, shown, name: str, body) -> requests.Response:
    return requests.put(f"{served.url}/volumes/{name}", data=body, headers=shown, timeout=30)


def test_volumes_that_lie_are_refused(served, shown, volume) -> None:
    frames = [data for data, _ in upload(volume)]
    name = volume_id(volume)
    held = served.app.state.volumes.nbytes
    huge = header_of(volume)
    huge.shape = [10**5, 10**5, 10**5]
    large = header_of(volume)
    large.shape = [100, 1000, 1000]
    odd = header_of(volume)
    odd.dtype = "object"
    sheared = header_of(volume)
    sheared.direction = ((1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    for body, code, says in [
        (b"".join(frames)[:-5], 400, "ended before"),
        (b"".join(frames[::-1]), 400, "begins with its header"),
        (frames[0] + b"".join(frames), 400, "one header"),
        (b"".join(frames) + frames[1], 400, "more voxels"),
        (b"x" * 1000, 400, "no message"),
        (encode(huge), 507, "no room"),
        (encode(large), 507, "no room"),
        (encode(odd), 400, "no array type"),
        (encode(sheared), 400, "ended before"),
        (b"", 400, "ended before"),
    ]:
        response = put(served, shown, name, body)
        assert (response.status_code, says in response.json()["detail"]) == (code, True), response.text
    response = put(served, shown, "0" * 64, b"".join(frames))
    assert "does not have the hash" in response.json()["detail"]
    assert served.app.state.volumes.nbytes <= held
    for path in ("../../etc/passwd", "%2e%2e%2fpasswd", "A" * 64, "0" * 63):
        assert put(served, shown, path, b"").status_code in (404, 422)


def test_requests_of_clients_without_a_key_are_bounded(served) -> None:
    """Also JSON, which is read before the key is looked at."""
    sent = 0

    def endless():
        nonlocal sent
        yield b'{"volume": "'
        while sent < 64 << 20:
            sent += 1 << 14
            yield b"a" * (1 << 14)

    with contextlib.suppress(requests.ConnectionError):  # the server may hang up before it has been heard
        assert requests.post(f"{served.url}/sessions", data=endless(), timeout=30).status_code == 413
    assert sent < 16 << 20
    assert requests.post(f"{served.url}/sessions", data=b"x" * 70_000, timeout=30).status_code == 413


def test_a_client_that_falls_silent_in_mid_sending_is_let_go(model) -> None:
    with Served({"small": model}, Settings(read_seconds=0.1)) as server:
        for path in (f"/volumes/{'0' * 64}", "/sessions"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                method = b"PUT" if "volumes" in path else b"POST"
                connection.sendall(method + b" %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" % path.encode())
                assert b" 408 " in connection.recv(1 << 16)


def test_a_server_that_does_not_work_any_more_is_not_healthy(model) -> None:
    with Served({"small": model}) as server:
        assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200
        server.device.stop()
        response = requests.get(f"{server.url}/healthz", timeout=30)
        assert response.status_code == 503
        assert "start it anew" in response.json()["detail"]


def test_prometheus_is_told_what_happens(model, volume) -> None:
    with Served({"small": model}, Settings(api_key=KEY)) as server:
        assert requests.get(f"{server.url}/metrics", timeout=30).status_code == 401
        # Nothing has happened, and there is a nought rather than nothing.
        assert metrics(server, KEY)("biosam2_click_seconds_count") == 0
        with RemoteSession(server.url, volume, api_key=KEY) as session:
            session.add_prompt("a", Point((11, 10, 2)))
            session.predict("a", 2)
            list(session.propagate())
            told = metrics(server, KEY)
            assert told("biosam2_sessions", device="cpu", number="0") == told("biosam2_sessions_opened_total") == 1
            assert told("biosam2_click_seconds_count") == 1
            assert 0 < told("biosam2_click_seconds_sum") < 30
            assert told("biosam2_slices_total") == 6
            assert told("biosam2_feature_bytes") == server.device.features.nbytes > 0
            assert told("biosam2_volume_bytes") == volume.array.nbytes
            assert told("process_resident_memory_bytes") > 1 << 20
        assert metrics(server, KEY)("biosam2_sessions") == 0


def test_clicks_share_a_connection(served, volume) -> None:
    """A new one for each would cost a TLS handshake."""
    with Cutting(served.port) as network, RemoteSession(network.url, volume, api_key=KEY) as session:
        for n in range(10):
            session.add_prompt("a", Point((n, 10, 2)))
            session.predict("a", 2)
        assert network.connections <= 3


class Affinity:
    """As a load balancer: gives each client a cookie, and takes note of what comes without one."""

    def __init__(self, app, without: list[str], heard: threading.Event) -> None:
        self._app, self._without, self._heard = app, without, heard

    async def __call__(self, scope, receive, send) -> None:
        async def sending(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"set-cookie", b"SERVER=one; path=/")]
            await send(message)

        if scope["type"] == "http":
            if not any(value == b"SERVER=one" for name, value in scope["headers"] if name == b"cookie"):
                self._without.append(scope["path"])
            if scope["path"].endswith("/heartbeat"):
                self._heard.set()
        await self._app(scope, receive, sending)


def test_every_request_of_a_session_shows_the_load_balancer_s_cookie(model, volume) -> None:
    without: list[str] = []
    heard = threading.Event()
    server = Served({"small": model}, Settings(time_outs=TimeOuts(liveness=1.5)))
    server.app.add_middleware(Affinity, without=without, heard=heard)
    with server, RemoteSession(server.url, volume) as session:
        session.add_prompt("a", Point((11, 10, 2)))
        assert len(list(session.propagate())) == len(volume.array)
        assert heard.wait(30)
    assert without == ["/info"]


def post(served, shown, session: str, body: bytes) -> requests.Response:
    return requests.post(f"{served.url}/sessions/{session}/messages", data=body, headers=shown, timeout=30)


def test_what_a_session_can_be_set_to_is_what_the_server_takes(served, shown) -> None:
    """Settings have one definition; a session that comes without one has its default."""
    schemas = requests.get(f"{served.url}/openapi.json", timeout=30).json()["components"]["schemas"]
    asked = schemas["SessionRequest"]
    assert set(asked["properties"]) == {"volume", "model", *SessionSettings.__struct_fields__}
    assert asked["required"] == ["axis", "window", "volume"]
    assert asked["properties"]["policy"]["default"] == "sam2"
    assert set(schemas["Speed"]["properties"]) == set(Speed.__struct_fields__)
    for settings_, says in (
        ({"window": [0, 1], "axis": "k", "speed": {"pool": 0}}, "pool is a whole number"),
        ({"window": [0, 1], "axis": "k", "speed": {"poole": 1}}, "poole"),
        ({"window": [0, 1], "axis": "q"}, "axis"),
    ):
        body = {"volume": "0" * 64, **settings_}
        response = requests.post(f"{served.url}/sessions", json=body, headers=shown, timeout=30)
        assert response.status_code in (400, 422)
        assert says in response.json()["detail"]


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_a_record_says_the_precision_that_results_are_computed_in(served, model, volume, precision: str) -> None:
    here = biosam2.Session(model, volume, precision=precision)
    with RemoteSession(served.url, volume, api_key=KEY, precision=precision) as there:
        for session in (here, there):
            session.add_prompt("a", Point((11, 10, 2)))
        assert there.to_record() == here.to_record()
        assert here.to_record()["precision"] == {"auto": "float32"}.get(precision, precision)


def test_messages_that_lie_are_refused(served, shown, volume) -> None:
    with RemoteSession(served.url, volume, api_key=KEY) as session:
        name = session.executor.link._path.rpartition("/")[2]
        large = m.SentEntry(id=1, parent=0, entry=Started("a", np.ones((200, 200, 200), bool)))
        create = m.Create(id=9, settings=SessionSettings(axis="k", window=(0.0, 1.0)))
        for body, says in [
            (b"", "whole and alone"),
            (b"garbage", "no message"),
            (encode(m.Sync(id=10**6, entries=[]))[:-1], "whole and alone"),
            (encode(m.Sync(id=10**6, entries=[])) * 2, "whole and alone"),
            (encode(m.OpenVolume(id=1, path="/etc/passwd", spacing=(1, 1, 1), origin=(0, 0, 0), direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)))), "POST /sessions"),  # noqa: E501
            (encode(create), "POST /sessions"),
            (encode(m.Sync(id=1, entries=[large])), "limit"),
        ]:  # fmt: skip
            response = post(served, shown, name, body)
            assert (response.status_code, says in response.json()["detail"]) == (400, True), response.text
        assert post(served, shown, name, bytes(2 << 20)).status_code == 413
        assert post(served, shown, "a" * 32, encode(m.Sync(id=1, entries=[]))).status_code == 404
        assert post(served, shown, "../info", b"").status_code in (404, 405, 422)
        # The session has noticed nothing.
        session.add_prompt("a", Point((11, 10, 2)))
        assert session.predict("a", 2).any()


@pytest.mark.parametrize("sessions", [10, pytest.param(500, marks=pytest.mark.soak)])
def test_sessions_that_were_closed_leave_nothing(model, volume, sessions: int) -> None:
    process = psutil.Process()

    def one() -> None:
        with RemoteSession(server.url, volume) as session:
            session.add_prompt("a", Point((11, 10, 2)))
            session.predict("a", 2)

    with Served({"small": model}) as server:
        for _ in range(3):
            one()
        before = process.num_fds(), process.memory_info().rss
        for _ in range(sessions):
            one()
        # Closing is done by the working thread, and one more request, which encodes nothing, comes after it.
        with RemoteSession(server.url, volume):
            pass
        gc.collect()
        state = server.app.state
        assert len(state.leases) == 0
        assert len(state.volumes) == 1
        assert len(server.device.features) == 0
        assert process.num_fds() <= before[0] + 4
        assert process.memory_info().rss < before[1] + (64 << 20)


def test_a_full_server_says_so(model, volume) -> None:
    with (
        Served({"small": model}, Settings(most_sessions=1)) as server,
        RemoteSession(server.url, volume),
        pytest.raises(RefusedError, match="all 1 sessions"),
    ):
        RemoteSession(server.url, volume, patience=0.1)


@pytest.mark.parametrize("examples", [4, pytest.param(150, marks=pytest.mark.soak)])
def test_answers_are_as_the_openapi_document_says(served, shown, examples: int) -> None:
    """Schemathesis makes requests of every kind, valid and not; none may fail the server."""
    import schemathesis

    @schemathesis.serializer(MEDIA_TYPE)
    def as_bytes(context, value) -> bytes:
        return value if isinstance(value, bytes) else bytes(str(value), "utf-8", "replace")

    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    few = settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    for operation in schema.get_all_operations():

        @few
        @given(operation.ok().as_strategy())
        def ask(case) -> None:
            case.headers = {**(case.headers or {}), **shown}
            response = case.call(timeout=30)
            assert response.status_code < 500 or response.status_code in (503, 507), response.text

        ask()
    assert requests.get(f"{served.url}/healthz", timeout=30).status_code == 200
