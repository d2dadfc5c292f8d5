"""Text that came from outside, file names above all, made fit for reports."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the start of a formula."""


def printable(text: str) -> str:
    """The text in one line that every encoding of Unicode can hold.

    What is no character (bytes of a name that are not UTF-8) and what would not be seen (control
    characters) becomes an escape such as ``\\xff``.
    """
    return "".join(
        char
        if char.isprintable()
        else rf"\x{ord(char) - 0xDC00:02x}"
        if "\udc80" <= char <= "\udcff"
        else ascii(char)[1:-1]
        for char in text
    )


def spreadsheet_cell(text: str) -> str:
    """The text for a cell of a CSV file: a spreadsheet shows it, and does not run it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
