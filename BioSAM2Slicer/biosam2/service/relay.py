"""An engine that has none: it passes everything on to a server, and needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import msgspec

from ..volume import Volume
from . import messages as m
from .engines import map_volume
from .errors import ProtocolError, RefusedError
from .http import Http, RemoteSession, server_info

if TYPE_CHECKING:
    from ..session import Session

_RETRY_TIMEOUT = 30.0
# Slices that the server may be ahead of the client at this end.
_AHEAD = 8


class RelayEngine:
    """Sessions on a server.

    Args:
        url: of the server.
        api_key: what it wants to be shown.
        ca_file: certificates to trust, instead of the usual ones.
        tell: told what the user should read.
    """

    relay = True

    def __init__(self, url: str, api_key: str | None, ca_file: str | None, tell: Callable[[str], None]) -> None:
        self._url, self._key, self._verify, self._tell = url, api_key, ca_file or True, tell
        self._model: str | None = None
        self._volume: Volume | None = None

    def load_model(self, asked: m.LoadModel) -> Iterator[m.Progress | m.ModelLoaded]:
        """Choose one of the server's models."""
        if asked.checkpoint is not None:
            raise RefusedError("a server runs its own models; give a model's name, not a checkpoint")
        yield m.Progress(id=asked.id, stage="reaching the server")
        http = Http(self._url, self._key, self._verify, _RETRY_TIMEOUT)
        try:
            models = {model.name: model for model in server_info(http).models}
        finally:
            http.close()
        yield m.Progress(id=asked.id, stage="choosing the model", models=list(models))
        name = asked.name or next(iter(models))
        if name not in models:
            raise RefusedError(f"the server {self._url} has no model {name!r}; it has {', '.join(models)}")
        self._model = name
        yield m.ModelLoaded(id=asked.id, model=models[name])

    def open_volume(self, asked: m.OpenVolume) -> None:
        """Map a file of this computer; only its voxels and geometry go on."""
        self._volume = map_volume(asked)

    def create(self, asked: m.Create) -> Session:
        """A session on the server."""
        if self._volume is None:
            raise ProtocolError("there is no volume yet; send open_volume first")
        session = RemoteSession(
            self._url,
            self._volume,
            api_key=self._key,
            model=self._model,
            verify=self._verify,
            patience=_RETRY_TIMEOUT,
            ahead=_AHEAD,
            on_notice=self._tell,
            **msgspec.structs.asdict(asked.settings),
        )
        return cast("Session", session)

    def encode_ahead(self, session: Session, busy: Callable[[], bool]) -> bool:
        """The server looks ahead by itself."""
        return False

    def close(self, session: Session) -> None:
        """End the session on the server."""
        cast("RemoteSession", session).close()
