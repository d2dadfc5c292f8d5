"""Manners of the command line, in real processes: what is skipped, URLs, info, metadata."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunVrcodec, picture
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vrcodec.bitstream.container import Extra, unpack
from vrcodec.bitstream.extras import profiles
from vrcodec.model.identity import identify

WITHOUT_PLUGINS = """
import importlib.metadata, sys

known = importlib.metadata.version

def version(name):
    if name.startswith("pillow-"):
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

importlib.metadata.version = version
sys.modules.update({"pillow_heif": None, "pillow_jxl": None})
from vrcodec.cli import main

main()
"""
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
JXL = b"\xff\x0a" + bytes(30)


@pytest.mark.slow
def test_plugins_that_are_missing_are_named_with_the_files_they_read(
    tmp_path: Path, tiny_weights: Path, vrcodec_environment: dict[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    picture(1).save(tmp_path / "in" / "a.png")
    for name, data in (("b.HEIC", HEIC), ("c.jxl", JXL), ("d.txt", b"text")):
        (tmp_path / "in" / name).write_bytes(data)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_PLUGINS, "encode", *arguments]
        return subprocess.run(
            [*command, "--weights", str(tiny_weights), "--device", "cpu"],
            env=vrcodec_environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    for more in (["--dry-run"], ["--jobs", "1"]):
        result = run("in", "-o", "out", "-v", *more)
        assert result.returncode == 0
        assert result.stderr.splitlines() == [
            "in/b.HEIC: skipped, needs pillow-heif",
            "in/c.jxl: skipped, needs pillow-jxl-plugin",
            "in/d.txt: skipped, by its name",
        ]
        summary = "; other files skipped: 3 (.heic needs pillow-heif, .jxl needs pillow-jxl-plugin)"
        assert summary in result.stdout
    for name, package in (("b.HEIC", "pillow-heif"), ("c.jxl", "pillow-jxl-plugin")):
        result = run(f"in/{name}", "-o", "x.vrc")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert f"need the package {package}" in result.stderr


def test_urls_of_single_files_and_what_info_tells(
    tmp_path: Path, vrcodec: RunVrcodec, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    picture(1).save(tmp_path / "a.jpg")
    url = tmp_path.as_uri()
    result = vrcodec("encode", f"{url}/a.jpg", f"{url}/b.vrc", "-q", "1")
    assert result.returncode == 0, result.stderr
    assert vrcodec("decode", f"{url}/b.vrc", f"{url}/c.png").returncode == 0
    assert Image.open(tmp_path / "c.png").size == picture(1).size

    lowest, highest = identify(tiny_weights)[1].lambda_ranges[0]
    (tmp_path / "d").mkdir()
    vrcodec("encode", "a.jpg", "-o", "d", "-q", "0", cwd=tmp_path)
    for source, coefficient in ((f"{url}/b.vrc", highest), (tmp_path / "d", lowest)):
        text = run_vrcodec("info", source, "--weights", tiny_weights).stdout.decode()
        assert f"colour from jpeg, quality {float(coefficient == highest):.3f} " in text
        assert f"(lambda {coefficient:.3g})" in text
        facts = run_vrcodec("info", source, "--json", "--weights", tiny_weights).stdout
        assert json.loads(facts)["lambda"] == pytest.approx(coefficient)
    unknown = run_vrcodec("info", tmp_path / "b.vrc")  # made with others than the released ones
    assert unknown.returncode == 0 and b"lambda" not in unknown.stdout


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0131] = "A maker", "A model", "vrcodec's tests " * 20
    return tags.tobytes()


def test_metadata_cost_what_they_must_and_come_back_byte_for_byte(
    tmp_path: Path, vrcodec: RunVrcodec, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    """A profile that everybody has is a number, EXIF and XMP are deflated, there and back."""
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A parrot</dc:title>'
        b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    kept = {"icc_profile": profiles()[0], "exif": exif(), "xmp": packet}
    for name in ("a.jpg", "b.png", "c.webp"):
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        own = {"pnginfo": text} if name.endswith(".png") else {}
        picture(1).save(tmp_path / name, **kept, **own)
        coded = Path(name).with_suffix(".vrc").name
        assert vrcodec("encode", name, coded, cwd=tmp_path).returncode == 0
        bits = json.loads(run_vrcodec("info", coded, "--json", cwd=tmp_path).stdout)["bits"]
        sections = unpack((tmp_path / coded).read_bytes()).extras
        assert bits["icc"] == 8 and len(sections[Extra.ICC]) > 3000
        for tag in (Extra.EXIF, Extra.XMP):
            assert 0 < bits[tag.name.lower()] < 8 * len(sections[tag]) / 2
        back = f"back-{name}"
        result = vrcodec("decode", coded, back, "--format", "same", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, b"")
        with Image.open(tmp_path / name) as source, Image.open(tmp_path / back) as image:
            for key in kept:
                assert source.info[key] == image.info[key], key
