"""`gristmill mix`, whole: a mix file to one Parquet file or a directory of parts, and what became of every source.

The output is written beside its place and renamed, then registered with the run; the shares of every mix stay in the
ledger, so that one that is used again after newer evaluations is told to be stale.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.generate.estimate import CHARACTERS_A_TOKEN
from gristmill.mix.draw import Drawn, draw
from gristmill.mix.mix_file import GENERAL, MixFile
from gristmill.mix.mixture import mixture, ordered, parts_of, schema_of
from gristmill.mix.resolve import Resolved, by_kind, resolve
from gristmill.mix.source import Rows, open_source
from gristmill.parquet import MARK, Writer, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.run import Run, peak_rss_mb
from gristmill.runner import bounded, plain_errors

PART_ROWS = 1_000_000
"""Rows of a part of a directory."""


def mix_files(
    mix: MixFile,
    out: Path,
    *,
    run: Run,
    max_bad: float = 0.01,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write the mix to `out` (a .parquet file, or a directory of parts) and return what there is to tell.

    Raises UsageError for a mix that cannot be, BadInput for a source with too many bad rows (`max_bad`, a share).
    """
    _check(out, force)
    started, stages = time.monotonic(), Stages(say)
    stages.begin("read")
    with plain_errors(), bounded():
        sources = [open_source(source, mix, run, max_bad=max_bad) for source in mix.sources]
    _check_kinds(sources)
    stages.end(f"{sum(map(len, sources)):>11,} rows", f"{len(sources)} sources")
    each = CHARACTERS_A_TOKEN if mix.by == "tokens" else 1
    size = mix.tokens * each if mix.tokens else mix.rows
    sizes = {rows.source.name: int(rows.size.sum()) for rows in sources}
    resolved = resolve(mix, sizes, total=size, unit=mix.by, each=each)
    drawn = draw(sources, resolved.quotas, mix)
    count = sum(len(part.rows) for part in drawn.values())
    stages.begin("mix", count)
    schema = schema_of(sources)
    with space_wanted("the output", out), beside(out) as partial, plain_errors(), bounded():
        table = mixture(parts_of(sources, drawn), schema, mix)
        _write(ordered(table), partial / out.name, marked(schema))
        told = _told(mix, sources, resolved, drawn)
        told["notes"] += stale(run, told["kinds"])
        params = {"mix": mix.model_dump(exclude_defaults=True), "kinds": told["kinds"], "sources": told["sources"]}
        run.output(out, "mix", params=params, counts={"rows": count}, beside=partial / out.name)
    stages.end(f"{count:>11,} rows")
    return {
        "gristmill": __version__,
        **told,
        "seconds": round(time.monotonic() - started, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def stale(run: Run, kinds: Mapping[str, float]) -> list[str]:
    """A note if the last mix of the run had the same shares and evaluations have been made since."""
    outputs = run.outputs()
    last = next((each for each in reversed(outputs) if each.name == "mix"), None)
    if last is None or {k: round(v, 4) for k, v in last.params.get("kinds", {}).items()} != {
        kind: round(share, 4) for kind, share in kinds.items()
    }:
        return []
    newer = [each for each in outputs if each.name == "eval" and each.created > last.created]
    if not newer:
        return []
    return [
        f"stale: the shares of {Path(last.path).name} ({last.created[:10]}) again, and {len(newer)} evaluations are "
        f"newer, the last {newer[-1].path}; tune the mix with --tune"
    ]


def _write(tables: Iterator[pa.Table], path: Path, schema: pa.Schema) -> None:
    """A file, or for a path without `.parquet` a directory of parts of at most `PART_ROWS` rows."""
    single, written = path.suffix == ".parquet", 0
    if not single:
        path.mkdir()
    with ExitStack() as opened:
        writer = None
        for table in tables:
            while len(table):
                if writer is None or (not single and written % PART_ROWS == 0):
                    opened.close()
                    writer = opened.enter_context(Writer(_part(path, written), schema))
                size = len(table) if single else min(len(table), PART_ROWS - written % PART_ROWS)
                writer.write(table.slice(0, size))
                table, written = table.slice(size), written + size
        if writer is None:
            opened.enter_context(Writer(_part(path, 0), schema)).write(schema.empty_table())


def _part(path: Path, written: int) -> Path:
    return path if path.suffix == ".parquet" else path / f"part-{written // PART_ROWS:05}.parquet"


def _check(out: Path, force: bool) -> None:
    """Raise UsageError if `out` may not be written."""
    if out.suffix == ".parquet":
        check_replaceable(out, "mix", force=force)
    elif out.suffix or "://" in str(out):
        raise UsageError(f"-o {out}: mix writes a local .parquet file or a directory of parts; name one")
    elif out.is_file():
        raise UsageError(f"-o {out}: a file; name a directory or a .parquet file")
    elif out.exists() and not force and (files := sorted(out.iterdir())):
        first = out / "part-00000.parquet"
        if first not in files or MARK not in (pq.read_schema(first).metadata or {}):
            raise UsageError(f"-o {out}: holds files that gristmill mix did not write; name another, or add --force")


def _check_kinds(sources: Sequence[Rows]) -> None:
    kinds = {rows.kind: rows.source.name for rows in reversed(sources)}
    if len(kinds) > 1 and kinds.keys() != {"prompt", "sample"}:
        (one, here), (other, there) = sorted(kinds.items())[:2]
        raise UsageError(f"source {here} holds {one} rows and {there} {other} rows; mix the two kinds apart")


def _told(mix: MixFile, sources: Sequence[Rows], resolved: Resolved, drawn: Mapping[str, Drawn]) -> dict[str, Any]:
    """What became of every source, by itself and by kind, as JSON."""
    total = sum(part.size for part in drawn.values())
    each = CHARACTERS_A_TOKEN if mix.by == "tokens" else 1
    told = [_of_source(rows, resolved, drawn[rows.source.name], total, mix) for rows in sources]
    shares = {rows.source.name: drawn[rows.source.name].size / max(total, 1) for rows in sources}
    kinds = by_kind(mix, shares)
    reasoned = sum(
        int(rows.size[part.rows][np.array([reasons for _, reasons in rows.cells])[rows.cell[part.rows]]].sum())
        for rows in sources
        for part in [drawn[rows.source.name]]
    )
    return {
        "name": mix.name,
        "seed": mix.seed,
        "by": mix.by,
        "rows": sum(len(part.rows) for part in drawn.values()),
        **({"tokens": round(total / each)} if mix.by == "tokens" else {}),
        "kinds": kinds,
        "task_specific": 1 - kinds.get(GENERAL, 0.0),
        "reasoning": reasoned / max(total, 1) if mix.reasoning is not None else None,
        "sources": told,
        "notes": resolved.notes,
    }


def _of_source(rows: Rows, resolved: Resolved, part: Drawn, total: int, mix: MixFile) -> dict[str, Any]:
    each = CHARACTERS_A_TOKEN if mix.by == "tokens" else 1
    times = np.bincount(part.rows, minlength=len(rows))
    left, repeated = int((times == 0).sum()), int((times > 1).sum())
    whole = int(rows.size.sum())
    why = []
    if left:
        capped = rows.source.cap is not None and part.size >= rows.source.cap * each - each
        why.append(f"{left:,} left out: {'the cap' if capped else 'its share is full'}")
    if repeated:
        why.append(f"{repeated:,} repeated: {part.size / whole:.2f} times what it has is its share")
    return {
        "name": rows.source.name,
        "kind": rows.source.kind,
        "share_asked": resolved.shares[rows.source.name],
        "share": part.size / max(total, 1),
        "rows": len(part.rows),
        "available": len(rows),
        "epochs": part.size / whole,
        "most_times": int(times.max(initial=0)),
        "repeated": repeated,
        "left_out": left,
        "rows_bad": rows.bad,
        "why": "; ".join(why),
    }
