"""Results as Markdown tables, and their place in a model card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import InputError
from .classical import TOOLS
from .measure import CROP, EXACT, Ceiling, Record, Results
from .ways import KINDS, WORDS, Kind

_TITLES = {CROP: "BioSAM-2, cropped", EXACT: "BioSAM-2, whole frames"}
_BEGIN, _END = "<!-- figures: written by a command, do not edit -->", "<!-- end of figures -->"


def insert(card: str, figures: str) -> str:
    """A model card's text with its figures replaced.

    Raises:
        InputError: the card lacks the markers that the figures stand between.
    """
    before, begin, rest = card.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise InputError(f"the model card lacks the lines {_BEGIN!r} and {_END!r}; put them where the figures go")
    return f"{before}{begin}\n\n{figures.strip()}\n\n{end}{after}"


def tables(results: Results) -> str:
    """All tables, each under its heading."""
    parts = [
        "### Mean Dice over all targets",
        _means(results),
        _wins(results),
        "### Each target, cropped as the command line does, and the ceiling set by resolution",
        _targets(results, CROP),
        "### Each target, whole frames (`--exact`)",
        _targets(results, EXACT),
        "### Each target, the best of the classical tools",
        _best(results),
        "### Corrections: mean Dice after 0, 1, 2, 3 rounds",
        _rounds(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _means(results: Results) -> str:
    kinds = _kinds(results)
    rows = []
    for method in (CROP, EXACT, *TOOLS):
        means = [_mean(_of(results, method, kind)) for kind in kinds]
        if not np.isnan(means).all():
            rows.append([_TITLES.get(method, method), *map(_number, [*means, float(np.mean(means))])])
    return _table(["", *(WORDS[k] for k in kinds), "mean"], rows)


def _wins(results: Results) -> str:
    """On how many targets the engine beats the classical tools."""
    kinds = _kinds(results)
    rows = []
    for title, rival in (("the mean of the tools", np.mean), ("the best tool of each target", np.max)):
        cells = []
        for kind in kinds:
            pairs = _against(results, kind, rival)
            cells.append(f"{sum(a > b for a, b in pairs)} of {len(pairs)}")
        rows.append([f"wins against {title}", *cells])
    return _table(["BioSAM-2, cropped", *(WORDS[k] for k in kinds)], rows)


def _targets(results: Results, method: str) -> str:
    kinds = _kinds(results)
    rows = []
    for ceiling in results.ceilings:
        found = {r.prompt: r for r in results.records if _about(r, ceiling) and r.method == method}
        cells = [_number(found[k].dice[0]) + ("*" if found[k].note else "") if k in found else "" for k in kinds]
        rows.append([ceiling.case, ceiling.target, *cells, _number(ceiling.crop if method == CROP else ceiling.exact)])
    text = _table(["volume", "target", *(WORDS[k] for k in kinds), "ceiling"], rows)
    refused = sorted({r.note for r in results.records if r.method == method and r.note})
    return "\n\n".join([text, *(f"\\* refused: {note}" for note in refused)])


def _best(results: Results) -> str:
    kinds = _kinds(results)
    rows = []
    for ceiling in results.ceilings:
        cells = []
        for kind in kinds:
            rivals = [r for r in results.records if _about(r, ceiling) and r.method in TOOLS and r.prompt == kind]
            best = max(rivals, key=lambda r: r.dice[0], default=None)
            cells.append(f"{_number(best.dice[0])} {best.method}" if best else "")
        rows.append([ceiling.case, ceiling.target, *cells])
    return _table(["volume", "target", *(WORDS[k] for k in kinds)], rows)


def _rounds(results: Results) -> str:
    cropped = [r for r in results.records if r.method == CROP]
    groups: list[tuple[str, list[Record]]] = [
        (WORDS[k], [r for r in cropped if r.prompt == k]) for k in _kinds(results)
    ]
    groups.append(("all prompts", cropped))
    groups += [(f"{c.case}: {c.target}", [r for r in cropped if _about(r, c)]) for c in results.ceilings]
    rows = [
        [title, *(_number(float(m)) for m in np.mean([r.dice for r in some], axis=0))] for title, some in groups if some
    ]
    count = max((len(row) - 2 for row in rows), default=0)
    return _table(["", "propagated", *(f"{n} correction{'s' if n > 1 else ''}" for n in range(1, count + 1))], rows)


def _against(results: Results, kind: Kind, rival: Callable[[list[float]], float]) -> list[tuple[float, float]]:
    """The engine's Dice and that of its rivals, target by target."""
    pairs = []
    for ceiling in results.ceilings:
        here = [r for r in results.records if _about(r, ceiling) and r.prompt == kind]
        own = [r.dice[0] for r in here if r.method == CROP]
        classical = [r.dice[0] for r in here if r.method in TOOLS]
        if own and classical:
            pairs.append((own[0], float(rival(classical))))
    return pairs


def _about(record: Record, ceiling: Ceiling) -> bool:
    return (record.case, record.target) == (ceiling.case, ceiling.target)


def _kinds(results: Results) -> list[Kind]:
    return [kind for kind in KINDS if any(r.prompt == kind for r in results.records)]


def _of(results: Results, method: str, kind: Kind) -> list[float]:
    return [r.dice[0] for r in results.records if r.method == method and r.prompt == kind]


def _mean(values: Iterable[float]) -> float:
    some = list(values)
    return float(np.mean(some)) if some else float("nan")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
