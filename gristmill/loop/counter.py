"""Counterexamples: rows against a cluster of failures, of four kinds.

- *look_alike*: needs the same skill and trips for the same reason; from a failed item
- *contrast*: a look-alike but for a few words, with another right answer; from a look-alike that was kept
- *boundary*: at the edge of what fails; from borderline members and the passing items next to them
- *negative*: the surface of the cluster without its fault, against over-correction; from items that pass

Seeds are items of the cluster's training half alone; the half goes by lineage (`mine.half_of`), so nothing that is made
here has a seed in common with the held-out half. A row that failed, repeats another, holds an evaluation's item, or has
an answer that a score does not confirm, is marked with its drop columns, never deleted.

Not covered: whether the rows help (train and evaluate), and answers that only people can tell (`flag_review`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from gristmill.generate.direct import marked_answer
from gristmill.generate.judged import Result, Verified, drop, item_of, note
from gristmill.generate.originals import values_of
from gristmill.generate.sample import Candidate, rows_of, sent
from gristmill.loop.asks import Ask
from gristmill.models.drive import answer
from gristmill.models.limits import GOES_ON
from gristmill.models.protocol import Completion, Model, Request
from gristmill.score.score import Item, Score
from gristmill.shapes import message
from gristmill.wording import prompt_text

Row = dict[str, Any]
Call = tuple[Candidate, Completion]

OTHERS = 2
"""Failed items that are shown beside the seed."""

MINIMAL = 0.6
"""The least share of words that a contrast pair has in common (2M/T of its words, as difflib counts them)."""


class Seed(NamedTuple):
    """What a counterexample is made from: a member of a cluster, or a counterexample."""

    row: Row
    lineage: str


@dataclass(frozen=True)
class Target:
    """A cluster with the seeds of its training half, by kind."""

    cluster: Row
    seeds: Mapping[str, Sequence[Seed]]
    failed: Sequence[Seed]
    """The failed members of the training half, for `others`."""


class Task(NamedTuple):
    """One counterexample that is to be made: `number` counts within cluster and kind."""

    target: Target
    kind: str
    number: int
    seed: Seed


class Done(NamedTuple):
    """A task with its row, all calls it took, and those of them that answer the new question."""

    task: Task
    row: Row
    calls: Sequence[Call]
    answers: Sequence[Completion]


def target_of(cluster: Row, seed: int) -> Target:
    """The seeds of a cluster (a row of the table of clusters), in an order that derives from `seed`."""
    train = [member for member in cluster["members"] if member["half"] == "train"]

    def seeds(members: Sequence[Row]) -> list[Seed]:
        shuffled = sorted(members, key=lambda each: blake2b(f"{seed}:seed:{each['id']}".encode()).digest())
        return [Seed(_as_row(member), member["lineage"]) for member in shuffled]

    failed = seeds([each for each in train if each["inside"] and each["failed"] > 0])
    passing = seeds([each for each in train if each["failed"] == 0])
    edge = seeds([each for each in train if each["shown"] in ("borderline", "neighbour")])
    return Target(cluster, {"look_alike": failed, "boundary": edge or failed, "negative": passing or failed}, failed)


def _as_row(member: Row) -> Row:
    return {**member, "copy": 0, "tools": None}


def prompt_of(task: Task, ask: Ask) -> list[dict[str, Any]]:
    """The messages that ask for a task's counterexample."""
    cluster, failed = task.target.cluster, [seed for seed in task.target.failed if seed is not task.seed]
    first = task.number % len(failed) if failed else 0
    others = [prompt_text(seed.row) for seed in (failed[first:] + failed[:first])[:OTHERS]]
    name = cluster["model_name"] or cluster["name"]
    values: dict[str, Any] = {"cluster": name, "words": cluster["words"] or [], "others": others}
    return [sent(turn) for turn in ask.messages(values_of(ask, task.seed.row) | values)]


def asked_of(task: Task, ask: Ask, model: Model, sampling: Mapping[str, Any], seed: int) -> Candidate:
    """The call that makes a counterexample. Its seed derives from (seed, cluster, kind, number, id)."""
    text = f"{seed}:{task.target.cluster['cluster']}:{task.kind}:{task.number}:{task.seed.row['id']}"
    number = int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) >> 1
    fields = {**ask.sampling, **sampling, "seed": number}
    prompt = {"id": task.seed.row["id"], "copy": 0, "prompt": task.seed.row["prompt"]}
    return Candidate(prompt, model, Request(prompt_of(task, ask), fields, None, task.number), task.number)


