"""What the pages of reports have in common: templates that escape every value, and how texts and numbers are shown.

Not covered: plots (`charts.py`).
"""

from typing import Any

import jinja2

from gristmill.wording import number, visible

Row = dict[str, Any]

SHORT, LONG = 280, 3000
"""Characters of a text shown at once, and at most, once it is opened."""


def template_of(name: str) -> jinja2.Template:
    """A page of ours, which escapes every value; with filters for numbers and texts."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gristmill.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": _percent, "text": _text, "base": _base, "count": _count}
    return environment.get_template(name)


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{share:.1%}" if share < 0.9995 or share == 1 else ">99.9%"


def _count(many: int | None, thing: str) -> str:
    """A number of things: `1 row`, `2 rows`."""
    return f"{number(many or 0)} {thing}{'' if many == 1 else 's'}"


def _text(text: object, most: int = LONG) -> str:
    """A text without invisible controls, cut at `most` characters with how many are left."""
    shown = visible(text)
    return shown if len(shown) <= most else f"{shown[:most]} … {len(shown) - most:,} more characters"


def _base(path: object) -> str:
    return str(path).rstrip("/").rsplit("/", 1)[-1]


def folded(name: str, text: str) -> Row:
    """A text as its beginning and, if it is longer, the rest."""
    shown = _text(text)
    return {"name": name, "start": shown[:SHORT], "rest": shown[SHORT:]}
