"""Which of a segment's slices a user should look at first, after a propagation."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping

from .state import SessionState

# A mask that ends one slice too early shows its mistake on the first slice without it.
_BEYOND = 1


def doubts(
    state: SessionState,
    segment: str,
    scores: Mapping[int, float],
    extent: tuple[float, float],
    known: Iterable[int] = (),
) -> dict[int, float]:
    """How much each slice with a result needs a look, by its distance to the nearest slice that the user knows.

    Distance orders slices by their Dice better than the model's score does (docs/datasets-and-evaluation.md, "Which
    slice to look at first"). Of slices at one distance the one with the lower score is the more in doubt.

    The user knows slices that carry prompts, that are the user's own, and those of `known`. They are in no doubt, and
    neither are slices further than one beyond the segment's ends.

    Args:
        state: of the session.
        segment: its name.
        scores: slice → predicted quality, 0 to 1; a slice without one counts as sure.
        extent: first and last slice on which the segment has voxels.
        known: slices that the user has looked at, or changed since they were propagated.

    Returns:
        Slice → doubt, above 0 and below 1, relative to the farthest slice; only of slices that are in doubt.

    Raises:
        InputError: there is no such segment.
    """
    low, high = extent
    sure = sorted({*state.prompted_slices(segment), *state.user_slices(segment), *known})
    within = (s for s in state.segment(segment).results if low - _BEYOND <= s <= high + _BEYOND)
    distances = {s: _distance(s, sure) for s in sorted(set(within).difference(sure))}
    farthest = max(distances.values(), default=0)
    # Distances are whole numbers: a score decides only where they are equal.
    return {s: (far + 0.99 * (1 - scores.get(s, 1.0))) / (1 + farthest) for s, far in distances.items()}


def _distance(slice_index: int, others: list[int]) -> int:
    """Slices to the nearest of some that ascend; 1 where there are none."""
    place = bisect(others, slice_index)
    return min((abs(slice_index - s) for s in others[max(0, place - 1) : place + 1]), default=1)
