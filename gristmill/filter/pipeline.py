"""The whole filter, from files to a directory: rules, scores, contamination, exact, near, openings, in that order.

Each stage sees what the earlier ones kept; every measured value is stored on its row, and no row is deleted. The stages
are steps of a run (`stages.py`): a filter that was killed goes on after the last finished one, and one with other
thresholds measures again only what those change. The output directory appears by a rename when all of it is written.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import daft
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from gristmill import __version__, progress
from gristmill.beside import beside, move
from gristmill.disk import space_wanted
from gristmill.errors import BadInput, UsageError
from gristmill.files import BAD, ORDER, check_bad
from gristmill.filter import stages
from gristmill.filter.bands import bands_for
from gristmill.filter.contamination import contamination_findings, index_files
from gristmill.filter.duplicates import followed
from gristmill.filter.limits import Rule, describe, rules_of
from gristmill.filter.marks import Table
from gristmill.filter.near import PAIRS, NearFindings
from gristmill.filter.ngrams import Index
from gristmill.filter.output import write_rows
from gristmill.filter.rules import DEFAULT_RULES
from gristmill.filter.scores import keep_top_findings, minimum_findings
from gristmill.filter.signatures import Signed
from gristmill.filter.stratify import stratify_findings, stratum_of
from gristmill.filter.text import TextOf
from gristmill.filter.work import Work, work_of
from gristmill.formats import BROKEN, expand
from gristmill.ledger import Output, StepRecord
from gristmill.progress import Say, Stages
from gristmill.run import Run, peak_rss_mb

OUTPUTS = {
    *("rows.parquet", "kept.parquet", "kept.jsonl", "pairs.parquet"),
    *("bad_rows.jsonl", "summary.json", "report.html"),
}
"""The files of an output directory."""

ALARMS = ("bias", "broken_file", "collapse", "large_cluster", "source_loss", "stratum_lost")


@dataclass(frozen=True)
class Settings:
    """What `filter_files` does, with the defaults of the command line."""

    rules: Sequence[Rule] = DEFAULT_RULES
    exact: bool = True
    near: float | None = 0.8
    recall: float = 0.99
    numbers: Literal["guard", "merge"] = "guard"
    boilerplate: float | None = None
    collapse: Literal["report", "mark"] = "report"
    against: Sequence[str] = ()
    minimum: Mapping[str, float] = field(default_factory=dict)
    keep_unjudged: bool = False
    keep_top: tuple[float, str] | None = None
    prefer: str | None = None
    text: TextOf = "both"
    columns: Mapping[str, str] = field(default_factory=dict)
    max_bad: float = 0.01
    limit: int | None = None
    stratify: str | None = None

    @property
    def scores(self) -> list[str]:
        """The scores named anywhere, so that the reader carries them."""
        named = [*self.minimum, *([self.keep_top[1]] if self.keep_top else []), *([self.prefer] if self.prefer else [])]
        return list(dict.fromkeys(named))

    def json(self) -> dict[str, Any]:
        """The settings as plain values, to be written down."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rules"}
        return plain | {"rules": describe(self.rules)}

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Settings":
        """The settings that `json` wrote down; raises UsageError for a rule whose function is gone."""
        top = written["keep_top"]
        return cls(**{**written, "rules": rules_of(written["rules"]), "keep_top": tuple(top) if top else None})


