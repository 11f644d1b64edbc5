"""The session that users hold, on an executor elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..frames import Frames
from ..session import BaseSession, ModelFacts, SessionSettings
from ..volume import Volume
from .link import Connector, Notice, Progress
from .remote import RemoteExecutor

if TYPE_CHECKING:
    from typing import Self


class ClientSession(BaseSession):
    """A `biosam2.Session` whose network is elsewhere. Not thread-safe, but for `cancel`.

    Entries and all finished masks are here. When the host dies or forgets the session, the next operation that needs it
    opens it again and sends it what it lacks; the caller notices a pause and gets one notice.

    Args:
        connector: how the host is reached.
        volume: the voxels.
        axis, window, crop, policy: as for `biosam2.Session`; a policy by its name.
        ahead: slices that a propagation may be ahead of the one that the caller has taken; 1 works on one only when
            it is asked for, as a `biosam2.Session` does.
        on_notice: told what the user should read; by default a warning is issued.
        on_progress: told (stage, fraction or None) while something long is prepared.
        options: ``precision`` and ``speed``, see `SessionSettings`.

    Raises:
        InputError: an unknown axis, window, crop, policy or precision.
        ServiceError: there is no host, or it refuses.
    """

    _executor: RemoteExecutor

    def __init__(
        self,
        connector: Connector,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: str | None = None,
        policy: str | None = None,
        *,
        ahead: int = 1,
        on_notice: Notice | None = None,
        on_progress: Progress | None = None,
        **options: Any,
    ) -> None:
        if policy is not None and not isinstance(policy, str):
            raise InputError("a policy goes to another process by its name")
        settings = SessionSettings.resolve(volume, axis, window, policy, crop=crop, **options)
        executor = RemoteExecutor(connector, settings, ahead, on_notice, on_progress)
        super().__init__(executor, Frames(volume, settings.axis, settings.window, executor.facts.image_size), settings)

    @property
    def executor(self) -> RemoteExecutor:
        """See `BaseSession.executor`."""
        return self._executor

    @property
    def model(self) -> ModelFacts:
        """The network at the host."""
        return self._executor.facts

    def cancel(self) -> None:
        """As `Session.cancel`; may be called from another thread."""
        super().cancel()
        self._executor.cancel()

    def close(self) -> None:
        """Release the host. Masks and entries stay readable."""
        self._executor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
