"""A dataset card: what a set is, where it came from, what it took, and what it is not.

Markdown with the front matter that Hugging Face's hub reads (https://huggingface.co/docs/hub/datasets-cards). What only
people can know (licence, language, intended use) is left to be filled in, and says so.

Not covered: figures about the text (`gristmill filter` reports them).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from gristmill import __version__
from gristmill.ledger import Output
from gristmill.run import Run

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's size categories."""


class Facts:
    """What is counted of the rows of a set."""

    def __init__(self) -> None:
        self.rows = 0
        self.models: Counter[str] = Counter()
        self.temperatures: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()
        self.tokens_in = self.tokens_out = 0
        self.cost = 0.0
        self.reasoning = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        self.rows += 1
        self.models[row.get("model") or "not recorded"] += 1
        self.tags.update(row.get("tags") or ())
        self.tokens_in += row.get("tokens_in") or 0
        self.tokens_out += row.get("tokens_out") or 0
        self.reasoning += bool(row.get("reasoning"))
        if sampling := row.get("sampling"):
            self.temperatures[str(orjson.loads(sampling).get("temperature", "the server's own"))] += 1
        if meta := row.get("meta"):
            self.cost += orjson.loads(meta).get("cost") or 0.0


def card(out: Path, to: str, facts: Facts, inputs: Sequence[str], run: Run) -> str:
    """The card of a file that was just written."""
    stages, origins = _ancestors(inputs, run)
    size = next((name for bound, name in SIZES if facts.rows < bound), "n>1M")
    lines = [
        "---",
        "license: unknown  # fill in: the strictest of the sources' licences, and the terms of the models",
        "language: []  # fill in",
        f"size_categories: [{size}]",
        "tags: [gristmill]",
        "---",
        f"# {out.stem}",
        "",
        f"{facts.rows:,} rows for `{to}`, made by Gristmill {__version__}.",
        "",
        "## Stages",
        "",
        "| stage | output | rows | dropped, by reason |",
        "|---|---|---:|---|",
        *map(_stage, stages),
        f"| export | {out.name} | {facts.rows:,} | |",
        "",
        "## Sources",
        "",
        *(f"- {origin}" for origin in origins),
        "",
        "## Models and settings",
        "",
        *_table("model", facts.models),
        "",
        *(_table("temperature", facts.temperatures) if facts.temperatures else ["No sampling is recorded."]),
        "",
        f"Tokens: {facts.tokens_in:,} in, {facts.tokens_out:,} out. Cost of the rows kept: "
        f"{f'{facts.cost:.4f}' if facts.cost else 'not recorded'}.",
        f"Rows with reasoning: {facts.reasoning:,} ({facts.reasoning / facts.rows if facts.rows else 0:.0%}).",
        "",
        *(["## Tags", "", *_table("tag", facts.tags), ""] if facts.tags else []),
        "## Licence and use",
        "",
        "- Licence of each source: fill in.",
        "- Terms of the models that wrote rows (some forbid training others on their output): fill in.",
        "- Personal data: fill in what was checked.",
        "",
        "## Known limits",
        "",
        "- Model-written text repeats the mistakes and manners of its model, also where a verifier found it right.",
        "- Filters judge by what they measure: see the balance in the filter's report for what they favour.",
    ]
    return "\n".join(lines) + "\n"


def _ancestors(inputs: Sequence[str], run: Run) -> tuple[list[Output], list[str]]:
    """The run's outputs that lead to these files, oldest first, and the files that they began from."""
    known = {each.path: each for each in run.outputs()}
    found: dict[str, Output] = {}
    origins: list[str] = []
    todo = list(inputs)
    while todo:
        name = todo.pop()
        path = name if "://" in name else str(Path(name).resolve())
        made = next((known[p] for p in (path, str(Path(path).parent)) if p in known), None)
        if made is None:
            origins.append(name)
        elif made.path not in found:
            found[made.path] = made
            todo += [each for each in made.params.get("inputs", ()) if isinstance(each, str)]
    return sorted(found.values(), key=lambda each: each.created), sorted(set(origins))


def _stage(made: Output) -> str:
    rows = next((made.counts[name] for name in ("rows_kept", "rows") if made.counts.get(name) is not None), "")
    dropped = made.counts.get("dropped") or {}
    reasons = ", ".join(f"{rule} {count:,}" for rule, count in dropped.items()) if isinstance(dropped, dict) else ""
    told = f"{rows:,}" if isinstance(rows, int) else str(rows)
    return f"| {made.name} | {Path(made.path).name} | {told} | {reasons} |"


def _table(what: str, counts: Counter[str]) -> list[str]:
    return [f"| {what} | rows |", "|---|---:|", *(f"| {name} | {count:,} |" for name, count in counts.most_common(20))]
