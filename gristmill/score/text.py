"""Scores that look at the text alone: equal, containing, matching, how long, in which language.

All of them look at the response without a leading `<think>` block. Patterns are RE2's
(https://github.com/google/re2/wiki/Syntax), whose time is bounded by the length of the text, so that no pattern hangs;
the price is that there is no look-around and no back reference.

Not covered: equality up to spelling or meaning (`choice`, `math`, a judge).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from gristmill.errors import UsageError
from gristmill.filter.language import FEWEST_CHARACTERS, language_of, languages, without_code
from gristmill.models.answer import split_thinking
from gristmill.score.score import Item, Score, Verdict, each
from gristmill.score.sentences import sentences

NO_REFERENCE = Verdict(None, "no_reference")
SHOWN = 60
"""Characters of evidence."""


def answer_of(item: Item) -> str:
    """The response without a leading `<think>` block and without white space around it."""
    return split_thinking(item.response or "")[1].strip()


def exact() -> Score:
    """1 `correct` if the response is the reference, but for white space around both; else 0 `wrong`."""
    return Score("exact", "2", partial(each, _exact), gold=partial(each, _is_there))


def _exact(item: Item) -> Verdict:
    if item.reference is None:
        return NO_REFERENCE
    same = answer_of(item) == item.reference.strip()
    return Verdict(float(same), "correct" if same else "wrong")


def _is_there(item: Item) -> Verdict:
    return Verdict(1.0, "correct") if item.reference and item.reference.strip() else NO_REFERENCE


def contains(argument: str | None = None, *, case: bool = True) -> Score:
    """TEXT, or the reference where no text is given: 1 `correct` if it is in the response, 0 `wrong` if not.

    With `case=false` case counts for nothing.
    """
    return Score("contains", "1", partial(each, partial(_contains, argument, case)), {"text": argument, "case": case})


def _contains(wanted: str | None, case: bool, item: Item) -> Verdict:
    wanted = wanted if wanted is not None else (item.reference or "").strip() or None
    if wanted is None:
        return NO_REFERENCE
    text = answer_of(item)
    at = text.find(wanted) if case else text.casefold().find(wanted.casefold())
    return Verdict(0.0, "wrong", "not in it") if at < 0 else Verdict(1.0, "correct", f"at character {at}")


def regex(argument: str, *, full: bool = False) -> Score:
    """PATTERN: 1 `correct` if the RE2 pattern matches in the response (with `full`, all of it), 0 `wrong` if not.

    `(?i)` at its start ignores case, `(?s)` lets `.` match line ends. Raises UsageError for what is no RE2 pattern.
    """
    pattern = rf"\A(?:{argument})\z" if full else argument
    try:
        pc.find_substring_regex(pa.array([""], pa.large_string()), pattern)
    except pa.ArrowInvalid as error:
        told = str(error).removeprefix("Invalid regular expression: ")
        raise UsageError(
            f"score regex:{argument}: {told}; allowed is RE2, without look-around and back references"
        ) from None
    return Score("regex", "1", partial(_regex, pattern), {"pattern": argument, "full": full})


def _regex(pattern: str, items: Sequence[Item]) -> list[Verdict]:
    texts = [answer_of(item).encode(errors="replace") for item in items]
    places = pc.find_substring_regex(pa.array([text.decode() for text in texts], pa.large_string()), pattern)
    return [
        Verdict(0.0, "wrong", "no match")
        if at < 0
        else Verdict(1.0, "correct", f"found: {text[at : at + SHOWN].decode(errors='ignore')}")
        for text, at in zip(texts, places.to_pylist(), strict=True)
    ]


def length(
    *, least: int | None = None, most: int | None = None, unit: Literal["words", "characters", "sentences"] = "words"
) -> Score:
    """How long a response is: 1 `correct` from `least` to `most` (both allowed), else 0 `wrong`.

    Without a limit the value is the length itself, `scored`. Words stand between white space; sentences are those of
    `sentences.py`, for English. Raises UsageError for another unit and for limits that nothing can meet.
    """
    if unit not in _UNITS:
        raise UsageError(f"score length: unit={unit}; allowed are {', '.join(_UNITS)}")
    if least is not None and most is not None and least > most:
        raise UsageError(f"score length: least={least} is more than most={most}; nothing is as long")
    parameters: dict[str, Any] = {"least": least, "most": most, "unit": unit}
    return Score("length", "1", partial(each, partial(_length, least, most, unit)), parameters)


_UNITS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "characters": len,
    "sentences": lambda text: len(sentences(text)),
}


def _length(least: int | None, most: int | None, unit: str, item: Item) -> Verdict:
    count = _UNITS[unit](answer_of(item))
    why = f"{count} {unit}"
    if least is None and most is None:
        return Verdict(float(count), "scored", why)
    if least is not None and count < least:
        return Verdict(0.0, "wrong", f"{why}, fewer than {least}")
    if most is not None and count > most:
        return Verdict(0.0, "wrong", f"{why}, more than {most}")
    return Verdict(1.0, "correct", why)


def language(argument: str, *, least: int = FEWEST_CHARACTERS) -> Score:
    """CODE or CODE+CODE (ISO 639-1): 1 `correct` if the response is in this language or one of these, 0 `wrong` if not.

    By py3langid, outside code; a response of fewer than `least` characters is `too_short` to judge. Raises UsageError
    for a code that is not known.
    """
    wanted, known = argument.split("+"), languages()
    if unknown := next((code for code in wanted if code not in known), None):
        raise UsageError(f"score language:{argument}: {unknown!r} is no code; allowed are {', '.join(known)}")
    parameters: dict[str, Any] = {"languages": wanted, "least": least}
    return Score("language", "1", partial(each, partial(_language, wanted, least)), parameters)


def _language(wanted: Sequence[str], least: int, item: Item) -> Verdict:
    text = without_code(answer_of(item)).strip()
    if len(text) < least:
        return Verdict(None, "too_short", f"{len(text)} characters outside code, fewer than {least}")
    found, sure = language_of(text)
    return Verdict(float(found in wanted), "correct" if found in wanted else "wrong", f"{found} {sure:.2f}")
