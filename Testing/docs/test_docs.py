"""What README and the guides tell to type works: Python blocks run, commands parse, targets and modules exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from biosam2.cli.app import cli
from biosam2.io import read_segmentation
from biosam2.synthetic import phantom
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "bench" / "README.md",
        ROOT / "Testing" / "README.md",
        *(ROOT / "Resources" / "Models").glob("*.md"),
    ]
)
# A changelog may name what is gone by now.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


@dataclass(frozen=True)
class Code:
    """A fenced block, one command of it, or a piece of code within a sentence.

    Attributes:
        where: file and line.
        language: what stands behind the fence; empty within a sentence.
        text: the code.
        inline: whether it stands within a sentence, where a command may be named without its arguments.
    """

    where: str
    language: str
    text: str
    inline: bool


def codes() -> Iterator[Code]:
    """All code of the pages."""
    for page in PRESENT:
        line = 0
        for token in _flat(_tokens(page)):
            line = token.map[0] + 1 if token.map else line
            where = f"{page.relative_to(ROOT)}:{line}"
            if token.type == "fence":
                yield Code(where, token.info.strip(), token.content, inline=False)
            elif token.type == "code_inline":
                yield Code(where, "", token.content, inline=True)


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def commands(program: str) -> list[Code]:
    """Every call of a program in the pages, its continued lines joined."""
    return [
        replace(code, text=line.strip())
        for code in codes()
        if code.language != "python"
        for line in code.text.replace("\\\n", " ").splitlines()
        if line.split()[:1] == [program]
    ]


def words(code: Code) -> list[str]:
    """A command's arguments, up to its comment or what it is piped into."""
    lexer = shlex.shlex(code.text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = list(lexer)
    end = next((n for n, word in enumerate(found) if set(word) <= set("|&;<>")), len(found))
    return found[1:end]


def parse(command: click.Command, arguments: list[str], name: str, parent: click.Context | None = None) -> None:
    """Parse as the command line does, and run nothing.

    Raises:
        click.UsageError: the command line would refuse the arguments.
    """
    context = command.make_context(name, list(arguments), parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if rest:
            word, found, rest = command.resolve_command(context, rest)
            assert found is not None
            parse(found, rest, word or "", context)


def refusal(code: Code) -> str:
    """Why the command line refuses a command; empty where it takes it."""
    try:
        parse(cli, words(code), "biosam2")
    except click.exceptions.Exit:
        return ""
    except click.UsageError as error:
        return error.format_message()
    return ""


def unknown(code: Code) -> list[str]:
    """What the command line does not have of a command that is named without all of its arguments."""
    command: click.Command = cli
    for word in words(code):
        if word.startswith("-"):
            if word not in _options(command):
                return [word]
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return [word]
            command = command.commands[word]
    return []


def _options(command: click.Command) -> set[str]:
    """Those of a command, and of all that are below it."""
    found = {*command.get_help_option_names(click.Context(command))}
    for parameter in command.params:
        found |= {*parameter.opts, *parameter.secondary_opts}
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        found |= _options(each)
    return found


def at(code: Code) -> str:
    """The test's name of a piece of code."""
    return code.where


def test_the_pages_hold_code():
    assert len(commands("biosam2")) > 20
    assert {code.where.partition(":")[0] for code in codes()} >= {"README.md", "docs/server.md"}


@pytest.mark.parametrize("code", [code for code in codes() if code.language == "python"], ids=at)
def test_python_blocks_run(code, tmp_path, monkeypatch):
    """Beside the generated CT, where `make demo` puts it; what a block writes holds its session's masks."""
    (tmp_path / "demo-output").mkdir()
    phantom.main([str(tmp_path / "demo-output" / "ct.nrrd")])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code.text, code.where, "exec"), names)
    for written in tmp_path.glob("*.seg.nrrd"):
        _, masks = read_segmentation(written)
        assert tuple(masks) == names["session"].segments
        for name, mask in masks.items():
            assert mask.any()
            np.testing.assert_array_equal(mask, names["session"].mask(name))


@pytest.mark.parametrize("code", [code for code in commands("biosam2") if not code.inline], ids=at)
def test_commands_in_blocks_are_taken(code):
    assert refusal(code) == ""


@pytest.mark.parametrize("code", [code for code in commands("biosam2") if code.inline], ids=at)
def test_commands_in_sentences_exist(code):
    assert unknown(code) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("biosam2 segment ct.nrrd -o a.nrrd --point 1,2,3 --no-such-option", "--no-such-option"),
        ("biosam2 no-such-command", "no-such-command"),
        ("biosam2 models no-such-command", "no-such-command"),
        ("biosam2 segment ct.nrrd -o a.nrrd --point 1,2,3 --axis no-such-axis", ""),
        ("biosam2 segment ct.nrrd -o a.nrrd --point 1,2", ""),
        ("biosam2 image --point 1,2", ""),
    ],
)
def test_commands_that_are_wrong_are_noticed(text, wrong):
    code = Code("", "", text, inline=False)
    assert wrong in refusal(code) != ""
    assert unknown(code) == ([wrong] if wrong else [])


def test_options_that_are_named_exist():
    """In README and the guides, an option in a sentence is one of some command, or of the worker."""
    worker = subprocess.run(
        [sys.executable, "-m", "biosam2.service.worker", "--help"], capture_output=True, text=True, check=True
    )
    known = _options(cli) | set(re.findall(r"--[a-z-]+", worker.stdout))
    for code in codes():
        if code.inline and code.text.startswith("--") and code.where.startswith(("README.md", "docs/")):
            assert code.text.split()[0].partition("=")[0] in known, code.where


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {target: code.where for code in commands("make") for target in words(code) if "=" not in target}
    assert named.keys() >= {"demo", "test"}
    assert not {target: where for target, where in named.items() if target not in targets}


def test_modules_that_are_run_exist():
    for code in commands("python"):
        found = words(code)
        if found[:1] == ["-m"]:
            assert importlib.util.find_spec(found[1]), code.where
        elif found:
            assert (ROOT / found[0]).is_file(), code.where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    links = [token for token in _flat(_tokens(page)) if token.type in ("link_open", "image")]
    for link in links:
        target = str(link.attrs.get("href") or link.attrs.get("src"))
        if not re.match(r"\w+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_hooks_run_what_make_test_runs():
    """Each hook's command is a line of `make test`, by the same tools."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checks = {line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()[:-1]}
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = {entry.replace(" --force-exclude", "") for entry in re.findall(r"entry: (.*)", hooks)}
    assert entries == checks
