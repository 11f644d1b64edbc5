"""What can go wrong between a client and the one that serves it, and how errors travel."""

from __future__ import annotations

from .. import errors as base
from ..errors import BioSAM2Error


class ServiceError(BioSAM2Error):
    """The worker or the server cannot be used as asked."""


class ProtocolError(ServiceError):
    """Bytes or a message that a client or host should not have sent; the connection can go on."""


class RefusedError(ServiceError):
    """The server does not let this client in: a key that is wrong or missing, no free place, no such model."""


class ConnectionLostError(ServiceError):
    """The worker died, the server is out of reach, or it has forgotten the session."""


_KINDS: dict[str, type[BioSAM2Error]] = {
    kind.__name__: kind
    for kind in (
        base.BioSAM2Error,
        base.InputError,
        base.PromptError,
        base.OutputError,
        base.ModelError,
        base.DownloadError,
        base.DeviceError,
        base.DependencyError,
        ServiceError,
        ProtocolError,
        RefusedError,
        ConnectionLostError,
    )
}


def name_of(error: BioSAM2Error) -> str:
    """The name under which an error travels: of the nearest class that client and host both know."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS)


def error_of(name: str, text: str) -> BioSAM2Error:
    """The error that travelled under a name.

    Args:
        name: as `name_of` gave it; an unknown one stands for `ServiceError`.
        text: the message, as the user reads it.
    """
    return _KINDS.get(name, ServiceError)(text)
