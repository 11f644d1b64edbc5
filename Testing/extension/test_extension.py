"""What the Extensions Index and Slicer's build read: the entries agree, and everything that runs is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).parent / "slicer"
MODULES = Path("lib/Slicer-5.10/qt-scripted-modules")


def settings() -> dict[str, str]:
    """The EXTENSION_ variables of the top CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"\)', text))


def description() -> dict[str, str]:
    """The lines of the .s4ext."""
    lines = (ROOT / "BioSAM2Slicer.s4ext").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(" ") for line in lines if line.strip() and not line.startswith("#")]
    return {key: value.strip() for key, _, value in pairs}


def test_the_entries_agree_with_the_build():
    cmake, s4ext = settings(), description()
    entry = json.loads((ROOT / "BioSAM2Slicer.json").read_text(encoding="utf-8"))
    assert cmake["DEPENDS"].split() == s4ext["depends"].split() == entry["build_dependencies"] == ["PyTorch"]
    for key in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS"):
        assert cmake[key] == s4ext[key.lower()], key
    assert entry["category"] == cmake["CATEGORY"]
    assert entry["build_subdirectory"] == s4ext["build_subdirectory"] == "."
    assert entry["scm_url"] == s4ext["scmurl"]
    assert entry["scm_revision"] == s4ext["scmrevision"]
    assert set(entry) == {
        *("$schema", "build_dependencies", "build_subdirectory", "category", "scm_revision", "scm_url", "tier"),
    }
    assert entry["tier"] in (1, 3, 5)


def test_a_non_expert_can_read_what_it_is():
    text = description()["description"]
    assert 1 <= text.count(".") <= 2
    assert len(text) < 250


def test_licence_icon_and_screenshots_are_there():
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")
    assert "LICENSE.txt" in (ROOT / "README.md").read_text(encoding="utf-8")
    with Image.open(ROOT / "Resources" / "Icons" / "BioSAM2Slicer.png") as icon:
        assert icon.size[0] == icon.size[1] >= 128
    assert list((ROOT / "Resources" / "Screenshots").glob("*.png"))


@pytest.mark.parametrize("page", ["README.md", "docs/panel.md", "docs/server.md", "Testing/README.md"])
def test_links_and_pictures_of_the_pages_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"\w+:", target):
            assert ((ROOT / page).parent / target).exists(), target


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The extension, configured, built and installed as Slicer does it."""
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("needs cmake (pip install -e '.[test]')")
    folder = tmp_path_factory.mktemp("extension")
    build, prefix = folder / "build", folder / "install"
    for command in (
        ["-S", ROOT, "-B", build, f"-DSlicer_DIR={STUB}", "-DBUILD_TESTING=ON", f"-DCMAKE_INSTALL_PREFIX={prefix}"],
        ["--install", build],
    ):
        done = subprocess.run([cmake, *map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        # The deprecation of old policies is Slicer's range, not a fault.
        assert "CMake Warning (dev)" not in done.stderr, done.stderr
    return prefix


def test_every_file_that_runs_is_installed(installed):
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "BioSAM2Slicer", "Resources"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("needs the repository's history")
    wanted = {
        Path(line).relative_to("BioSAM2Slicer") if line.startswith("BioSAM2Slicer/") else Path(line)
        for line in listed.stdout.splitlines()
        if (ROOT / line).is_file()
    } - {Path("CMakeLists.txt")}
    found = {file.relative_to(installed / MODULES) for file in (installed / MODULES).rglob("*") if file.is_file()}
    assert found == wanted


def test_the_installed_engine_finds_its_resources(installed):
    """As Slicer runs it: no other copy of the package, and resources beside the module."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "sys.path[:] = [p for p in sys.path if not p.endswith('/BioSAM2Slicer')]; "
        "import biosam2; from biosam2.models.registry import get; "
        "assert biosam2.__file__.startswith(sys.argv[1]), biosam2.__file__; "
        "entry = get('nano'); assert str(entry.path).startswith(sys.argv[1]); assert entry.present; "
        "import pathlib, BioSAM2SlicerLib; "
        "assert pathlib.Path(BioSAM2SlicerLib.__file__).is_relative_to(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(installed / MODULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
