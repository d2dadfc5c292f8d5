"""The command line through real processes, and what it leaves on the disk."""

from __future__ import annotations

import ctypes
import fcntl
import io
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunVrcodec
from PIL import Image

from vrcodec import __version__, files
from vrcodec.bitstream import container
from vrcodec.errors import VrcodecError

PICTURE = "hibiscus.png"
ODD = (
    "apng_mode_16bit.png",
    "broken.png",
    "broken_data_stream.png",
    "decompression_bomb.gif",
    "hopper_orientation_6.jpg",
    "i_trns.png",
    "pil_sample_cmyk.jpg",
    "png_decompression_dos.png",
    "rgb.jpg",
    "tRNS_null_1x1.png",
    "truncated_jpeg.jpg",
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path) -> Path:
    """A folder of one's own, as the current one, with two pictures."""
    monkeypatch.chdir(tmp_path)
    for name in (PICTURE, "lighthouse.png"):
        (tmp_path / name).write_bytes((pictures / name).read_bytes())
    return tmp_path


@pytest.fixture(scope="session")
def coded(
    run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path, tmp_path_factory: Any
) -> bytes:
    """A small picture as a .vrc file."""
    target = tmp_path_factory.mktemp("coded") / "x.vrc"
    result = run_vrcodec("encode", pictures / PICTURE, "-o", target, "--weights", tiny_weights)
    assert result.returncode == 0, result.stderr
    return target.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_one_error(result: subprocess.CompletedProcess[bytes], text: str, code: int = 1) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == b""
    lines = result.stderr.decode().splitlines()
    if code == 1:
        assert len(lines) == 1, lines
    assert lines[-1].startswith("Error: ") and text in lines[-1], lines[-1]


# Round trips


