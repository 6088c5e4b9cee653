"""Multiple choice: which option a response chooses, and whether it is the right one.

Options are letters. The choice is read from the first of these that is there: the last `\\boxed{B}`; the last "answer
is (B)", "Answer: B" or "I choose B"; the letter with which the first or the last line begins (`B`, `(B)`, `**B**`,
"B. cats"); the one option whose text the response is; the one letter that is left in the last sentence, or else in the
whole response. Options that are ruled out ("not A", "A is wrong") do not count, and a response that chooses two is
`unparseable_answer`.

Not covered: sets of right answers, options that are numbered, letters of other scripts, and a choice that is described
in other words than the option's.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial

from gristmill.score.score import Item, Score, Verdict, each, itself
from gristmill.score.sentences import sentences
from gristmill.score.text import NO_REFERENCE, answer_of

_MARK = r"[*_`\"'\s]*+"
_OPEN, _SHUT = r"(?<![A-Za-z'’])[(\[]?", r"(?![A-Za-z'’])[)\]]?"
_NAMED = rf"(?i:option|choice|answer)?\s*[(\[]?(?P<letter>[A-Z]){_SHUT}"
_BOXED = re.compile(r"\\boxed\{\s*(?:\\(?:text|mathrm|mathbf|textbf)\{)?\s*[(\[]?(?P<letter>[A-Za-z])[)\]]?[.\s]*\}")
_SAID = re.compile(
    r"(?i:\b(?:answer|choice|option|choose|chose|select|pick)(?:\s+(?:is|would be|should be|must be))?"
    rf"{_MARK}[:=]?{_MARK}(?:definitely|clearly|therefore|thus)?{_MARK}){_NAMED}"
)
_BEGINS = re.compile(rf"{_MARK}(?i:option|choice)?\s*(?:[(\[](?P<one>[A-Za-z])[)\]]|(?P<two>[A-Z])(?:[.):]|{_MARK}$))")
_OPTION = re.compile(r"(?m)^[ \t]*(?:[(\[](?P<one>[A-Za-z])[)\]]|(?P<two>[A-Z])[.):])[ \t]*(?P<text>\S.*)$")
_LONE = re.compile(rf"{_OPEN}(?P<letter>[A-Z]){_SHUT}")
_RULED_OUT = re.compile(
    r"(?i:(?:\b(?:not|neither|nor|rules? out|eliminates?|excludes?|unlike|rather than|instead of|over|than)|"
    rf"n['’]t(?: be)?){_MARK}){_NAMED}"
)
_IS_WRONG = re.compile(
    rf"{_OPEN}(?P<letter>[A-Z]){_SHUT}"
    r"(?i:\s+(?:is|are|was|cannot be|can't be|must be)\s+(?:not|wrong|incorrect|false|ruled out|out)\b|\s+isn['’]t\b)"
)
_AND_ANOTHER = re.compile(
    rf"{_MARK}(?:(?:or|and|/|&){_MARK}[(\[]?[A-Z]{_SHUT}(?:\W|$)|,{_MARK}[(\[]?[A-Z]{_SHUT}\s*(?:$|[.,;]))"
)
_AS_A_WORD = re.compile(r"\s+(?!(?:is|are|was|or|and|because|since|over|would|seems|must|as|it)\b)[a-z]")
"""What follows `A` and `I` where they are English words."""


def choice() -> Score:
    """1 `correct` if the option that the response chooses is the reference (a letter, "B. cats", or an option's text).

    0 `wrong` for another; `unparseable_answer` where it chooses none or several, `unparseable_gold` where the reference
    is no option. Options are read from the question, one a line (`A. dogs`); without them any letter may be one.
    """
    judge = partial(each, _choice)
    return Score("choice", "1", judge, gold=partial(itself, judge))


def _choice(item: Item) -> Verdict:
    if item.reference is None:
        return NO_REFERENCE
    options = options_of(item.question)
    wanted = chosen(item.reference, options)
    if wanted is None:
        return Verdict(None, "unparseable_gold", f"the reference {item.reference[:60]!r} is no option")
    found = chosen(answer_of(item), options)
    if found is None:
        return Verdict(None, "unparseable_answer", "it chooses no option, or several")
    return Verdict(float(found == wanted), "correct" if found == wanted else "wrong", f"{found}, expected {wanted}")


def options_of(question: str) -> dict[str, str]:
    """The options of a question by letter: its lines that begin with `A.`, `A)`, `A:` or `(A)`, from A on, no gap."""
    found: dict[str, str] = {}
    for line in _OPTION.finditer(question):
        letter = (line["one"] or line["two"]).upper()
        if letter == chr(ord("A") + len(found)):
            found[letter] = line["text"]
    return found if len(found) > 1 else {}


def chosen(text: str, options: Mapping[str, str] | None = None) -> str | None:
    """The letter that a text chooses, None for none and for several. `options` are the texts by letter, if known."""
    text, options = text.strip(), options or {}
    if boxed := _allowed((match["letter"].upper() for match in _BOXED.finditer(text)), options):
        return boxed[-1]
    out = {match["letter"] for pattern in (_RULED_OUT, _IS_WRONG) for match in pattern.finditer(text)}
    said = [match for match in _SAID.finditer(text) if not _is_word(text, match)]
    if said := [match for match in said if match["letter"] not in out and _allowed([match["letter"]], options)]:
        return None if _AND_ANOTHER.match(text, said[-1].end()) else said[-1]["letter"]
    lines = [line for line in (text.split("\n", 1)[0], text.rsplit("\n", 1)[-1]) if line.strip()]
    ends = [(begun["one"] or begun["two"]).upper() for line in lines if (begun := _BEGINS.match(line))]
    if ends := list(dict.fromkeys(_allowed(ends, options))):
        return ends[0] if len(ends) == 1 and not _more(text, ends[0], options, out) else None
    same = [letter for letter, option in options.items() if _plain(option) == _plain(text)]
    if len(same) == 1:
        return same[0]
    for part in (sentences(text)[-1:], [text]):
        left = set(_lone("".join(part), options)) - out
        if left:
            return left.pop() if len(left) == 1 else None
    return None


def _more(text: str, letter: str, options: Mapping[str, str], out: set[str]) -> bool:
    """Whether a short text names another option, too: `A or B`."""
    return len(text) <= 40 and bool(set(_lone(text, options)) - out - {letter})


def _lone(text: str, options: Mapping[str, str]) -> list[str]:
    return _allowed((match["letter"] for match in _LONE.finditer(text) if not _is_word(text, match)), options)


def _allowed(letters: Iterable[str], options: Mapping[str, str]) -> list[str]:
    return [letter for letter in letters if not options or letter in options]


def _is_word(text: str, match: re.Match[str]) -> bool:
    """Whether an `A` or `I` is the English word and no option."""
    return match["letter"] in "AI" and _AS_A_WORD.match(text, match.end()) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")