async def done(task: Task, ask: Ask, candidate: Candidate, verified: Verified | None) -> Done:
    """Make a counterexample and put its question to who verifies."""
    completion = await answer(candidate.model, candidate.request)
    sample = next(rows_of(candidate, completion))
    row = row_from(task, ask, sample)
    calls, answers = [(candidate, completion)], []
    if verified and row.get("drop_rule") is None:
        GOES_ON.set(True)
        asked = verified.asks(result_of(row))
        answers = list(await asyncio.gather(*(answer(each.model, each.request) for each in asked)))
        calls += zip(asked, answers, strict=True)
    return Done(task, row, calls, answers)


def row_from(task: Task, ask: Ask, sample: Row) -> Row:
    """The row that a reply makes."""
    seed = task.seed.row
    row = {name: value for name, value in sample.items() if name != "copy"}
    row |= marks(task.target.cluster, task.kind, parents=_of(seed))
    row |= {name: seed.get(name) for name in ("source_file", "source_row", "tags")}
    row |= {"sample": task.number, "response": None, "reference": None}
    row["meta"] = orjson.dumps({"op": ask.name, "template_hash": ask.lineage["template_hash"]}).decode()
    cut = sample["finish_reason"] == "length"
    made = "cut: the reply was cut by the limit on its length" if cut else ask.made(sample["response"])
    if sample["error"] or isinstance(made, str):
        row["error"] = sample["error"] or made
        drop(row, "failed", error=row["error"])
        return row
    turns = [turn for turn in seed["prompt"] if turn["role"] in ("system", "developer")]
    row |= {"prompt": [*turns, message("user", made["prompt"])], "response": made["response"], "reasoning": None}
    row["reference"] = final(made["response"])
    if task.kind == "contrast":
        row["flag_pair"] = seed["id"]
        alike = likeness(prompt_text(seed), made["prompt"])
        if alike < MINIMAL:
            drop(row, "not_minimal", alike, MINIMAL, of=seed["id"])
        elif row["reference"] == seed["reference"]:
            drop(row, "same_answer", of=seed["id"], answer=row["reference"])
    if folded(made["prompt"]) == folded(prompt_text(seed)):
        drop(row, "unchanged", of=seed["id"])
    return row


def _of(seed: Row) -> list[str]:
    """The parents of what is made from a seed: the seed, and what it was made from or the sample that stands for it."""
    return [seed["id"], *(seed.get("parents") or filter(None, [seed.get("row")]))]


def marks(cluster: Row, kind: str, parents: Sequence[str]) -> Row:
    """The columns that say what a counterexample is against and was made from."""
    return {"flag_cluster": cluster["cluster"], "flag_counter": kind, "parents": list(dict.fromkeys(parents))}


def likeness(one: str, other: str) -> float:
    """The share of words that two texts have in common, in order; 0 to 1."""
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


def final(text: str) -> str:
    """The answer that a text marks, or all of it."""
    marked = marked_answer(text)
    return marked.answer if marked else text


def folded(text: str) -> str:
    """A text as repeats are told: white space and case do not count."""
    return " ".join(text.split()).casefold()


def result_of(row: Row) -> Result:
    """A counterexample as something to verify: its own answer is the reference of another answer to its question."""
    return Result({"reference": row["reference"]}, row, row["response"] or "")


def verify(score: Score, rows: Sequence[Row]) -> None:
    """Mark rows that came with their answers: the score judges the response, or where there is none the reference."""
    open_rows = [row for row in rows if row.get("drop_rule") is None]
    items: list[Item] = [
        item_of(row, row.get("response") or row.get("reference"), row.get("reference")) for row in open_rows
    ]
    for row, verdict in zip(open_rows, score(items), strict=True):
        note(row, score.name, verdict)
        facts: dict[str, Any] = {"score": score.name, "verdict": verdict.verdict, "why": verdict.why}
        if verdict.value is None:
            drop(row, f"unjudged_{score.name}", **facts)
        elif verdict.value < 1:
            drop(row, "unverified", verdict.value, 1.0, measure=f"score_{score.name}", **facts)


class Seen:
    """Prompts that must not come again: those of the clusters' items, and of the rows that were kept."""

    def __init__(self, clusters: Sequence[Row]):
        self._by: dict[str, str] = {}
        for cluster in clusters:
            for member in cluster["members"]:
                self._by.setdefault(folded(prompt_text(member)), member["id"])

    def mark(self, row: Row) -> None:
        """Drop a row whose prompt was there before; remember that of one that is kept."""
        if row.get("drop_rule") is not None:
            return
        text = folded(prompt_text(row))
        if text in self._by:
            drop(row, "exact_duplicate", of=self._by[text])
        else:
            self._by[text] = row["id"]
