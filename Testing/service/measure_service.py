"""What the worker costs: a click and a propagation through it, beside the same in this process, in one run.

``OMP_NUM_THREADS=1 python Testing/service/measure_service.py [--model NAME|PATH] [--rounds N]``. The two take turns, so
that whatever else the computer does weighs on both.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import biosam2
import numpy as np
from biosam2 import Point
from biosam2.service import WorkerSession


def seconds(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def click(session, n: int) -> None:
    session.add_prompt("a", Point((100 + n % 50, 128, 4)))
    session.predict("a", 4)
    session.undo()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    k, j, i = np.ogrid[:8, :256, :256]
    ball = ((k - 4) / 4) ** 2 + ((j - 128) / 60) ** 2 + ((i - 128) / 60) ** 2 < 1
    volume = biosam2.Volume((rng.normal(0, 30, ball.shape) + 200 * ball).astype(np.int16))
    model = biosam2.load_model(options.model, options.device)
    here = biosam2.Session(model, volume)
    with WorkerSession(volume, model=options.model, device=options.device) as there:
        taken: dict[str, dict[str, list[float]]] = {"click": {}, "propagation": {}}
        for session in (here, there):
            click(session, 0)
            session.add_prompt("a", Point((128, 128, 4)))
            list(session.propagate())
            session.clear("a")
        for _ in range(options.rounds):
            for name, session in (("here", here), ("there", there)):
                clicks = [seconds(lambda m=m, s=session: click(s, m)) for m in range(10)]
                taken["click"].setdefault(name, []).extend(clicks)
                session.add_prompt("a", Point((128, 128, 4)))
                taken["propagation"].setdefault(name, []).append(seconds(lambda s=session: list(s.propagate())))
        assert np.array_equal(here.mask("a"), there.mask("a"))
    for what, times in taken.items():
        for kind, of in (("median", statistics.median), ("best", min)):
            a, b = (of(times[name]) for name in ("here", "there"))
            print(f"{what}, {kind}: {1000 * a:.1f} ms here, {1000 * b:.1f} ms through the worker, ratio {b / a:.3f}")


if __name__ == "__main__":
    main()
