"""Slots: from the entries of a template to nodes (`combinations.py`) with their values.

| entry | values |
|---|---|
| `[a, b]`, `{values: [a, b], weights: [3, 1]}` | the list |
| `{range: [1, 9], step: 2}` | 1, 3, 5, 7, 9 |
| `{from: FILE, column: C}` | the column of a table, or whole rows |
| `{…, with: OTHER}` | the value of the same number as that of OTHER |
| `{given: OTHER, values: {x: [a, b], y: [c]}}` | the list for OTHER's value |
| `{…, sample: 3}` | lists of three different values |
| `{template: "…{{ other }}…"}` | the text |

What values may be is in `slot_values.py`.
"""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from math import isfinite
from pathlib import Path
from typing import Any

from gristmill.errors import UsageError
from gristmill.generate.combinations import ENUMERATED, Indexed, Node, Subsets
from gristmill.generate.skeleton import Skeleton, environment
from gristmill.generate.slot_values import checked, distinct, read_columns, steps_of
from gristmill.generate.template_file import SlotEntry

RESERVED = {
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "not",
    "and",
    "or",
    "in",
    "is",
    "if",
    "else",
    "loop",
    "self",
}
"""Words that mean something in Jinja."""


class Slots:
    """The slots of a template, checked: `nodes` to combine, and `derived` texts in the order to render them."""

    def __init__(self, entries: Mapping[str, SlotEntry], folder: Path, where: str):
        self.entries, self.folder, self.where = entries, folder, where
        self.derived: list[tuple[str, Skeleton]] = []
        self._tables: dict[str, dict[str | None, list[Any]]] = {}
        self._made: dict[tuple[str, Any], Node] = {}
        for name, entry in entries.items():
            _check_name(name, self._at(name))
            _check_entry(entry, self._at(name))
        order = self._order()
        self._values = {name: self._listed(name) for name in order if self._has_own_values(name)}
        self.nodes = [self._root(name) for name in entries if self._is_root(name)]
        for name in order:
            entry = entries[name]
            if entry.given and (extra := self._unused_lists(name)):
                raise UsageError(f"{self._at(name)}: values: {extra[0]!r}: not a value of {entry.given}; leave it out")

    def columns(self) -> list[list[Any]]:
        """The values that come from tables, in the order of the slots."""
        return [list(self._values[name]) for name, entry in self.entries.items() if entry.from_ is not None]

    def _at(self, name: str) -> str:
        return f"{self.where}: slots.{name}"

    def _is_root(self, name: str) -> bool:
        entry = self.entries[name]
        return not (entry.template is not None or entry.with_ or entry.given)

    def _has_own_values(self, name: str) -> bool:
        entry = self.entries[name]
        return entry.template is None and not entry.given

    def _order(self) -> list[str]:
        """The slots, each after those it needs; `derived` is filled in that order."""
        skeletons: dict[str, Skeleton] = {}
        needs: dict[str, set[str]] = {}
        for name, entry in self.entries.items():
            others = {other for other in (entry.with_, entry.given) if other}
            if entry.template is not None:
                skeletons[name] = Skeleton(entry.template, self._at(name))
                others = skeletons[name].names
            needs[name] = others
            if unknown := sorted(others - self.entries.keys()):
                raise UsageError(f"{self._at(name)}: {unknown[0]!r} is not a slot; slots are {', '.join(self.entries)}")
        try:
            order = list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise UsageError(f"{self.where}: slots go in a circle: {' → '.join(reversed(error.args[1]))}") from None
        self.derived = [(name, skeletons[name]) for name in order if name in skeletons]
        return order

    def _leader(self, name: str) -> str:
        """The slot whose number decides the value of `name`."""
        while other := self.entries[name].with_:
            name = other
        return name

    def _listed(self, name: str) -> Sequence[Any]:
        """The values of a slot that has its own."""
        entry, where = self.entries[name], self._at(name)
        if entry.range is not None:
            return steps_of(entry.range, entry.step, where)
        if entry.from_ is not None:
            return self._column(name)
        return checked(entry.values, where, repeated=entry.with_ is not None)

    def _root(self, name: str) -> Node:
        entry, values = self.entries[name], self._values[name]
        if entry.sample is None:
            return self._node(name, values, len(values), entry.weights)
        rows = distinct(values)
        if entry.sample > len(rows):
            raise UsageError(
                f"{self._at(name)}: sample: {entry.sample}: allowed are 1 to {len(rows)}, the values that differ"
            )
        subsets = Subsets(values, rows, entry.sample)
        return self._node(name, subsets, subsets.size, rows=rows)

    def _node(
        self,
        name: str,
        values: Indexed,
        size: int,
        weights: Sequence[float] | None = None,
        rows: Sequence[int] | None = None,
    ) -> Node:
        """The node of a slot with what hangs on it; `rows` are those that samples are taken from."""
        followers: dict[str, Indexed] = {}
        for other in self.entries:
            if other != name and self.entries[other].with_ and self._leader(other) == name:
                followers[other] = self._following(other, name, rows)
        kids = [
            (kid, entry.given)
            for kid, entry in self.entries.items()
            if entry.given and self._leader(entry.given) == name
        ]
        children = None
        if kids:
            if rows is not None or size > ENUMERATED:
                why = "which is a sample" if rows is not None else f"which has more than {ENUMERATED:,} values"
                raise UsageError(f"{self._at(kids[0][0])}: given: {kids[0][1]}, {why}; give a slot of single values")
            sources = {kid: values if other == name else followers[other] for kid, other in kids}
            children = [[self._given(kid, sources[kid][place]) for kid, _ in kids] for place in range(size)]
        return Node(name, values, size, followers=followers, children=children, weights=weights)

    def _following(self, name: str, leader: str, rows: Sequence[int] | None) -> Indexed:
        where = self._at(name)
        if leader not in self._values or self.entries[leader].range is not None:
            raise UsageError(f"{where}: with: {self.entries[name].with_}: allowed is a slot of a list or a table")
        values, led = self._values[name], len(self._values[leader])
        if len(values) != led:
            raise UsageError(f"{where}: {len(values)} values with {led} of {leader}; there must be as many")
        sample = self.entries[leader].sample
        return values if rows is None or sample is None else Subsets(values, rows, sample)

    def _given(self, name: str, value: Any) -> Node:
        """The node of a slot for one value of the slot it depends on."""
        entry, where = self.entries[name], self._at(name)
        if not isinstance(value, str | int | float):
            raise UsageError(
                f"{where}: given: {entry.given}: its values are {type(value).__name__}; allowed: text, numbers"
            )
        if (name, value) not in self._made:
            lists = entry.values
            if not isinstance(lists, dict):
                raise UsageError(f"{where}: with given, values is a mapping from values of {entry.given} to lists")
            if value not in lists:
                raise UsageError(
                    f"{where}: values: no list for {entry.given} = {value!r}; it has {', '.join(map(str, lists))}"
                )
            found = checked(lists[value], f"{where}: values.{value}")
            self._made[name, value] = self._node(name, found, len(found))
        return self._made[name, value]

    def _unused_lists(self, name: str) -> list[Any]:
        lists = self.entries[name].values
        return [value for value in lists or () if (name, value) not in self._made]

    def _column(self, name: str) -> list[Any]:
        """The values of a table's column; each table is read once."""
        entry = self.entries[name]
        file = str(entry.from_)
        if file not in self._tables:
            path = file if "://" in file else str(self.folder / file)
            wanted = {other.column: key for key, other in self.entries.items() if other.from_ == file}
            self._tables[file] = read_columns(path, {column: self._at(key) for column, key in wanted.items()})
        return self._tables[file][entry.column]


