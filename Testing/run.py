"""Run the tests, each part of `parts` in a process of its own, as many at once as there are processors.

    python Testing/run.py [OPTIONS OF PYTEST]

The output of each part comes as a block when it ends; before that, only its lines of dots. The last line counts the
tests of all parts. The exit code is 0 when every part ran to its end and no test failed, and 1 otherwise.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from parts import TESTING, parts

_DOTS = re.compile(r"[.FEsxX]+ +\[ *\d+%\]\s*$")
_COMPLETE = (0, 1)  # pytest's exit codes when it ran to its end
_NOTHING = 5  # no test was found
# Options that choose among the tests, so that a part may be left with none.
_CHOOSING = ("-k", "-m", "--lf", "--last-failed")
# What a part's descendants may still write after it has ended.
_LAST_WORDS_S = 5


@dataclass(frozen=True)
class Outcome:
    """How a part ended.

    Attributes:
        passed, failed, skipped: how many tests; errors count as failed.
        broken: why the part did not run to its end; empty where it did.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: str = ""


def run(named: Mapping[str, Sequence[Path]], options: Sequence[str], at_once: int) -> int:
    """Run parts, print what they print, and count.

    Args:
        named: folders or files of tests, by the part's name.
        options: of pytest, for all parts.
        at_once: how many parts run at a time.

    Returns:
        The exit code.
    """
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as reports, ThreadPoolExecutor(at_once) as pool:
        running = [
            pool.submit(_run_part, name, tests, options, Path(reports) / f"{name}.xml", started)
            for name, tests in named.items()
        ]
        try:
            outcomes = dict(zip(named, (part.result() for part in running), strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for part in started:
                part.terminate()
            raise
    for name, outcome in outcomes.items():
        if outcome.broken:
            _print(f"FAILED: the part {name} {outcome.broken}")
    passed = sum(outcome.passed for outcome in outcomes.values())
    skipped = sum(outcome.skipped for outcome in outcomes.values())
    # A part that broke off counts as one more failure, so that the line cannot look well.
    failed = sum(outcome.failed + bool(outcome.broken) for outcome in outcomes.values())
    _print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def _run_part(
    name: str, tests: Sequence[Path], options: Sequence[str], report: Path, started: list[subprocess.Popen[bytes]]
) -> Outcome:
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *options, *map(str, tests)]
    begun = time.monotonic()
    output: list[str] = []
    part = subprocess.Popen(
        command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    started.append(part)
    # A daemon, and nothing is closed: a process that a test left behind may hold the pipe open for long.
    reader = Thread(target=_read, args=(name, part, output), daemon=True)
    reader.start()
    code = part.wait()
    reader.join(_LAST_WORDS_S)
    if reader.is_alive():
        output.append("(a process that a test started is still running)\n")
    title = f" {name}: {time.monotonic() - begun:.0f} s "
    _print(f"{title:=^100}\n{''.join(output)}")
    return outcome_of(code, report, may_be_empty=any(option.startswith(_CHOOSING) for option in options))


def outcome_of(code: int, report: Path, may_be_empty: bool = False) -> Outcome:
    """Read how a part ended.

    Args:
        code: pytest's exit code; negative for the signal that ended it.
        report: its JUnit XML, if it came to write one.
        may_be_empty: whether it is right that no test was found.
    """
    if code == _NOTHING and may_be_empty:
        return Outcome()
    counted = _count(report)
    if code < 0:
        return Outcome(broken=f"was ended by signal {-code} ({signal.strsignal(-code)})")
    if code == _NOTHING:
        return Outcome(broken="found no test")
    if code not in _COMPLETE or counted is None:
        said = counted or Outcome()
        return Outcome(said.passed, said.failed, said.skipped, f"did not run to its end (exit code {code})")
    if code and not counted.failed:
        return Outcome(counted.passed, counted.failed, counted.skipped, f"ended with exit code {code}")
    return counted


def _count(report: Path) -> Outcome | None:
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError):
        return None
    total, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return Outcome(total - failed - skipped, failed, skipped)


def _read(name: str, part: subprocess.Popen[bytes], output: list[str]) -> None:
    assert part.stdout is not None
    begun = b""
    while data := part.stdout.read(1 << 16):
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if _DOTS.match(text):
                _print(f"{name:9} {text}")
            else:
                output.append(f"{text}\n")
    output.append(begun.decode(errors="replace"))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run all parts."""

    def stop(*_signal: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    os.chdir(TESTING.parent)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        return run(parts(), sys.argv[1:], processors or 1)
    except KeyboardInterrupt:
        _print("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
