"""`vrcodec integrate`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from vrcodec import files
from vrcodec.cli import common, manual
from vrcodec.errors import naming

_DATA = Path(__file__).resolve().parents[1] / "data" / "desktop"
_COMPLETIONS = {
    "bash": "bash-completion/completions/vrcodec",
    "zsh": "zsh/site-functions/_vrcodec",
    "fish": "fish/vendor_completions.d/vrcodec.fish",
}


@click.command()
@click.option(
    "--prefix",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where shared data are (default: $XDG_DATA_HOME, or ~/.local/share).",
)
@click.option("--overwrite", is_flag=True, help="Replace files that differ.")
@click.option("--remove", is_flag=True, help="Remove the files instead.")
def integrate(prefix: Path | None, overwrite: bool, remove: bool) -> None:
    """Make desktop and shell know .vrc files: their type, thumbnails, completion, manual page.

    Files are written below one folder, for this user unless --prefix says otherwise (such as
    /usr/local/share). A zsh finds its completion if that folder's zsh/site-functions is in fpath.
    """
    share = prefix or _data_home()
    for place, text in _contents().items():
        target = share / place
        if remove:
            _remove(target)
        else:
            _write(target, text.encode(), overwrite)
    _refresh(share)


def _data_home() -> Path:
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"


def _contents() -> dict[str, str]:
    """What is written, by its path below the folder of shared data."""
    program = _program()
    thumbnailer = (_DATA / "vrcodec.thumbnailer").read_text()
    thumbnailer = thumbnailer.replace("TryExec=vrcodec", f"TryExec={program[0]}")
    thumbnailer = thumbnailer.replace("Exec=vrcodec ", f"Exec={shlex.join(program)} ")
    return {
        "mime/packages/vrcodec.xml": (_DATA / "vrcodec.xml").read_text(),
        "thumbnailers/vrcodec.thumbnailer": thumbnailer,
        "man/man1/vrcodec.1": manual.page(_group()),
        **{place: _completion(shell) for shell, place in _COMPLETIONS.items()},
    }


def _group() -> click.Group:
    group = click.get_current_context().find_root().command
    assert isinstance(group, click.Group)
    return group


def _program() -> list[str]:
    """What runs this very program, whatever the PATH of a desktop is."""
    beside = os.pathsep.join(str(Path(name).parent) for name in (sys.argv[0], sys.executable))
    script = shutil.which("vrcodec", path=beside)
    return [os.path.abspath(script)] if script else [sys.executable, "-m", "vrcodec"]


def _completion(shell: str) -> str:
    """What a shell reads; click asks a bash for its version on the way, which is left out."""
    kind = get_completion_class(shell)
    assert kind is not None
    return ShellComplete.source(kind(_group(), {}, "vrcodec", "_VRCODEC_COMPLETE"))


def _write(target: Path, data: bytes, overwrite: bool) -> None:
    known = target.is_file() and files.read_bytes(target) == data
    if not known:
        with naming(str(target.parent)):
            target.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(target, data, overwrite)
    common.say_line(f"{target}: {'is there' if known else 'written'}")


def _remove(target: Path) -> None:
    if os.path.lexists(target):
        with naming(str(target)):
            target.unlink()
        common.say_line(f"{target}: removed")


def _refresh(share: Path) -> None:
    """Have the desktop read the types anew, if it has the program for that."""
    program, folder = shutil.which("update-mime-database"), share / "mime"
    if program and folder.is_dir():
        subprocess.run([program, str(folder)], check=False, capture_output=True)
