"""A template made ready: its skeletons compiled, its slots combined, its constraints settled where they can be.

Constraints that tie together up to `ENUMERATED` combinations of the slots they name are settled here, exactly; others
are checked on every combination that is drawn.
"""

import json
from collections.abc import Sequence
from hashlib import blake2b
from math import prod
from typing import Any

from gristmill.errors import UsageError
from gristmill.generate.combinations import ENUMERATED, Combinations, Group, Node, Values
from gristmill.generate.skeleton import Expression, Skeleton
from gristmill.generate.slots import Slots
from gristmill.generate.template_file import Template
from gristmill.keys import canonical, key_of
from gristmill.records import row_id
from gristmill.shapes import message
from gristmill.yaml_file import bad_text

Row = dict[str, Any]

WEIGHTED = 1_000_000
"""Combinations that all weighted slots may have together; their weights are held in memory."""


class Prepared:
    """What a template needs to make prompts: `combinations` of its slots, and `row` to make a prompt of one.

    Raises UsageError for names that are no slots, slots that are used nowhere, and constraints that cannot be met.
    """

    def __init__(self, template: Template):
        self.where = template.where
        slots = Slots(template.slots, template.folder, self.where)
        self._names, self._derived = list(template.slots), slots.derived
        self._messages = [
            (role, Skeleton(text, f"{self.where}: {place}")) for role, text, place in _turns(template, self.where)
        ]
        self._reference = None
        if template.reference is not None:
            self._reference = Skeleton(template.reference, f"{self.where}: reference")
        constraints = [
            Expression(text, f"{self.where}: constraints[{number}]") for number, text in enumerate(template.constraints)
        ]
        self._check_names(template, constraints)
        for constraint in constraints:
            if not constraint.names:
                raise UsageError(f"{constraint.where}: {constraint.text}: names no slot; it holds always or never")
        self.possible = prod(node.size for node in slots.nodes)
        self.late: list[Expression] = []
        """Constraints that are checked on every draw."""
        self.combinations = self._combined(slots.nodes, constraints)
        self._meta = _meta(template, slots)
        self._tags = template.tags or None

    def row(self, values: Values, number: int) -> Row | None:
        """The prompt of one combination as a PROMPT row, the `number`th of the template; None if it breaks
        a constraint.

        Raises UsageError where a skeleton fails for these values.
        """
        if not self.meets(values):
            return None
        prompt = [message(role, skeleton.render(values)) for role, skeleton in self._messages]
        prompt = [turn for turn in prompt if turn["role"] != "system" or (turn["content"] or "").strip()]
        reference = self._reference.render(values) if self._reference else None
        self._check(prompt, reference)
        row: Row = {
            "id": row_id("prompt", {"prompt": prompt}),
            "copy": 0,
            "parents": None,
            "source_file": self.where,
            "source_row": number,
            "tags": self._tags,
            "prompt": prompt,
            "tools": None,
            "reference": reference,
        }
        for name in self._names:
            row[f"slot_{name}"] = _text(values[name])
        row["meta"] = self._meta
        return row

    def meets(self, values: Values) -> bool:
        """Whether a combination meets the constraints that are left; puts the derived slots into `values`."""
        for name, skeleton in self._derived:
            values[name] = skeleton.render(values)
        return all(constraint.holds(values) for constraint in self.late)

    def _check(self, prompt: Sequence[dict[str, str | None]], reference: str | None) -> None:
        texts = [turn["content"] or "" for turn in prompt]
        if not any(text.strip() for text in texts):
            raise UsageError(f"{self.where}: the prompt is empty")
        for text in (*texts, reference or ""):
            if problem := bad_text(text):
                raise UsageError(f"{self.where}: the prompt has {problem}")

    def _check_names(self, template: Template, constraints: Sequence[Expression]) -> None:
        skeletons = [skeleton for _, skeleton in self._messages] + ([self._reference] if self._reference else [])
        used: set[str] = set()
        parts: list[Skeleton | Expression] = [*skeletons, *constraints, *(skeleton for _, skeleton in self._derived)]
        for part in parts:
            if unknown := sorted(part.names - template.slots.keys()):
                names = ", ".join(template.slots) or "none"
                raise UsageError(f"{part.where}: {unknown[0]!r} is not a slot; slots are {names}")
            used |= part.names
        used |= {other for entry in template.slots.values() for other in (entry.with_, entry.given) if other}
        for name in template.slots:
            if name not in used:
                raise UsageError(
                    f"{self.where}: slots.{name}: used nowhere; use it in a skeleton or a constraint, or leave it out"
                )

    def _combined(self, nodes: Sequence[Node], constraints: Sequence[Expression]) -> Combinations:
        """The nodes in groups, each constraint settled in its group or left for later."""
        weighted = [node for node in nodes if node.weights]
        if (size := prod(node.size for node in weighted)) > WEIGHTED:
            raise UsageError(
                f"{self.where}: weights: slots with weights have {size:,} combinations; allowed are {WEIGHTED:,}: "
                "leave out the weights of the longer ones"
            )
        first, parts = weighted, [[node] for node in nodes if not node.weights]
        settled: list[tuple[Expression, set[str]]] = []
        for constraint in constraints:
            names = self._base(constraint.names)
            tied = [part for part in (first, *parts) if any(node.names() & names for node in part)]
            if prod(node.size for part in tied for node in part) > ENUMERATED:
                self.late.append(constraint)
                continue
            settled.append((constraint, names))
            merged = [node for part in tied for node in part]
            parts = [part for part in parts if part not in tied]
            if first in tied:
                first = merged
            elif merged:
                parts.append(merged)
        chosen, groups = Group(first), [Group(part) for part in parts]
        for group in (chosen, *groups):
            if own := [constraint for constraint, names in settled if names <= group.names()]:
                self._settle(group, own)
        return Combinations(groups, chosen if weighted else None)

    def _settle(self, group: Group, constraints: Sequence[Expression]) -> None:
        """Keep what meets the constraints; raises UsageError if nothing does."""
        wanted = self._closure({name for constraint in constraints for name in constraint.names})
        derived = [(name, skeleton) for name, skeleton in self._derived if name in wanted]

        def holds(values: Values) -> bool:
            for name, skeleton in derived:
                values[name] = skeleton.render(values)
            return all(constraint.holds(values) for constraint in constraints)

        group.keep(holds)
        if not group.size:
            told = "; ".join(constraint.text for constraint in constraints)
            raise UsageError(
                f"{self.where}: constraints: no combination meets {told} ({group.possible:,} looked at); loosen one"
            )

    def _closure(self, names: set[str]) -> set[str]:
        """The names, and those that the derived slots among them need."""
        found, skeletons = set(names), dict(self._derived)
        todo = list(names)
        while todo:
            more = skeletons[name].names - found if (name := todo.pop()) in skeletons else set()
            found |= more
            todo += more
        return found

    def _base(self, names: set[str]) -> set[str]:
        """The slots with values of their own that names depend on."""
        return self._closure(names) - dict(self._derived).keys()


