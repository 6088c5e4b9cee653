"""Mine files: from scored tables to a table of clusters, with people's edits and a model's names.

Not covered: the search itself (`mine.py`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.formats import expand
from gristmill.loop.clusters import Node, exact_interval
from gristmill.loop.clusters_table import examples, rows_of, space_of, write_clusters
from gristmill.loop.edits import edited, read_edits, template
from gristmill.loop.failures import Failures, read_failures
from gristmill.loop.found import Cluster
from gristmill.loop.mine import Mined, Mining, mine, unclustered
from gristmill.loop.names import ask_names
from gristmill.loop.slices import WORDS
from gristmill.models.protocol import Model
from gristmill.parquet import check_replaceable
from gristmill.progress import Stages
from gristmill.rollout.groups import Solved
from gristmill.run import Run, peak_rss_mb
from gristmill.wording import prompt_text

Row = dict[str, Any]


def mine_files(
    paths: Sequence[str],
    out: Path,
    *,
    run: Run,
    mining: Mining = Mining(),  # noqa: B008  frozen
    solved: Solved | None = None,
    teacher: Sequence[str] = (),
    edits: Path | None = None,
    model: Model | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Mine `paths`, write the ranked clusters to `out`, and tell them.

    `teacher` are scored tables of another model on the same items. `edits` names the file of edits; left out it is
    `out` with the ending `.edits.yaml`, which is written where it is not there, and never changed. Returns the summary.
    """
    check_replaceable(out, "mine", force=force)
    started, stages = time.monotonic(), Stages(say)
    stages.begin("read")
    evals = read_failures(paths, solved, columns=columns, limit=limit, max_bad=max_bad)
    stages.end(f"{len(evals.items):>11,} items")
    known = {"tags", WORDS, *(name for item in evals.items for name in item["facts"])}
    if missing := next((name for name in mining.fields or () if name not in known), None):
        raise UsageError(f"--slice {missing}: no item has it; allowed are {', '.join(sorted(known))}")
    stages.begin("mine")
    mined = mine(evals, mining)
    kept = edits or out.with_suffix(".edits.yaml")
    clusters, unknown = mined.clusters, list[str]()
    if edits is not None or kept.is_file():
        clusters, unknown = edited(clusters, read_edits(kept), evals.items)
    if model is not None:
        clusters = _with_model_names(clusters, evals, mined, model)
    stages.end(f"{len(clusters):>11,} clusters")
    shares = _teacher(teacher, solved, columns) if teacher else None
    left = unclustered(clusters, evals.failed)
    rows = rows_of(clusters, left, evals, mined.looked.spaces, teacher=shares, seed=mining.seed)
    summary: dict[str, Any] = {
        "gristmill": __version__,
        "source": list(paths),
        "score": evals.score,
        "items": len(evals.items),
        "samples": sum(evals.samples),
        "unjudged": evals.unjudged,
        "rows_bad": evals.bad,
        "first_bad": evals.first_bad,
        "failures": float(evals.failed.sum()),
        "rate": float(evals.failed.mean()),
        "looked_at": len(mined.looked.scan.sets.members) + len(mined.looked.scan.sets.nearest),
        "texts": [space.name for space in mined.looked.spaces],
        "least_items": mined.looked.scan.least,
        "level": mining.level,
        "clusters": [_told(row) for row in rows[:-1]],
        "unclustered": {"items": rows[-1]["items"], "failures": rows[-1]["failures"]},
        "trees": {name: _tree_told(nodes, evals) for name, nodes in mined.looked.trees.items()},
        "edits": str(kept),
        "edits_unknown": unknown,
        "seed": mining.seed,
        "seconds": round(time.monotonic() - started, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    with space_wanted("the output", out), beside(out) as partial:
        write_clusters(rows, partial / out.name)
        if not kept.exists():
            written = partial / kept.name
            written.write_text(template(mined.clusters), encoding="utf-8")
            written.replace(kept)
        files = [path if "://" in path else str(Path(path).resolve()) for path in expand(list(paths))]
        params = {"inputs": list(paths), "files": files, "score": evals.score, "seed": mining.seed}
        run.output(out, "mine", params=params, counts={"clusters": len(clusters)}, beside=partial / out.name)
    return summary


def _with_model_names(clusters: Sequence[Cluster], evals: Failures, mined: Mined, model: Model) -> list[Cluster]:
    """The clusters under the names a model gives them; a name given by hand stays, and so does the one it replaces."""
    items = evals.items
    shown = [examples(each.members, evals, space_of(each, mined.looked.spaces)) for each in clusters]
    asked = [
        ([items[n] for n in [*each["central"], *each["borderline"]]], [items[n] for n in each["neighbour"]])
        for each in shown
    ]
    return [replace(each, model_name=said) for each, said in zip(clusters, ask_names(asked, model), strict=True)]


def _teacher(paths: Sequence[str], solved: Solved | None, columns: Mapping[str, str] | None) -> dict[str, float]:
    found = read_failures(paths, solved, columns=columns)
    return {item["key"]: float(share) for item, share in zip(found.items, found.failed, strict=True)}


def _told(row: Row) -> Row:
    """A cluster for the summary: all but the texts of its members."""
    told = {name: value for name, value in row.items() if name != "members"}
    told["members"] = [member["key"] for member in row["members"] if member["inside"]]
    told["examples"] = {
        sort: [_example(member) for member in row["members"] if member["shown"] == sort]
        for sort in ("central", "borderline", "neighbour")
    }
    return told


def _example(member: Row) -> Row:
    text = {"prompt": prompt_text(member), "response": member["response"], "reference": member["reference"]}
    return {"id": member["id"], "key": member["key"], **text}


def _tree_told(nodes: Sequence[Node], evals: Failures) -> list[Row]:
    """The nodes of a tree: parent, items, failures and the exact 95 % interval of their rate."""
    told = []
    for node in nodes:
        failures = float(evals.failed[node.members].sum())
        low, high = exact_interval(failures, len(node.members))
        told.append(
            {
                "node": node.number,
                "parent": node.parent,
                "items": len(node.members),
                "failures": failures,
                "low": low,
                "high": high,
            }
        )
    return told
