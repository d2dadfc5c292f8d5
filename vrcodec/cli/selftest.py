"""`vrcodec selftest`."""

from __future__ import annotations

import click


@click.command()
def selftest() -> None:
    """Check that this machine decodes as every other.

    Golden files are decoded on every device there is, by every runtime there is for it, and the
    symbols compared with those recorded. Exit status 1 if any differ.
    """
    from vrcodec.selftest import GOLDEN, available_devices, available_runtimes, check

    devices = available_devices()
    places = [(device, runtime) for device in devices for runtime in available_runtimes(device)]
    if not places:
        raise click.ClickException("nothing here can decode: pip install onnxruntime, or torch")
    wrong = [line for place in places for line in check(*place)]
    if wrong:
        raise click.ClickException("; ".join(wrong))
    shown = ", ".join(f"{device} ({runtime})" for device, runtime in places)
    click.echo(f"{len(GOLDEN)} golden files decode to the recorded symbols on {shown}")
