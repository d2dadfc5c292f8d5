#!/usr/bin/env python3
"""Write the manual page anew, vrcodec/data/desktop/vrcodec.1, from what the commands' help says."""

from __future__ import annotations

from pathlib import Path

from vrcodec.cli import main, manual

PAGE = Path(__file__).parents[1] / "vrcodec" / "data" / "desktop" / "vrcodec.1"

if __name__ == "__main__":
    PAGE.write_text(manual.page(main))
