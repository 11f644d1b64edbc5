"""Connected pieces of targets as targets of their own: each lesion, rather than all of them."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InputError
from ..masks import numbered_pieces
from .case import Case
from .opening import open_case


def in_pieces(case: Case, most: int) -> Case:
    """A case with a target for each connected piece of each of its targets, called by its number: ``lesion 1``.

    Pieces are counted by size, the largest first; neighbours across edges and corners are connected, in a volume also
    those of other slices, in a video those of other frames. A target that marks nothing stays as it is.

    Args:
        case: of a dataset. One that cannot be read is given back as it is; `check_case` says why.
        most: so many pieces of each target, the largest ones.
    """
    try:
        masks = open_case(case).masks
    except InputError:
        return case
    targets = []
    for target in case.targets:
        count = min(most, int(numbered_pieces(masks[target.name]).max(initial=0)))
        targets += [replace(target, name=f"{target.name} {n}", piece=n) for n in range(1, count + 1)] or [target]
    return replace(case, targets=tuple(targets))
