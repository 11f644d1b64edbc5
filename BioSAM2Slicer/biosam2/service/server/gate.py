"""What a request may bring before the application looks at it: so many bytes, and no long silences between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The rest of such a request is not even received.
_CLOSE = {"Connection": "close"}


class Gate:
    """ASGI middleware that bounds requests' bodies, of clients without a key too.

    Args:
        app: the application.
        most: bytes that a body may have, by the request's path; None for no bound here.
        seconds: how long a client may keep silent in the middle of sending.
    """

    def __init__(self, app: ASGIApp, most: Callable[[str], int | None], seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._most(scope["path"])
        count, more = 0, True

        async def bounded() -> Message:
            nonlocal count, more
            if not more:
                return await receive()  # waits for the client to go away, however long that takes
            try:
                message = await asyncio.wait_for(receive(), self._seconds)
            except asyncio.TimeoutError:
                raise HTTPException(408, "the client fell silent in the middle of sending", _CLOSE) from None
            count += len(message.get("body", b""))
            more = message.get("more_body", False)
            if most is not None and count > most:
                raise HTTPException(413, f"the request is too large; the limit is {most} bytes", _CLOSE)
            return message

        await self._app(scope, bounded, send)
