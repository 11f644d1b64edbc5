"""The API reference names what exists, and leaves out nothing public."""

from __future__ import annotations

import inspect
import pkgutil
import re
from pathlib import Path

import biosam2
import biosam2.datasets
import biosam2.io
import biosam2.models
import biosam2.service
import biosam2.session
import pytest

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "api"
DIRECTIVE = re.compile(r"^\.\. auto(module|class|function):: ([\w.]+)((?:\n   :.*)*)", re.MULTILINE)


def documented() -> set[int]:
    """Identities of the objects that the pages document; a name that does not exist raises."""
    objects: set[int] = set()
    for page in REFERENCE.glob("*.rst"):
        for kind, name, options in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            found = pkgutil.resolve_name(name)
            if kind != "module":
                objects.add(id(found))
                continue
            chosen = re.search(r":members:(.*)", options)
            listed = chosen.group(1).split(",") if chosen and chosen.group(1).strip() else _members(found)
            objects |= {id(getattr(found, each.strip())) for each in (listed if chosen else ())}
    return objects


def _members(module: object) -> list[str]:
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in getattr(module, "__all__", own) if not name.startswith("_")]


@pytest.mark.parametrize(
    "package",
    [biosam2, biosam2.datasets, biosam2.io, biosam2.models, biosam2.service, biosam2.session],
    ids=lambda package: package.__name__,
)
def test_every_public_name_is_in_the_reference(package):
    objects = documented()
    public = {name: getattr(package, name) for name in package.__all__}
    code = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert code
    assert [name for name, value in code.items() if id(value) not in objects] == []


def test_the_pages_are_listed():
    listed = re.findall(r"^   (\w+)$", (REFERENCE / "index.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in REFERENCE.glob("*.rst") if page.stem != "index")