def _check_name(name: str, where: str) -> None:
    usable = name.isascii() and name.isidentifier() and not name.startswith("_")
    if not usable or name in RESERVED or name in environment().globals:
        raise UsageError(f"{where}: not a name for a slot; allowed: letters, digits and _, not a word of Jinja")


def _check_entry(entry: SlotEntry, where: str) -> None:
    """Refuse an entry whose keys do not go together."""
    keys = {type(entry).model_fields[key].alias or key for key in entry.model_fields_set}
    kinds = sorted(keys & {"values", "range", "from", "template"})
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise UsageError(f"{where}: needs one of values, range, from and template; has {found}")
    allowed = {
        "values": {"weights"} if not keys & {"with", "given", "sample"} else set(),
        "range": {"step", "sample"},
        "from": {"column"},
        "template": set[str](),
    }[kinds[0]]
    if kinds[0] in ("values", "from"):
        allowed |= {"with"} if "with" in keys else {"sample"} if "given" not in keys else set()
    if kinds[0] == "values" and not keys & {"with", "weights", "sample"}:
        allowed |= {"given"}
    for key in sorted(keys - allowed - set(kinds)):
        others = ", ".join(sorted(allowed)) or "nothing"
        raise UsageError(f"{where}: {key}: has no meaning beside {kinds[0]}; allowed there: {others}")
    if entry.weights is not None:
        _check_weights(entry, where)


def _check_weights(entry: SlotEntry, where: str) -> None:
    weights, values = entry.weights or [], entry.values or []
    if len(weights) != len(values):
        raise UsageError(f"{where}: {len(weights)} weights for {len(values)} values; give one a value")
    for weight in weights:
        if not (isfinite(weight) and weight > 0):
            raise UsageError(
                f"{where}: weights: {weight}: allowed are numbers above 0; leave out a value that never comes"
            )
