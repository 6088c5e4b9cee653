"""The figures of the report, computed from `rows.parquet` a row group at a time.

Narrow columns are read whole, texts only in small batches; nothing here grows with the number of rows except one
counter of duplicate clusters and one float per row of the distribution being drawn.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gristmill.lookup import Key, columns_of, scan

Floats = NDArray[np.float64]
BINS = 24
CLUSTERS = 8
MEMBERS = 4
_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8))


def sources(path: Path) -> list[dict[str, Any]]:
    """Per source file: rows, kept, and its share of all rows and of the kept rows; the largest first."""
    rows, kept = Counter[str](), Counter[str]()
    for table in scan(path, ["source_file", "drop_rule"]):
        for counter, part in ((rows, table), (kept, table.filter(pc.is_null(table["drop_rule"])))):
            for entry in pc.value_counts(part["source_file"]).to_pylist():
                counter[entry["values"] or "unknown"] += entry["counts"]
    all_rows, all_kept = max(rows.total(), 1), max(kept.total(), 1)
    return [
        {"file": file, "rows": n, "kept": kept[file], "share": n / all_rows, "share_kept": kept[file] / all_kept}
        for file, n in sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    ]


def distributions(path: Path, lengths: "Lengths") -> list[dict[str, Any]]:
    """A histogram of every `score_` column and of the answers' lengths: {name, edges, all, kept, …}.

    A column without a value is left out. Lengths have logarithmic bins.
    """
    names = [name for name in columns_of(path) if name.startswith("score_")]
    found = [_histogram(name, *_column(path, name), log=False) for name in names]
    found.append(_histogram("answer length in words", lengths.words, lengths.kept, log=True))
    found.append(_histogram("answer length in characters", lengths.characters, lengths.kept, log=True))
    return [each for each in found if each]


def _column(path: Path, name: str) -> tuple[Floats, NDArray[np.bool_]]:
    values, kept = [np.empty(0)], [np.empty(0, bool)]
    for table in scan(path, [name, "drop_rule"]):
        values.append(table[name].cast(pa.float64()).to_numpy())
        kept.append(pc.is_null(table["drop_rule"]).to_numpy())
    return np.concatenate(values), np.concatenate(kept)


class Lengths(NamedTuple):
    """Words and characters of each row's answer, and whether it was kept, in the order of the file."""

    words: Floats
    characters: Floats
    kept: NDArray[np.bool_]


def lengths(path: Path) -> Lengths:
    """The lengths of answers (`chosen` of preferences, the prompt where there is no answer).

    Taken from `rule_words` and `rule_chars` where every row has them; else the texts are read.
    """
    if {"rule_words", "rule_chars"} <= set(columns_of(path)):
        (words, kept), (characters, _) = (_column(path, name) for name in ("rule_words", "rule_chars"))
        if not (np.isnan(words).any() or np.isnan(characters).any()):
            return Lengths(words, characters, kept)
    return _counted(path)


def _counted(path: Path) -> Lengths:
    words, characters, kept = [np.empty(0)], [np.empty(0)], [np.empty(0, bool)]
    for batch in _texts(path):
        text = pc.fill_null(batch["text"].cast(pa.large_string()), "")
        words.append(words_of(text))
        characters.append(pc.utf8_length(text).to_numpy(zero_copy_only=False).astype(float))
        kept.append(pc.is_null(batch["drop_rule"]).to_numpy(zero_copy_only=False))
    return Lengths(np.concatenate(words), np.concatenate(characters), np.concatenate(kept))


def words_of(texts: pa.LargeStringArray) -> Floats:
    """How many words each text has; words stand between ASCII white space.

    Counted on the bytes, which takes a fraction of the time of a regular expression.
    """
    _, bounds, data = texts.buffers()
    if not len(texts) or data is None or not data.size:
        return np.zeros(len(texts))
    bounds = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    space = _SPACE[np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]]
    before = np.concatenate(([True], space[:-1]))[: len(space)]
    starts = bounds[:-1] - bounds[0]
    before[starts[starts < len(space)]] = True
    counted = np.concatenate(([0], np.cumsum(before & ~space)))
    words: Floats = np.diff(counted[bounds - bounds[0]]).astype(float)
    return words


