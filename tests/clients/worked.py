"""The worked programs and queries of the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "analysts.md"


@dataclass(frozen=True)
class Block:
    """A fenced block of the page: its language, the heading that it stands under, and its text."""

    language: str
    heading: str
    text: str


def blocks(page: Path = PAGE) -> list[Block]:
    found, heading, fence = [], "", None
    for line in page.read_text().splitlines():
        if fence is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif fence is None and (start := re.fullmatch(r"```(\w+)", line)):
            fence, lines = start[1], []
        elif fence is not None and line == "```":
            found.append(Block(fence, heading, "\n".join(lines) + "\n"))
            fence = None
        elif fence is not None:
            lines.append(line)
        elif line == "```":
            fence, lines = "", []
    return found
