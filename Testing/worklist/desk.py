"""Another annotator: a process that works on a list as its arguments say, for the tests.

desk.py count LIST ROUNDS    count a second and an interaction on each case in turn, ROUNDS times
desk.py save LIST CASE       save a case again and again, until it is killed
desk.py hold LIST CASE       open a case, say so, and keep it open until a line comes in
desk.py grow LIST MARK N     say so once a line can come in, then add N cases, one by one, with a mark in their names
desk.py rush LIST            open the next case, approve it, until there is none; say which they were
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import biosam2
import numpy as np
from biosam2.datasets.case import Case
from biosam2.volume import Volume
from biosam2.worklist import Worklist, make_worklist
from io_helpers import Segments


def say(text: object) -> None:
    """A line for the test that waits for it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def segments(value: int) -> Segments:
    """One segment, of which `value` says how many voxels it has."""
    mask = np.zeros((2, 8, 8), bool)
    mask.reshape(-1)[: value % 128 + 1] = True
    return Segments(Volume(np.zeros((2, 8, 8), np.int16)), {"lesion": mask})


def count(path: str, rounds: str) -> None:
    worklist = Worklist(path)
    names = [case.name for case in worklist.cases]
    for _ in range(int(rounds)):
        for name in names:
            worklist.change(
                name, lambda case: replace(case, seconds=case.seconds + 1, interactions=case.interactions + 1)
            )


def save(path: str, name: str) -> None:
    case = Worklist(path).open(name)
    say("open")
    number = 0
    while True:
        number += 1
        with case.saving(seconds=1, interactions=1) as files:
            biosam2.write_segmentation(files.segmentation, segments(number))
            files.record.write_text(str(number), encoding="utf-8")
        say(number)


def hold(path: str, name: str) -> None:
    case = Worklist(path).open(name)
    say("open")
    sys.stdin.readline()
    case.close()


def grow(path: str, mark: str, count: str) -> None:
    say("ready")
    sys.stdin.readline()
    for name in (f"{number}{mark}x" for number in range(int(count))):
        make_worklist(path, [Case(name, Path(path).with_name(f"{name}.nrrd"), (), kind="3D")])


def rush(path: str) -> None:
    worklist = Worklist(path)
    while (case := worklist.open_next()) is not None:
        with case.saving(seconds=1, interactions=2, state="approved") as files:
            biosam2.write_segmentation(files.segmentation, segments(1))
        case.close()
        say(case.name)


if __name__ == "__main__":
    {"count": count, "save": save, "grow": grow, "hold": hold, "rush": rush}[sys.argv[1]](*sys.argv[2:])
