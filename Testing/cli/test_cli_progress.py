"""What long work tells of itself where there is no terminal."""

from __future__ import annotations

import pytest
from biosam2.cli import progress as module
from biosam2.cli.progress import ProgressBar


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_tenth_with_rate_and_time_left(capsys, clock) -> None:
    with ProgressBar(100, "lesion", "slices") as progress:
        for _ in range(100):
            clock[0] += 0.5
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "lesion: 1/100 slices, 2.0 slices/s, 50 s left"
    assert lines[-1] == "lesion: 100/100 slices, 2.0 slices/s, 0 s left"
    assert len(lines) == 11


def test_steps_of_an_earlier_run_are_no_part_of_the_rate(capsys, clock) -> None:
    with ProgressBar(100, "training", "steps") as progress:
        progress.resume(90)
        clock[0] += 10
        progress.advance()
    assert capsys.readouterr().err == "training: 91/100 steps, 0.1 steps/s, 90 s left\n"


def test_quiet_says_nothing(capsys) -> None:
    with ProgressBar(2, "lesion", "slices", quiet=True) as progress:
        progress.advance()
    assert capsys.readouterr().err == ""
