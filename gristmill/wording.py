"""Rows in words: verdicts, differences between two texts, spans in their context, text that is safe on a terminal.

Pure functions shared by `gristmill why`, `gristmill show` and the report.
"""

import json
import re
from difflib import SequenceMatcher
from typing import Any

from gristmill.records import kind_of

Row = dict[str, Any]
Diff = list[tuple[str, str]]
"""Pieces of two texts: ("=", both), ("-", only the first), ("+", only the second)."""

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object, *, one_line: bool = False) -> str:
    """`text` with every character that could steer a terminal (controls, bidirectional overrides) written as `\\x1b`.

    Line feed and tab stay, unless `one_line`.
    """
    shown = _UNSAFE.sub(lambda match: _escaped(match[0]), str(text))
    return re.sub(r"[\n\t]", lambda match: {"\n": "\\n", "\t": "\\t"}[match[0]], shown) if one_line else shown


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cut(text: str, most: int) -> tuple[str, int]:
    """The first `most` characters of `text`, and how many are left."""
    return text[:most], max(len(text) - most, 0)


def key_text(id: str, copy: int | None) -> str:
    """A key as `gristmill why` takes it: the id, and #COPY for any copy but the first."""
    return f"{id}#{copy}" if copy else id


def prompt_text(row: Row) -> str:
    """The prompt's messages, one after the other; roles are named where there is more than one message."""
    messages = row.get("prompt") or []
    if len(messages) == 1:
        return str(messages[0]["content"] or "")
    return "\n".join(f"[{message['role']}] {message['content'] or ''}" for message in messages)


def answers(row: Row) -> dict[str, str]:
    """The texts a row answers with, by column: response (and reasoning), or chosen and rejected; a prompt has none."""
    names = {"preference": ["chosen", "rejected"], "prompt": []}.get(kind_of(row), ["reasoning", "response"])
    return {name: row[name] or "" for name in names if row.get(name) is not None}


def whole_text(row: Row) -> str:
    """Prompt and answers, joined by newlines."""
    return "\n".join([prompt_text(row), *answers(row).values()])


def evidence_of(row: Row) -> Row:
    """`drop_evidence` as a dict; empty where there is none, {"text": …} where it is not a JSON object."""
    text = row.get("drop_evidence")
    if not text:
        return {}
    try:
        facts = json.loads(text)
    except ValueError:
        return {"text": text}
    return facts if isinstance(facts, dict) else {"text": text}


def number(value: float | None) -> str:
    """A measured value in few characters: thousands for whole numbers, else four significant digits."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def verdict(row: Row) -> str:
    """One line: `kept`, or `dropped by RULE: measured value against its limit`."""
    rule = row.get("drop_rule")
    if rule is None:
        return "kept"
    return f"dropped by {rule}: {_reason(row, evidence_of(row))}"


def _reason(row: Row, facts: Row) -> str:
    rule, value, limit = row["drop_rule"], row.get("drop_value"), row.get("drop_limit")
    if rule == "exact_duplicate":
        return "the normalised text is the same"
    if rule == "near_duplicate":
        return f"Jaccard {value or 0:.2f} >= {limit or 0:.2f}"
    if rule == "collapsed":
        return "the answer opens as that of another row"
    if rule.startswith("unjudged_"):
        return f"score {rule.removeprefix('unjudged_')} is null"
    named = {"below": rule.removeprefix("below_"), "contaminated": facts.get("rule")}.get(rule.split("_")[0])
    measure = facts.get("measure") or named or "value"
    if limit is None or value is None:
        said = next((facts[name] for name in ("error", "verdict") if isinstance(facts.get(name), str)), None)
        return said or f"{measure} {number(value)}"
    sign = "<" if value < limit else ">" if value > limit else ">="
    return f"{measure} {number(value)} {sign} {number(limit)}"


def told(row: Row) -> str:
    """What `drop_evidence` says, in words; "" where there is none."""
    facts = {name: value for name, value in evidence_of(row).items() if name != "measure" and value is not None}
    if "id" in facts:
        facts = {"kept instead": key_text(str(facts.pop("id")), facts.pop("copy", 0))} | facts
    return "; ".join(f"{name} {_fact(value)}" for name, value in facts.items())


def _fact(value: object) -> str:
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def word_diff(old: str, new: str, most_words: int = 1000) -> Diff:
    """What changes from `old` to `new`, word by word; of each only the first `most_words` words are compared."""
    a, b = (re.findall(r"\s*\S+", text)[:most_words] for text in (old, new))
    pieces: Diff = []
    for tag, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(("=", "".join(b[k:m])))
        else:
            pieces += [(sign, text) for sign, text in (("-", "".join(a[i:j])), ("+", "".join(b[k:m]))) if text]
    return pieces


def in_context(text: str, span: str, around: int = 120) -> tuple[str, str, str] | None:
    """Before, the span as it stands in `text`, and after; None where it does not occur.

    Case, white space and punctuation between the span's words do not matter: spans are of normalised text.
    """
    words = re.findall(r"\w+", span)
    found = re.search(r"\W+".join(map(re.escape, words)), text, re.IGNORECASE) if words else None
    if found is None:
        return None
    start, end = found.span()
    return text[max(start - around, 0) : start], text[start:end], text[end : end + around]