def filter_files(
    inputs: Sequence[str],
    out: str | Path,
    settings: Settings = Settings(),
    *,
    run: Run | None = None,
    before: Output | None = None,
    force: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Filter files into the directory `out` and return its `summary.json` as a dict.

    Writes `rows.parquet` (all rows), `kept.parquet`, `kept.jsonl` (for trainers), `pairs.parquet` (near-duplicate
    pairs), `bad_rows.jsonl`, `summary.json` and `report.html`. An `out` that a filter wrote before is replaced;
    anything else is refused unless `force`. `run` remembers the stages; without one they are forgotten at the end.
    `say` is told of each stage as it ends; within `progress.shown` the one under way is shown too.

    With `before`, a filter that `run` remembers, no file is read: its rows are judged anew by `settings`, of which
    `columns`, `limit` and the rules that mask must be as they were.

    Raises BadInput when a file or more rows than `settings.max_bad` cannot be read (they are listed in
    `OUT.bad_rows.jsonl`), or when no row is usable, UsageError for settings that do not fit the data, and OutOfSpace
    for a full disk.
    """
    from gristmill.report.html import write_report  # plots are slow to import

    started = time.monotonic()
    out = Path(out).resolve() if "://" not in str(out) else Path(out)
    check_replaceable(out, force)
    read = settings.against if before else [*inputs, *settings.against]
    if inside := [path for path in expand(read) if Path(path).resolve().is_relative_to(out)]:
        raise UsageError(f"-o {out} would replace the input {inside[0]}; name another directory")
    index = index_files(settings.against) if settings.against else None  # first: a wrong path should cost no reading
    with space_wanted("the output", out, kept=run is not None), beside(out) as partial:
        try:
            mill = _Mill(run or Run(partial / "run"), settings, Stages(say))
            table, ruled_by = mill.read(inputs) if before is None else mill.remembered(before)
            summary: dict[str, Any] = {
                "gristmill": __version__,
                "inputs": list(inputs),
                "run": str(run.path) if run else None,
            }
            summary |= mill.filter(table, ruled_by, partial, index)
            summary["seconds"] = round(time.monotonic() - started, 2)
            summary["peak_rss_mb"] = round(peak_rss_mb(), 1)
            (partial / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
            mill.stages.begin("report")
            write_report(partial)
        except BadInput as error:
            listed = partial / "bad_rows.jsonl"
            if not listed.exists() or not listed.stat().st_size:
                raise
            saved = listed.rename(out.with_name(f"{out.name}.bad_rows.jsonl"))
            raise BadInput(f"{error}; all of them: {saved}") from None
        finally:
            progress.end()
        shutil.rmtree(partial / "run", ignore_errors=True)
        if run:
            _remembered(run, mill, out, partial, summary)
        else:
            move(partial, out)
    return summary


def check_replaceable(out: Path, force: bool) -> None:
    """Raise UsageError if `out` exists and neither is empty, nor was written by a filter, nor is forced."""
    if "://" in str(out):
        raise UsageError(f"-o {out}: filter writes to a local directory; name one")
    if out.is_file():
        raise UsageError(f"-o {out} is a file; name a directory")
    if not force and out.exists() and any(out.iterdir()) and not _is_ours(out):
        raise UsageError(f"-o {out} holds files that gristmill filter did not write; name another, or add --force")


def _is_ours(out: Path) -> bool:
    """Whether a filter wrote the directory, and all that is in it."""
    try:
        written = "gristmill" in orjson.loads((out / "summary.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return written and {path.name for path in out.iterdir()} <= OUTPUTS


class _Mill:
    """One filter under way: the rows still kept, and what the stages found."""

    def __init__(self, run: Run, settings: Settings, stages: Stages):
        self.run, self.settings, self.stages = run, settings, stages
        self.before = len(run.steps)  # of other filters
        self.read_by = settings
        self.findings: list[pa.Table] = []
        self.done: list[dict[str, Any]] = []
        judged = any(rule.action == "drop" for rule in settings.rules)  # else rows leave the stage as they were read
        self.stages.begin("read + rules", at="rows" if judged else "read")

    @property
    def steps(self) -> list[StepRecord]:
        """The steps of this filter."""
        return self.run.steps[self.before :]

    def read(self, inputs: Sequence[str]) -> tuple[Table, Sequence[Rule]]:
        """The work table of files, and the rules by which its rows were judged."""
        settings = self.settings
        table = self.run.step(
            stages.read,
            expand(inputs),
            columns=settings.columns,
            scores=settings.scores,
            limit=settings.limit,
            rules=settings.rules,
        )
        return table, settings.rules

    def remembered(self, before: Output) -> tuple[Table, Sequence[Rule]]:
        """The work table of an earlier filter, and the rules by which its rows were judged."""
        self.read_by = Settings.of(before.params["read"])
        return self.run.result(before.inputs[0]), self.read_by.rules

    def filter(self, table: Table, ruled_by: Sequence[Rule], partial: Path, index: Index | None) -> dict[str, Any]:
        """Run the stages, write the tables into `partial`, and return the summary but for time and memory."""
        settings = self.settings
        work = self._numbered(table, ruled_by, partial)
        found = self._judged(table, work, index, partial)
        if settings.stratify:
            self.stages.begin("stratify", len(work))
            strata = stratum_of(work, settings.stratify)
            score = None if settings.prefer is None else _score(work, settings.prefer)
            stratified = stratify_findings(work.keys, strata, self.kept, score)
            found["alarms"] += stratified.alarms
            self._end(stratified.findings)
        self.stages.begin("write", len(work))
        written = write_rows(work, self.findings, partial)
        self.stages.end(f"{len(work):>11,} rows")
        broken = [
            {"name": "broken_file", "message": f"{row['source_file']}: {row[BAD]}", "value": 1.0, "limit": 0.0}
            for row in work.bad
            if row[BAD].startswith(BROKEN)
        ]
        return {
            "kind": work.kind,
            "rows_in": len(work),
            "rows_bad": len(work.bad),
            **written._asdict(),
            "rules": describe(settings.rules) | _stage_rules(settings),
            **found,
            "runner": daft.get_or_create_runner().name,
            "stages": self.done,
            "alarms": broken + found["alarms"] + written.balance["alarms"] + written.diversity["alarms"],
            "lineage": [_lineage(step) for step in self.steps],
            "yield": written.rows_kept / len(work),
        }

    def _numbered(self, table: Table, ruled_by: Sequence[Rule], partial: Path) -> Work:
        """The rows of the work table by number; what is bad is set aside."""
        work = work_of(table, self.run.files(table))
        with (partial / "bad_rows.jsonl").open("wb") as file:
            for row in work.bad:
                line = {"file": row["source_file"], "line": row["source_row"], "reason": row[BAD]}
                file.write(orjson.dumps(line) + b"\n")
        check_bad(
            len(work.bad), len(work) + len(work.bad), self.settings.max_bad, first=work.bad[0] if work.bad else None
        )
        ruled = work.ruled
        if list(ruled_by) != list(self.settings.rules):
            progress.expect(len(work))
            judged = self.run.step(stages.judge, table, rules=self.settings.rules, before=ruled_by)
            ruled = work.findings(ds.dataset(self.run.files(judged), format="parquet").to_table())
        self.kept = np.ones(len(work), bool)
        self._end(ruled, f"{len(work.bad):,} bad rows")
        return work

    def _judged(self, table: Table, work: Work, index: Index | None, partial: Path) -> dict[str, Any]:
        """The stages that compare rows with limits, with each other or with an evaluation; what they found besides."""
        self._by_scores(work)
        contamination = [] if index is None else self._by_evaluations(table, work, index)
        settings = self.settings
        bands = None if settings.near is None else bands_for(settings.near, settings.recall)
        self.stages.begin("signatures", len(work))
        signatures = self.run.step(
            stages.signatures, table, text=settings.text, bands=bands, boilerplate=settings.boilerplate
        )
        self.stages.end(f"{len(work):>11,} rows")
        if settings.exact:
            self.stages.begin("exact", len(work))
            self._end(self.run.step(stages.exact, signatures, **self._compared(work, signatures)))
        near = None if settings.near is None else self._near(table, work, signatures)
        pq.write_table(PAIRS.empty_table() if near is None else near.pairs, partial / "pairs.parquet")
        self.stages.begin("openings", len(work))
        openings = self.run.step(
            stages.openings,
            table,
            signatures,
            drop=settings.collapse == "mark",
            _work=work,
            **self._compared(work, signatures),
        )
        self._end(openings.findings)
        return {
            "contamination": contamination,
            "near_duplicates": near and near.report,
            "alarms": [*near.report["alarms"]] if near else [],
            "openings": openings.report,
        }

    def _by_scores(self, work: Work) -> None:
        """Drop rows whose score is too low."""
        settings = self.settings
        if settings.minimum:
            rows = np.flatnonzero(self.kept)
            self.stages.begin("scores", len(rows))
            self._end(minimum_findings(work.scores, rows, settings.minimum, settings.keep_unjudged))
        if settings.keep_top:
            fraction, name = settings.keep_top
            rows = np.flatnonzero(self.kept)
            score = _score(work, name)
            self.stages.begin("keep-top", len(rows))
            self._end(keep_top_findings(work.keys, rows, score, fraction, name, settings.keep_unjudged))

    def _by_evaluations(self, table: Table, work: Work, index: Index) -> list[dict[str, Any]]:
        """Drop rows that hold test items; what is told of each evaluation."""
        against = expand(self.settings.against)
        self.stages.begin("contamination", len(work))
        hits = self.run.step(stages.contamination, table, against, text=self.settings.text, _index=index)
        hits = ds.dataset(self.run.files(hits), format="parquet").to_table()
        hits = hits.filter(pa.array(self.kept[work.numbers(hits[ORDER])]))
        judged = contamination_findings(work.numbers(hits[ORDER]), hits["hits"].to_pylist(), index)
        self._end(judged.findings)
        return judged.evaluations

    def _near(self, table: Table, work: Work, signatures: Table) -> NearFindings:
        """Drop near duplicates."""
        settings, before = self.settings, self.kept
        self.stages.begin("near", len(work))
        near: NearFindings = self.run.step(
            stages.near,
            table,
            signatures,
            threshold=settings.near,
            recall=settings.recall,
            numbers=settings.numbers,
            text=settings.text,
            boilerplate=settings.boilerplate,
            _work=work,
            **self._compared(work, signatures),
        )
        if settings.exact:  # an equal of a row that falls to a third is a duplicate of the third
            self.findings[-1] = followed(self.findings[-1], near.findings, self._signed(work, signatures, before))
        self._end(near.findings)
        return near

    def _compared(self, work: Work, signatures: Table) -> dict[str, Any]:
        """The parameters of a stage that compares the rows kept so far."""
        prefer = self.settings.prefer
        return {"kept": self.kept, "prefer": prefer, "_signed": self._signed(work, signatures, self.kept)}

    def _signed(self, work: Work, signatures: Table, kept: Any) -> Signed:
        lines = ds.dataset(self.run.files(signatures), format="parquet")
        rows = work.numbers(lines.to_table(columns=[ORDER])[ORDER])
        prefer = self.settings.prefer
        return Signed(lines, rows, work.keys, kept, None if prefer is None else _score(work, prefer))

    def _end(self, findings: pa.Table, note: str = "") -> None:
        """Take what a stage found."""
        rows = findings["row"].to_numpy()[pc.is_valid(findings["drop_rule"]).to_numpy()]
        rows_in = int(self.kept.sum())
        self.kept = self.kept.copy()
        self.kept[rows] = False
        self.findings.append(findings)
        seconds = self.stages.end(f"{rows_in:>11,} rows  {len(rows):>10,} dropped", note)
        self.done.append({"name": self.stages.name, "rows_in": rows_in, "dropped": len(rows), "seconds": seconds})


def _remembered(run: Run, mill: "_Mill", out: Path, partial: Path, summary: Mapping[str, Any]) -> None:
    """Put the output in its place, and write the filter down in its run.

    First of its inputs is the work table, and the parameters say by which settings that was read.
    """
    steps = [step.key for step in mill.steps]
    params = {"inputs": summary["inputs"], "settings": mill.settings.json(), "read": mill.read_by.json()}
    counts = {name: summary[name] for name in ("rows_in", "rows_kept", "rows_bad", "dropped")}
    run.output(out, "filter", inputs=list(dict.fromkeys(steps)), params=params, counts=counts, beside=partial)


def _lineage(step: StepRecord) -> dict[str, Any]:
    """A step as `summary.json` tells it."""
    names = ("key", "name", "inputs", "rows", "bytes", "seconds", "peak_rss_mb", "reused")
    return {name: getattr(step, name) for name in names}


def _score(work: Work, name: str) -> Any:
    """A score by row number; raises UsageError for one the rows do not have."""
    if name not in work.scores:
        raise UsageError(f"score {name!r}: no row has it; the scores are {', '.join(work.scores) or '(none)'}")
    return work.scores[name]


def _stage_rules(settings: Settings) -> dict[str, Any]:
    """The parameters of the stages that compare, as `summary.json` names them."""
    rules: dict[str, Any] = {}
    for name, limit in settings.minimum.items():
        rules[f"below_{name}"] = {"measures": {f"score_{name}": {"min": limit}}}
        if not settings.keep_unjudged:
            rules[f"unjudged_{name}"] = {}
    if settings.keep_top:
        rules.setdefault(f"below_{settings.keep_top[1]}", {})["keep_top"] = settings.keep_top[0]
    if settings.against:
        rules["contaminated"] = {"against": list(settings.against), "text": settings.text}
    if settings.exact:
        rules["exact_duplicate"] = {"text": settings.text, "prefer": settings.prefer}
    if settings.near is not None:
        names = ("near", "recall", "numbers", "boilerplate", "text", "prefer")
        rules["near_duplicate"] = {name: getattr(settings, name) for name in names}
    rules["collapsed"] = {"collapse": settings.collapse, "characters": 200}
    if settings.stratify:
        rules["stratified"] = {"stratify": settings.stratify}
    return rules
