#!/usr/bin/env python3
"""How soon the page of `vrcodec explore` follows its slider, in headless Chromium.

    scripts/measure_explore.py PICTURE [--moves N] [options of vrcodec explore]

From the slider's input event until the new picture and its figures are drawn: those of a preview
with size and PSNR, then MS-SSIM and SSIMULACRA2, then those of the file itself. Needs Chromium,
Playwright and an idle machine. The first moves, one to each of nine positions, have to make its
analysis, too, and are told apart.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys

WATCH = """([value, deadline]) => new Promise((resolve) => {
  const part = (name) => document.querySelector(`[data-part=${name}]`);
  const slider = document.querySelector("[data-dial=quality]");
  const times = {};
  const begun = performance.now();
  const figures = () => [...part("facts").querySelectorAll("dd")].map((cell) => cell.textContent);
  const measured = figures().length - 4; // beside PSNR
  const tag = Number(value).toFixed(2);
  // A frame that began after a change has drawn it when the next one begins.
  const note = (name) => {
    if (name in times) return;
    times[name] = null;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      times[name] = performance.now() - begun;
      if (name === "file") end();
    }));
  };
  const end = () => {
    observer.disconnect();
    clearTimeout(timer);
    resolve(times);
  };
  const observer = new MutationObserver(() => {
    const cells = figures();
    const kind = part("state").textContent;
    if (!document.querySelector(".tag.left").textContent.includes(tag)) return;
    if (kind === "preview" && cells[0].startsWith("≈")) {
      note("preview");
      const open = cells.filter((text) => text === "…").length;
      if (open < measured) note("MS-SSIM");
      if (open === 0) note("all figures");
    }
    if (kind === "the file, exactly" && !cells.includes("…")) note("file");
  });
  observer.observe(part("work"), { subtree: true, childList: true, characterData: true });
  const timer = setTimeout(end, deadline);
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
})"""
COLUMNS = ("preview", "MS-SSIM", "all figures", "file")
MOVES = 16
FILE_SECONDS = 60


def places(count: int) -> list[float]:
    """Positions all over the dial, once at each of nine and then again between."""
    first = [k / 8 + (0.02 if k < 8 else -0.02) for k in range(9)]
    again = [round((0.37 * k) % 1, 2) for k in range(1, count + 1)]
    return first + again


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("picture")
    parser.add_argument("--moves", type=int, default=MOVES)
    arguments, options = parser.parse_known_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("chromium is not installed")
    command = [sys.executable, "-m", "vrcodec", "explore", "--no-browser", *options]
    server = subprocess.Popen([*command, arguments.picture], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        if not address:
            sys.exit(1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(address)
            page.get_by_text("the file, exactly").wait_for(timeout=1000 * FILE_SECONDS)
            page.wait_for_timeout(2000)
            rows = [
                page.evaluate(WATCH, [place, 1000 * FILE_SECONDS])
                for place in places(arguments.moves)
            ]
            browser.close()
    finally:
        server.terminate()
        server.wait()
    report(rows)


def report(rows: list[dict[str, float | None]]) -> None:
    """Print medians and the worst, milliseconds."""
    print(f"{'milliseconds':28}" + "".join(f"{name:>14}" for name in COLUMNS))
    for title, part in (("first at a position", rows[:9]), ("again", rows[9:])):
        columns = [[row[name] for row in part if row.get(name)] for name in COLUMNS]
        for kind, pick in (("median", statistics.median), ("worst", max)):
            cells = [f"{pick(values):14.0f}" if values else f"{'-':>14}" for values in columns]
            print(f"{title + ', ' + kind:28}" + "".join(cells))


if __name__ == "__main__":
    main()
