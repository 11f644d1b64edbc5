"""biosam2 info: versions, devices, models."""

from __future__ import annotations

import json
from typing import Any

import click

from ..errors import DependencyError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(as_json: bool) -> None:
    """Show versions, which device would be used and why, and which models are here."""
    from ..models import list_models
    from ..models.folders import models_folder
    from ..record import versions

    content = {
        "versions": versions(),
        "devices": _devices(),
        "models folder": str(models_folder()),
        "models here": [entry.name for entry in list_models() if entry.present],
    }
    if as_json:
        click.echo(json.dumps(content, indent=1))
        return
    for name, version in content["versions"].items():  # type: ignore[attr-defined]
        click.echo(f"{name:14} {version}")
    for name, value in content["devices"].items():  # type: ignore[attr-defined]
        if value not in (None, []):
            click.echo(f"{name.replace('_', ' '):14} {_words(value)}")
    click.echo(f"{'models folder':14} {content['models folder']}")
    click.echo(f"{'models here':14} {', '.join(content['models here']) or 'none'}")


def _devices() -> dict[str, Any]:
    try:
        from .. import devices
        from ..models.network import require_engine

        require_engine()
        return {name: value for name, value in devices.describe().items() if name != "torch"}
    except DependencyError as error:
        return {"device": "none", "reason": str(error)}


def _words(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(f"{d['name']} ({d['memory_bytes'] / 2**30:.1f} GiB)" for d in value)
    return str(value)
