"""What a segment is, in coded terms, as 3D Slicer keeps it with a segment and DICOM SEG holds it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3, section 8).

    Example:
        >>> Code("SCT", "10200004", "Liver")
    """

    scheme: str
    value: str
    meaning: str


TISSUE = Code("SCT", "85756007", "Tissue")


@dataclass(frozen=True)
class Terminology:
    """What a segment is; tissue, as Slicer has it, until somebody says more.

    Attributes:
        category: the kind of thing, for example an anatomical structure.
        type: the thing, for example the kidney.
        modifier: which of them, for example the left one.
        region: where in the body.
        region_modifier: on which side of it.
    """

    category: Code = TISSUE
    type: Code = TISSUE
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None

    @classmethod
    def parse(cls, entry: str) -> Terminology:
        """What Slicer's terminology entry of a segment says; the default for an empty one.

        Args:
            entry: context, category, type, its modifier, anatomic context, region and its modifier, between tildes;
                a code is scheme, value and meaning between carets, all empty for none.

        Raises:
            InputError: it is no such entry.
        """
        if not entry.strip():
            return cls()
        parts = entry.split("~")
        codes = [part.split("^") for part in parts]
        if len(parts) != 7 or any(len(codes[n]) != 3 for n in (1, 2, 3, 5, 6)):
            raise InputError(f"{entry[:80]!r} is no terminology entry of Slicer; choose the terminology again")
        category, kind, modifier, region, region_modifier = (
            Code(*codes[n]) if codes[n][1] else None for n in (1, 2, 3, 5, 6)
        )
        return cls(category or TISSUE, kind or TISSUE, modifier, region, region_modifier)
