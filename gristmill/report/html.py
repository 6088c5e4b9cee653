"""`report.html`: one file that tells what a filter did, without network or other files.

The page is a Jinja2 template that escapes every value; its plots are inline SVG. Its one script, `whatif.js`, is named
by its hash in the page's security policy, so that no other can run; without it the page lacks the sliders alone. Not
covered: a report in Markdown.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from gristmill.explain import bad_rows, limits_of, summary_of
from gristmill.lookup import Key, Row, fetch, smallest
from gristmill.report import balance, charts, lineage, numbers
from gristmill.report.page import LONG, folded, template_of
from gristmill.report.whatif import whatif
from gristmill.wording import (
    answers,
    evidence_of,
    in_context,
    key_text,
    number,
    prompt_text,
    told,
    verdict,
    visible,
    whole_text,
    word_diff,
)

SAMPLES = 3
BAD_ROWS = 50
SOURCES = 40


def write_report(directory: Path) -> Path:
    """Write `report.html` into a filter's output directory and return its path.

    Raises UsageError if `directory` is no such directory.
    """
    directory = Path(directory)
    page = template_of("template.html.j2").render(**_content(directory))
    path = directory / "report.html"
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(path)


def _content(directory: Path) -> dict[str, Any]:
    summary = summary_of(directory)
    path = directory / "rows.parquet"
    keys = smallest(path, SAMPLES)
    groups = numbers.clusters(path)
    twins = numbers.twins(directory / "pairs.parquet")
    sampled = [key for rule, found in keys.items() if rule is not None for key in found]
    members = [key for group in groups for key in (group["kept"], *(member[0] for member in group["members"]))]
    paired = [(pair[f"id_{side}"], pair[f"copy_{side}"]) for pair in twins for side in "ab"]
    rows = fetch(path, {*sampled, *members, *paired})
    sources = numbers.sources(path)
    lengths = numbers.lengths(path)
    sliders = whatif(directory, summary, lengths.words)
    near = _Loose(summary.get("near_duplicates") or {})
    return {
        "summary": _Loose(summary),
        "sources": sources[:SOURCES],
        "sources_left": max(len(sources) - SOURCES, 0),
        "funnel": _funnel(summary),
        "drops": _drops(summary, {rule: found for rule, found in keys.items() if rule is not None}, rows),
        "yields": [_Loose(each) for each in summary.get("yields") or []],
        "plots": [each | {"svg": Markup(charts.histogram(each))} for each in numbers.distributions(path, lengths)],
        "clusters": [_cluster(group, rows) for group in groups if group["kept"] in rows],
        "near": near,
        "curve": _curve(near),
        "twins": [_twin(pair, rows) for pair in twins],
        "flags": numbers.flags(path),
        "openings": _Loose(summary.get("openings") or {}),
        "contamination": [_Loose(each) for each in summary.get("contamination") or []],
        "spans": [_span(rows[key]) for key in keys.get("contaminated", [])],
        "bad": [_Loose(line) for line in islice(bad_rows(directory), BAD_ROWS)],
        "alarms": [_Loose(alarm) for alarm in summary.get("alarms") or []],
        "rules": list(_parameters(summary)),
        "axes": balance.axes(summary),
        "warnings": (summary.get("balance") or {}).get("warnings") or [],
        "collapse": balance.collapse(summary),
        "claims": [_Loose(claim) for claim in summary.get("claims") or []],
        "lineage": lineage.steps(summary),
        "times": lineage.times(summary),
        "whatif": sliders,
        "data": _data(sliders) if sliders else "",
        "script": _script() if sliders else "",
        "script_hash": _sha256(_script()) if sliders else "",
    }


def _script() -> Markup:
    return Markup((Path(__file__).parent / "whatif.js").read_text(encoding="utf-8"))


def _sha256(script: str) -> str:
    """A script's hash as a Content-Security-Policy names it (https://www.w3.org/TR/CSP3/#grammardef-hash-source)."""
    return "sha256-" + b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(found: Row) -> Markup:
    """JSON that no parser of HTML or JavaScript can take for anything else."""
    text = orjson.dumps(found).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


class _Loose(dict[str, Any]):
    """A JSON object whose missing keys are None: not every filter writes every key."""

    def __missing__(self, name: str) -> None:
        return None


