#!/usr/bin/env python3
"""Rate-distortion and BD-rates of the weights on a folder of pictures: `vrcodec eval`.

    scripts/measure.py --images KODAK [options of vrcodec eval]

With the 24 Kodak pictures, PSNR and MS-SSIM are compared with every curve in vrcodec/data/anchors.
"""

import sys

from vrcodec.cli import main

if __name__ == "__main__":
    if sys.argv[1:2] != ["--images"] or len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.argv = ["vrcodec eval", "eval", *sys.argv[2:]]
    main()
