"""biosam2 serve: sessions for other computers, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FILE = click.Path(dir_okay=False, path_type=Path)
_GIB = 1 << 30


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option(
    "--model",
    "models",
    metavar="NAME|PATH",
    multiple=True,
    help="A model to serve; repeat it for more. The first is the default. [default: nano]",
)
@click.option("--config", metavar="NAME|PATH", help="The configuration of a checkpoint given as PATH.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="auto, cpu, cuda, cuda:N or mps; repeat it for more: a process for each. [default: auto]",
)
@click.option(
    "--api-key", envvar="BIOSAM2_API_KEY", metavar="KEY", help="What clients must show; safer in BIOSAM2_API_KEY."
)
@click.option("--allow-no-key", is_flag=True, help="Let everybody in who can reach a --host that is not this computer.")
@click.option("--tls-certificate", type=_FILE, help="PEM file; with --tls-key the server speaks https.")
@click.option("--tls-key", type=_FILE, help="PEM file.")
@click.option("--max-sessions", type=click.IntRange(min=1), default=16, show_default=True, help="At a time.")
@click.option(
    "--feature-memory",
    type=click.FloatRange(min=0),
    default=4.0,
    show_default=True,
    metavar="GIB",
    help="Encoded slices, all sessions of a device together.",
)
@click.option(
    "--volume-memory",
    type=click.FloatRange(min=0),
    default=8.0,
    show_default=True,
    metavar="GIB",
    help="Voxels, all volumes together.",
)
@click.option(
    "--liveness-timeout",
    type=click.FloatRange(min=1),
    default=90.0,
    show_default=True,
    metavar="S",
    help="A session ends when its client was not heard of for so long.",
)
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    metavar="S",
    help="A session ends when nothing was asked of it for so long.",
)
def serve(
    host: str,
    port: int,
    models: tuple[str, ...],
    config: str | None,
    devices: tuple[str, ...],
    api_key: str | None,
    allow_no_key: bool,
    tls_certificate: Path | None,
    tls_key: Path | None,
    **sizes: Any,
) -> None:
    """Serve sessions to other computers over HTTP.

    Clients: biosam2 segment --server URL, the 3D Slicer panel, biosam2.service.RemoteSession. Voxels, geometry,
    prompts and the names of segments are all that they send. docs/server.md says how to secure, watch and size it.

    \b
    biosam2 serve --model sam2.1-small
    BIOSAM2_API_KEY=... biosam2 serve --host 0.0.0.0 --tls-certificate gpu.pem --tls-key gpu.key
    """
    from .. import extras
    from ..errors import InputError

    extras.require("serve", "the server")
    from ..service.server import running

    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    for file in (tls_certificate, tls_key):
        if file is not None and not file.is_file():
            raise InputError(f"there is no file {file}")
    running.check_exposure(host, api_key, allow_no_key)

    from ..service.server.app import Settings
    from ..service.server.device import Device, Devices
    from ..service.server.leases import TimeOuts

    feature_memory = int(sizes["feature_memory"] * _GIB)
    found: list[Device] = []
    if len(devices) > 1:
        from ..service.server.process import ProcessDevice, start_all
        from ..service.server.volumes import check_sharing

        if "auto" in devices:
            raise InputError("auto is one device; name each: --device cuda:0 --device cuda:1")
        check_sharing()
        running.start_logging()
        processes = [ProcessDevice(device, models, config, feature_memory) for device in devices]
        start_all(processes)
        found += processes
    else:
        from ..service.server.local import LocalDevice, load_models

        found.append(LocalDevice(load_models(models, devices[0] if devices else "auto", config), feature_memory))
    settings = Settings(
        api_key=api_key,
        most_sessions=sizes["max_sessions"],
        volume_memory=int(sizes["volume_memory"] * _GIB),
        time_outs=TimeOuts(liveness=sizes["liveness_timeout"], idle=sizes["idle_timeout"]),
    )
    running.run(Devices(found), settings, host, port, tls_certificate, tls_key, shared=len(devices) > 1)