def test_round_trip_beside_the_input(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    options = ("--weights", tiny_weights)
    result = run_vrcodec("encode", "-q", "0.9", PICTURE, "lighthouse.png", *options)
    assert (result.returncode, result.stderr) == (0, b"")
    data = (work / "hibiscus.vrc").read_bytes()
    bpp = 8 * len(data) / (75 * 53)
    size = (work / PICTURE).stat().st_size
    sizes = f"{size:,} -> {len(data):,} bytes, ratio {size / len(data):.3g}"
    line = f"hibiscus.png -> hibiscus.vrc: {sizes}, {bpp:.2f} bpp"
    assert result.stdout.decode().splitlines()[0] == line
    assert container.describe(data)["quality"] == pytest.approx(0.9, abs=1e-4)

    (work / "lighthouse.png").unlink()
    result = run_vrcodec("decode", "hibiscus.vrc", "lighthouse.vrc", *options)
    assert result.returncode == 0
    said = "hibiscus.vrc: hibiscus.png exists, writing hibiscus.decoded.png\n"
    assert result.stderr.decode() == said
    assert [
        Image.open(work / name).size for name in ("hibiscus.decoded.png", "lighthouse.png")
    ] == [(75, 53), (96, 128)]
    original = np.asarray(Image.open(work / PICTURE)).astype(float)
    decoded = np.asarray(Image.open(work / "hibiscus.decoded.png"))
    assert ((original - decoded) ** 2).mean() < 200

    before = names(work)
    result = run_vrcodec("decode", "hibiscus.vrc", *options)
    assert_one_error(result, "hibiscus.decoded.png: exists (use --overwrite to replace it)")
    assert names(work) == before


def test_pipes_carry_only_data(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, coded: bytes
) -> None:
    picture = (work / PICTURE).read_bytes()
    result = run_vrcodec("encode", "-", "--json", "--weights", tiny_weights, input=picture)
    assert result.returncode == 0
    assert result.stdout == coded
    facts = json.loads(result.stderr)
    assert (facts["input"], facts["output"], facts["bytes"]) == ("-", "-", len(coded))
    result = run_vrcodec(
        "decode", "-", "-o", "-", "--format", "ppm", "--weights", tiny_weights, input=coded
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert Image.open(io.BytesIO(result.stdout)).format == "PPM"
    assert names(work) == [PICTURE, "lighthouse.png"]


def test_json_has_one_object_per_file(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    result = run_vrcodec(
        "encode", PICTURE, "lighthouse.png", "--json", "--weights", tiny_weights, "-o", "new/sub/"
    )
    facts = [json.loads(line) for line in result.stdout.splitlines()]
    assert [fact["output"] for fact in facts] == ["new/sub/hibiscus.vrc", "new/sub/lighthouse.vrc"]
    keys = {"input", "output", "bytes", "width", "height", "bpp", "quality", "seconds"}
    assert keys | {"status", "source_bytes", "format", "notes", "error"} <= set(facts[0])
    assert (facts[0]["width"], facts[0]["height"], facts[0]["quality"]) == (75, 53, 0.5)

    result = run_vrcodec(
        "decode", "new/sub/hibiscus.vrc", "-o", "out.JPG", "--json", "--weights", tiny_weights
    )
    assert json.loads(result.stdout)["format"] == "jpeg"
    assert Image.open(work / "out.JPG").format == "JPEG"


def test_a_failing_file_does_not_stop_the_others(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path
) -> None:
    bad = pictures / "bad"
    result = run_vrcodec(
        "encode",
        "missing.png",
        *(bad / name for name in ODD),
        PICTURE,
        "-o",
        "out/",
        "--weights",
        tiny_weights,
    )
    assert result.returncode == 1
    lines = result.stderr.decode().splitlines()
    assert lines[0] == "Error: missing.png: no such file or folder"
    assert sum(line.startswith("Error: ") for line in lines) == 5
    assert f"{bad}/apng_mode_16bit.png: first of 3 frames" in lines
    assert f"{bad}/i_trns.png: coded at 8 bits (16 in the source)" in lines
    assert names(work / "out") == [
        "apng_mode_16bit.vrc",
        "hibiscus.vrc",
        "hopper_orientation_6.vrc",
        "i_trns.vrc",
        "pil_sample_cmyk.vrc",
        "png_decompression_dos.vrc",
        "rgb.vrc",
        "tRNS_null_1x1.vrc",
    ]

    (work / "junk.vrc").write_bytes(b"junk")
    result = run_vrcodec(
        "decode",
        "junk.vrc",
        *sorted((work / "out").iterdir()),
        "-o",
        "back",
        "--weights",
        tiny_weights,
    )
    assert_one_error(result, "-o back is one file, but there are 9 inputs", code=2)
    result = run_vrcodec(
        "decode",
        "junk.vrc",
        *sorted((work / "out").iterdir()),
        "-o",
        "back/",
        "--weights",
        tiny_weights,
    )
    assert result.returncode == 1
    assert result.stderr == b"Error: junk.vrc: not a .vrc file\n"
    modes = {path.stem: Image.open(path).mode for path in (work / "back").iterdir()}
    assert modes == {
        "apng_mode_16bit": "RGB",
        "hibiscus": "RGB",
        "hopper_orientation_6": "RGB",
        "i_trns": "LA",
        "pil_sample_cmyk": "RGB",
        "png_decompression_dos": "L",
        "rgb": "RGB",
        "tRNS_null_1x1": "RGBA",
    }
    assert Image.open(work / "back" / "rgb.png").info["icc_profile"]


# Errors


def test_broken_files_are_one_line(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, coded: bytes
) -> None:
    broken = {
        "empty": (b"", "not a .vrc file"),
        "cut": (coded[:-10], "truncated: needs"),
        "long": (coded + b"\0", "too many"),
        "flipped": (coded[:40] + bytes([coded[40] ^ 1]) + coded[41:], "checksum"),
        "newer": (coded[:3] + bytes([coded[3] % 16 + 0x60]) + coded[4:], "version 6"),
    }
    for name, (data, _) in broken.items():
        (work / f"{name}.vrc").write_bytes(data)
    arguments = [f"{name}.vrc" for name in broken]
    for command in (["decode", "--weights", tiny_weights], ["info"]):
        result = run_vrcodec(*command, *arguments)
        assert (result.returncode, result.stdout) == (1, b"")
        lines = result.stderr.decode().splitlines()
        assert len(lines) == len(broken)
        for line, (name, (_, text)) in zip(lines, broken.items(), strict=True):
            assert line.startswith(f"Error: {name}.vrc: ") and text in line
            assert line.count(f"{name}.vrc") == 1
    assert not list(work.glob("*.png.*")) and len(list(work.glob("*.png"))) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["encode"], "Missing argument"),
        (["encode", PICTURE, "-q", "1.01"], "not in the range"),
        (["encode", PICTURE, "-q", "-1"], "not in the range"),
        (["encode", PICTURE, "-q", "nan"], "nan"),
        (["encode", PICTURE, "-q", "high"], "not a valid float"),
        (["encode", PICTURE, "--device", "gpu"], "gpu"),
        (["encode", PICTURE, "--max-pixels", "0"], "--max-pixels"),
        (["encode", PICTURE, "-o", ""], "empty"),
        (["encode", PICTURE, "lighthouse.png", "-o", "x.vrc"], "one file"),
        (["encode", PICTURE, "lighthouse.png", "-o", "-"], "one file"),
        (["encode", PICTURE, f"./{PICTURE}"], "would both become"),
        (["encode", "-", "-"], "stdin and stdin would both become"),
        (["decode", "a/x.vrc", "b/x.vrc", "-o", "out/"], "would both become out/x.png"),
        (["decode", "x.vrc", "-o", "x.gif"], "known are .png"),
        (["decode", "x.vrc", "--format", "gif"], "gif"),
        (["encode", "."], ". is a folder: name one for the results with -o"),
        (["encode", ".", "-o", "-"], ". is a folder: name one for the results with -o"),
        (["encode", ".", PICTURE, "-o", "out"], "a folder must be the only INPUT"),
        (["encode", ".", "-o", "out", "--report", "x.txt"], "must end in .csv or .json"),
        (["encode", ".", "-o", "out", "--jobs", "0"], "--jobs"),
        (["encode", PICTURE, "-q", "75"], "0 to 1: 0.75?"),
        (["encode", PICTURE, "--dial", "quality"], "is not a dial and a number"),
        (["encode", PICTURE, "--dial", "quality=0.3", "-q", "0.3"], "dial quality is given twice"),
        (["encode", PICTURE, "--tune", "psnr", "--dial", "tune=0"], "dial tune is given twice"),
        (["encode", PICTURE, "--tune", "sharp"], "'sharp' is not psnr, perceptual or a number"),
        (["encode", PICTURE, "--tune", "1.5"], "is not in the range from 0 to 1"),
        (["encode", PICTURE, "--target-bpp", "1e308"], "'1e308' is not between 0 and 1e+06"),
        (["encode", PICTURE, "--target-size", "9" * 320], "(320 characters) is not a size"),
        (["encode", PICTURE, "-o", "result.jpg"], "ends in .vrc, not .jpg"),
        (["encode", PICTURE, "-o", PICTURE, "--overwrite"], "ends in .vrc, not .png"),
        (["encode", PICTURE, "--quiet", "-v"], "exclude each other"),
        (["info"], "Missing argument"),
        (["encode", PICTURE, "--fast"], "--fast"),
        (["explode"], "explode"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_exit_2_before_any_work(
    arguments: list[str], text: str, work: Path, run_vrcodec: RunVrcodec
) -> None:
    before = names(work)
    assert_one_error(run_vrcodec(*arguments), text, code=2)
    assert names(work) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["encode", "missing.png"], "missing.png: no such file or folder"),
        (["decode", "missing.vrc"], "missing.vrc: no such file or folder"),
        (["decode", PICTURE, "-o", "lighthouse.png"], "lighthouse.png: exists (use --overwrite"),
        (["decode", PICTURE, "-o", PICTURE, "--overwrite"], "would be replaced"),
        (["decode", PICTURE, "-o", f"../{{here}}/{PICTURE}", "--overwrite"], "would be replaced"),
        (["encode", "\33[2Jnew\nline.png"], "\\x1b[2Jnew\\nline.png: no such file or folder"),
        (["encode", "pictuers", "-o", "out", "--jobs", "2"], "pictuers: no such file or folder"),
        (["encode", PICTURE, "-o", "no/where.vrc"], "no/where.vrc: no such folder"),
        (["encode", PICTURE, "-o", f"{PICTURE}/x.vrc"], f"{PICTURE}/x.vrc: not a directory"),
        (["encode", PICTURE, "-o", f"{PICTURE}/"], f"{PICTURE}/hibiscus.vrc: not a directory"),
        (["encode", PICTURE, "-o", "x" * 300], "file name too long"),
        (
            ["encode", PICTURE, "--max-pixels", "3974"],
            f"{PICTURE}: cannot be read: 75x53 is more than 3,974",
        ),
        (["encode", PICTURE, "--weights", "none"], "none: not a weights file"),
        (["info", "--model", "--weights", "none"], "none: not a weights file"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_errors_are_one_line_and_leave_nothing(
    arguments: list[str], text: str, work: Path, run_vrcodec: RunVrcodec
) -> None:
    before = names(work)
    arguments = [part.replace("{here}", work.name) for part in arguments]
    assert_one_error(run_vrcodec(*arguments), text)
    assert names(work) == before


def test_a_coded_file_is_not_coded_again(work: Path, run_vrcodec: RunVrcodec, coded: bytes) -> None:
    """Alone, under another name, from stdin and in a folder."""
    (work / "x.vrc").write_bytes(coded)
    (work / "folder").mkdir()
    (work / "folder" / "y.png").write_bytes(coded)
    before = names(work)
    for arguments, name in (
        (["x.vrc"], "x.vrc"),
        (["x.vrc", "--overwrite"], "x.vrc"),
        (["x.vrc", "-o", "y.vrc"], "x.vrc"),
        (["-", "-o", "y.vrc"], "stdin"),
        (["folder", "-o", "out", "--jobs", "1"], "folder/y.png"),
    ):
        with (work / "x.vrc").open("rb") as stream:
            result = run_vrcodec("encode", *arguments, stdin=stream)
        assert result.returncode == 1
        assert f"{name}: is a .vrc file already\n" in result.stderr.decode()
        assert [path for path in names(work) if path != "out"] == before
    assert (work / "x.vrc").read_bytes() == coded
    assert_one_error(run_vrcodec("encode", "z.vrc"), "z.vrc: no such file or folder")


def test_other_weights_are_refused_by_name(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, coded: bytes
) -> None:
    stream = container.unpack(coded)
    header = container.Header(75, 53, "c0ffee", stream.header.conditioning, version=1)
    foreign = container.Stream(header, stream.z, stream.y, stream.symbols_crc)
    (work / "x.vrc").write_bytes(container.pack(foreign))
    result = run_vrcodec("decode", "x.vrc", "--weights", tiny_weights)
    assert_one_error(result, "x.vrc: made with weights c0ffee")
    assert b"--weights FILE" in result.stderr


def test_size_limit_holds_for_decoding(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, coded: bytes
) -> None:
    (work / "x.vrc").write_bytes(coded)
    result = run_vrcodec("decode", "x.vrc", "--max-pixels", "3974", "--weights", tiny_weights)
    assert_one_error(result, "x.vrc: 75x53")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interruption_leaves_nothing(
    number: signal.Signals, work: Path, vrcodec_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "vrcodec", "encode", "-", "-o", "x.vrc"]
    with subprocess.Popen(
        command,
        env=vrcodec_environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stdin and process.stderr
        try:
            process.stdin.write(bytes(1 << 20))
            waiting = bytearray(b"\1\0\0\0")
            while any(waiting):
                fcntl.ioctl(process.stdin, termios.FIONREAD, waiting)
            time.sleep(0.5)  # by now it sleeps, reading an empty pipe
            process.send_signal(number)
            assert process.wait(timeout=60) == 128 + number
            assert process.stderr.read().strip() == b""
        finally:
            process.kill()
    assert names(work) == [PICTURE, "lighthouse.png"]


def test_termination_while_writing_leaves_the_old_file(
    work: Path, vrcodec_environment: dict[str, str], tiny_weights: Path
) -> None:
    """A disk that never finishes, so that the temporary file is there when the signal comes."""
    (work / "x.vrc").write_bytes(b"old")
    program = (
        "import os, sys, time\nos.fsync = lambda _: time.sleep(120)\n"
        "from vrcodec.cli import main\nmain(sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "encode",
        PICTURE,
        "-o",
        "x.vrc",
        "--overwrite",
        "--weights",
        str(tiny_weights),
    ]
    with subprocess.Popen(
        command, env=vrcodec_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            while not list(work.glob(".vrcodec-*.tmp")):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=60) == (b"", None)
            assert process.returncode == 128 + signal.SIGTERM
        finally:
            process.kill()
    assert names(work) == [PICTURE, "lighthouse.png", "x.vrc"]
    assert (work / "x.vrc").read_bytes() == b"old"


def test_closed_pipe_is_quiet(
    work: Path, vrcodec_environment: dict[str, str], coded: bytes
) -> None:
    (work / "x.vrc").write_bytes(coded)
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "vrcodec", "info", "x.vrc", "x.vrc"],
        env=vrcodec_environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_reader_that_has_enough_is_no_error(
    work: Path, vrcodec_environment: dict[str, str], tiny_weights: Path, run_vrcodec: RunVrcodec
) -> None:
    """`vrcodec decode x.vrc -o - | head -c 1`, of more than a pipe holds."""
    options = ["--weights", str(tiny_weights)]
    big = Image.new("RGB", (300, 300))
    big.save("big.png")
    assert run_vrcodec("encode", "big.png", "-q", "0", *options).returncode == 0
    command = [
        sys.executable,
        "-m",
        "vrcodec",
        "decode",
        "big.vrc",
        "-o",
        "-",
        *options,
        "--format",
        "ppm",
    ]
    with subprocess.Popen(
        command, env=vrcodec_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        assert os.read(process.stdout.fileno(), 1) == b"P"
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(timeout=60)


# info, --help, --version


def test_info_shows_every_section(
    work: Path, run_vrcodec: RunVrcodec, coded: bytes, tiny_weights: Path
) -> None:
    (work / "x.vrc").write_bytes(coded)
    text = run_vrcodec("info", "x.vrc").stdout.decode()
    weights = container.unpack(coded).header.weights_id
    for part in ("x.vrc: 75x53 colour", "quality 0.500", weights, f"{len(coded):,} bytes"):
        assert part in text
    facts = json.loads(run_vrcodec("info", "-", "--json", input=coded).stdout)
    assert facts.pop("input") == "-"
    assert facts == container.describe(coded)
    for section, bits in facts["bits"].items():
        assert any(line.split()[:2] == [section, f"{bits:,}"] for line in text.splitlines())

    result = run_vrcodec("info", "--model", "--json", "--weights", tiny_weights)
    facts = json.loads(result.stdout)
    assert facts["weights_id"] == weights and facts["parameters"] > 0
    assert {"encode_kmac_per_pixel", "decode_kmac_per_pixel"} <= set(facts)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], ["torch", "numpy", "PIL"]),
        (["encode", "--help"], ["torch", "numpy", "PIL"]),
        (["decode", "--help"], ["torch", "numpy", "PIL"]),
        (["info", "--help"], ["torch", "numpy", "PIL"]),
        (["info", "x.vrc"], ["torch", "numpy", "PIL"]),
        (["--version"], ["torch"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_quick_commands_import_nothing_heavy(
    arguments: list[str],
    heavy: list[str],
    work: Path,
    vrcodec_environment: dict[str, str],
    coded: bytes,
) -> None:
    (work / "x.vrc").write_bytes(coded)
    program = (
        "import sys; from vrcodec.cli import main\n"
        "try: main(prog_name='vrcodec')\n"
        "finally: print([name for name in sys.argv[-1].split() if name in sys.modules])"
    )
    program = program.replace("main(prog", f"main({arguments!r}, prog")
    result = subprocess.run(
        [sys.executable, "-c", program, " ".join(heavy)],
        env=vrcodec_environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.fast
def test_help_names_every_command(run_vrcodec: RunVrcodec) -> None:
    text = run_vrcodec("--help").stdout.decode()
    for name in ("encode", "decode", "info", "train"):
        assert f"\n  {name} " in text


def test_version_names_the_weights(run_vrcodec: RunVrcodec) -> None:
    text = run_vrcodec("--version").stdout.decode()
    weights = r"(weights [0-9a-f]{16}|no weights)"
    pattern = rf"vrcodec {re.escape(__version__)} \({weights}; [A-Z][\w .+]+\)\n"
    assert re.fullmatch(pattern, text)


# Writing files


def test_new_files_follow_the_umask_and_replaced_ones_keep_their_mode(tmp_path: Path) -> None:
    target = tmp_path / "x"
    before = os.umask(0o027)
    try:
        files.write_atomically(target, b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    files.write_atomically(target, b"2", overwrite=True)
    assert target.read_bytes() == b"2"
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failed_write_leaves_everything_as_it_was(
    error: BaseException, exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x"
    if exists:
        target.write_bytes(b"old")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    expected = VrcodecError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        files.write_atomically(target, b"new", overwrite=True)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{target}: no space left on device"
    assert names(tmp_path) == (["x"] if exists else [])
    assert not exists or target.read_bytes() == b"old"


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_lost(
    hard_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x"

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not hard_links:
        monkeypatch.setattr(os, "link", no_links)
    files.write_atomically(tmp_path / "y", b"new")
    assert names(tmp_path) == ["y"]
    monkeypatch.setattr(os, "fsync", lambda _: target.write_bytes(b"theirs"))
    with pytest.raises(VrcodecError, match="exists"):
        files.write_atomically(target, b"new")
    assert names(tmp_path) == ["x", "y"] and target.read_bytes() == b"theirs"


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write_atomically(link, b"new", overwrite=True)
    assert link.is_symlink() and target.read_bytes() == b"new"
    files.write_atomically(Path("/dev/null"), b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(VrcodecError, match="/dev/full: no space left on device"):
        files.write_atomically(Path("/dev/full"), b"data")


def test_preserve_copies_permissions_and_times(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    when = 1_000_000_000_123_456_789
    source = work / PICTURE
    source.chmod(0o604)
    os.utime(source, ns=(when, when))
    (work / "there.vrc").write_bytes(b"x")
    options = ("--weights", tiny_weights, "--preserve", "--overwrite")
    result = run_vrcodec("encode", PICTURE, "-o", "there.vrc", *options)
    assert result.returncode == 0, result.stderr
    result = run_vrcodec("decode", "there.vrc", "-o", "back.png", *options)
    assert result.returncode == 0, result.stderr
    for name in ("there.vrc", "back.png"):
        facts = (work / name).stat()
        assert (stat.S_IMODE(facts.st_mode), facts.st_mtime_ns) == (0o604, when), name
    piped = run_vrcodec("encode", "-", "-o", "piped.vrc", *options, input=source.read_bytes())
    assert piped.returncode == 0, piped.stderr
    assert (work / "piped.vrc").stat().st_mtime_ns > when


def no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def no_privileges() -> None:
    """Let permissions hold for root, too."""
    if os.geteuid() == 0:
        drop_bounding_capability, override_permissions = 24, 1
        ctypes.CDLL(None).prctl(drop_bounding_capability, override_permissions, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and devices")
def test_where_nothing_can_be_written_nothing_is_lost(
    work: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    (work / "old.vrc").write_bytes(b"old")
    (work / "locked.vrc").write_bytes(b"locked")
    (work / "locked.vrc").chmod(0o444)
    (work / "folder").mkdir(mode=0o555)
    before = names(work)
    cases = [
        ("old.vrc", "file too large", {"preexec_fn": no_room}),
        ("locked.vrc", "permission denied", {"preexec_fn": no_privileges}),
        ("folder/x.vrc", "permission denied", {"preexec_fn": no_privileges}),
    ]
    for target, text, options in cases:
        result = run_vrcodec(
            "encode", PICTURE, "-o", target, "--overwrite", "--weights", tiny_weights, **options
        )
        assert_one_error(result, f"{target}: {text}")
    with open("/dev/full", "wb") as full:
        result = run_vrcodec(
            "encode",
            PICTURE,
            "-o",
            "-",
            "--weights",
            tiny_weights,
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert (result.returncode, result.stderr) == (1, b"Error: stdout: no space left on device\n")
    assert names(work) == before and not names(work / "folder")
    assert (work / "old.vrc").read_bytes() == b"old"
    assert (work / "locked.vrc").read_bytes() == b"locked"


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_too_little_memory_is_one_line(
    tmp_path: Path, tiny_weights: Path, vrcodec_environment: dict[str, str]
) -> None:
    source = tmp_path / "large.ppm"
    source.write_bytes(b"P6 6000 3000 255\n" + bytes(3 * 6000 * 3000))
    program = f"""
import resource, sys
from pathlib import Path
from vrcodec.codec.codec import Codec
from vrcodec.cli import main
from PIL import Image
Codec({str(tiny_weights)!r}, "cpu").encode(Image.new("RGB", (64, 64)))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv = ["vrcodec", "encode", {str(source)!r}, "--weights", {str(tiny_weights)!r}]
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=vrcodec_environment | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert re.fullmatch(f"Error: {source}: ([a-z ]+: )?out of memory\n", result.stderr)
    assert result.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["large.ppm"]


@pytest.mark.slow
def test_tune_has_names_for_its_ends(
    weights_of_two_dials: Path,
    tiny_weights: Path,
    run_vrcodec: RunVrcodec,
    pictures: Path,
    tmp_path: Path,
) -> None:
    shutil.copy(pictures / PICTURE, tmp_path)
    values = {"psnr": 0, "perceptual": 32768, "0.25": 8192}
    for tune, value in values.items():
        chosen = ("--tune", tune, "-q", "0.5", "--weights", weights_of_two_dials, "--overwrite")
        done = run_vrcodec("encode", tmp_path / PICTURE, "-o", tmp_path / "made.vrc", *chosen)
        assert done.returncode == 0, done.stderr
        header = container.unpack((tmp_path / "made.vrc").read_bytes()).header
        assert header.conditioning.values == (16384, value)
    about = ("info", tmp_path / "made.vrc")
    assert b", dial 2 0.250, " in run_vrcodec(*about).stdout
    assert b", tune 0.250, " in run_vrcodec(*about, "--weights", weights_of_two_dials).stdout
    one = ("--weights", tiny_weights)
    refused = run_vrcodec("encode", tmp_path / PICTURE, "--tune", "psnr", *one)
    assert refused.returncode == 1
    assert b"these weights have no dial tune; they have quality" in refused.stderr