def _funnel(summary: Row) -> list[Row]:
    """Rows left after each stage that looked at them, as shares of the rows read."""
    total = max(summary.get("rows_in") or 0, 1)
    steps: list[Row] = [{"name": "read", "left": summary.get("rows_in") or 0, "dropped": 0, "seconds": None}]
    for stage in summary.get("stages") or []:
        left = stage["rows_in"] - stage["dropped"]
        steps.append(
            {"name": stage["name"], "left": left, "dropped": stage["dropped"], "seconds": stage.get("seconds")}
        )
    return [step | {"share": step["left"] / total} for step in steps]


def _drops(summary: Row, keys: dict[str, list[Key]], rows: dict[Key, Row]) -> list[Row]:
    counts: dict[str, int] = summary.get("dropped") or dict.fromkeys(keys, 0)
    total = max(summary.get("rows_in") or 0, 1)
    return [
        {
            "rule": rule,
            "rows": count,
            "share": count / total,
            "samples": [_sample(rows[key]) for key in keys.get(rule, [])],
        }
        for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _sample(row: Row) -> Row:
    return {
        "key": key_text(row["id"], row["copy"]),
        "file": row["source_file"],
        "row": row["source_row"],
        "verdict": verdict(row),
        "told": told(row),
        "texts": [folded(name, text) for name, text in {"prompt": prompt_text(row), **answers(row)}.items()],
    }


def _cluster(group: dict[str, Any], rows: dict[Key, Row]) -> Row:
    kept = rows[group["kept"]]
    members = []
    for key, rule, similarity in group["members"]:
        diff = _diff(whole_text(kept), whole_text(rows[key]))
        same = all(sign == "=" for sign, _ in diff)
        rule = "same opening" if rule == "collapsed" else f"{rule}, similarity {number(similarity)}"
        shown = {"key": key_text(*key), "lost": rule, "diff": diff, "same": same}
        members.append(shown | {"file": rows[key]["source_file"], "row": rows[key]["source_row"]})
    return {"size": group["size"], "kept": _sample(kept), "members": members}


def _diff(old: str, new: str) -> list[tuple[str, str]]:
    """A word diff for reading: long equal parts are cut in the middle."""
    pieces = []
    for sign, piece in word_diff(old, new, 400):
        words = visible(piece)
        if sign == "=":
            pieces.append((sign, f"{words[:70]} … {words[-70:]}" if len(words) > 160 else words))
        else:
            bare = words.strip()
            pieces += [("=", words[: words.index(bare)]), (sign, bare[:LONG])]
    return pieces


def _twin(pair: Row, rows: dict[Key, Row]) -> Row:
    a, b = ((pair[f"id_{side}"], pair[f"copy_{side}"]) for side in "ab")
    texts = [whole_text(rows[key]) if key in rows else "" for key in (a, b)]
    return {"a": key_text(*a), "b": key_text(*b), "jaccard": pair["jaccard"], "diff": _diff(*texts)}


def _span(row: Row) -> Row:
    facts = evidence_of(row)
    span = str(facts.get("span") or facts.get("text") or "")
    context = in_context(whole_text(row), span)
    shown = [visible(part) for part in context] if context else ["", visible(span), ""]
    evaluation = facts.get("evaluation") or facts.get("file")
    return {"evaluation": evaluation, "item": facts.get("item"), "context": shown, "key": row["id"]}


def _curve(near: Row) -> Row | None:
    """The S-curve and the share caught at the threshold."""
    points, threshold = near.get("s_curve"), near.get("threshold")
    if not points or threshold is None:
        return None
    caught = min(points, key=lambda point: abs(point[0] - threshold))[1]
    return {"svg": Markup(charts.curve(points, threshold)), "caught": caught}


def _parameters(summary: Row) -> Iterable[tuple[str, str]]:
    """Each rule and its parameters in words."""
    rules = summary.get("rules") or {}
    named = {str(rule.get("name")): rule for rule in rules} if isinstance(rules, list) else rules
    limits = limits_of(summary)
    for name, rule in named.items():
        words = [" and ".join(_limit(limit) for limit in case) for case in limits.get(name, [])]
        hidden = ("measures", "cases", "name")
        words += [f"{key}: {_value(value)}" for key, value in rule.items() if key not in hidden and value is not None]
        yield name, "; ".join(words)


def _limit(limit: Row) -> str:
    ends = [
        f"{word} {number(limit[side])}"
        for side, word in (("least", "at least"), ("most", "at most"))
        if limit[side] is not None
    ]
    return f"{limit['measure'].removeprefix('rule_')} {' and '.join(ends)}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
