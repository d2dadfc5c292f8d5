"""`vrcodec eval`: what it measures, keeps and writes. The page itself: test_eval_page.py."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import EVAL_OPTIONS, GOLDEN, RunVrcodec
from PIL import Image

from vrcodec import Codec, EncodeSettings
from vrcodec.errors import VrcodecError
from vrcodec.evaluation import anchors, bjontegaard, codecs
from vrcodec.evaluation.anchors import load_curves
from vrcodec.evaluation.codecs.pillow import CODECS
from vrcodec.evaluation.evaluate import Evaluation, prepare
from vrcodec.evaluation.machine import Load
from vrcodec.evaluation.metrics import METRICS, Metric
from vrcodec.evaluation.notebook import Notebook
from vrcodec.evaluation.rate_distortion import Point, mean_curve, measure
from vrcodec.evaluation.work import Setup, Task
from vrcodec.pictures.metrics import ms_ssim, psnr, ssimulacra2


def rows_of(report: Path) -> list[dict[str, str]]:
    with (report / "pictures.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_are_those_of_real_files(
    eval_report: Path, tiny_weights: Path, pictures: Path
) -> None:
    (row,) = (
        row
        for row in rows_of(eval_report)
        if (row["picture"], row["codec"], row["quality"]) == ("macaw.png", "vrcodec", "0.5")
    )
    image = Image.open(pictures / "macaw.png").convert("RGB")
    codec = Codec(tiny_weights)
    data = codec.encode(image, 0.5)
    source, decoded = np.asarray(image), np.asarray(codec.decode(data))
    assert int(row["bytes"]) == len(data)
    assert float(row["bpp"]) == pytest.approx(8 * len(data) / (image.width * image.height))
    assert float(row["psnr"]) == pytest.approx(psnr(source, decoded), abs=1e-3)
    assert float(row["ms_ssim"]) == pytest.approx(ms_ssim(source, decoded), abs=1e-4)
    assert float(row["ssimulacra2"]) == pytest.approx(ssimulacra2(source, decoded), abs=0.05)
    assert 0.9 * len(data) < float(row["estimate_bytes"]) < len(data)
    assert float(row["encode_seconds"]) > 0 and float(row["decode_mp_s"]) > 0


def test_curves_have_the_layout_of_compressai(eval_report: Path) -> None:
    assert {path.name for path in (eval_report / "curves").iterdir()} == {
        "vrcodec.json",
        "avif.json",
        "jpeg.json",
        "jxl.json",
    }
    for name in ("vrcodec", "jpeg"):
        curve = json.loads((eval_report / "curves" / f"{name}.json").read_text())
        assert {"name", "description", "results"} == curve.keys() - {"dials"}
        results = curve["results"]
        rows = [row for row in rows_of(eval_report) if row["codec"] == name]
        for key, column in (
            ("bpp", "bpp"),
            ("psnr-rgb", "psnr"),
            ("ms-ssim-rgb", "ms_ssim"),
            ("encoding_time", "encode_seconds"),
            ("decoding_time", "decode_seconds"),
        ):
            assert len(results[key]) == len(results["quality"])
            values = [
                float(row[column])
                for row in rows
                if row[column] and float(row["quality"]) == results["quality"][0]
            ]
            assert results[key][0] == pytest.approx(sum(values) / len(values))
    assert results["bpp"] == sorted(results["bpp"])


def test_two_processes_measure_the_same_beside_another_curve(
    eval_report: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(pictures / "macaw.png", tmp_path)
    result = run_vrcodec(
        "eval",
        tmp_path,
        "--weights",
        tiny_weights,
        "--qualities",
        "0,1",
        "--jobs",
        "2",
        "--anchors",
        eval_report / "curves" / "jpeg.json",
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.decode().splitlines()
    wanted = [
        round(float(row["bpp"]), 4)
        for row in rows_of(eval_report)
        if (row["picture"], row["codec"]) == ("macaw.png", "vrcodec") and row["quality"] != "0.5"
    ]
    at = next(i for i, line in enumerate(lines) if line.startswith("quality"))
    assert [float(line.split()[1]) for line in lines[at + 1 : at + 3]] == wanted
    assert lines[-1].startswith("JPEG ") and lines[-1].count(" %  (") == 3


def test_curves_of_reports_can_be_compared_with(eval_report: Path) -> None:
    curves = anchors.load_curves(eval_report / "curves")
    assert {"AVIF", "JPEG", "JPEG XL"} < curves.keys()
    curve = curves["JPEG"]
    dearer = curve | {
        key: [1.1 * bpp for bpp in values] for key, values in curve.items() if key.endswith("bpp")
    }
    for metric in ("psnr", "ms_ssim", "ssimulacra2"):
        assert bjontegaard.bd_rate(curve, curve, metric)[0] == pytest.approx(0)
        assert bjontegaard.bd_rate(dearer, curve, metric)[0] == pytest.approx(10)


@pytest.mark.slow
def test_a_new_metric_is_one_object(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")

    def mean_error(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(int) - b).mean())

    metric = Metric("mae", "MAE", mean_error, "mae-rgb", higher_is_better=False, perceptual=False)
    monkeypatch.setitem(METRICS, "mae", metric)
    (jpeg,) = codecs.find(["jpeg"])
    pixels = np.asarray(Image.open(pictures / "macaw.png").convert("RGB"))
    points = [[measure(jpeg, pixels, quality, perceptual=False)] for quality in (20, 50, 80)]
    curve = mean_curve(points)
    assert curve["mae"] == sorted(curve["mae"], reverse=True) and curve["mae"][2] > 0
    assert curve["ms_ssim"] == [None] * 3
    dearer = {**curve, "bpp": [1.25 * bpp for bpp in curve["bpp"]]}
    percent, low, high = bjontegaard.bd_rate(dearer, curve, "mae")
    assert percent == pytest.approx(25)
    assert (low, high) == (-curve["mae"][0], -curve["mae"][2])


def test_rates_of_a_metric_are_those_of_the_pictures_that_have_it() -> None:
    """Rates of all pictures and fidelities of some would make curves that nothing lies on."""

    def point(bytes: int, ms_ssim: float | None) -> Point:
        return Point(0.5, 800, bytes, {"psnr": 30.0, "ms_ssim": ms_ssim}, 1.0, 1.0, None)

    curve = mean_curve([[point(100, 0.9), point(300, None)], [point(200, 0.9), point(600, 0.7)]])
    assert curve["bpp"] == [2, 4] and curve["psnr"] == [30, 30]
    assert curve["ms_ssim"] == [0.9, pytest.approx(0.8)]
    assert curve["ms_ssim_bpp"] == [1, 4] and "psnr_bpp" not in curve
    assert [bpp for bpp, _ in bjontegaard.points(curve, "ms_ssim")] == [1, 4]


def test_no_two_codecs_of_a_run_share_their_results(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "macaw.png", tmp_path)
    setup = Setup(GOLDEN / "tiny.safetensors", "cpu", 1 << 20, 1, 1, EncodeSettings())
    evaluation = prepare(setup, tmp_path, None, (0.5,), ["jpeg", "webp"])
    twins = dataclasses.replace(evaluation.subjects[1], name="jpeg2", spec="jpeg2")
    evaluation = dataclasses.replace(evaluation, subjects=[*evaluation.subjects, twins])
    for tasks in (evaluation.point_tasks(), evaluation.memory_tasks()):
        assert len({task.key for task in tasks}) == len(tasks)
    assert "ONNX Runtime" in evaluation.own.library


def test_avif_decodes_with_the_threads_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import AvifImagePlugin

    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 7)
    (avif,) = codecs.find(["avif"])
    data = avif.with_threads(1).encode(Image.new("RGB", (40, 30)), 50)
    avif.with_threads(1).decode(data)
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


def test_two_curves_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text('{"same": {"bpp": [1, 2], "psnr": [30, 35]}}')
    with pytest.raises(VrcodecError, match=r"b\.json: .* there is another one called same"):
        load_curves(tmp_path)


def test_the_smooth_line_goes_through_the_points() -> None:
    pytest.importorskip("scipy")
    curve = {"bpp": [0.1, 0.5, 0.4, 2], "psnr": [25, 32, 33, 41]}
    bpp, quality = bjontegaard.smooth(curve, "psnr")
    assert len(bpp) >= 200 and (np.diff(bpp) > 0).all() and (np.diff(quality) > 0).all()
    for rate, value in ((0.1, 25), (0.4, 33), (2, 41)):  # 0.5 for less is no part of it
        assert bpp[list(quality).index(value)] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("start", "end", "own", "busy"),
    [(0.1, 1.9, 2, False), (0.1, 4.0, 4, False), (1.5, 2.0, 1, True), (0.2, 3.0, 1, True)],
)
def test_a_busy_machine_is_named(start: float, end: float, own: int, busy: bool) -> None:
    load = Load(start, end, own, cores=4)
    assert load.busy == busy
    assert str(load).startswith("busy machine: ") == busy
    assert f"load {start:.1f} at the start and {end:.1f} at the end, on 4 cores" in str(load)
    assert not Load(None, None, 1, 4).busy


@pytest.mark.parametrize(
    ("option", "code", "text"),
    [
        ("tune=1.5", 2, "'tune=1.5' is not NAME=X with X from 0 to 1"),
        ("tune", 2, "'tune' is not NAME=X with X from 0 to 1"),
        ("quality=0.5", 2, "the quality is measured at --qualities"),
        ("warmth=0.5", 1, "these weights have no dial warmth; they have quality"),
    ],
)
def test_dials_that_there_are_not(
    vrcodec: RunVrcodec, pictures: Path, option: str, code: int, text: str
) -> None:
    result = vrcodec("eval", pictures, "--dial", option)
    assert result.returncode == code
    assert text in result.stderr.decode().splitlines()[-1]


def test_the_same_command_goes_on(
    eval_report: Path, run_vrcodec: RunVrcodec, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    shutil.copytree(eval_report, report)
    notebook = report / "measurements.jsonl"
    lines = notebook.read_bytes().splitlines(keepends=True)
    missing = 5
    kept = b"".join(lines[missing:])[:-9]  # killed while it wrote a line
    notebook.write_bytes(kept)
    (report / "report.html").unlink()
    command = (eval_report.parent / "pictures", *EVAL_OPTIONS, "--pictures", "0")
    result = run_vrcodec("eval", *command, "-o", report)
    assert result.returncode == 0, result.stderr
    whole = notebook.read_bytes()
    assert whole.startswith(kept)
    added = whole[len(kept) :]
    assert added.count(b'{"key": "measured') == missing
    assert added.count(b"key") == missing + added.count(b'{"key": "load')
    before, after = rows_of(eval_report), rows_of(report)
    for column in ("picture", "codec", "quality", "bytes", "psnr"):
        assert [row[column] for row in after] == [row[column] for row in before]
    again = [
        old["encode_seconds"] != new["encode_seconds"]
        for old, new in zip(before, after, strict=True)
    ]
    assert sum(again) == missing
    assert b"side-by-side" not in (report / "report.html").read_bytes()


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    calls = []

    def work(number: int) -> dict[str, int]:
        calls.append(number)
        if number == 3:
            raise RuntimeError("a\nb")
        return {"square": number**2}

    tasks = [Task(f"point|codec {number}", work, (number,)) for number in range(4)]
    path = tmp_path / "measurements.jsonl"
    setup = Setup(None, "cpu", 1, jobs=1, threads=1)
    evaluation = Evaluation(setup, [], [], Notebook(path))
    evaluation.run(tasks[:2], lambda: None)
    evaluation = dataclasses.replace(evaluation, notebook=Notebook(path))
    with pytest.raises(VrcodecError, match=r"^codec 3: RuntimeError: a$"):
        evaluation.run(tasks, lambda: None)
    assert calls == [0, 1, 2, 3]
    assert Notebook(path).results["point|codec 2"] == {"square": 4}


@pytest.mark.parametrize("name", CODECS)
def test_other_codecs_code_a_picture(name: str, pictures: Path) -> None:
    try:
        (codec,) = codecs.find([name])
    except VrcodecError as error:
        pytest.skip(str(error))
    image = Image.open(pictures / "macaw.png").convert("RGB").resize((96, 64))
    ends = codec.qualities[0], codec.qualities[-1]
    files = [codec.encode(image, quality) for quality in ends]
    assert 2 * len(files[0]) < len(files[1])
    source = np.asarray(image)
    fidelity = [psnr(source, np.asarray(codec.decode(data))) for data in files]
    assert fidelity[0] + 5 < fidelity[1]
    assert codec.library.startswith(codec.package.split(">")[0])


def test_the_nearest_file_within_a_size(pictures: Path) -> None:
    (codec,) = codecs.find(["jpeg"])
    image = Image.open(pictures / "macaw.png").convert("RGB")
    quality, data = codecs.nearest_within(codec, image, 5000)
    assert len(data) <= 5000 < len(codec.encode(image, quality + 1))
    assert codecs.nearest_within(codec, image, 10)[0] == 0


def test_a_codec_that_is_not_installed_is_named_with_its_package(
    run_vrcodec: RunVrcodec, vrcodec_environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "pillow_jxl.py").write_text("raise ImportError")
    path = os.pathsep.join((str(tmp_path), vrcodec_environment["PYTHONPATH"]))
    result = run_vrcodec(
        "eval",
        pictures,
        "--compare",
        "jpeg,jxl",
        "-o",
        tmp_path / "report",
        env=vrcodec_environment | {"PYTHONPATH": path},
    )
    assert result.returncode == 1
    line = b"Error: JPEG XL is not installed: pip install 'pillow-jxl-plugin'\n"
    assert result.stderr == line
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--compare", "jpeg,gif"), 1, "no codec is called 'gif'; known are jpeg, webp"),
        (("--qualities", "0,1.5"), 2, "'0,1.5' is not a list such as"),
        (("--anchors", "{here}/notes.txt"), 1, "notes.txt: holds no rate-distortion curves"),
        (("-o", "{here}"), 1, "holds other files; name a new folder"),
    ],
)
def test_wrong_usage_is_one_line(
    run_vrcodec: RunVrcodec,
    pictures: Path,
    tiny_weights: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    text: str,
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(pictures / "hibiscus.png", folder)
    (tmp_path / "notes.txt").write_text('{"a": 1}')
    result = run_vrcodec(
        "eval",
        folder,
        "--weights",
        tiny_weights,
        *(argument.format(here=tmp_path) for argument in arguments),
    )
    assert result.returncode == code
    assert text in result.stderr.decode().splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "notes.txt"}


def test_anchors_hold_the_curves_for_kodak() -> None:
    assert {"vtm", "bpg_444", "jpeg_420", "mbt2018-mean"} <= anchors.kodak_anchors().keys()


def test_ssimulacra2_ranks_distortions(pictures: Path) -> None:
    pytest.importorskip("ssimulacra2")
    source = np.asarray(Image.open(pictures / "macaw.png").convert("RGB"))
    (jpeg,) = codecs.find(["jpeg"])
    image = Image.fromarray(source)
    scores = [
        ssimulacra2(source, np.asarray(jpeg.decode(jpeg.encode(image, quality))))
        for quality in (10, 50, 95)
    ]
    assert scores == sorted(scores) and scores[0] < 40 and scores[2] > 75
    assert ssimulacra2(source, source) == pytest.approx(100)
    assert ssimulacra2(source[:7], source[:7]) is None


def test_any_dial_of_the_weights(
    weights_of_two_dials: Path, run_vrcodec: RunVrcodec, pictures: Path, tmp_path: Path
) -> None:
    for package in ("matplotlib", "jinja2"):
        pytest.importorskip(package)
    folder, report = tmp_path / "pictures", tmp_path / "report"
    folder.mkdir()
    shutil.copy(pictures / "hibiscus.png", folder)
    command = ("eval", folder, "--weights", weights_of_two_dials, "--qualities", "0.2,0.7")
    result = run_vrcodec(*command, "--dial", "tune=0.75", "-o", report, "--pictures", "0")
    assert result.returncode == 0, result.stderr
    codec = Codec(weights_of_two_dials)
    image = Image.open(pictures / "hibiscus.png").convert("RGB")
    sizes = [len(codec.encode(image, quality, dials={"tune": 0.75})) for quality in (0.2, 0.7)]
    rows = rows_of(report)
    assert [int(row["bytes"]) for row in rows] == sizes
    assert [float(row["tune"]) for row in rows] == pytest.approx([0.75] * 2, abs=1e-4)
    curve = json.loads((report / "curves" / "vrcodec.json").read_text())
    assert curve["name"].endswith(" tune 0.75")
    assert curve["dials"]["tune"]["coefficients"] == pytest.approx([0.01 * 100**0.75] * 2, rel=1e-3)
    wanted = [0.0006 * (0.5 / 0.0006) ** quality for quality in (0.2, 0.7)]
    assert curve["results"]["lambda"] == pytest.approx(wanted, rel=1e-3)
    page = (report / "report.html").read_text()
    assert '<th scope="col">tune</th>' in page and "effort 0, tune 0.75" in page
    result = run_vrcodec(*command)
    assert b"effort 0, tune 0.25" in result.stdout
