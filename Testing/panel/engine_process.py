"""The engine in a process of its own, to compare the panel with: torch and VTK do not share one."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Mapping, Sequence
from multiprocessing.managers import BaseManager
from typing import Any

import biosam2
import numpy as np
from click.testing import CliRunner


class Engine:
    """A `biosam2.Session`; the methods that tests compare with, their arguments and results as there.

    Args:
        model_fields: what the worker is told of the model.
        volume: array (K, J, I), spacing, origin and direction of a `biosam2.Volume`.
        settings: of the session.
    """

    def __init__(self, model_fields: Mapping[str, Any], volume: Sequence[Any], settings: Mapping[str, Any]) -> None:
        fields = dict(model_fields)
        model = biosam2.load_model(fields.pop("name", None), device="cpu", **fields)
        self._session = biosam2.Session(model, biosam2.Volume(*volume[:3], np.array(volume[3])), **settings)

    def add_prompt(self, segment: str, prompt: biosam2.Point | biosam2.Box | biosam2.Mask) -> None:
        self._session.add_prompt(segment, prompt)

    def start_from(self, segment: str, mask: np.ndarray) -> None:
        self._session.start_from(segment, mask)

    def predict(self, segment: str, slice_index: int) -> np.ndarray:
        return self._session.predict(segment, slice_index)

    def propagate(self, *how: Any, **more: Any) -> list[biosam2.Update]:
        """All updates, after the last."""
        return list(self._session.propagate(*how, **more))

    def replay(self, entry: Any) -> None:
        self._session.replay(entry)

    def mask(self, segment: str) -> np.ndarray:
        return self._session.mask(segment)


class CommandLine:
    """The `biosam2` command, without starting a process for each run."""

    def run(self, *arguments: object) -> tuple[int, str]:
        """Exit code and output of a command line."""
        from biosam2.cli.app import cli

        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        return result.exit_code, result.output


class _Manager(BaseManager):
    """Holds engines in its process; gives proxies of them."""


_Manager.register("Engine", Engine)
_Manager.register("CommandLine", CommandLine)


@functools.cache
def engines() -> Any:
    """The one process of engines of this process of tests; ends with it."""
    # Not forked: Qt and VTK have threads.
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start()
    return manager
