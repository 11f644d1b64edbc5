"""A nano network with random weights on disk, a home for models, and a web server that can misbehave."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from biosam2.models import ModelEntry
from biosam2.models.network import build_network, load_config
from web_server import Server

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data directory of the test's own; no proxy and no mirror."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BIOSAM2_HOME", str(folder))
    monkeypatch.delenv("BIOSAM2_MIRROR", raising=False)
    for variable in PROXY_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    return folder


@pytest.fixture(scope="session")
def nano_weights() -> dict[str, torch.Tensor]:
    """Weights of a nano network, random, in half precision as they are shipped."""
    torch.manual_seed(0)
    return {name: tensor.half() for name, tensor in build_network(load_config("nano")).state_dict().items()}


@pytest.fixture(scope="session")
def nano_checkpoint(tmp_path_factory: pytest.TempPathFactory, nano_weights: dict[str, torch.Tensor]) -> Path:
    """Those weights as a safetensors file."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_file(nano_weights, path)
    return path


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server on loopback with a model file of 3 MB."""
    content = hashlib.shake_256(b"a model").digest(3_000_000)
    with Server(content) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def toy(server: Server) -> ModelEntry:
    """The registry's entry for the server's file."""
    return ModelEntry(
        name="toy",
        description="",
        config="nano",
        image_size=256,
        file="toy.pt",
        source="download",
        url=f"{server.url}/models/toy.pt",
        bytes=len(server.content),
        sha256=hashlib.sha256(server.content).hexdigest(),
    )
