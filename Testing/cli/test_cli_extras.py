"""Every command where only some extras are installed: it works, or says in one line what to install."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from biosam2.cli.app import cli
from biosam2.cli.outcome import _code
from biosam2.extras import explain, modules_of
from cli_helpers import Biosam2
from environments import make_environment, run_in
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

POINT = ("--point", "24,20,6")
NET = ("--model", "seer.safetensors", "--config", "seer.yaml")
DATA = ("--data", "cases.csv")
BRIEF = ("--steps", "1", "--batch", "1", "--frames", "2", "--workers", "0", "--device", "cpu", "-q")

# For each command: arguments, and the extra that it asks for in an environment without extras ("" where it works).
BASE: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "segment": [
        (("ball.nrrd", "-o", "t.nrrd", *POINT), "engine"),
        (("ball.nrrd", "-o", "t.nrrd", *POINT, "--worker"), "engine"),
        (("--cases", "cohort.csv"), "engine"),
    ],
    "image": [(("picture.png", "-o", "t.png", "--point", "24,20"), "engine")],
    "video": [(("frames", "-o", "masks", *POINT), "engine")],
    "replay": [(("run.json",), "engine")],
    "models list": [((), "")],
    "models download": [(("nano",), "")],
    "models check": [(("--help",), "")],  # and see below
    "models add": [(("seer.safetensors", "--config", "seer.yaml"), "engine")],
    "models verify": [((), "")],
    "models remove": [(("mine",), "")],
    "info": [((), ""), (("--json",), "")],
    "data make": [((".", "-o", "made.csv", "--layout", "pairs"), "")],
    "data check": [(("cases.csv",), "")],
    "data add": [(("added.csv", "ball.nrrd", "ball-mask.nrrd"), "")],
    "data pack": [(("cases.csv", "-o", "packed.zip"), "")],
    "worklist make": [((".", "-o", "work.csv"), "")],
    "worklist show": [(("list.csv",), "")],
    "worklist set": [(("list.csv", "ball", "--state", "in work"), "")],
    "worklist release": [(("list.csv", "ball"), "")],
    "worklist export": [(("--help",), "")],  # there is nothing approved
    "train nano": [(("-o", "run"), "train")],
    "train finetune": [((*DATA, "-o", "run"), "train")],
    "evaluate": [
        ((*DATA, "-o", "result"), "evaluate"),
        ((*DATA, "-o", "result", "--cluster", "tcp://127.0.0.1:1"), "cluster"),
    ],
    "serve": [((), "serve")],
}
# With some extras: which, the command line, and the extra that it asks for.
MORE = [
    ("engine", ("train", "nano", "-o", "run"), "train"),
    ("engine", ("train", "finetune", *DATA, "-o", "run"), "train"),
    ("engine", ("evaluate", *DATA, "-o", "result"), "evaluate"),
    ("engine", ("serve",), "serve"),
    ("engine", ("video", "frames", "-o", "masks", *POINT), "video"),
    ("engine", ("video", "film.mp4", "-o", "masks.nrrd", *POINT), "video"),
    ("engine", ("segment", "ball.nrrd", "-o", "t.dcm", *POINT), "dicom"),
    ("engine", ("segment", "compressed.dcm", "-o", "t.nrrd", *POINT), "dicom"),
    ("engine", ("segment", "--cases", "cohort.csv", "--jobs", "2"), "evaluate"),
    ("evaluate", ("evaluate", *DATA, "-o", "result", "--cluster", "tcp://127.0.0.1:1"), "cluster"),
    ("evaluate", ("segment", "--cases", "cohort.csv", "--cluster", "tcp://127.0.0.1:1"), "cluster"),
    # And what an extra is for works with nothing else installed.
    ("engine", ("segment", "ball.nrrd", "-o", "t.seg.nrrd", *POINT, *NET, "-q"), ""),
    ("engine,video", ("video", "frames", "-o", "masks", "--point", "24,20,1", *NET, "-q"), ""),
    ("train", ("train", "finetune", *DATA, "-o", "run", "--from", NET[1], *NET[2:], *BRIEF), ""),
    ("evaluate", ("evaluate", *DATA, "-o", "result", "--prompt", "box", "--beyond", "0", *NET, "-q"), ""),
]


def leaves(command: click.Command, name: str = "") -> Iterator[str]:
    """Names of all commands that are not groups."""
    if not isinstance(command, click.Group):
        yield name
        return
    for word, child in command.commands.items():
        yield from leaves(child, f"{name} {word}".strip())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the environment of some extras, separated by commas, once; gives its interpreter."""
    made: dict[str, Path] = {}

    def make(extras: str) -> Path:
        if extras not in made:
            folder = tmp_path_factory.mktemp("environment") / "venv"
            made[extras] = make_environment(folder, *filter(None, extras.split(",")))
        return made[extras]

    return make


