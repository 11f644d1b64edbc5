"""The HTTP application: what each address does. Sessions are messages over ``POST /sessions/{id}/messages``.

Control is JSON and documented by OpenAPI (``/docs``); sessions and volumes speak the frames of `framing`.
"""

# No postponed annotations here: FastAPI reads them, and some name what exists only inside `make_app`.
import asyncio
import contextlib
import hmac
import importlib.metadata
import logging
import platform
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import psutil
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from ... import __version__
from ...errors import BioSAM2Error
from ...session.settings import ModelFacts, Precision, SessionSettings
from .. import messages as m
from ..errors import ConnectionLostError, ProtocolError, RefusedError
from ..framing import Decoder, Limits, Refused, encode
from .device import Devices
from .gate import Gate
from .leases import Lease, Leases, TimeOuts
from .metrics import Metrics
from .schema import described
from .volumes import Upload, VolumeStore

_log = logging.getLogger("biosam2.server")

MEDIA_TYPE = "application/x-biosam2"
# Updates that may be on their way to a client, whatever it asks for.
_CREDIT = 64
# Bytes that a request of JSON may have.
_JSON = 64 << 10

VolumeName = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of geometry and voxels")]
SessionName = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{32}$", description="as given by POST /sessions")]


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Attributes:
        api_key: what clients must show; None lets everybody in.
        most_sessions: how many there may be at a time.
        volume_memory: bytes of voxels, all volumes together.
        limits: what one message may bring.
        read_seconds: how long a client may keep silent in the middle of sending something.
        time_outs: when a session ends by itself.
    """

    api_key: str | None = None
    most_sessions: int = 16
    volume_memory: int = 8 << 30
    limits: Limits = field(default_factory=Limits)
    read_seconds: float = 30.0
    time_outs: TimeOuts = field(default_factory=TimeOuts)


# What the models have is known at run time only, hence the exceptions from the types' checks.
class ModelInfo(described(ModelFacts)):  # type: ignore[misc]
    """A network that is loaded."""


class SessionRequest(described(SessionSettings)):  # type: ignore[misc]
    """What a session is to be: settings, and on which volume and model."""

    volume: str = Field(pattern="^[0-9a-f]{64}$")
    model: str | None = Field(None, max_length=1000)

    @property
    def settings(self) -> SessionSettings:
        """The settings.

        Raises:
            InputError: they are none.
        """
        return SessionSettings.from_json(self.model_dump(exclude={"volume", "model"}))


class SessionInfo(BaseModel):
    """A session that was opened."""

    session: str
    model: ModelInfo
    precision: Precision
    heartbeat_seconds: float


class DeviceInfo(BaseModel):
    """A device, and what runs on it."""

    device: str
    works: bool
    sessions: int
    propagations: int
    requests_waiting: int
    feature_bytes: int
    process_bytes: int


class Info(BaseModel):
    """What the server is and how it does."""

    biosam2: str
    protocol: int
    versions: dict[str, str]
    models: list[ModelInfo]
    devices: list[DeviceInfo]
    draining: bool
    sessions: int
    most_sessions: int
    sessions_opened: int
    propagations: int
    requests_waiting: int
    volumes: int
    volume_bytes: int
    volume_budget_bytes: int
    feature_bytes: int
    feature_budget_bytes: int
    process_bytes: int
    free_bytes: int
    liveness_seconds: float
    idle_seconds: float
    heartbeat_seconds: float
    uptime_seconds: float


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """What is wrong, in a sentence."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem} for code in (400, 401, 404, 408, 413, 422, 503, 507)
}
_BINARY: dict[str, Any] = {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}}  # fmt: skip  # noqa: E501


