"""IFEval instructions about words: lengths, keywords, letters, case, commas and language.

Each function takes a text and what the instruction asks for, and tells whether it was met and what was found; see
`instructions.py` for where the facts come from. Keywords are compared as they are written: the official checker takes
them for regular expressions, in which `C++` means something else.
"""

import re
from typing import Annotated

from pydantic import Field

from gristmill.filter.language import language_of
from gristmill.score.instruction import Count, Named, Outcome, Relation, compared
from gristmill.score.sentences import sentences, tokens, words

Letter = Annotated[str, Field(min_length=1, max_length=1)]
Several = Annotated[list[Named], Field(min_length=1)]


def number_words(text: str, /, *, relation: Relation, num_words: Count) -> Outcome:
    """So many words: runs of letters and digits of any script."""
    return compared(words(text), relation, num_words)


def number_sentences(text: str, /, *, relation: Relation, num_sentences: Count) -> Outcome:
    """So many sentences, by the rules of `sentences.py`."""
    return compared(len(sentences(text)), relation, num_sentences)


def existence(text: str, /, *, keywords: Several) -> Outcome:
    """Every keyword is in the text, without regard to case; within a word counts."""
    missing = [word for word in keywords if not _places(text, word)]
    return Outcome(not missing, "missing: " + ", ".join(missing) if missing else "all")


def frequency(text: str, /, *, relation: Relation, keyword: Named, frequency: Count) -> Outcome:
    """A keyword occurs so often, without regard to case; within a word counts."""
    return compared(_places(text, keyword.strip()), relation, frequency)


def forbidden(text: str, /, *, forbidden_words: Several) -> Outcome:
    """None of the words is in the text, as a word, without regard to case."""
    found = [w for w in forbidden_words if re.search(rf"(?i)(?<!\w){re.escape(w)}(?!\w)", text)]
    return Outcome(not found, ", ".join(found) or "none")


def letter_frequency(text: str, /, *, let_relation: Relation, letter: Letter, let_frequency: Count) -> Outcome:
    """A character occurs so often, without regard to case."""
    return compared(text.lower().count(letter.lower()), let_relation, let_frequency)


def capital_words(text: str, /, *, capital_relation: Relation, capital_frequency: Count) -> Outcome:
    """So many words in capital letters; `I` is one."""
    return compared(sum(token.isupper() for token in tokens(text)), capital_relation, capital_frequency)


def english_capital(text: str, /) -> Outcome:
    """English, and no small letter."""
    return response_language(text, language="en") if text.isupper() else Outcome(False, "small letters")


def english_lowercase(text: str, /) -> Outcome:
    """English, and no capital letter."""
    return response_language(text, language="en") if text.islower() else Outcome(False, "capital letters")


def response_language(text: str, /, *, language: Named) -> Outcome:
    """The text is in a language (ISO 639-1), by py3langid; one without a letter is in none."""
    found = language_of(text)[0] if any(character.isalpha() for character in text) else "none"
    return Outcome(found == language.split("-")[0], found)


def no_comma(text: str, /) -> Outcome:
    """There is no comma."""
    return Outcome("," not in text, text.count(","))


def _places(text: str, /, word: str) -> int:
    return sum(1 for _ in re.finditer(re.escape(word), text, re.IGNORECASE))
