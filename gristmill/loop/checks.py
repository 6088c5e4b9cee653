"""What can be wrong with a loop is told before its first step, for a step may take hours.

Not covered: arguments that only a trainer knows (it refuses them when it begins), counterexamples that turn out bad.
"""

import shutil
from pathlib import Path

from gristmill.errors import UsageError
from gristmill.files import batches
from gristmill.loop.compare import matched
from gristmill.loop.counter_inputs import maker, maker_of
from gristmill.loop.evals import default_slices, read_evals
from gristmill.loop.loop_file import LoopFile
from gristmill.loop.steps import settings_of
from gristmill.loop.suite import Suite, items_of
from gristmill.models.named import base_model, entries, prices_of
from gristmill.models.weights import directory_of
from gristmill.score.named import score
from gristmill.train.command import split
from gristmill.train.tiny.make import check_installed


def check_loop(file: LoopFile, mined: Suite, gated: Suite) -> None:
    """Raise UsageError for a loop that cannot run: no weights, no such file, function, score or model, one set of items
    for both suites."""
    if file.base.startswith(("http://", "https://", "fake:")):
        raise UsageError(f"loop base {file.base}: its weights are not here; allowed are hf:PATH and tiny")
    if file.base != "tiny":
        directory_of(file.base.removeprefix("hf:"))
    mined.built()
    gated.built()
    ours, theirs = ({each["id"] for each in items_of(suite)} for suite in (mined, gated))
    if ours <= theirs or theirs <= ours:
        raise UsageError(
            f"loop: suite and gate_suite have the same items ({mined.items}, {gated.items}); a gate needs items of "
            "its own"
        )
    kind = batches([file.data])[0]
    if kind not in ("sample", "label"):
        raise UsageError(f"loop data {file.data}: these are {kind} rows; replay takes prompts with responses")
    _check_counter(file)
    settings_of(file)
    if file.train.command:
        program = split(file.train.command)[0]
        if not shutil.which(program):
            raise UsageError(f"loop train command: {program}: no such program; name one that is there")
    check_installed("loop")


def _check_counter(file: LoopFile) -> None:
    entry, budget = file.counter, file.stop.budget.cost
    if entry.made_by:
        maker(maker_of(entry.made_by))
    if entry.verify:
        score(entry.verify)
    if entry.model:
        known = entries()
        base_model(entry.model, known)
        if budget is not None and prices_of(entry.model, known) is None:
            raise UsageError(
                f"loop stop budget cost {budget:g}: no prices for {entry.model}; write them into models.yaml "
                "(gristmill init models)"
            )


def check_gate(file: LoopFile, evals: Path) -> None:
    """Raise UsageError for a gate none of whose items could be judged, and for a slice or a critical slice that none is
    in."""
    found = read_evals(str(evals))
    if all(row[f"score_{found.scores[0]}"] is None for row in found.rows):
        raise UsageError(
            f"loop gate_suite {file.gate_suite}: none of its items could be judged by {found.scores[0]}; its reasons "
            f"are in {evals} (why_{found.scores[0]})"
        )
    names = default_slices(found) if file.gate.slices is None else file.gate.slices
    there = {name for item in matched(found, found, slices=names).items for name in item.slices}
    listed = ", ".join(sorted(there)[:12]) or "none"
    for name in names:
        if not any(each.startswith(f"{name}=") for each in there):
            raise UsageError(f"loop gate slices {name}: no item of {file.gate_suite} has it; the slices are {listed}")
    for name in file.gate.critical:
        if name not in there:
            raise UsageError(f"loop gate critical {name}: no item of {file.gate_suite} is in it; allowed: {listed}")
