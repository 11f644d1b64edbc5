"""The command line with a worker, with a server, and as the server."""

from __future__ import annotations

import json
import shutil

import biosam2
import numpy as np
import pytest
import requests
import trustme
from biosam2.cli.app import cli
from biosam2.service import RemoteSession
from biosam2.service.errors import ServiceError
from biosam2.service.server import running
from click.testing import CliRunner, Result
from command_helpers import ServerProcess, biosam2_command
from service_helpers import same_state, same_updates

KEY = "a key of some length"


def test_two_models_of_one_name_are_not_served(checkpoint, tmp_path) -> None:
    """One would be gone without a word."""
    copies = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for file in (checkpoint, checkpoint.with_suffix(".yaml")):
            if file.is_file():
                shutil.copy(file, tmp_path / folder / file.name)
        copies += ["--model", str(tmp_path / folder / checkpoint.name)]
    done = CliRunner().invoke(cli, ["serve", *copies, "--device", "cpu"])
    assert done.exit_code != 0
    assert "one name" in str(done.exception or done.output)


def test_worker_server_and_relay_give_the_same_mask(serve, checkpoint, volume, tmp_path) -> None:
    image = tmp_path / "image.nrrd"
    biosam2.write_labelmap(image, volume, (volume.array > 40).astype(np.uint8))
    port = serve("--model", checkpoint, BIOSAM2_API_KEY=KEY)
    masks = {}

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, list(map(str, arguments)), env={"BIOSAM2_API_KEY": KEY})

    for name, where in {
        "here": ["--model", checkpoint, "--device", "cpu"],
        "worker": ["--model", checkpoint, "--device", "cpu", "--worker"],
        "server": ["--server", f"http://127.0.0.1:{port}"],
        "relay": ["--server", f"http://127.0.0.1:{port}", "--worker"],
    }.items():
        out = tmp_path / f"{name}.nrrd"
        done = run(
            "segment", image, "-o", out, "--point", "11,10,2", "--segment", "b", "--box", "4,4,1:9,9,4", "-q",
            "--record", tmp_path / f"{name}.json", *where,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        masks[name] = biosam2.read_volume(out).array
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["model"]["sha256"]
    # A record made here is repeated elsewhere, and one made on a server there.
    for record, where in (("here", "--worker"), ("here", "--server"), ("server", "--server")):
        url = [f"http://127.0.0.1:{port}"] if where == "--server" else []
        again = run("replay", tmp_path / f"{record}.json", "-q", where, *url)
        assert "bit for bit" in again.output, (record, where, again.output)
    assert masks["here"].any()
    for name in ("worker", "server", "relay"):
        assert np.array_equal(masks[name], masks["here"]), name


@pytest.mark.soak
def test_a_killed_server_is_taken_up_where_it_was(checkpoint, model, volumes) -> None:
    """kill -9 of ``biosam2 serve`` in mid-propagation and between clicks; another one on the same port."""
    volume = volumes(5, slices=30)
    here = biosam2.Session(model, volume)
    notices: list[str] = []
    server = ServerProcess("--model", checkpoint)
    with RemoteSession(server.url, volume, ahead=4, patience=120, on_notice=notices.append) as there:
        for session in (here, there):
            session.add_prompt("a", biosam2.Point((11, 10, 12)))
        updates = there.propagate()
        got = [next(updates) for _ in range(7)]
        server.kill()
        server = ServerProcess("--model", checkpoint, port=server.port)
        same_updates(got + list(updates), list(here.propagate()))
        server.kill()
        server = ServerProcess("--model", checkpoint, port=server.port)
        assert np.array_equal(there.predict("a", 12), here.predict("a", 12))
        same_state(there, here)
    assert len(notices) == 2
    assert server.stop() in (0, -15, 143)


def test_a_served_certificate_is_checked(serve, checkpoint, volume, tmp_path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    files = ["--tls-certificate", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key"]
    port = serve("--model", checkpoint, *files)
    url = f"https://127.0.0.1:{port}"
    with RemoteSession(url, volume, verify=str(tmp_path / "ca.pem")) as session:
        session.add_prompt("a", biosam2.Point((11, 10, 2)))
        assert session.predict("a", 2).any()
    with pytest.raises(ServiceError, match="certificate"):
        RemoteSession(url, volume)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "no API key"),
        (["--host", "192.168.1.1"], "no API key"),
        (["--api-key", "short"], "too short"),
        (["--tls-key", "x.key"], "go together"),
        (["--model", "none such"], "there is no model"),
    ],
)
def test_what_is_not_safe_is_not_served(arguments: list[str], says: str) -> None:
    done = biosam2_command("serve", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_is_safe_or_wanted_is_served() -> None:
    for host in ("127.0.0.1", "127.8.9.10", "::1", "localhost"):
        running.check_exposure(host, None, allow_no_key=False)
    running.check_exposure("0.0.0.0", None, allow_no_key=True)
    running.check_exposure("0.0.0.0", KEY, allow_no_key=False)


def test_a_taken_port_is_one_line(serve, checkpoint) -> None:
    port = serve("--model", checkpoint)
    assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=30).status_code == 200
    done = biosam2_command("serve", "--port", port, "--model", checkpoint, "--device", "cpu")
    assert done.returncode == 2
    assert "choose another --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_out_of_reach_is_one_line(volume, tmp_path) -> None:
    image = tmp_path / "image.nrrd"
    biosam2.write_labelmap(image, volume, (volume.array > 40).astype(np.uint8))
    done = biosam2_command("segment", image, "-o", tmp_path / "o.nrrd", "--point", "1,1,1", "--server", "127.0.0.1")
    assert done.returncode == 2
    assert "no server's address" in done.stderr
    done = biosam2_command("segment", image, "-o", tmp_path / "o.nrrd", "--point", "1,1,1", "--server", "http://x", "--device", "cpu")  # fmt: skip  # noqa: E501
    assert "leave out" in done.stderr
    assert not (tmp_path / "o.nrrd").exists()


def test_logs_are_lines_of_json() -> None:
    import logging

    line = running.JsonLines().format(
        logging.makeLogRecord({"msg": "a %s", "args": ("b",), "level": 20, "sessions": 3})
    )
    assert json.loads(line)["event"] == "a b"
    assert json.loads(line)["sessions"] == 3
