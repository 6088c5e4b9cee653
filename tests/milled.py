"""A filter's output directory made from a small table, with a row for every kind of drop."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.records import Kind, row_id
from tests.tables import table

NASTY = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
STORY = "The miller opened the sluice at dawn and let the river turn the old wooden wheel while the stones ground rye"
QUESTION = "How many pears does Kim have in all"
RULES = {
    "empty": {"cases": [[{"measure": "words", "least": 1}]], "reason": "no visible character"},
    "too_long": {"measures": {"rule_words": {"max": 40000}}},
    "repetitive": {"cases": [[{"measure": "top_2gram", "most": 0.2}, {"measure": "words", "most": 19}]]},
    "below_quality": {"measures": {"score_quality": {"min": 2.0}}},
    "contaminated": {"against": ["eval/test.jsonl"]},
    "exact_duplicate": {"text": "both"},
    "near_duplicate": {"near": 0.8, "recall": 0.98},
    "collapsed": {"collapse": "mark"},
}


def key(prompt: str, response: str | None) -> str:
    """The id of a sample."""
    message = {"role": "user", "content": prompt, "extra": None}
    return row_id("sample", {"prompt": [message], "response": response})


def sample(prompt: str, response: str | None, rule: str | None = None, **given: Any) -> dict[str, Any]:
    """A row as the filter leaves it; `why` is (value, limit, evidence) of its drop."""
    value, limit, facts = given.pop("why", (None, None, None))
    words = float(len((response or "").split()))
    row = {"prompt": prompt, "response": response, "rule_words": words, "rule_top_2gram": 0.0, "score_quality": 4.0}
    drops = {"drop_rule": rule, "drop_value": value, "drop_limit": limit}
    return row | drops | {"drop_evidence": json.dumps(facts) if facts is not None else None} | given


def rows(extra: str = "") -> list[dict[str, Any]]:
    """Samples with every drop rule; `extra` stands in every text."""
    tale = f"Tell me a story. {extra}"
    told = {"id": key(tale, f"{STORY}. {extra}"), "copy": 0}
    twin = f"{STORY} 18 times."
    same = {"source_file": f"b/{extra}other.jsonl" if extra else "b/other.jsonl"}
    last = (1.0, 1.0, told | {"jaccard": 1.0, "note": extra})
    return [
        sample(tale, f"{STORY}. {extra}"),
        sample(tale, f"{STORY}. {extra}", "exact_duplicate", why=last, **same),
        sample(tale, f"{STORY} and oats. {extra}", "near_duplicate", why=(0.91, 0.8, told | {"jaccard": 0.91}), **same),
        sample("Say nothing.", "", "empty", why=(0.0, 1.0, {"measure": "words"}), rule_words=0.0),
        sample("Repeat.", "la la " * 20, "repetitive", why=(1.0, 0.2, {"measure": "top_2gram", "text": "la la"})),
        sample("Is it good?", f"Hardly. {extra}", "below_quality", why=(1.0, 2.0, {}), score_quality=1.0),
        sample("Is it bad?", "Who knows.", "unjudged_quality", why=(None, None, {}), score_quality=None),
        sample(
            f"Two and five pears. {QUESTION.upper()}? {extra}",
            "Seven.",
            "contaminated",
            why=(
                1.0,
                0.5,
                {"file": f"eval/{extra}test.jsonl", "item": 3, "span": QUESTION.lower(), "rule": "8-gram share"},
            ),
        ),
        sample("Tell another.", f"{STORY}, they say.", "collapsed", why=(2.0, 1.0, told)),
        sample(f"Ask about links {extra}", f"See it. {extra}", f"no_urls{extra}", why=(1.0, 0.0, {"reason": extra})),
        sample("Count.", twin, flag_private=extra or None),
        sample("Count.", twin.replace("18", "19")),
    ]


def milled(directory: Path, given: list[dict[str, Any]], kind: Kind = "sample", **summary: Any) -> Path:
    """Write the directory of a filter that left `given`."""
    directory.mkdir(parents=True, exist_ok=True)
    drops = {"drop_rule": pa.large_string(), "drop_value": pa.float64(), "drop_limit": pa.float64()}
    drops |= {"drop_evidence": pa.large_string()}
    bare = [{name: value for name, value in row.items() if name not in drops} for row in given]
    arrow = table(kind, bare).to_arrow()
    for name, form in drops.items():
        arrow = arrow.append_column(name, pa.array([row.get(name) for row in given], form))
    pq.write_table(arrow, directory / "rows.parquet", row_group_size=5)
    rules = [row.get("drop_rule") for row in given]
    dropped = {rule: rules.count(rule) for rule in rules if rule}
    kept = rules.count(None)
    counts = {"rows_in": len(given), "rows_kept": kept, "rows_bad": 0, "dropped": dropped}
    whole = {"inputs": ["test.jsonl"], "kind": kind, **counts, "yield": kept / max(len(given), 1), "rules": RULES}
    (directory / "summary.json").write_text(json.dumps(whole | summary))
    return directory


def pairs(directory: Path, found: list[tuple[str, str, float, bool]]) -> None:
    """Write `pairs.parquet` from (id_a, id_b, jaccard, same_but_numbers)."""
    names = ["id_a", "copy_a", "id_b", "copy_b", "jaccard", "same_but_numbers"]
    listed = [dict(zip(names, (a, 0, b, 0, jaccard, same), strict=True)) for a, b, jaccard, same in found]
    form = [pa.large_string(), pa.int64(), pa.large_string(), pa.int64(), pa.float64(), pa.bool_()]
    pq.write_table(
        pa.Table.from_pylist(listed, pa.schema(list(zip(names, form, strict=True)))), directory / "pairs.parquet"
    )


def bad(directory: Path, lines: list[dict[str, Any]]) -> None:
    """Write `bad_rows.jsonl`."""
    (directory / "bad_rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def whole(directory: Path, extra: str = "") -> Path:
    """A directory with everything a report can show; `extra` stands in every text and name."""
    given = rows(extra)
    near = {"threshold": 0.8, "recall": 0.98, "bands": 32, "rows_per_band": 8, "pairs": 3, "clusters": 1}
    near |= {"s_curve": [[n / 20, 1 - (1 - (n / 20) ** 8) ** 32] for n in range(21)]}
    near |= {"largest_cluster": 3, "number_twins": 1}
    against = {"evaluation": f"eval/{extra}test.jsonl", "items": 20, "items_hit": 1, "share": 0.05, "flagged": True}
    stages = [("read + rules", 12, 3), ("scores", 9, 2), ("contamination", 7, 1), ("near" + extra, 6, 3)]
    milled(
        directory,
        given,
        inputs=[f"a/{extra}test.jsonl", "b/other.jsonl"],
        rows_bad=1,
        seconds=1.5,
        runner="native",
        stages=[{"name": name, "rows_in": n, "dropped": d, "seconds": 0.1} for name, n, d in stages],
        near_duplicates=near,
        contamination=[against | {"rows": 1}],
        openings={"groups": 1, "rows": 2, "largest": [{"opening": STORY + extra, "size": 2}]},
        alarms=[{"name": "source_loss" + extra, "message": f"lost most {extra}", "value": 0.9, "limit": 0.5}],
        rules=RULES | {f"no_urls{extra}": {"reason": extra, "where": f"x = '{extra}'"}},
        run=f"runs/{extra}",
        yields=[
            {
                "by": "model",
                "value": f"m{extra}",
                "rows": 12,
                "kept": 3,
                "yield": 0.25,
                "dropped": {f"empty{extra}": 9},
            },
            {"by": "model", "value": None, "rows": 0, "kept": 0, "yield": 0.0, "dropped": {}},
        ],
        balance=balance(extra),
        diversity=diversity(extra),
        lineage=lineage(extra),
    )
    a, b = (key("Count.", f"{STORY} {n} times.") for n in (18, 19))
    pairs(directory, [(given_id(given, 0), given_id(given, 2), 0.91, False), (a, b, 0.75, True)])
    bad(directory, [{"file": f"a/{extra}test.jsonl", "line": 12, "reason": f"not JSON {extra}", "text": extra}])
    return directory


def balance(extra: str) -> dict[str, Any]:
    """A `balance` of a numeric and a categorical axis, the latter moved."""
    bins = [{"from": 10.0 * n, "to": 10.0 * n + 10, "before": 0.5, "after": n} for n in range(2)]
    value = {"value": f"b/other.jsonl{extra}", "before": 0.2, "after": 0.0, "interval": [0.0, 0.05]}
    distance = {"js_distance": 0.3, "js_interval": [0.2, 0.4], "psi": 0.1}
    length = {
        "name": f"length{extra}",
        "kind": "numeric",
        "before": {"p50": 20.0},
        "after": {"p50": 21.0},
        "bins": bins,
    }
    length |= distance | {"effect_size": -0.5, "effect_interval": [-0.6, -0.4], "p_value": 0.25, "biased": False}
    source = {"name": f"source{extra}", "kind": "categorical", "values": [value], **distance, "p_value": 1e-9}
    source |= {"biased": True, "message": f"source lost its rows {extra}"}
    return {"rows": 12, "kept": 3, "sampled": 12, "axes": [length, source], "warnings": [f"source moved {extra}"]}


def diversity(extra: str) -> dict[str, Any]:
    """A `diversity` of one group, with an alarm."""
    group = {"by": "source", "name": f"a{extra}", "rows": 10, "distinct_1": 0.5, "distinct_2": 0.123, "vendi": None}
    group |= {"top_opening": f"Tell me {extra}", "top_opening_share": 0.2, "alarms": ["distinct_2"]}
    limits = {"distinct_2": {"least": 0.3, "source": f"of people{extra}"}}
    return {"sampled": 10, "groups": [group], "limits": limits, "alarms": []}


def lineage(extra: str) -> list[dict[str, Any]]:
    """A `lineage` of three steps, of which the last joins two."""
    cost = {"rows": 12, "bytes": 2_000_000, "seconds": 0.25, "peak_rss_mb": 200.0}
    files = [{"name": f"a/{extra}test.jsonl", "path": f"a/{extra}test.jsonl"}]
    both = [{"name": f"read{extra}", "key": "1"}, {"name": "index", "key": "2"}]
    return [
        {"key": "1", "name": f"read{extra}", "inputs": files, **cost, "reused": True},
        {"key": "2", "name": "index", "inputs": [], "rows": None, "bytes": None, "seconds": 0.1, "reused": False},
        {"key": "3", "name": "filter", "inputs": both, **cost, "reused": False},
    ]


def given_id(given: list[dict[str, Any]], number: int) -> str:
    """The id of a row of `rows`."""
    return key(given[number]["prompt"], given[number]["response"])
