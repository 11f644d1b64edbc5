"""The API reference names what exists, and leaves out nothing public."""

from __future__ import annotations

import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import biosam2
import biosam2.datasets
import biosam2.io
import biosam2.models
import biosam2.service
import biosam2.session
import pytest

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "api"
DIRECTIVE = re.compile(r"^\.\. auto(module|class|function):: ([\w.]+)((?:\n   :.*)*)", re.MULTILINE)


def documented_objects() -> list[object]:
    """The objects that the pages document; a name that does not exist raises."""
    objects: list[object] = []
    for page in REFERENCE.glob("*.rst"):
        for kind, name, options in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            found = pkgutil.resolve_name(name)
            if kind != "module":
                objects.append(found)
                continue
            chosen = re.search(r":members:(.*)", options)
            listed = chosen.group(1).split(",") if chosen and chosen.group(1).strip() else _members(found)
            objects += [getattr(found, each.strip()) for each in (listed if chosen else ())]
    return objects


def _members(module: ModuleType) -> list[str]:
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in getattr(module, "__all__", own) if not name.startswith("_")]


@pytest.mark.parametrize(
    "package",
    [biosam2, biosam2.datasets, biosam2.io, biosam2.models, biosam2.service, biosam2.session],
    ids=lambda package: package.__name__,
)
def test_every_public_name_is_in_the_reference(package):
    objects = {id(each) for each in documented_objects()}
    public = {name: getattr(package, name) for name in package.__all__}
    code = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert code
    assert [name for name, value in code.items() if id(value) not in objects] == []


def test_the_pages_are_listed():
    listed = re.findall(r"^   (\w+)$", (REFERENCE / "index.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in REFERENCE.glob("*.rst") if page.stem != "index")


def _functions() -> dict[str, object]:
    """Documented functions, and methods of documented classes, by name."""
    found: dict[str, object] = {}
    for each in documented_objects():
        if inspect.isfunction(each):
            found[f"{each.__module__}.{each.__qualname__}"] = each
        elif inspect.isclass(each):
            for name in (name for name in vars(each) if not name.startswith("_")):
                method = inspect.unwrap(getattr(each, name))
                if inspect.isroutine(method) and not _inherits_docstring(each, name):
                    found[f"{each.__module__}.{each.__qualname__}.{name}"] = method
    return found


def _inherits_docstring(kind: type, name: str) -> bool:
    """Whether a base class, whose method this one overrides, says what the arguments are."""
    return any("Args:" in (getattr(base, name, None).__doc__ or "") for base in kind.__mro__[1:] if hasattr(base, name))


def test_documented_functions_say_what_their_arguments_are():
    """Those that take two or more; of a single one the first line says it."""
    functions = {
        name: function
        for name, function in _functions().items()
        if len([each for each in inspect.signature(function).parameters if each not in ("self", "cls")]) > 1
    }
    assert len(functions) > 50
    assert [name for name, function in functions.items() if "Args:" not in (function.__doc__ or "")] == []
