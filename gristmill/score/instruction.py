"""What the checks of instructions have in common: what they ask for, and what they tell."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

Count = Annotated[int, Field(ge=0)]
"""A number that an instruction asks for."""

Named = Annotated[str, Field(min_length=1)]
"""A word or a phrase that an instruction names."""

Relation = Literal["less than", "at least"]


class Outcome(NamedTuple):
    """Whether an instruction was met, and what was found."""

    met: bool
    found: int | str


def compared(found: int, relation: Relation, wanted: int) -> Outcome:
    """The outcome of a count."""
    return Outcome(found < wanted if relation == "less than" else found >= wanted, found)
