"""A nano network with random weights on disk, a home for models, and a web server that can misbehave."""

from __future__ import annotations

import dataclasses
import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import trustme
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


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Serve in a thread for as long as the context lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server on loopback with a model file of 3 MB."""
    content = hashlib.shake_256(b"a model").digest(3_000_000)
    with Server(content) as running, serving(running):
        yield running


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


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A host over https that tells a file's hash and redirects to the plain server, as Hugging Face does."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Server(b"") as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        with serving(running):
            yield running


@pytest.fixture
def untold(hub: Server, toy: ModelEntry) -> ModelEntry:
    """A model whose size and hash the registry does not know."""
    url = f"https://localhost:{hub.server_port}/resolve/toy.pt"
    return dataclasses.replace(toy, url=url, sha256=None, bytes=None, sha256_header="X-Linked-Etag")
