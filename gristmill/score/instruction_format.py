"""IFEval instructions about format: lists, sections, titles, JSON, how a text begins and ends, what is in it.

Each function takes a text and what the instruction asks for, and tells whether it was met and what was found. The facts
(what counts as a bullet, which markers) are the official checker's, see `instructions.py`; texts of any length take
time in proportion to it.
"""

import json
import re

from gristmill.score.instruction import Count, Named, Outcome

CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_HIGHLIGHT = re.compile(r"\*[^\n*]*\*")
_STRONG = re.compile(r"\*\*[^\n*]*\*\*")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_POSTSCRIPT = {"P.P.S": re.compile(r"p\.\s?p\.\s?s"), "P.S.": re.compile(r"p\.\s?s\.")}
_FENCE = re.compile(r"```(?:json|Json|JSON)?")


def bullets(text: str, /, *, num_bullets: Count) -> Outcome:
    """Exactly so many bullets: lines that begin with `-`, or with `*` but not `**`."""
    lines = [line.lstrip() for line in text.split("\n")]
    found = sum(line.startswith("-") or (line.startswith("*") and line[1:2] != "*") for line in lines)
    return Outcome(found == num_bullets, found)


def highlights(text: str, /, *, num_highlights: Count) -> Outcome:
    """At least so many `*highlighted*` parts within a line; `**double**` asterisks are one, too."""
    single = sum(bool(part.strip("*").strip()) for part in _HIGHLIGHT.findall(text))
    double = sum(bool(part[2:-2].strip()) for part in _STRONG.findall(text))
    return Outcome(single + double >= num_highlights, single + double)


def sections(text: str, /, *, section_spliter: Named, num_sections: Count) -> Outcome:
    """At least so many sections that begin with the word and a number, `Section 1`. (The data's name is misspelt.)"""
    found = len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", text))
    return Outcome(found >= num_sections, found)


def divided_paragraphs(text: str, /, *, num_paragraphs: Count) -> Outcome:
    """Exactly so many paragraphs with `***` between them, none of them empty."""
    parts = [part.strip() for part in _DIVIDER.split(text)]
    inner = parts[bool(not parts[0]) : len(parts) - (len(parts) > 1 and not parts[-1])]
    return Outcome(all(inner) and len(inner) == num_paragraphs, len(inner))


def nth_paragraph(text: str, /, *, num_paragraphs: Count, nth_paragraph: Count, first_word: Named) -> Outcome:
    """Exactly so many paragraphs with an empty line between them, and the nth begins with the word."""
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    if not 0 < nth_paragraph <= len(paragraphs):
        return Outcome(False, f"{len(paragraphs)} paragraphs")
    word = re.split(r"[.,?!'\"]", paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"'))[0].lower()
    met = len(paragraphs) == num_paragraphs and word == first_word.lower()
    return Outcome(met, f"{len(paragraphs)} paragraphs, {word!r}")


def title(text: str, /) -> Outcome:
    """A title in `<<double angular brackets>>`, on one line and not empty."""
    for line in text.split("\n"):
        inner = line[line.find("<<") : line.rfind(">>") + 2] if "<<" in line else ""
        if inner.strip("<>").strip():
            return Outcome(True, inner[:100])
    return Outcome(False, "none")


def json_format(text: str, /) -> Outcome:
    """The whole text is JSON, in a fence or not. (The score `json` asks for more.)"""
    inner = text.strip()
    if opened := _FENCE.match(inner):
        inner = inner[opened.end() :]
    try:
        json.loads(inner.removesuffix("```").strip())
    except (ValueError, RecursionError) as error:
        return Outcome(False, str(error))
    return Outcome(True, "JSON")


def constrained(text: str, /) -> Outcome:
    """One of `My answer is yes.`, `My answer is no.` and `My answer is maybe.` is in the text."""
    found = next((option for option in CONSTRAINED if option in text), None)
    return Outcome(found is not None, found or "none")


def placeholders(text: str, /, *, num_placeholders: Count) -> Outcome:
    """At least so many placeholders in square brackets, `[address]`, each within a line."""
    found = 0
    for line in text.split("\n"):
        end = 0
        while (start := line.find("[", end)) >= 0 and (end := line.find("]", start) + 1):
            found += 1
    return Outcome(found >= num_placeholders, found)


def postscript(text: str, /, *, postscript_marker: Named) -> Outcome:
    """A postscript marker is in the text, without regard to case, and for `P.S.` and `P.P.S` to spaces within it."""
    marker = postscript_marker.strip()
    pattern = _POSTSCRIPT.get(marker) or re.compile(re.escape(marker.lower()))
    found = pattern.search(text.lower())
    return Outcome(found is not None, found.group() if found else "none")


def end(text: str, /, *, end_phrase: Named) -> Outcome:
    """The text ends with the phrase, without regard to case and to quotes around the whole."""
    ending = text.strip().strip('"').lower()
    return Outcome(ending.endswith(end_phrase.strip().lower()), ending[-len(end_phrase) :])


def quotation(text: str, /) -> Outcome:
    """The whole text is in double quotes."""
    whole = text.strip()
    return Outcome(len(whole) > 1 and whole[0] == whole[-1] == '"', whole[:1] + "…" + whole[-1:])


def two_responses(text: str, /) -> Outcome:
    """Two different texts with `******` between them."""
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    met = all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]
    return Outcome(met, f"{len(full)} responses")


def repeat_prompt(text: str, /, *, prompt_to_repeat: Named) -> Outcome:
    """The text begins with the request, without regard to case."""
    wanted = prompt_to_repeat.strip().lower()
    return Outcome(text.strip().lower().startswith(wanted), text.strip()[:60])
