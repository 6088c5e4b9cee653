"""What a text is like, cheaply: code, kind of question, opening verb, fluency, variety, language.

Everything works on Arrow arrays of texts without nulls; a trait that a text does not have is NaN or null, never 0.
Words stand between white space. Word lists (question words, function words) are English; messages in other languages
come out as `imperative`, alike before and after a filter. Fluency looks at the first `HEAD` characters only.

Not covered: parsing. An opening verb is the first word of a message that opens like an order: Self-Instruct
(Wang et al. 2023, https://arxiv.org/abs/2212.10560) takes the root of a parse instead.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.filter.language import FEWEST_CHARACTERS, foreign_share, other_language
from gristmill.filter.measures import Floats

HEAD = 2_000
"""Characters of a text that fluency and language look at."""

VARIETY_WORDS = 50
"""Words over which variety is measured, so that length does not enter."""

QUESTION_WORDS = ("what", "how", "why", "who", "when", "where", "which")
_AUXILIARIES = (
    "is are was were am be do does did can could will would should shall may might must has have had "
    "isn aren wasn weren don doesn didn couldn wouldn shouldn hasn haven hadn won ain"
)
_OPENERS = (
    "a an the this that these those there here it its i im ive my me we our us you your he she they them his her "
    "their if in on at of for from to with without by about as after before during under over below above between "
    "and or but so because since while not no yes some any all each every one two three given once dear good okay ok"
)
"""Words that open a statement (or a question further on), not an order."""

_FUNCTION_WORDS = (
    "the of and to a in is that it for as was with be by on not he i this are or his from at which but have an had "
    "they you were their one all we can her has there been if more when will would who so no what do about into them "
    "some could than other then its our these may like just also your my because any such only how where should"
)
_STOP_WORD = rf"(?i)\b(?:{_FUNCTION_WORDS.replace(' ', '|')})\b"
_POLITE = r"(?:(?:please|kindly|hi|hello|hey|now|also|then|next|(?:can|could|would|will) you)[\s,.!:]+)*"
_FIRST_WORD = rf"(?i)^[^\p{{L}}]*{_POLITE}(?P<word>\p{{L}}+)"
_ASKS_AT_ONCE = r"^[^.!?\n]*\?"
_ASKS_FOR = r"(?i)^[^\p{L}]*(?:can|could|would|will) you\b"
_SENTENCE_END = r"[.!?]+(?:\s|$)|[^.!?\s]\s*(?:\n|$)"
_FENCED = r"(?s)```.*?(?:```|$)"
_CODE_LINE = (
    r"(?m)^(?:(?: {4}|\t)[ \t]*[^\s\-*\d].*|.*[;{}][ \t]*|"
    r"(?:def |class |import |from \S+ import |#include|const |SELECT |INSERT |CREATE |<\?php|</?[a-z]+[ >]).*)$"
)
_BACK = {"whose": "who", "whom": "who"}


def word_counts(texts: pa.LargeStringArray) -> Floats:
    """Words of each text."""
    return _floats(pc.count_substring_regex(texts, r"\S+"))


def code_shares(texts: pa.LargeStringArray) -> Floats:
    """The share of each text's characters, but for white space, in code; NaN for an empty text.

    Code is fenced blocks, and lines that are indented by four spaces or a tab (but for lists), end in `;`, `{` or `}`,
    or begin as statements do (`def`, `import`, `#include`, `SELECT`, a tag).
    """
    whole = _solid(texts)
    prose = pc.replace_substring_regex(pc.replace_substring_regex(texts, _FENCED, ""), _CODE_LINE, "")
    return _ratio(whole - _solid(prose), whole)


def question_types(messages: pa.LargeStringArray) -> pa.LargeStringArray:
    """How each message asks: `what` … `which`, `yes/no`, `other question`, `imperative`, `statement` or `other`.

    The first word decides, greetings and "please" or "could you" aside: a question word, an auxiliary verb (`yes/no`),
    or, if the first sentence ends in `?` (and does not say "could you"), `other question`; a message without letters is
    `other`; one that opens with an article, a pronoun, a preposition or the like is a `statement`; the rest are orders.
    """
    word = _first_words(messages)
    asks = pc.and_not(pc.match_substring_regex(messages, _ASKS_AT_ONCE), pc.match_substring_regex(messages, _ASKS_FOR))
    return pc.case_when(
        pc.make_struct(
            pc.is_null(word),
            _among(word, QUESTION_WORDS),
            _among(word, _AUXILIARIES.split()),
            asks,
            _among(word, _OPENERS.split()),
        ),
        *(pa.scalar("other", pa.large_string()), word),
        *(pa.scalar(kind, pa.large_string()) for kind in ("yes/no", "other question", "statement", "imperative")),
    )


def opening_verbs(messages: pa.LargeStringArray) -> pa.LargeStringArray:
    """The first word of each `imperative` message, in lower case; null for the others."""
    orders = pc.equal(question_types(messages), "imperative")
    return pc.if_else(orders, _first_words(messages), pa.scalar(None, pa.large_string()))


def fluency(texts: pa.LargeStringArray) -> dict[str, Floats]:
    """Characters a word, words a sentence, and the share of English function words; NaN for an empty text."""
    heads = pc.utf8_slice_codeunits(texts, 0, HEAD)
    words = word_counts(heads)
    sentences = np.where(words > 0, np.maximum(_floats(pc.count_substring_regex(heads, _SENTENCE_END)), 1), 0)
    return {
        "word length": _ratio(_solid(heads), words),
        "sentence length": _ratio(words, sentences),
        "function words": np.minimum(_ratio(_floats(pc.count_substring_regex(heads, _STOP_WORD)), words), 1),
    }


def varieties(texts: pa.LargeStringArray) -> Floats:
    """Distinct words among the first `VARIETY_WORDS`, as a share of them, in lower case; NaN for a shorter text.

    A type–token ratio over a fixed number of words, as ratios over whole texts fall with their length
    (Richards 1987, https://doi.org/10.1017/S0305000900012885).
    """
    found = np.full(len(texts), np.nan)
    for n, text in enumerate(pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, HEAD)).to_pylist()):
        words = text.split(maxsplit=VARIETY_WORDS)[:VARIETY_WORDS]
        if len(words) == VARIETY_WORDS:
            found[n] = len(set(words)) / VARIETY_WORDS
    return found


def languages(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """The script of each text where most letters are not Latin, else its language as py3langid sees it.

    Null for a text too short to judge: fewer than 100 characters outside code in Latin script, 20 letters in another.
    """
    heads = pc.utf8_slice_codeunits(texts, 0, HEAD // 2)
    return pa.array([_language(text) for text in heads.to_pylist()], pa.large_string())


def _language(text: str) -> str | None:
    if not text.isascii():
        share, script = foreign_share("", text)
        if share > 0.5:
            return script
    return other_language(text, ())[1] if len(text) >= FEWEST_CHARACTERS else None


def _first_words(messages: pa.LargeStringArray) -> pa.LargeStringArray:
    words = pc.utf8_lower(pc.struct_field(pc.extract_regex(messages, _FIRST_WORD), "word"))
    known = pc.index_in(words, pa.array(list(_BACK), pa.large_string()))
    return pc.coalesce(pa.array(list(_BACK.values()), pa.large_string()).take(known), words)


def _solid(texts: pa.LargeStringArray) -> Floats:
    """Characters of each text but for white space."""
    return _floats(pc.utf8_length(pc.replace_substring_regex(texts, r"\s+", "")))


def _among(words: pa.LargeStringArray, known: Iterable[str]) -> pa.BooleanArray:
    return pc.is_in(words, pa.array(list(known), pa.large_string()))


def _floats(values: pa.Array) -> Floats:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    shares: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return shares
