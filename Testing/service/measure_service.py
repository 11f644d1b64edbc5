"""What the worker costs: a click and a propagation through it, beside the same in this process, in one run.

``OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python Testing/service/measure_service.py [--model NAME|PATH] [--rounds N]``

The two take turns, click by click, so that whatever else the computer does weighs on both. The processors' time is told
too (of both processes together, for the worker): a busy computer changes it less than the time that passes.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import biosam2
import numpy as np
import psutil
from biosam2 import Point
from biosam2.service import WorkerSession

CLICKS = 10


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
    passed: dict[tuple[str, str], list[float]] = defaultdict(list)
    worked: dict[tuple[str, str], float] = defaultdict(float)
    with WorkerSession(volume, model=options.model, device=options.device) as there:
        processes = [psutil.Process(), psutil.Process(there.process_id)]

        def measure(what: str, where: str, do: Callable[[], object]) -> None:
            before, begun = sum(sum(p.cpu_times()[:2]) for p in processes), time.perf_counter()
            do()
            passed[what, where].append(time.perf_counter() - begun)
            worked[what, where] += sum(sum(p.cpu_times()[:2]) for p in processes) - before

        def click(session, n: int) -> None:
            session.add_prompt("a", Point((100 + n % 50, 128, 4)))
            session.predict("a", 4)

        def one_round(measured: bool) -> None:
            for n in range(CLICKS):
                for where, session in (("here", here), ("there", there)):
                    if measured:
                        measure("click", where, lambda s=session, n=n: click(s, n))
                    else:
                        click(session, n)
                    session.undo()
            for where, session in (("here", here), ("there", there)):
                session.add_prompt("a", Point((128, 128, 4)))
                if measured:
                    measure("propagation", where, lambda s=session: list(s.propagate()))
                else:
                    list(session.propagate())
            assert np.array_equal(here.mask("a"), there.mask("a"))
            for session in (here, there):
                session.clear("a")

        one_round(measured=False)
        for _ in range(options.rounds):
            one_round(measured=True)
    for what in ("click", "propagation"):
        count = len(passed[what, "here"])
        for kind, of in (
            ("median", lambda key: statistics.median(passed[key])),
            ("best", lambda key: min(passed[key])),
            ("processors' time, mean", lambda key, n=count: worked[key] / n),
        ):
            a, b = of((what, "here")), of((what, "there"))
            print(f"{what}, {kind}: {1000 * a:.1f} ms here, {1000 * b:.1f} ms through the worker, ratio {b / a:.3f}")


if __name__ == "__main__":
    main()
