"""How hard English text is to read: Flesch's reading ease, and the school grade of Flesch and Kincaid.

Ease is 206.835 - 1.015 words a sentence - 84.6 syllables a word (Flesch 1948, https://doi.org/10.1037/h0057532): about
100 for very easy and 0 for very hard prose, without bounds. Grade is 0.39 words a sentence + 11.8 syllables a word -
15.59 (Kincaid et al. 1975, https://stars.library.ucf.edu/istlibrary/56/): years of school in the United States.

Departures: syllables are estimated from spelling; code is left out; list items and headings are sentences, as they end
without a full stop. Not covered: whether the text makes sense, and other languages (`not_english`).
"""

import re
from functools import partial

from gristmill.filter.language import language_of, without_code
from gristmill.score.score import Item, Score, Verdict, each
from gristmill.score.sentences import sentences
from gristmill.score.text import answer_of

LEAST_WORDS = 20
"""A text of fewer words is not judged; the formulas were made for samples of a hundred."""

_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_VOWELS = re.compile(r"[aeiouy]+")
_APART = re.compile(r"ia|ien|eing|creat(?!ure)")
"""Neighbouring vowels that are two syllables."""
_MARKUP = re.compile(r"(?m)^[ \t]*(?:[-*+>#]+|\d+[.)])[ \t]+|[*_`|]")
_SILENT = re.compile(r"(?:[^laeiouy]|[aeiouy]l)e$|(?<![aeiouytd])(?<!t)ed$|(?<![aeiouycgszx])(?<![cs]h)es$")


def readability(*, grade: bool = False) -> Score:
    """Flesch's reading ease of an English response, higher is easier; with `grade` the Flesch-Kincaid grade instead.

    The verdict is `scored`; `too_short` for fewer than 20 words outside code and `not_english` have no value.
    """
    return Score("readability", "1", partial(each, partial(_readability, grade)), {"grade": grade})


def _readability(grade: bool, item: Item) -> Verdict:
    text = without_code(answer_of(item))
    if len(_WORD.findall(text)) < LEAST_WORDS:
        return Verdict(None, "too_short", f"fewer than {LEAST_WORDS} words outside code")
    if (language := language_of(text)[0]) != "en":
        return Verdict(None, "not_english", language)
    a_sentence, a_word = measured(text)
    ease, level = ease_and_grade(a_sentence, a_word)
    why = f"ease {ease:.1f}, grade {level:.1f}: {a_sentence:.1f} words a sentence, {a_word:.2f} syllables a word"
    return Verdict(level if grade else ease, "scored", why)


def ease_and_grade(words_a_sentence: float, syllables_a_word: float) -> tuple[float, float]:
    """Flesch's reading ease and the Flesch-Kincaid grade."""
    ease = 206.835 - 1.015 * words_a_sentence - 84.6 * syllables_a_word
    return ease, 0.39 * words_a_sentence + 11.8 * syllables_a_word - 15.59


def measured(text: str) -> tuple[float, float]:
    """Words a sentence and syllables a word of English text that has a word."""
    parts = [part for line in _MARKUP.sub("", text).split("\n") for part in sentences(line)]
    counts = [_WORD.findall(part) for part in parts]
    words = [word for found in counts for word in found]
    return len(words) / sum(map(bool, counts)), sum(map(syllables, words)) / len(words)


def syllables(word: str) -> int:
    """The syllables of an English word, estimated: groups of vowels, but for a silent e at the end; at least one."""
    spelt = word.lower().replace("’", "").replace("'", "")
    count = len(_VOWELS.findall(spelt)) + len(_APART.findall(spelt)) - bool(_SILENT.search(spelt))
    return max(count, 1)