def _turns(template: Template, where: str) -> list[tuple[str, str, str]]:
    """Role, skeleton and name of each turn."""
    if (template.prompt is None) == (template.messages is None):
        raise UsageError(f"{where}: needs one of prompt (a user message) and messages (several turns)")
    turns = [] if template.system is None else [("system", template.system, "system")]
    if template.messages is None:
        return [*turns, ("user", template.prompt or "", "prompt")]
    for number, entry in enumerate(template.messages):
        if entry.role == "system" and (number or turns):
            raise UsageError(f"{where}: messages[{number}]: a system message; the one there may be comes first")
        turns.append((entry.role, entry.content, f"messages[{number}].content"))
    if not any(role == "user" for role, _, _ in turns):
        raise UsageError(f"{where}: messages: none is of the user; give at least one with role: user")
    return turns


def _text(value: Any) -> str:
    """A slot's value as a column holds it: text as it is, the rest as JSON."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else json.dumps(value, ensure_ascii=False, default=str)


_CONTENT = {"name", "system", "prompt", "messages", "reference", "slots", "constraints", "seed"}
"""What decides the prompts; with other `samples`, they are the same prompts."""


def _meta(template: Template, slots: Slots) -> str:
    """`meta` of every row: the template's name and the hash of what it is made of, tables included."""
    tables = blake2b(digest_size=16)
    for column in slots.columns():
        for start in range(0, len(column), 10_000):
            tables.update(json.dumps(column[start : start + 10_000], default=str).encode())
    content = canonical(template.model_dump(include=_CONTENT), "template")
    hashed = key_of({"content": content, "tables": tables.hexdigest()})
    return json.dumps({"template": template.name, "template_hash": hashed})
