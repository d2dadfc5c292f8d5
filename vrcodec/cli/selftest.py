"""`vrcodec selftest`."""

from __future__ import annotations

import click


@click.command()
def selftest() -> None:
    """Check that this machine decodes as every other.

    Golden files are decoded on every device there is, and the symbols compared with those
    recorded. Exit status 1 if any differ.
    """
    from vrcodec.selftest import GOLDEN, available_devices, check

    devices = available_devices()
    wrong = [line for device in devices for line in check(device)]
    if wrong:
        raise click.ClickException("; ".join(wrong))
    click.echo(f"{len(GOLDEN)} golden files decode to the recorded symbols on {', '.join(devices)}")
