"""`gristmill why`: a row's whole history, the verdict first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options

if TYPE_CHECKING:
    from rich.text import Text

Row = dict[str, Any]


def why(
    row: Annotated[
        str,
        typer.Argument(
            metavar="ROW",
            help="An id, a beginning of one, ID#COPY, FILE:N (row N of it, from 0), or a model's directory.",
        ),
    ],
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="A run, or an output directory of gristmill filter.")
    ] = options.RUN,
    full: Annotated[bool, typer.Option("--full", help="Do not cut long texts.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Tell why a row was kept or dropped: its source, every measure, the row it lost to. Of a model, its rows."""
    import json

    from gristmill.cli.terminal import show_lines
    from gristmill.explain import history
    from gristmill.ledger import is_run
    from gristmill.lineage import across
    from gristmill.train.record import is_model, told

    if is_model(Path(row)):
        made = told(Path(row))
        if as_json:
            typer.echo(json.dumps(made, default=str))
        else:
            show_lines(model_lines(row, made))
        return
    across_steps = is_run(run)
    known = across(run, row) if across_steps else history(run, row)
    if as_json:
        typer.echo(json.dumps(known, default=str))
    else:
        show_lines(run_lines(known, full=full) if across_steps else lines(known, full=full))


def model_lines(name: str, made: Row) -> list[Text | str]:
    """What a model was made of (`train.record.told`) as lines for a terminal."""
    from rich.text import Text

    from gristmill.cli.terminal import title
    from gristmill.wording import visible

    data = made.get("data")
    if not data:  # made by `gristmill tiny`
        recipe = made.get("recipe") or {}
        return [Text(f"{name}: {made['method']}", style="bold"), visible(f"  {recipe}", one_line=True)]
    base = made["base"]
    out: list[Text | str] = [Text(f"{name}: {made['method']} of {base['model']}", style="bold green")]
    told = {key: value for key, value in made["settings"].items() if value not in (None, {})}
    out.append(visible(f"  {told}", one_line=True))
    out.append(f"  begun with weights {base['content'][:16]}, in {base['path']}")
    out.append(f"  {data['rows']:,} rows, as the trainer read them {data['hash'][:16]}")
    out.append(title(f"its rows, in {data['run']}"))
    for step in made["steps"]:
        when = step["created"][:19].replace("T", " ")
        line = f"  {when}  {step['name']}  {step['key'][:8]}  {step['rows']:,} rows, from {', '.join(step['inputs'])}"
        out.append(visible(line, one_line=True))
    if not made["steps"]:
        out.append("  that run is not there any more")
    return [*out, f"one of them: gristmill why ID --run {data['run']}"]


def run_lines(known: Row, *, full: bool = False) -> list[Text | str]:
    """A history across the steps of a run (`lineage.across`) as lines for a terminal, the oldest ancestor first."""
    from rich.text import Text

    from gristmill.cli.terminal import title
    from gristmill.wording import visible

    if "bad" in known:
        return _bad(known["bad"], full)
    style = {True: "bold green", False: "bold red", None: "bold"}[known["kept"]]
    out: list[Text | str] = [Text(visible(known["verdict"], one_line=True), style=style)]
    for each in known["ancestors"]:
        out += [title(f"{each['key']}, from which {', '.join(each['children'])} was made"), *_stages(each, full)]
    out += [title(known["key"]), *_stages(known, full)]
    if known.get("answers"):
        out.append(title("answers to it"))
        out += [visible(f"  {each['key']}  {each['verdict']}", one_line=True) for each in known["answers"]]
    if known["output"]:
        out += [title(f"in {known['output_path']}"), *lines(known["output"], full=full)]
    return out


def _stages(told: Row, full: bool) -> list[Text | str]:
    from rich.text import Text

    from gristmill.cli.terminal import body, title
    from gristmill.wording import number, visible

    if not told["stages"] and not told["text"]:
        return ["  in no table of this run"]
    out: list[Text | str] = []
    if told["source_file"] is not None:
        out.append(visible(f"  row {told['source_row']} of {told['source_file']}", one_line=True))
    if told.get("template"):
        out.append(visible(f"  template {told['template']}, {told['template_hash']}", one_line=True))
    for slot, value in (told.get("slots") or {}).items():
        out.append(body(f"    {slot}: {value}", full))
    for stage in told["stages"]:
        when, key = stage["created"][:19].replace("T", " "), stage["key"]
        where = key if "/" in key else key[:8]  # an output is known by its path
        named = visible(f"  {when}  {stage['step']}  {where}", one_line=True)
        style = "" if stage["kept"] else "red"
        out.append(Text(named).append(f"  {visible(stage['verdict'], one_line=True)}", style=style))
        if stage["evidence_told"]:
            out.append(body(f"    {stage['evidence_told']}", full))
        for name, value in stage["new"].items():
            shown = number(value) if isinstance(value, int | float) else str(value)
            out.append(Text(visible(f"      {name} {shown}", one_line=True), style="dim"))
    if told["text"] and not told.get("output"):  # which shows all texts
        out += [title("text"), body(told["text"], full)]
    return out


