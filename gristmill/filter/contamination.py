"""Rows that hold an evaluation's items, by two rules on normalised words.

- `8-gram share`: more than half of an item's words are covered by 8-grams shared with one row (Tülu 3, section 3.2,
  https://arxiv.org/abs/2411.15124).
- `13-gram`: row and item share a run of 13 words (GPT-3, appendix C, https://arxiv.org/abs/2005.14165).

Departures: an 8-gram that stands in more than 10 records of one evaluation file is boilerplate and no evidence under
either rule, and the share is of the words that the other 8-grams cover. Prompt and answer are matched apart. An item
without an 8-gram of its own matches only a whole prompt (from 2 words on) or a whole answer (from 5 on). Not covered:
paraphrases and translations.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Series, col, func, lit
from daft.functions import list_count

from gristmill import progress
from gristmill.errors import BadInput
from gristmill.filter.marks import KEY, Table, evidence, findings_schema, kept, mark
from gristmill.filter.ngrams import Array, Index, Item, N, build, gram_hashes
from gristmill.filter.row_keys import keyed, keys_of
from gristmill.filter.text import TextOf, normalized_text
from gristmill.formats import Bad, expand, raw_records
from gristmill.records import kind_of

SHARE = 0.5
RUN = 13
SHORTEST = (2, 5)
"""Words from which an item without 8-grams matches a whole prompt, and a whole answer: "yes" is in every answer."""
FLAG = 0.02
"""An evaluation is flagged when more than this share of its records is hit (Tülu 3)."""

_SKIPPED = ("id", "idx", "key", "type", "level", "category", "label", "entry_point", "predictions", "kwargs", "model")


class Contamination(NamedTuple):
    """Findings with `rule_contaminated` (highest share, 0 to 1) by row number, and a dict an evaluation."""

    findings: pa.Table
    evaluations: list[dict[str, Any]]


def items_of_record(record: dict[str, Any], file: str, item: int) -> Iterator[Item]:
    """The test items of one evaluation record: each text field, each string of a list, each user or assistant message.

    Left out are ids, labels and settings by name (`_SKIPPED`, and names ending in _id or _id_list) and system prompts.
    """
    for name, value in record.items():
        if name.lower() in _SKIPPED or name.lower().endswith(("_id", "_id_list", "_type")):
            continue
        for part in value if isinstance(value, list) else [value]:
            text = part
            if isinstance(part, dict):
                if part.get("role", part.get("from")) == "system":
                    continue
                text = part.get("content", part.get("value"))
            if isinstance(text, str) and text.strip():
                yield Item(file, item, name, text)


def index_files(paths: Sequence[str]) -> Index:
    """The index of evaluation files of any format; raises BadInput for a file without a readable text."""
    items: list[Item] = []
    for path in expand(paths):
        before = len(items)
        for number, record, _ in raw_records(path):
            if isinstance(record, Bad):
                raise BadInput(f"--against {path}: record {number} cannot be read: {record.reason}")
            items += items_of_record(dict(record), path, number)
        if len(items) == before:
            raise BadInput(f"--against {path}: holds no text to compare with")
    return build(items)


def contamination_hits(table: Table, index: Index, *, carry: Sequence[str], text: TextOf = "both") -> Table:
    """The rows that share an 8-gram with an evaluation, or are a short item of it: `carry` and `hits`, lazily."""
    kind = kind_of(table.column_names)
    parts: list[TextOf] = ["prompt", "response"] if text == "both" and kind != "prompt" else [text]
    texts = [normalized_text(kind, part) for part in parts]
    words = _vocabulary(index)
    short = [_whole_items(index, words, SHORTEST[part == "response"]) for part in parts]

    @func.batch(return_dtype=DataType.from_arrow_type(_MATCH))
    def match(*columns: Series) -> pa.Array:
        rows: list[list[dict[str, Any]]] = [[] for _ in range(len(columns[0]))]
        for part, whole in zip(columns, short, strict=True):
            for row, hits in _match_batch(part.to_arrow().cast(pa.large_string()), index, words, whole):
                rows[row] += hits
        progress.advance(len(rows))
        return pa.array(rows, _MATCH)

    return table.select(*carry, match(*texts).alias("hits")).where(list_count(col("hits")) > lit(0))


def mark_contaminated(table: Table, index: Index, *, text: TextOf = "both") -> Table:
    """The table with `rule_contaminated`, and the rows that hold an evaluation's item dropped as `contaminated`.

    `rule_contaminated` is the highest share of an item found in a row that shares an 8-gram with one.
    """
    hits = contamination_hits(kept(table), index, carry=KEY, text=text).to_arrow()
    keys = keys_of(hits["id"], hits["copy"].to_numpy())
    found = contamination_findings(np.arange(len(hits)), hits["hits"].to_pylist(), index)
    return mark(table, keyed(found.findings, keys))


def contamination_findings(rows: Array, hits: list[list[dict[str, Any]]], index: Index) -> Contamination:
    """Judge the hits of kept rows: findings by row number, and what was found of each evaluation.

    An evaluation's dict has `evaluation` (its file), `items` (records), `items_hit`, `share` (of the items), `rows`
    (that drop for it) and `flagged`.
    """
    words = _vocabulary(index).to_pylist()
    findings, items, dropped = [], defaultdict(set), Counter[str]()
    for row, its_hits in zip(rows.tolist(), hits, strict=True):
        finding = {"row": row, "rule_contaminated": max((h["share"] for h in its_hits), default=0.0)}
        fatal = [h for h in its_hits if h["share"] > SHARE or h["run"] >= RUN]
        for hit in fatal:
            items[str(index.files[hit["item"]])].add(int(index.numbers[hit["item"]]))
        dropped.update({str(index.files[h["item"]]) for h in fatal})
        if fatal:
            best = min(fatal, key=lambda h: (-h["share"], -h["run"], h["item"], h["at"]))
            finding |= _drop(best, index, words)
        findings.append(finding)
    evaluations = []
    for file in sorted(set(index.files.tolist())):
        total = len(set(index.numbers[index.files == file].tolist()))
        share = len(items[file]) / total
        evaluations.append(
            {"evaluation": file, "items": total, "items_hit": len(items[file]), "share": share}
            | {"rows": dropped[file], "flagged": share > FLAG}
        )
    return Contamination(pa.Table.from_pylist(findings, schema=_FINDINGS).sort_by("row"), evaluations)


_FINDINGS = findings_schema(rule_contaminated=pa.float64())


def _vocabulary(index: Index) -> pa.Array:
    """The words of an index in order of their numbers."""
    return pa.array(bytes(index.vocabulary).decode().split("\n"), pa.large_string())


_HIT = [("item", pa.int64()), ("share", pa.float64()), ("run", pa.int64()), ("at", pa.int64()), ("whole", pa.bool_())]
_MATCH = pa.large_list(pa.struct(_HIT))


def _whole_items(index: Index, words: pa.Array, shortest: int) -> dict[str, list[int]]:
    """The items no 8-gram can find, by their text."""
    whole: dict[str, list[int]] = defaultdict(list)
    for i in np.flatnonzero((np.diff(index.starts) >= shortest) & (index.covered == 0)):
        tokens = index.tokens[index.starts[i] : index.starts[i + 1]]
        whole[" ".join(words.take(pa.array(tokens)).to_pylist())].append(int(i))
    return whole


def _match_batch(
    texts: pa.Array, index: Index, words: pa.Array, short: dict[str, list[int]]
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Rows of a batch that share an 8-gram, or are a short item, each with its hits."""
    if short:
        whole = pc.is_in(texts, value_set=pa.array(list(short), pa.large_string())).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(whole):
            found = short[texts[row].as_py()]
            yield int(row), [_hit(i, 1.0, _length(index, i), int(index.starts[i]), True) for i in found]
    if not len(index.hashes) or not len(texts):
        return
    split = pc.split_pattern(texts, " ")
    tokens = pc.fill_null(pc.index_in(split.flatten(), value_set=words), -1).to_numpy().astype(np.int64)
    owner = pc.list_parent_indices(split).to_numpy()
    hashes = gram_hashes(tokens)
    unknown = np.concatenate([[0], np.cumsum(tokens < 0)])
    # Most 8-grams hold a word the evaluation has not, or run over the end of their row: these need no search.
    spots = np.flatnonzero((unknown[N:] == unknown[:-N]) & (owner[: len(hashes)] == owner[len(owner) - len(hashes) :]))
    at = np.minimum(np.searchsorted(index.hashes, hashes[spots]), len(index.hashes) - 1)
    spots = spots[index.hashes[at] == hashes[spots]]
    for some in np.split(spots, np.searchsorted(owner[spots], np.arange(_ROWS, len(texts), _ROWS))):
        yield from _shared(some, owner, tokens, hashes, index)


