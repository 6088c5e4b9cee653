"""Answers in a script or a language nobody asked for.

Scripts need no list of languages: letters of the answer that belong to a script which the prompt neither uses nor asks
for. Languages are identified by py3langid (https://github.com/adbar/py3langid, its data in the package) when the
wanted ones are given. Not covered: one Latin-script language in place of another when no list is given, text mixed
within a sentence, answers too short to judge, and identification inside code.
"""

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

NOT_LATIN = r"[^\P{L}\p{Latin}]"
"""RE2 for a letter outside the Latin script (Python's `re` knows no scripts)."""

FEWEST_LETTERS = 20
"""An answer with fewer letters is not judged by script: `Ω` and `привет` are answers."""

FEWEST_CHARACTERS = 100
"""An answer with fewer characters outside code is not judged by language."""

_SYMBOLS = {"FULLWIDTH", "MATHEMATICAL", "DOUBLE", "SCRIPT", "FEMININE", "MASCULINE", "MODIFIER", "MICRO"}
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}
_ASKS = re.compile(
    r"(?i)translat|languages?\b|alphabet|\bscript\b|transliterat|bilingual|multilingual|unicode|\bemoji|"
    r"\b(?:how (?:do|to) (?:you |i )?say|"
    r"arabic|armenian|bengali|bulgarian|cantonese|chinese|cyrillic|farsi|georgian|greek|gujarati|hanzi|hebrew|hindi|"
    r"hiragana|japanese|kannada|kanji|kazakh|khmer|korean|lao|macedonian|malayalam|mandarin|marathi|mongolian|nepali|"
    r"pashto|persian|punjabi|russian|sanskrit|serbian|sinhala|tamil|telugu|thai|tibetan|ukrainian|urdu|yiddish)\b"
)
_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)


def foreign_share(prompt: str, answer: str) -> tuple[float, str | None]:
    """The share of the answer's letters in scripts that the prompt neither uses nor asks for, and the chief one.

    Latin is never foreign; kana and Han count as one. 0 when the prompt names a language of another script or asks for
    a translation, and for answers of fewer than `FEWEST_LETTERS` letters.
    """
    scripts = _scripts(answer)
    letters = scripts.total()
    if letters < FEWEST_LETTERS or _ASKS.search(prompt):
        return 0.0, None
    foreign = {s: n for s, n in scripts.items() if s != "LATIN" and s not in _scripts(prompt)}
    if not foreign:
        return 0.0, None
    return sum(foreign.values()) / letters, max(sorted(foreign), key=lambda script: foreign[script]).title()


def _scripts(text: str) -> Counter[str]:
    return Counter(_script(character) for character in text if character.isalpha())


@cache
def _script(letter: str) -> str:
    """The script of a letter by the first word of its Unicode name: LATIN, CYRILLIC, CJK, …"""
    first = unicodedata.name(letter, "UNKNOWN").split(maxsplit=1)[0].split("-")[0]
    return "LATIN" if first in _SYMBOLS else _TOGETHER.get(first, first)


def other_language(answer: str, wanted: tuple[str, ...]) -> tuple[float, str | None]:
    """How sure it is (0 to 1) that the answer is in a language outside `wanted` (ISO 639-1 codes), and which language.

    0 and None for an answer in a wanted language or too short to judge; code blocks are left out.
    """
    text = without_code(answer)
    if len(text.strip()) < FEWEST_CHARACTERS:
        return 0.0, None
    language, confidence = language_of(text)
    return (0.0, None) if language in wanted else (confidence, language)


def without_code(text: str) -> str:
    """A text with a space in place of every code block and code span."""
    return _CODE.sub(" ", text)


def language_of(text: str) -> tuple[str, float]:
    """The likeliest language of a text (ISO 639-1 code) and how sure that is, 0 to 1; of any text there is one."""
    language, confidence = _identifier().classify(text)
    return str(language), float(confidence)


def languages() -> list[str]:
    """The codes that `other_language` knows."""
    return sorted(str(code) for code in _identifier().labels)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.2 s, needed only with a list of languages

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
