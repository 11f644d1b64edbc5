"""Values as the text header of an NRRD file has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPENING = (
    "NRRD0005",
    "# Complete NRRD file format specification at:",
    "# http://teem.sourceforge.net/nrrd/format.html",
)
"""The lines that a header begins with."""


def vector(values: NDArray[np.float64]) -> str:
    """Numbers in parentheses, as many digits as they have."""
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def escaped(value: str) -> str:
    r"""The value of a key: NRRD writes a newline as \n and a backslash as \\."""
    return value.replace("\\", "\\\\").replace("\r", "").replace("\n", "\\n")


def type_lines(dtype: np.dtype) -> list[str]:
    """Type and byte order of labels, uint8 or uint16."""
    return ["type: unsigned char"] if dtype == np.uint8 else ["type: unsigned short", "endian: little"]
