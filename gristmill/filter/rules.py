"""Rules: drop rows that one look at the row shows to be bad.

A rule is a name and limits on measures (`limits.py`). Every measure is stored on the row as `rule_<measure>`, so limits
can be moved without measuring again; the first rule, in the order of the list, whose limits a row breaks becomes its
`drop_rule`. Rules are row-local and the step is lazy, so tables stream through it. What is judged is the answer:
`response`, for preferences `chosen`; a table of prompts is judged on its last message, by length and placeholder.

Not covered: whether an answer is right, helpful or polite (scores), and anything that needs two rows (duplicates).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series, col, func, lit
from daft.functions import is_null, to_struct, when

from gristmill import progress
from gristmill.errors import UsageError
from gristmill.filter.limits import (
    DEFAULT_RULES,
    PRIVATE_RULES,
    Limit,
    Reading,
    Rule,
    describe,
    explain,
    own_rule,
)
from gristmill.filter.marks import Table, evidence
from gristmill.filter.privacy import KINDS, mask
from gristmill.filter.row_measures import ANSWER_MEASURES, PROMPT_MEASURES, last_messages, measure_rows, shown, trimmed
from gristmill.records import DROPS, MESSAGES, Kind, kind_of

__all__ = [
    "DEFAULT_RULES",
    "PRIVATE_RULES",
    "Limit",
    "Reading",
    "Rule",
    "apply_rules",
    "describe",
    "explain",
    "own_rule",
]

_FLOAT = DataType.float64()


def apply_rules(table: Table, rules: Sequence[Rule] = DEFAULT_RULES) -> Table:
    """Measure the rows no earlier step dropped and mark those that fail a rule; the first rule in the list wins.

    Adds one double column `rule_<measure>` for every measure the rules use (null on rows dropped before) and the drop
    columns. `drop_value` and `drop_limit` are those of the first limit of the case that failed. Rules whose action is
    `report` only measure; `mask` also replaces what it found in the texts of the row, says so in `flag_masked`, and
    leaves `id` that of the row as it was read. Raises UsageError for two rules of one name or an expression that Daft
    cannot evaluate to a boolean or a number.
    """
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"rule {twice[0]}: given {names.count(twice[0])} times; give each rule one name of its own")
    kind = kind_of(table.column_names)
    for field in DROPS:
        if field.name not in table.column_names:
            table = table.with_column(field.name, lit(None).cast(DataType.from_arrow_type(field.type)))
    return _masked(_judged(table, kind, rules, ()), kind, rules)


def reapply_rules(table: Table, rules: Sequence[Rule], before: Sequence[Rule]) -> Table:
    """Judge a table that `apply_rules` measured by `before` anew, by other rules and limits.

    `table` has its rows' drop columns as they were before `apply_rules`. Only what `remeasured` names is measured.
    Raises UsageError where the rules that mask differ, or mask what would be measured: those texts are gone.
    """
    if [rule for rule in rules if rule.action == "mask"] != [rule for rule in before if rule.action == "mask"]:
        raise UsageError("rules that mask change the texts and cannot be moved afterwards; filter the files again")
    kind = kind_of(table.column_names)
    new = remeasured(kind, rules, before)
    if new and any(rule.action == "mask" for rule in rules):
        raise UsageError(f"rule_{new[0]} cannot be measured on texts that were masked; filter the files again")
    return _judged(table, kind, rules, {*_measures(kind, rules), *(rule.name for rule in rules)} - set(new))


def remeasured(kind: Kind, rules: Sequence[Rule], before: Sequence[Rule]) -> list[str]:
    """The measures of `rules` that a table measured by `before` does not have, or has by another definition.

    A rule of the user's may look at the measures of those before it, so the first that differs renews all after it.
    """
    known = _measures(kind, before)
    same = _languages(rules) == _languages(before)
    new = [name for name in _measures(kind, rules) if name not in known or (name == "other_language" and not same)]
    own, old = ([rule for rule in given if rule.where or rule.function] for given in (rules, before))
    held = 0
    while "other_language" not in new and held < min(len(own), len(old)) and _same(own[held], old[held]):
        held += 1
    return new + [rule.name for rule in own[held:]]


def _same(one: Rule, other: Rule) -> bool:
    return (one.name, one.where, one.function) == (other.name, other.where, other.function)


def _languages(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple(code for rule in rules for code in rule.languages)


def _judged(table: Table, kind: Kind, rules: Sequence[Rule], measured: Collection[str]) -> Table:
    """Measure what is not in `measured`, and mark."""
    answer = {"prompt": None, "preference": "chosen"}.get(kind, "response")
    table = _measured(table, answer, [name for name in _measures(kind, rules) if name not in measured], rules)
    for rule in rules:
        if (rule.where is not None or rule.function is not None) and rule.name not in measured:
            table = table.with_column(f"rule_{rule.name}", _own(table, rule))
    return _marked(table, answer, rules)


def _measures(kind: Kind, rules: Sequence[Rule]) -> list[str]:
    """The built-in measures that the rules use, in the order of the columns."""
    known = [*(PROMPT_MEASURES if kind == "prompt" else ANSWER_MEASURES), *KINDS]
    used = {limit.measure for rule in rules for limit in rule.limits}
    return [name for name in known if name in used]


def _measured(table: Table, answer: str | None, measures: list[str], rules: Sequence[Rule]) -> Table:
    languages = _languages(rules)
    has_answer = answer is not None

    @func.batch(return_dtype=DataType.struct({f"rule_{name}": _FLOAT for name in measures}))
    def measure(prompt: Series, answer: Series, tools: Series, dropped: Series) -> pa.Array:
        kept = np.flatnonzero(dropped.to_arrow().is_null().to_numpy(zero_copy_only=False))
        prompts, answers = _texts(prompt, answer if has_answer else None, kept)
        values = {name: np.full(len(dropped), np.nan) for name in measures}
        for name, found in measure_rows(prompts, answers, measures, languages).items():
            values[name][kept] = found
        if "refusal" in values:  # who has tools is right to decline what none of them does
            has_tools = pc.fill_null(pc.not_equal(tools.to_arrow().cast(pa.large_string()), "[]"), False)
            values["refusal"][has_tools.to_numpy(zero_copy_only=False)] = np.nan
        return pa.StructArray.from_arrays(
            [pa.array(values[name], from_pandas=True) for name in measures], [f"rule_{name}" for name in measures]
        )

    if not measures:
        return table
    rest = [name for name in table.column_names if name not in {f"rule_{m}" for m in measures}]
    found = measure(col("prompt"), col(answer or "prompt"), col("tools"), col("drop_rule"))
    table = table.with_column("_measured", found)
    return table.select(*rest, *(col("_measured")[f"rule_{name}"].alias(f"rule_{name}") for name in measures))


def _texts(prompt: Series, answer: Series | None, rows: Any) -> tuple[pa.Array, pa.Array | None]:
    """The trimmed last messages and answers of the numbered rows."""
    numbers = pa.array(rows, pa.int64())
    prompts = trimmed(last_messages(prompt.to_arrow().cast(MESSAGES).take(numbers)))
    return prompts, None if answer is None else trimmed(answer.to_arrow().take(numbers))


def _own(table: Table, rule: Rule) -> Expression:
    """The measure of a user's rule: 1 or 0 for a condition, else its number; null on rows dropped before."""
    value = _python(table, rule.name, rule.function) if rule.function is not None else _sql(table, rule)
    return when(is_null(col("drop_rule")), value).otherwise(lit(None).cast(_FLOAT))


