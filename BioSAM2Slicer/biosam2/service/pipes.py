"""A session in a worker process of this computer, over its standard input and output."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from .. import __version__
from ..errors import OutputError
from ..session.settings import SessionSettings
from ..volume import Volume
from . import messages as m
from .client import ClientSession
from .errors import ConnectionLostError, ProtocolError, ServiceError, error_of
from .framing import Decoder, Refused, encode
from .link import Notice, Progress
from .upload import geometry_of

_READ = 1 << 20
_PACKAGE = Path(__file__).resolve().parents[1]
# In memory, where there is one: the worker maps it, and the voxels are not written to a disk.
_SHARED_MEMORY = Path("/dev/shm")
_GOODBYE_SECONDS = 10


class WorkerSession(ClientSession):
    """A `biosam2.Session` in a process of its own: a crash or an out-of-memory kill there ends nothing here.

    Args:
        volume: the voxels; handed over as a memory-mapped file.
        model, checkpoint, config, device: as for `biosam2.load_model`.
        python: the interpreter that the worker runs in; by default this one.
        server: the URL of a server that the worker passes everything on to.
        arguments: more arguments of ``python -m biosam2.service.worker``.
        environment: of the worker, instead of this process's.
        settings: the other arguments of `biosam2.Session` and of `ClientSession`.

    Raises:
        BioSAM2Error: as `biosam2.load_model` and `biosam2.Session`, from the worker.
        ServiceError: the worker does not start.

    Example:
        >>> with WorkerSession(volume, model="nano") as session:
        ...     session.add_prompt("lesion", Point(ijk=(120, 98, 12)))
        ...     for update in session.propagate():
        ...         print(update.slice_index)
    """

    def __init__(
        self,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: str | None = None,
        policy: str | None = None,
        *,
        model: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        config: str | os.PathLike[str] | None = None,
        device: str = "auto",
        python: str | os.PathLike[str] | None = None,
        server: str | None = None,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        relay = [] if server is None else ["--server", server]
        connector = WorkerConnector(
            volume,
            m.LoadModel(id=0, name=model, checkpoint=_absolute(checkpoint), config=_config(config), device=device),
            python=python,
            arguments=[*relay, *arguments],
            environment=environment,
        )
        super().__init__(connector, volume, axis, window, crop, policy, **settings)

    @property
    def process_id(self) -> int | None:
        """The worker's, while there is one."""
        link = self._executor.link
        return link.process.pid if isinstance(link, PipeLink) else None


