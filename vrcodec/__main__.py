"""`python -m vrcodec`."""

from vrcodec.cli import main

main(prog_name="vrcodec")