def make_app(devices: Devices, settings: Settings | None = None, volumes: VolumeStore | None = None) -> FastAPI:
    """The application.

    Args:
        devices: where sessions run. They are started and stopped with the application.
        settings: how it is run.
        volumes: where volumes are kept; by default within `Settings.volume_memory`, in this process.
    """
    settings = settings or Settings()
    if volumes is None:
        volumes = VolumeStore(settings.volume_memory)
    models = devices.models
    leases = Leases(devices, volumes, settings.most_sessions, settings.time_outs)
    metrics = Metrics(devices, leases, volumes)
    started = time.monotonic()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for device in devices:
            device.start()
        sweeper = asyncio.create_task(_sweep(leases))
        yield
        sweeper.cancel()
        leases.close_all("the server stops")
        for device in devices:
            await run_in_threadpool(device.stop)

    app = FastAPI(
        title="BioSAM-2 server",
        version=__version__,
        summary="Sessions of biosam2 for clients without a GPU.",
        lifespan=lifespan,
    )
    app.state.leases, app.state.volumes, app.state.devices = leases, volumes, devices

    def most(path: str) -> int | None:
        """Bytes that a request's body may have: a volume is counted as it is unpacked."""
        if path.startswith("/volumes/"):
            return None
        return settings.limits.head + settings.limits.body if path.endswith("/messages") else _JSON

    app.add_middleware(Gate, most=most, seconds=settings.read_seconds)
    bearer = HTTPBearer(auto_error=False, description="the server's --api-key")

    def check_key(shown: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> None:
        if settings.api_key is None:
            return
        if shown is None:
            raise HTTPException(401, "the server wants an API key; show it as Authorization: Bearer KEY")
        if not hmac.compare_digest(shown.credentials.encode(), settings.api_key.encode()):
            raise HTTPException(401, "the API key is not the server's")

    def lease_of(session: SessionName) -> Lease:
        lease = leases.find(session)
        if lease is None:
            raise HTTPException(404, "there is no such session; it may have ended, open a new one")
        return lease

    async def find_lease(session: SessionName) -> Lease:
        return lease_of(session)

    guarded: dict[str, Any] = {"dependencies": [Depends(check_key)], "responses": _PROBLEMS}
    found = Annotated[Lease, Depends(find_lease)]

    @app.get("/healthz", responses={503: {"model": Problem}})
    async def healthz() -> Health:
        """Whether the server can take sessions; for load balancers and monitors, no key needed."""
        if leases.draining:
            raise HTTPException(503, f"the server is draining; it has {len(leases)} sessions")
        if not devices.alive and not devices.over:
            raise HTTPException(503, "no device works now; they are started again")
        return await livez()

    @app.get("/livez", responses={503: {"model": Problem}})
    async def livez() -> Health:
        """Whether the server need not be started anew; also while it is draining. No key needed."""
        if devices.over:
            raise HTTPException(503, "the server does not work any more; its log says why, start it anew")
        return Health()

    @app.get("/info", **guarded)
    async def info() -> Info:
        """Versions, models, devices, memory, sessions and time-outs."""
        loads = await asyncio.gather(*(device.load() for device in devices))
        on = {device: devices.seats_on(device) for device in devices}
        per_device = [
            DeviceInfo(
                device=device.name,
                works=device.alive,
                sessions=len(on[device]),
                propagations=sum(seat.moving for seat in on[device]),
                requests_waiting=sum(seat.waiting for seat in on[device]),
                feature_bytes=load.feature_bytes,
                process_bytes=load.process_bytes,
            )
            for device, load in zip(devices, loads, strict=True)
        ]
        return Info(
            biosam2=__version__,
            protocol=m.PROTOCOL,
            versions=_versions(),
            models=[_model_info(facts) for facts in models.values()],
            devices=per_device,
            draining=leases.draining,
            sessions=len(leases),
            most_sessions=leases.most,
            sessions_opened=leases.opened,
            propagations=sum(each.propagations for each in per_device),
            requests_waiting=sum(each.requests_waiting for each in per_device),
            volumes=len(volumes),
            volume_bytes=volumes.nbytes,
            volume_budget_bytes=volumes.budget,
            feature_bytes=sum(load.feature_bytes for load in loads),
            feature_budget_bytes=sum(load.feature_budget_bytes for load in loads),
            process_bytes=_all_memory(),
            free_bytes=psutil.virtual_memory().available,
            liveness_seconds=settings.time_outs.liveness,
            idle_seconds=settings.time_outs.idle,
            heartbeat_seconds=settings.time_outs.heartbeat,
            uptime_seconds=time.monotonic() - started,
        )

    @app.get("/metrics", response_class=PlainTextResponse, **guarded)
    async def metrics_now(request: Request) -> Response:
        """Figures for Prometheus."""
        content, media_type = await metrics.told(request.headers.get("Accept", ""))
        return Response(content, media_type=media_type)

    @app.head("/volumes/{volume}", status_code=204, **guarded)
    @app.get("/volumes/{volume}", status_code=204, **guarded)
    async def has_volume(volume: VolumeName) -> None:
        """Whether the server has a volume."""
        if volume not in volumes:
            raise HTTPException(404, "the server does not have this volume")

    @app.put("/volumes/{volume}", status_code=204, openapi_extra=_BINARY, **guarded)
    async def put_volume(volume: VolumeName, request: Request) -> None:
        """Send a volume: a header and its voxels, as frames. Nothing else of it is ever sent."""
        with Upload(volume, volumes) as upload:
            async for piece in _pieces(request):
                await run_in_threadpool(upload.feed, piece)
            upload.finish()
        _log.info("volume received", extra={"volumes": len(volumes), "volume_bytes": volumes.nbytes})

    @app.post("/sessions", status_code=201, **guarded)
    async def open_session(asked: SessionRequest) -> SessionInfo:
        """Open a session on a volume that the server has."""
        name = asked.model or next(iter(models))
        if name not in models:
            raise HTTPException(404, f"the server has no model {name[:60]!r}; it has {', '.join(models)}")
        try:
            lease = await leases.open(name, asked.volume, asked.settings)
        except KeyError:
            raise HTTPException(404, "the server does not have this volume; send it first") from None
        metrics.opened(lease)
        _log.info("session opened", extra={"model": name, "sessions": len(leases)})
        return SessionInfo(
            session=lease.id,
            model=_model_info(lease.created.model),
            precision=lease.created.precision,
            heartbeat_seconds=settings.time_outs.heartbeat,
        )

    @app.post("/sessions/{session}/heartbeat", status_code=204, **guarded)
    async def heartbeat(lease: found) -> None:
        """Say that the client is still there."""

    @app.delete("/sessions/{session}", status_code=204, **guarded)
    async def close_session(lease: found) -> None:
        """End a session."""
        leases.close(lease, "the client closed the session")
        _log.info("session closed", extra={"sessions": len(leases)})

    @app.post("/sessions/{session}/messages", openapi_extra=_BINARY, **guarded, response_class=StreamingResponse)
    async def message(lease: found, request: Request) -> Response:
        """Send one message of the session; its answers come as a stream of frames."""
        body = bytearray()
        async for piece in _pieces(request):
            body += piece
        asked = await run_in_threadpool(_one_message, bytes(body), settings.limits)
        if isinstance(asked, (m.Grant, m.Cancel)):
            leases.tell(lease, asked)
            return Response(status_code=204)
        if isinstance(asked, m.Propagate):
            asked.credit = min(asked.credit, _CREDIT)
        stream = leases.ask(lease, asked)
        replies = metrics.watched(lease, asked, leases.answers(lease, asked.id, stream))
        return StreamingResponse(_encoded(replies), media_type=MEDIA_TYPE)

    @app.exception_handler(BioSAM2Error)
    async def mendable(request: Request, error: BioSAM2Error) -> JSONResponse:
        code = 503 if isinstance(error, (RefusedError, ConnectionLostError)) else 400
        if code == 503 and "no room" in str(error):
            code = 507
        return JSONResponse({"detail": str(error)}, code, {"Retry-After": "10"} if code == 503 else None)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        _log.error("fault", exc_info=error)
        return JSONResponse({"detail": f"fault of the server's: {type(error).__name__}; its log says more"}, 500)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{where}: {first['msg']}"[:300]}, 422)

    return app


async def _sweep(leases: Leases) -> NoReturn:
    while True:
        await asyncio.sleep(max(leases.sweep(), 0.05))


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it arrives.

    Raises:
        ProtocolError: the client went away.
    """
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise ProtocolError("the connection ended in the middle of sending") from None


def _one_message(body: bytes, limits: Limits) -> m.Asked:
    decoder: Decoder[m.Asked] = Decoder(m.Asked, limits)
    found = list(decoder.feed(body))
    refused = next((f for f in found if isinstance(f, Refused)), None)
    if refused is not None:
        raise ProtocolError(refused.reason)
    if len(found) != 1 or decoder.waiting:
        raise ProtocolError("the body is one message, whole and alone")
    asked = found[0]
    assert not isinstance(asked, Refused)
    if isinstance(asked, (m.Hello, m.LoadModel, m.OpenVolume, m.Create)):
        raise ProtocolError("a session is opened by POST /sessions and has one model and volume")
    return asked


async def _encoded(replies: AsyncIterator[m.Reply]) -> AsyncIterator[bytes]:
    async for reply in replies:
        yield encode(reply, deflate=True)


def _model_info(facts: ModelFacts) -> ModelInfo:
    return ModelInfo(**msgspec.structs.asdict(facts))


def _all_memory() -> int:
    """Of this process and those of the devices; pages that they share are counted in each."""
    own = psutil.Process()
    found = own.memory_info().rss
    for child in own.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += child.memory_info().rss
    return found


def _versions() -> dict[str, str]:
    names = ("torch", "numpy", "fastapi", "uvicorn")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