class WorkerConnector:
    """Starts a worker and opens a session on it."""

    def __init__(
        self,
        volume: Volume,
        model: m.LoadModel,
        python: str | os.PathLike[str] | None = None,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self._volume = volume
        self._model = model
        self._command = [os.fspath(python or sys.executable), "-m", "biosam2.service.worker", *arguments]
        self._environment = _environment(environment, python)

    def open(self, settings: SessionSettings, progress: Progress, notice: Notice) -> tuple[PipeLink, m.Created]:
        """A worker with a session on the volume."""
        progress("starting the worker", None)
        link = PipeLink(self._command, self._environment, notice)
        try:
            link.call(m.Hello(id=_id(), protocol=m.PROTOCOL, client=f"biosam2 {__version__}"), progress)
            asked = self._model
            link.call(
                m.LoadModel(
                    id=_id(), name=asked.name, checkpoint=asked.checkpoint, config=asked.config, device=asked.device
                ),
                progress,
            )
            progress("handing over the volume", None)
            with shared_file(self._volume) as path:
                link.call(m.OpenVolume(id=_id(), path=path, **geometry_of(self._volume)), progress)
            created = link.call(m.Create(id=_id(), settings=settings), progress)
        except ConnectionLostError as error:
            link.close()
            code = link.process.returncode
            if code is not None and code > 0:
                # It ended by itself, and would again.
                raise ServiceError(str(error)) from error
            raise
        except BaseException:
            link.close()
            raise
        if not isinstance(created, m.Created):
            link.close()
            raise ProtocolError("the worker did not say which session it created")
        return link, created

    def close(self) -> None:
        """Nothing is kept."""


class PipeLink:
    """A worker process and the conversation with it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], notice: Notice) -> None:
        self._notice = notice
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise ServiceError(f"the worker cannot be started: {command[0]}: {error.strerror}") from error
        self._decoder: Decoder[m.Reply] = Decoder(m.Reply)
        self._waiting: dict[int, deque[m.Reply]] = {}
        self._writing = Lock()
        self.close = weakref.finalize(self, _end, self.process, self._errors)

    def ask(self, request: m.Request) -> Iterator[m.Reply]:
        """Send a request; see `Link.ask`."""
        self._waiting[request.id] = deque()
        self.tell(request)
        return self._replies(request.id)

    def tell(self, request: m.Request) -> None:
        """Send what has no answer; see `Link.tell`."""
        data = memoryview(encode(request))
        pipe = self.process.stdin
        assert pipe is not None
        try:
            with self._writing:
                while data:
                    data = data[pipe.write(data) :]
        except (OSError, ValueError) as error:
            raise ConnectionLostError(self._exit_reason()) from error

    def call(self, request: m.Request, progress: Progress) -> m.Reply:
        """The final answer to a request.

        Raises:
            BioSAM2Error: the one that the worker reports.
        """
        for reply in self.ask(request):
            if isinstance(reply, m.Progress):
                progress(reply.stage, reply.fraction)
            elif isinstance(reply, m.Failure):
                raise error_of(reply.kind, reply.text)
            elif isinstance(reply, m.Answer):
                return reply
        raise ConnectionLostError(self._exit_reason())

    def _replies(self, request: int) -> Iterator[m.Reply]:
        waiting = self._waiting[request]
        try:
            while True:
                while not waiting:
                    self._read()
                reply = waiting.popleft()
                yield reply
                if isinstance(reply, m.Answer):
                    return
        finally:
            self._waiting.pop(request, None)

    def _read(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None
        try:
            data = pipe.read(_READ)
        except (OSError, ValueError):
            data = b""
        if not data:
            raise ConnectionLostError(self._exit_reason())
        for reply in self._decoder.feed(data):
            if isinstance(reply, Refused):
                raise ProtocolError(f"the worker said something that is not understood: {reply.reason}")
            if isinstance(reply, m.Notice):
                self._notice(reply.text)
            elif isinstance(reply, m.Failure) and reply.id == 0:
                raise error_of(reply.kind, reply.text)
            elif reply.id in self._waiting:
                self._waiting[reply.id].append(reply)

    def _exit_reason(self) -> str:
        """How the worker ended, in one line."""
        try:
            code = self.process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            return "the worker does not talk any more"
        if code < 0:
            return f"the worker was ended by signal {-code}"
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            if code and lines:
                return f"the worker ended with code {code} ({lines[-1][:300]})"
        return f"the worker ended with code {code}"


class shared_file:  # noqa: N801 - a context manager
    """The volume's voxels as a ``.npy`` file that others of this user can map, for as long as it takes them to."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def __enter__(self) -> str:
        array = self._volume.array
        handle, self._path = tempfile.mkstemp(prefix="biosam2-", suffix=".npy", dir=_roomy_folder(array.nbytes))
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, array, allow_pickle=False)
        except BaseException as error:
            os.unlink(self._path)
            if isinstance(error, OSError):
                raise OutputError(f"the volume cannot be handed to the worker: {error.strerror}") from error
            raise
        return self._path

    def __exit__(self, *error: object) -> None:
        # Mapped, it lives on without its name; on Windows it stays until the folder is cleaned.
        with contextlib.suppress(PermissionError):
            os.unlink(self._path)


def _roomy_folder(size: int) -> str | None:
    if _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK):
        stat = os.statvfs(_SHARED_MEMORY)
        if stat.f_bavail * stat.f_frsize > size + (64 << 20):
            return str(_SHARED_MEMORY)
    return None


def _environment(given: dict[str, str] | None, python: str | os.PathLike[str] | None) -> dict[str, str]:
    """The worker's environment: it shall run this very package, in whatever interpreter."""
    environment = dict(os.environ if given is None else given)
    if python is not None and Path(python) != Path(sys.executable):
        # Another interpreter must not look for its library in this one's folders.
        for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONEXECUTABLE"):
            environment.pop(name, None)
    root = _PACKAGE.parent
    # A folder of installed packages would bring in numpy and the like, built for this interpreter.
    if root.name not in ("site-packages", "dist-packages"):
        paths = [str(root), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Close the pipes, which ends the worker; one that does not notice is killed."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(_GOODBYE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()


_last_id = 1 << 40


def _id() -> int:
    """Ids of what a connector asks, apart from those of a session."""
    global _last_id
    _last_id += 1
    return _last_id


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _config(config: str | os.PathLike[str] | None) -> str | None:
    """A configuration is a name, or a file."""
    return None if config is None else os.path.abspath(config) if os.path.exists(config) else os.fspath(config)