def _sql(table: Table, rule: Rule) -> Expression:
    name, where = rule.name, rule.where or ""
    value, dtype = sql_value(table, where, f"rule {name}: where")
    if not dtype.is_boolean() and rule.cases == own_rule(name, where=where).cases:
        raise UsageError(f"rule {name}: where: {where!r} is a number; give least or most, or compare it")
    return value.cast(_FLOAT)


def sql_value(table: Table, where: str, what: str) -> tuple[Expression, DataType]:
    """A SQL expression over the columns of a table, and its type: true or false, or a number.

    Raises UsageError, beginning with `what`, for one that cannot be computed or is of another type.
    """
    try:
        value = daft.sql_expr(f"({where})")  # without brackets, Daft reads `a likee` as the column a, renamed
        dtype = table.select(value.alias("value")).schema()["value"].dtype
    except Exception as error:  # Daft's SQL errors share no class
        columns = [name for name in table.column_names if not name.startswith("_") and name not in DROPS.names]
        raise UsageError(
            f"{what}: {where!r} cannot be evaluated ({str(error).splitlines()[0]}); columns are {', '.join(columns)}"
        ) from error
    if not (dtype.is_boolean() or dtype.is_numeric()):
        raise UsageError(f"{what}: {where!r} is {dtype}; it must be true or false, or a number")
    return value, dtype


def _python(table: Table, name: str, function: Callable[[pa.Table], Any]) -> Expression:
    columns = [column for column in table.column_names if column not in DROPS.names]

    @func.batch(return_dtype=_FLOAT)
    def own(rows: Series, dropped: Series) -> pa.Array:
        kept = dropped.to_arrow().is_null().to_numpy(zero_copy_only=False)
        values = np.full(len(dropped), np.nan)
        if kept.any():
            batch = pa.Table.from_batches([pa.RecordBatch.from_struct_array(rows.to_arrow())])
            found = pa.array(function(batch.filter(pa.array(kept))), from_pandas=True)
            if len(found) != kept.sum():
                raise UsageError(f"rule {name}: function gave {len(found)} values for {kept.sum()} rows")
            values[kept] = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return pa.array(values, from_pandas=True)

    return own(to_struct(*(col(column) for column in columns)), col("drop_rule"))


