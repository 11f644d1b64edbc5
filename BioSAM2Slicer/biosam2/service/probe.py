"""``python -m biosam2.service.probe URL [SECONDS]``: whether a server can be used, as one JSON object.

``BIOSAM2_API_KEY`` is shown to it where it is set. The answer has an ``outcome``:

- ``ok``: with ``biosam2`` (the server's version), ``models`` (name, device), ``sessions`` and ``most_sessions``
- ``unreachable``, ``certificate``, ``address``: nobody answers, or it is not who it should be; ``why``
- ``slow``: it was reached and did not answer in time
- ``key``: it wants a key (``given`` is false) or does not accept this one
- ``version``: it speaks another ``protocol`` than ``expected``
- ``other``: something answers that is no biosam2 server; ``why``

Needs `requests` and nothing else, so that it runs where the client's packages are not installed yet.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import requests

from .. import __version__
from .protocol import PROTOCOL

_CONNECT = 5.0
_MOST = 1 << 20
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


def probe(url: str, key: str = "", seconds: float = 10.0) -> dict[str, Any]:
    """Ask a server what it is.

    Args:
        url: its address, ``http://`` or ``https://``.
        key: shown as bearer token; empty for none.
        seconds: for the whole answer.

    Returns:
        The outcome, see the module.
    """
    headers = {"User-Agent": f"biosam2/{__version__}", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        with requests.get(
            f"{url}/info", headers=headers, timeout=(_CONNECT, seconds), stream=True, allow_redirects=False
        ) as answer:
            status, content = answer.status_code, _read(answer, time.monotonic() + seconds)
    except (requests.ReadTimeout, TimeoutError):
        return {"outcome": "slow", "seconds": seconds}
    except requests.exceptions.SSLError as error:
        return {"outcome": "certificate", "why": _cause(error)}
    except _NO_ADDRESS as error:
        return {"outcome": "address", "why": _cause(error)}
    except requests.ConnectionError as error:
        # In the middle of its answer, it is a read that timed out.
        if "Read timed out" in str(error):
            return {"outcome": "slow", "seconds": seconds}
        return {"outcome": "unreachable", "why": _cause(error)}
    except (requests.RequestException, ValueError) as error:
        return {"outcome": "other", "why": _cause(error)}
    if status in (401, 403):
        return {"outcome": "key", "given": bool(key)}
    return _understood(status, content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask one server; 0 where it can be used, 2 elsewhere."""
    url, *more = sys.argv[1:] if arguments is None else arguments
    found = probe(url.rstrip("/"), os.environ.get("BIOSAM2_API_KEY", ""), *map(float, more))
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["outcome"] == "ok" else 2


def _read(answer: requests.Response, until: float) -> bytes:
    """The answer's body, which may come in drops or without end."""
    content = b""
    for piece in answer.iter_content(1 << 14):
        content += piece
        if len(content) > _MOST:
            raise ValueError("its answer does not end")
        if time.monotonic() > until:
            raise TimeoutError
    return content


def _understood(status: int, content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
        protocol, version = int(told["protocol"]), str(told["biosam2"])
        if protocol != PROTOCOL:
            return {
                "outcome": "version", "protocol": protocol, "expected": PROTOCOL, "biosam2": version, "own": __version__
            }  # fmt: skip
        models = [{"name": str(model["name"]), "device": str(model["device"])} for model in told["models"]]
        sessions, most = int(told["sessions"]), int(told["most_sessions"])
    except (ValueError, KeyError, TypeError):
        return {"outcome": "other", "why": f"HTTP {status}"}
    return {"outcome": "ok", "biosam2": version, "models": models, "sessions": sessions, "most_sessions": most}


def _cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return " ".join(str(reason).rpartition(": ")[2].split())[:200] or type(reason).__name__


if __name__ == "__main__":
    sys.exit(main())
