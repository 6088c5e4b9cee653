"""Text on a terminal: nothing that a row holds can steer it, and colour only where there is someone to see it."""

import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.text import Text

from gristmill.wording import Diff, cut, visible

CUT = 1200
"""Characters of a text that are shown unless all are asked for."""


def show_lines(lines: Iterable[RenderableType]) -> None:
    """Print lines to stdout; rich markup in them is text, long lines are left to the terminal where it is none."""
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000  # a tree cuts its lines at the width
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)


def title(text: str) -> Text:
    """A heading within the output."""
    return Text(f"\n{visible(text, one_line=True)}", style="bold")


def body(text: str, full: bool = False, most: int = CUT) -> Text:
    """A text of the data, indented, cut at `most` characters with how many are left."""
    shown, left = (text, 0) if full else cut(text, most)
    lines = Text("\n".join(f"  {line}" for line in visible(shown).split("\n")))
    return lines.append(f" … {left:,} more characters (--full)", style="dim") if left else lines


def differences(diff: Diff, most: int | None = CUT) -> Text:
    """A diff: [-only the first-] {+only the second+}, coloured where there is a terminal; long equal parts are cut."""
    text = Text("  ")
    marks = {"-": ("[-", "-]", "red"), "+": ("{+", "+}", "green")}
    for sign, piece in diff:
        words = visible(piece).replace("\n", "\n  ")
        if sign == "=":
            if most and len(words) > 240:
                words = f"{words[:110]} … {len(words) - 220:,} the same … {words[-110:]}"
            text.append(words)
        else:
            lead = words[: len(words) - len(words.lstrip())]
            opened, closed, style = marks[sign]
            text.append(lead).append(f"{opened}{words.strip()}{closed}", style=style)
    return text