@pytest.fixture
def home(biosam2: Biosam2, folder: Path, tmp_path: Path) -> Path:
    """A user's home with a model of their own, as the commands of the tables above need it."""
    from pydicom.data import get_testdata_file

    assert biosam2.here("models", "add", "seer.safetensors", "--config", "seer.yaml", "--name", "mine").code == 0
    (folder / "cases.csv").write_text("name,image,label,target,values\nball,ball.nrrd,ball-mask.nrrd,upper,2\n")
    (folder / "cohort.csv").write_text('image,output,prompts\nball.nrrd,t.nrrd,"--point 24,20,6"\n')
    assert biosam2.here("worklist", "make", "cases.csv", "-o", "list.csv").code == 0
    (folder / "film.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    compressed = get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)
    shutil.copy(str(compressed), folder / "compressed.dcm")
    return tmp_path / "home"


def record(biosam2: Biosam2) -> None:
    run = ("segment", "ball.nrrd", "-o", "recorded.nrrd", *POINT, "--first", "6", "--last", "6", *NET, "-q")
    assert biosam2.here(*run, "--record", "run.json").code == 0


def assert_says(done: object, extra: str) -> None:
    """Exit code 0 where no extra is missing; else one line that names the extra, and exit code 2."""
    code, err = done.returncode, done.stderr  # type: ignore[attr-defined]
    if not extra:
        assert code == 0, err
        return
    assert code == 2, err
    (line,) = err.splitlines()
    assert re.fullmatch(rf"biosam2: error: .* needs? .*: pip install 'biosam2\[{extra}\]'", line), line


def test_the_table_has_every_command() -> None:
    """A new command gets its line there."""
    assert set(BASE) == set(leaves(cli))


@pytest.mark.parametrize(
    ("command", "arguments", "extra"), [(name, *case) for name, cases in BASE.items() for case in cases]
)
def test_without_extras(environment, home, biosam2, folder, command, arguments, extra) -> None:
    if command == "replay":
        record(biosam2)
    done = run_in(
        environment(""), "-m", "biosam2.cli", *command.split(), *arguments, cwd=folder, BIOSAM2_HOME=str(home)
    )
    assert_says(done, extra)


def test_addresses_are_checked_without_extras(environment, home, folder) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(206)
            self.send_header("Content-Range", "bytes 0-0/156008466")
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"x")

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}"
        arguments = ("-m", "biosam2.cli", "models", "check", "sam2.1-tiny")
        done = run_in(environment(""), *arguments, cwd=folder, BIOSAM2_HOME=str(home), BIOSAM2_MIRROR=mirror)
        server.shutdown()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sam2.1-tiny: good, 156008466 bytes")


def test_help_needs_no_extra(environment, folder) -> None:
    pages = [["--help"], *([*name.split(), "--help"] for name in leaves(cli)), ["models"], ["data"], ["train"]]
    code = f"""
from biosam2.cli.app import cli
from biosam2.cli.outcome import _code
from biosam2.cli.outcome import run
exit(max(run(cli, page) for page in {pages}))
"""
    done = run_in(environment(""), "-c", code, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: biosam2") == len(pages)


@pytest.mark.parametrize(("extras", "arguments", "extra"), MORE)
def test_with_some_extras(environment, home, folder, extras, arguments, extra) -> None:
    done = run_in(environment(extras), "-m", "biosam2.cli", *arguments, cwd=folder, BIOSAM2_HOME=str(home))
    assert_says(done, extra)


def test_a_compressed_file_in_a_dataset(environment, home, folder) -> None:
    (folder / "cases.csv").write_text("name,image,label,target,values\nmr,compressed.dcm,ball-mask.nrrd,upper,2\n")
    done = run_in(environment(""), "-m", "biosam2.cli", "data", "check", "cases.csv", cwd=folder)
    assert done.returncode == 2
    assert "pip install 'biosam2[dicom]'" in done.stderr.splitlines()[-1]


def test_python_says_it_too(environment, folder) -> None:
    names = run_in(environment(""), "-c", "from biosam2 import *", cwd=folder)
    assert (names.returncode, names.stderr) == (0, "")
    done = run_in(environment(""), "-c", "import biosam2; biosam2.load_model('nano')", cwd=folder)
    assert done.stderr.splitlines()[-1] == (
        "biosam2.errors.DependencyError: a network needs packages that are not installed "
        "(torch, sam2, hydra and 2 more): pip install 'biosam2[engine]'"
    )


def test_the_modules_of_extras_are_those_of_the_project() -> None:
    provided: dict[str, set[str]] = {}
    for module, distributions in importlib.metadata.packages_distributions().items():
        for distribution in distributions:
            provided.setdefault(canonicalize_name(distribution), set()).add(module)
    declared = [Requirement(text) for text in importlib.metadata.requires("biosam2") or ()]
    extras = set(importlib.metadata.metadata("biosam2").get_all("Provides-Extra") or ()) - {"test", "docs"}
    for extra in extras:
        named = [r.name for r in declared if r.marker is not None and r.marker.evaluate({"extra": extra})]
        modules = [provided[canonicalize_name(name)] for name in named]
        # Each distribution is looked for by a module of its own, and nothing else is looked for.
        assert all(own & set(modules_of(extra)) for own in modules), extra
        assert set(modules_of(extra)) <= set().union(*modules), extra
    assert {"engine", "dicom", "video", "serve", "train", "evaluate", "cluster"} == extras


def test_an_import_that_fails_late_names_its_extra_too(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchio", None)
    with pytest.raises(ImportError) as failed:
        importlib.import_module("torchio")
    assert str(explain(failed.value)).endswith("not installed (torchio): pip install 'biosam2[train]'")
    assert _code(failed.value) == 2


def test_an_import_that_no_extra_mends_stays_a_fault() -> None:
    assert explain(ModuleNotFoundError("No module named 'biosam3'", name="biosam3")) is None
    assert explain(ImportError("cannot import name 'x' from 'json'", name="json")) is None
