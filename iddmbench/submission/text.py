"""Text from strangers: what a field may hold, and how it is escaped where jinja2 does not do it (Markdown, CSV)."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

MARKS_IN_A_ROW = 2
"""Combining marks that may follow a character; more of them cover the lines above and below."""
MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:@$^=\"'])")
IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and symbols that show nothing (Unicode's Default_Ignorable_Code_Point beyond the categories below, and the
empty Braille pattern)."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters that make a spreadsheet read a cell as a formula."""


def plain(text: str) -> str:
    """`text` itself, if it is one line of visible characters. Raises ValueError for line breaks, control, invisible and
    direction-changing characters, code points that stand for nothing, and piles of combining marks."""
    marks = 0
    if found := IGNORED.search(text):
        raise ValueError(f"holds the character U+{ord(found[0]):04X}, which is invisible: write plain text")
    if any(unicodedata.category(c) == "Zs" and c != " " for c in text):
        raise ValueError("contains a non-standard space: write plain text")
    if text and not any(unicodedata.category(c)[0] in "LNPS" for c in text):
        raise ValueError("contains no visible character")
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            raise ValueError(f"holds the character U+{ord(character):04X}, which is not allowed: write plain text")
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MARKS_IN_A_ROW:
            raise ValueError("contains stacked combining marks: write plain text")
    if text != text.strip():
        raise ValueError("begins or ends with a space")
    return text


Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name that is safe in a path, a URL and a shell."""
AttackerName = Annotated[
    str, StringConstraints(max_length=160, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*(:[A-Za-z0-9][A-Za-z0-9._+=,-]*)*$")
]
"""A plain or adaptive attacker's public name (`names.public_name`), or a worst case."""
Line = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(plain)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=80), AfterValidator(plain)]
Paragraph = Annotated[str, StringConstraints(max_length=2000), AfterValidator(plain)]
Url = Annotated[
    str,
    StringConstraints(
        max_length=300,
        pattern=r"^https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9._~/?#@!$&*+,;=%:-]*)?$",
    ),
]
"""A web address without user name, quotes, brackets or spaces: it can't end an attribute or a Markdown link."""
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32,64}$")]


def markdown(text: str) -> str:
    """Text as Markdown shows it letter by letter, also inside a table: no link, image, emphasis, HTML or new cell."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def csv_cell(text: str) -> str:
    """Text as a spreadsheet shows it: a leading apostrophe keeps it from being read as a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) or text.startswith(FORMULA) else text