def _marked(table: Table, answer: str | None, rules: Sequence[Rule]) -> Table:
    judging = [rule for rule in rules if rule.action == "drop"]
    columns = [f"rule_{limit.measure}" for rule in judging for limit in rule.limits]
    columns = [name for name in dict.fromkeys(columns) if name in table.column_names]
    has_answer = answer is not None

    @func.batch(return_dtype=DataType.struct({f.name: DataType.from_arrow_type(f.type) for f in DROPS}))
    def mark(measured: Series, prompt: Series, answer: Series, old: Series) -> pa.Array:
        drops = old.to_arrow().to_pylist()
        values = {name: measured.to_arrow().field(name).to_numpy(zero_copy_only=False) for name in columns}
        kept = old.to_arrow().field("drop_rule").is_null().to_numpy(zero_copy_only=False)
        failed = first_failures(values, judging, kept)
        numbers = [number for number, _, _ in failed]
        prompts, answers = _texts(prompt, answer if has_answer else None, numbers)
        for place, (number, rule, case) in enumerate(failed):
            limit = rule.cases[case][0]
            text = prompts[place].as_py(), answers[place].as_py() if answers is not None else None
            facts = {"measure": limit.measure} | shown(limit.measure, *text, rule.languages)
            if rule.where or rule.function:
                facts |= {name: told for name in ("where", "reason") if (told := getattr(rule, name))}
            value = float(values[f"rule_{limit.measure}"][number])
            drops[number] = dict(zip(DROPS.names, (rule.name, value, limit.bound, evidence(**facts)), strict=True))
        progress.advance(len(drops))
        return pa.array(drops, type=pa.struct(list(DROPS)))

    if not columns:
        return table
    rest = [name for name in table.column_names if name not in DROPS.names]
    measured = to_struct(*(col(name) for name in columns))
    old = to_struct(*(col(name) for name in DROPS.names))
    table = table.with_column("_drops", mark(measured, col("prompt"), col(answer or "prompt"), old))
    return table.select(*rest, *(col("_drops")[name].alias(name) for name in DROPS.names))


def first_failures(
    values: dict[str, np.ndarray[Any, Any]], rules: Sequence[Rule], kept: np.ndarray[Any, Any]
) -> list[tuple[int, Rule, int]]:
    """Row number, rule and number of its case of the first rule that each kept row fails, by row number.

    `values` are the `rule_…` columns; NaN breaks no limit.
    """
    left = kept.copy()
    failed = []
    for rule in rules:
        for number, case in enumerate(rule.cases):
            breaks = left.copy()
            for limit in case:
                value = values.get(f"rule_{limit.measure}")
                low = value < limit.least if value is not None and limit.least is not None else False
                high = value > limit.most if value is not None and limit.most is not None else False
                breaks &= low | high
            failed += [(int(row), rule, number) for row in np.flatnonzero(breaks)]
            left &= ~breaks
    return sorted(failed, key=lambda entry: entry[0])


def _masked(table: Table, kind: Kind, rules: Sequence[Rule]) -> Table:
    kinds = tuple(limit.measure for rule in rules if rule.action == "mask" for limit in rule.limits)
    if not kinds:
        return table

    @func.batch(return_dtype=DataType.string())
    def masked(texts: Series) -> pa.Array:
        return pa.array([t if t is None else mask(kinds, t) for t in texts.to_arrow().to_pylist()], pa.large_string())

    @func.batch(return_dtype=DataType.from_arrow_type(MESSAGES))
    def masked_messages(prompts: Series) -> pa.Array:
        rows = prompts.to_arrow().cast(MESSAGES).to_pylist()
        for message in (message for row in rows for message in row or []):
            if message["content"] is not None:
                message["content"] = mask(kinds, message["content"])
        return pa.array(rows, type=MESSAGES)

    found = [col(f"rule_{name}") for name in kinds]
    some = found[0] > lit(0)
    for more in found[1:]:
        some = some | (more > lit(0))
    texts = {"preference": ["chosen", "rejected"], "prompt": []}.get(kind, ["response", "reasoning"])
    columns = {name: masked(col(name)) for name in texts} | {"prompt": masked_messages(col("prompt"))}
    flags = when(some, lit(",".join(kinds))).otherwise(lit(None).cast(DataType.string()))
    return table.with_columns({"flag_masked": flags} | columns)