def _texts(path: Path) -> Iterator[pa.RecordBatch]:
    names = columns_of(path)
    name = next((n for n in ("response", "chosen") if n in names), "prompt")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(8192, columns=[name, "drop_rule"]):
            text = batch[name]
            if name == "prompt":
                contents = [" ".join(m["content"] or "" for m in messages or []) for messages in text.to_pylist()]
                text = pa.array(contents, pa.large_string())
            yield pa.record_batch({"text": text, "drop_rule": batch["drop_rule"]})


def _histogram(name: str, values: Floats, kept: NDArray[np.bool_], *, log: bool) -> dict[str, Any] | None:
    known = np.isfinite(values)
    if not known.any():
        return None
    values, kept = values[known], kept[known]
    shown = np.log10(np.maximum(values, 1)) if log else values
    low, high = float(shown.min()), float(shown.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    both = [np.histogram(part, edges)[0].tolist() for part in (shown, shown[kept])]
    medians = [float(np.median(part)) if len(part) else None for part in (values, values[kept])]
    counts = {"all": both[0], "kept": both[1], "median": medians[0], "median_kept": medians[1]}
    ends = (10**edges if log else edges).tolist()
    return {"name": name, "log": log, "edges": ends, "unknown": int((~known).sum())} | counts


def clusters(path: Path) -> list[dict[str, Any]]:
    """The largest groups of duplicates: {kept: key, size (the kept row too), members: [(key, rule, similarity)]}."""
    sizes: Counter[Key] = Counter()
    members: dict[Key, list[tuple[Key, str, float]]] = defaultdict(list)
    for _, facts in _duplicates(path):
        sizes[facts["id"], facts.get("copy") or 0] += 1
    top = sorted(sizes, key=lambda key: (-sizes[key], key))[:CLUSTERS]
    for row, facts in _duplicates(path):
        key = (facts["id"], facts.get("copy") or 0)
        if key in top:
            similarity = facts.get("jaccard", row["drop_value"])
            members[key] = sorted([*members[key], ((row["id"], row["copy"]), row["drop_rule"], similarity)])[:MEMBERS]
    return [{"kept": key, "size": sizes[key] + 1, "members": members[key]} for key in top]


def _duplicates(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    rules = pa.array(["exact_duplicate", "near_duplicate", "collapsed"], pa.large_string())
    for table in scan(path, ["id", "copy", "drop_rule", "drop_value", "drop_evidence"]):
        lost = table.filter(pc.is_in(table["drop_rule"].cast(pa.large_string()), rules))
        for batch in lost.to_batches(8192):
            for row in batch.to_pylist():
                facts = _json(row["drop_evidence"])
                if isinstance(facts.get("id"), str):
                    yield row, facts


def _json(text: str | None) -> dict[str, Any]:
    try:
        facts = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return facts if isinstance(facts, dict) else {}


def flags(path: Path) -> list[dict[str, Any]]:
    """How many rows each `flag_` column marks."""
    found = []
    for name in columns_of(path):
        if name.startswith("flag_"):
            rows = sum(len(table) - table[name].null_count for table in scan(path, [name]))
            found.append({"name": name.removeprefix("flag_"), "rows": rows})
    return found


def twins(path: Path, most: int = 3) -> list[dict[str, Any]]:
    """The most similar pairs of `pairs.parquet` that differ in numbers alone; [] if there is no such file."""
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = []
    order = [("jaccard", "descending"), ("id_a", "ascending"), ("copy_a", "ascending"), ("id_b", "ascending")]
    for table in scan(path, ["id_a", "copy_a", "id_b", "copy_b", "jaccard", "same_but_numbers"]):
        numbers = table.filter(pc.equal(table["same_but_numbers"].cast(pa.bool_()), True))
        found += numbers.sort_by(order).slice(0, most).to_pylist()
    return sorted(found, key=lambda pair: (-pair["jaccard"], pair["id_a"], pair["copy_a"], pair["id_b"]))[:most]
