"""Reads mutated files, one after another, in a process of its own: `fuzz_worker.py CORPUS SCRATCH FIRST LAST`.

Prints, for each mutation, a line before it is tried and a line with its outcome. A crash or a hang ends the
process; the last line then says which mutation it was. Everything follows from a mutation's number.
"""

from __future__ import annotations

import faulthandler
import logging
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from biosam2.errors import BioSAM2Error
from biosam2.io import guards, read_image, read_labelmap, read_segmentation, read_video, read_volume

HANG_S = 60
"""Nothing in the corpus takes a second to read."""


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """A damaged copy, never the same bytes."""
    damaged = bytearray(data)
    # Headers are where damage is most interesting.
    span = len(damaged) if rng.random() < 0.5 else min(len(damaged), 600)
    kind = rng.integers(6)
    at = int(rng.integers(span))
    length = int(min(2 ** rng.integers(1, 10), len(damaged) - at))
    if kind == 0:
        for place in rng.integers(span, size=int(rng.integers(1, 20))):
            damaged[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        damaged[at : at + length] = bytes([int(rng.choice([0, 0xFF, 0x7F, 0x80]))]) * length
    elif kind == 2:
        damaged[at : at + length] = rng.bytes(length)
    elif kind == 3:
        del damaged[at:]
    elif kind == 4:
        del damaged[at : at + length]
    else:
        damaged[at:at] = damaged[at : at + length]
    digits = [n for n in range(min(span, len(damaged))) if chr(damaged[n]).isdigit()]
    if digits and rng.random() < 0.3:
        damaged[int(rng.choice(digits))] = ord(rng.choice(list("0123456789-.")))
    if bytes(damaged) == data:
        damaged[at] ^= 0x55
    return bytes(damaged)


def reader_of(name: str) -> Callable[[Path], object]:
    """The function that a user would call on a file or folder of the corpus."""
    if ".seg." in name:
        return lambda path: (read_segmentation(path), read_labelmap(path))
    if name.startswith("video"):
        return read_video
    return read_image if name.startswith("image") else read_volume


def one(number: int, entries: list[Path], scratch: Path) -> str:
    """Damage and read one file; say what came of it."""
    rng = np.random.default_rng(number)
    entry = entries[number % len(entries)]
    # An entry is a file, or a folder that is read whole or through the file of its own name (.mhd with its .raw).
    copy = scratch / entry.name
    if entry.is_dir():
        shutil.copytree(entry, copy)
        victim = sorted(copy.iterdir())[int(rng.integers(len(list(copy.iterdir()))))]
        target = next((f for f in copy.iterdir() if f.stem == "main"), copy)
    else:
        shutil.copy(entry, copy)
        victim = target = copy
    victim.write_bytes(mutate(victim.read_bytes(), rng))
    try:
        reader_of(entry.name)(target)
        outcome = "read"
    except BioSAM2Error as error:
        outcome = "refused" if "\n" not in str(error) and len(str(error)) < 2000 else f"FAULT long message: {error!r}"
    except BaseException:  # noqa: BLE001 - that any other exception comes out is what this looks for
        outcome = f"FAULT {traceback.format_exc()!r}"
    if copy.is_dir():
        shutil.rmtree(copy)
    else:
        copy.unlink()
    return f"{outcome} {entry.name}"


def main() -> None:
    """Run mutations FIRST to LAST - 1."""
    corpus, scratch, first, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    # A header that asks for gigabytes should be refused, not tried.
    guards.available_memory = lambda: 2**29
    warnings.simplefilter("error")  # a warning would reach the user
    logging.getLogger("biosam2").addHandler(logging.NullHandler())  # ours, of voxels that are not finite, may
    entries = sorted(corpus.iterdir())
    for number in range(first, last):
        print("start", number, flush=True)  # noqa: T201
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        print("done", number, one(number, entries, scratch), flush=True)  # noqa: T201
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