def lines(known: Row, *, full: bool = False) -> list[Text | str]:
    """A history (`explain.history`) as lines for a terminal."""
    from rich.text import Text

    from gristmill.cli.terminal import body, title
    from gristmill.wording import visible

    if "bad" in known:
        return _bad(known["bad"], full)
    style = "bold green" if known["kept"] else "bold red"
    out: list[Text | str] = [Text(visible(known["verdict"], one_line=True), style=style)]
    if known["evidence_told"]:
        out.append(body(known["evidence_told"], full))
    out.append(visible(f"  {known['key']}, a {known['kind']}", one_line=True))
    out.append(visible(f"  row {known['source_row']} of {known['source_file']}", one_line=True))
    out += _duplicate(known["duplicate_of"], full) + _contamination(known["contamination"])
    out += [title("prompt"), body(known["prompt"], full)]
    for name, text in known["answers"].items():
        out += [title(name), body(text, full)]
    if known["reference"]:
        out += [title("reference"), body(known["reference"], full)]
    return out + _readings(known["readings"]) + _notes(known) + _related(known)


def _bad(bad: Row, full: bool) -> list[Text | str]:
    from rich.text import Text

    from gristmill.cli.terminal import body
    from gristmill.wording import visible

    out: list[Text | str] = [
        Text(visible(f"not read: {bad.get('reason')}", one_line=True), style="bold red"),
        visible(f"  row {bad.get('line')} of {bad.get('file')}", one_line=True),
    ]
    return [*out, body(str(bad["text"]), full)] if bad.get("text") else out


def _duplicate(other: Row | None, full: bool) -> list[Text | str]:
    from gristmill.cli.terminal import CUT, body, differences, title
    from gristmill.wording import key_text, visible

    if other is None:
        return []
    key = key_text(other["id"], other["copy"])
    if other.get("missing"):
        return [title(f"lost to {key}"), "  which is not in rows.parquet"]
    out: list[Text | str] = [title(f"lost to {key}")]
    out.append(visible(f"  row {other['source_row']} of {other['source_file']}: {other['verdict']}", one_line=True))
    texts = "\n".join([other["prompt"], *other["answers"].values()])
    changed = any(sign != "=" for sign, _ in other["diff"])
    out += [body(texts, full), title("from that text to this: [-only there-] {+only here+}")]
    return [*out, differences(other["diff"], None if full else CUT) if changed else "  the same words"]


def _contamination(found: Row | None) -> list[Text | str]:
    from rich.text import Text

    from gristmill.cli.terminal import body, title
    from gristmill.wording import visible

    if found is None:
        return []
    out: list[Text | str] = [title(f"found in {found['evaluation']}, item {found['item']}")]
    if not found["context"]:
        return [*out, body(found["span"])]
    before, span, after = (visible(part, one_line=True) for part in found["context"])
    return [*out, Text(f"  … {before}").append(f">>{span}<<", style="bold red").append(f"{after} …")]


def _readings(readings: list[Row]) -> list[Text | str]:
    from rich.text import Text

    from gristmill.cli.terminal import title
    from gristmill.wording import number, visible

    out: list[Text | str] = [title("measured")] if readings else []
    for each in readings:
        state = {True: "ok", False: "over" if each["side"] == "most" else "under", None: ""}[each["ok"]]
        if each["fails"] and each["ok"] is False:
            state += ", FAILS"
        against = f"at {each['side']} {number(each['limit'])}" if each["side"] else "no limit"
        value = "not measured" if each["value"] is None else number(each["value"])
        named = visible(f"  {each['rule'] or '':<18} {each['measure']:<22} {value:>12}  {against:<16}", one_line=True)
        out.append(Text(named).append(state, style="red" if each["fails"] and each["ok"] is False else "dim"))
    return out


def _notes(known: Row) -> list[Text | str]:
    from gristmill.cli.terminal import body, title

    notes = known["flags"] | known["why"]
    return [title("noted"), *(body(f"{name}: {value}") for name, value in notes.items())] if notes else []


def _related(known: Row) -> list[Text | str]:
    from gristmill.cli.terminal import title
    from gristmill.wording import key_text, visible

    out: list[Text | str] = []
    for heading, rows in (("copies", known["copies"]), ("kept instead of", known["beat"])):
        if rows:
            out.append(title(heading))
        for each in rows:
            named = f"  {key_text(each['id'], each['copy'])}  {each['source_file']}:{each['source_row']}"
            out.append(visible(f"{named}  {each['verdict']}", one_line=True))
    if known["pairs"]:
        out.append(title("near pairs, the most similar first"))
    for each in known["pairs"]:
        twin = ", the same but for numbers" if each["same_but_numbers"] else ""
        named = f"  {each['jaccard']:.3f}  {key_text(each['id'], each['copy'])}{twin}"
        out.append(visible(f"{named}  {each.get('verdict', 'not in rows.parquet')}", one_line=True))
    return out
