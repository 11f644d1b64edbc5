"""The server's JSON, described by the structures that the rest of the package has."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, create_model


def described(struct: type[msgspec.Struct]) -> type[BaseModel]:
    """A pydantic model of a structure's fields, so that requests are checked and OpenAPI documents them.

    Args:
        struct: the structure; fields that are structures become models too.
    """
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        kind: Any = described(field.type) if nested else field.type
        default = ... if field.required else kind() if nested else field.default
        fields[field.name] = (kind, default)
    first = (struct.__doc__ or "").partition("\n")[0]
    return create_model(struct.__name__, __config__=ConfigDict(extra="forbid"), __doc__=first, **fields)