_ROWS = 512
"""Rows whose shared 8-grams are compared at once, which may stand in an evaluation many times."""


def _shared(
    spots: Array, owner: Array, tokens: Array, hashes: Array, index: Index
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The items that rows share verified 8-grams with, those of a row together: share and longest run of each.

    `spots` are where the rows' words (`tokens`, of the row `owner`) begin an 8-gram whose hash the index has.
    """
    spot, place = _pairs(spots, tokens, hashes, index)
    row, item = owner[spot], np.searchsorted(index.starts, place, "right") - 1
    # One after the other: of a row and an item the 8-grams that follow each other in both.
    order = np.lexsort((place, place - spot, item, row))
    row, item, place, apart = row[order], item[order], place[order], (place - spot)[order]
    first = _changes(row) | _changes(item)
    match = np.cumsum(first) - 1
    begins = np.flatnonzero(first | _changes(apart) | _changes(place - np.arange(len(place))))
    lengths = np.diff(begins, append=len(place)) + N - 1
    longest = np.lexsort((place[begins], -lengths, match[begins]))
    longest = longest[_changes(match[begins][longest])]
    covered = _covered(match, place)
    hits: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for here, i, words, at, run in zip(
        row[first].tolist(), item[first], covered, place[begins[longest]], lengths[longest], strict=True
    ):
        hits[here].append(_hit(i, int(words) / int(index.covered[i]), run, at, False))
    yield from hits.items()


def _pairs(spots: Array, tokens: Array, hashes: Array, index: Index) -> tuple[Array, Array]:
    """Where rows have an 8-gram, and where the index has the same, word for word."""
    left, right = (np.searchsorted(index.hashes, hashes[spots], side) for side in ("left", "right"))
    counts = right - left
    spot = np.repeat(spots, counts)
    place = index.places[np.repeat(right - np.cumsum(counts), counts) + np.arange(len(spot))]
    same = np.ones(len(spot), bool)
    for word in range(N):
        same &= index.tokens[place + word] == tokens[spot + word]
    return spot[same], place[same]


def _covered(match: Array, place: Array) -> Array:
    """How many words of its item the 8-grams of each match cover."""
    order = np.lexsort((place, match))
    match, place = match[order], place[order]
    new = np.full(len(place), N)  # words an 8-gram covers that the ones after it do not
    new[:-1][match[1:] == match[:-1]] = np.minimum(np.diff(place), N)[match[1:] == match[:-1]]
    return np.bincount(match, new).astype(np.int64)


def _changes(values: Array) -> Array:
    """Which values differ from the one before; the first does."""
    changed = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _length(index: Index, item: int) -> int:
    return int(index.starts[item + 1] - index.starts[item])


def _hit(item: int, share: float, run: int, at: int, whole: bool) -> dict[str, Any]:
    return {"item": int(item), "share": share, "run": int(run), "at": int(at), "whole": whole}


def _drop(hit: dict[str, Any], index: Index, words: list[str]) -> dict[str, Any]:
    by_share = hit["share"] > SHARE
    item, at, run = hit["item"], hit["at"], hit["run"]
    facts = {
        "file": str(index.files[item]),
        "item": int(index.numbers[item]),
        "field": str(index.fields[item]),
        "rule": "8-gram share" if by_share else "13-gram",
        "share": hit["share"],
        "span": " ".join(words[t] for t in index.tokens[at : at + run]),
        "length": run,
    }
    value, limit = (hit["share"], SHARE) if by_share else (float(run), float(RUN))
    return {"drop_rule": "contaminated", "drop_value": value, "drop_limit": limit, "drop_evidence": evidence(**facts)}
