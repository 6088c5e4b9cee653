"""What the rules know of a row: every measure of prompts and answers, and the words that show it.

`measure_rows` measures a whole Arrow batch; `shown` finds, for one row, what `drop_evidence` tells. A measure that
does not apply to a row (an answer's measure in a table of prompts) is NaN there and null in the table.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.filter.language import NOT_LATIN, foreign_share, other_language
from gristmill.filter.measures import Floats, names, repetition
from gristmill.filter.patterns import (
    HEAD,
    LEAK,
    NO_INPUT,
    REFUSAL,
    find_leak,
    find_no_input,
    find_refusal,
)
from gristmill.filter.privacy import KINDS, PATTERNS, find_private, hidden

ANSWER_MEASURES = ["chars", *names(), "refusal", "leak", "no_input", "echo", "foreign_script", "other_language"]
"""All measures of rows with an answer, in the order of their columns, but for those of personal data (`KINDS`)."""

PROMPT_MEASURES = ["chars", "words", "no_input"]
"""The measures of a table of prompts: lengths are the last message's."""

_BLANK = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f\u2060\u3000\ufeff"
_TRIM = rf"^[{_BLANK}]+|[{_BLANK}]+$"
_PUNCTUATION = bytes(range(33)) + b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f"


def last_messages(prompts: pa.Array) -> pa.LargeStringArray:
    """The content of the last message of each prompt (list of messages); "" where there is none."""
    ends = prompts.offsets.to_numpy()[1:]
    last = np.where(np.diff(prompts.offsets.to_numpy()) > 0, ends - 1, -1)
    contents = prompts.values.field("content").cast(pa.large_string())
    return pc.fill_null(contents.take(pa.array(last, mask=last < 0)), "")


def trimmed(texts: pa.Array) -> pa.LargeStringArray:
    """Texts without white space and invisible characters at their ends; null becomes ""."""
    return pc.replace_substring_regex(pc.fill_null(texts.cast(pa.large_string()), ""), _TRIM, "")


def measure_rows(
    prompts: pa.LargeStringArray,
    answers: pa.LargeStringArray | None,
    wanted: Collection[str],
    languages: tuple[str, ...] = (),
) -> dict[str, Floats]:
    """The wanted measures of each row, as doubles.

    `prompts` (last messages) and `answers` are trimmed and without nulls; without answers only `PROMPT_MEASURES` and
    the private ones are known, the others NaN. `languages` are those that `other_language` takes for right.
    """
    text = prompts if answers is None else answers
    found = {"chars": pc.utf8_length(text).to_numpy().astype(np.float64)}
    if answers is None:
        found["words"] = repetition(text)["words"]
    else:
        found |= repetition(text)
        found |= _answer_measures(prompts, answers, wanted, languages)
    if "no_input" in wanted:
        found["no_input"] = _flag(prompts, NO_INPUT, [prompts], find_no_input)
    for kind in KINDS:
        if kind in wanted:
            both = [text] if answers is None else [prompts, answers]
            found[kind] = sum((_counts(kind, texts) for texts in both), np.zeros(len(text)))
    unknown = np.full(len(text), np.nan)
    return {name: found.get(name, unknown) for name in wanted}


def _answer_measures(
    prompts: pa.LargeStringArray,
    answers: pa.LargeStringArray,
    wanted: Collection[str],
    languages: tuple[str, ...],
) -> dict[str, Floats]:
    both = [prompts, answers]
    found = {}
    if "refusal" in wanted:
        head = pc.utf8_slice_codeunits(answers, 0, HEAD)
        found["refusal"] = _flag(head, REFUSAL, both, find_refusal)
    if "leak" in wanted:
        found["leak"] = _flag(answers, LEAK, both, find_leak)
    if "echo" in wanted:
        pairs = zip(prompts.to_pylist(), answers.to_pylist(), strict=True)
        found["echo"] = np.fromiter((echo(*pair) for pair in pairs), np.float64, len(answers))
    if "foreign_script" in wanted:
        found["foreign_script"] = _where(answers, NOT_LATIN, both, lambda p, a: foreign_share(p, a)[0])
    if "other_language" in wanted and languages:
        found["other_language"] = np.array([other_language(a, languages)[0] for a in answers.to_pylist()])
    return found


def _where(
    searched: pa.LargeStringArray, pattern: str, texts: list[pa.LargeStringArray], value: Callable[..., float]
) -> Floats:
    """`value` of the rows in whose `searched` text the RE2 pattern is found, 0 elsewhere."""
    hits = np.flatnonzero(pc.match_substring_regex(searched, pattern).to_numpy(zero_copy_only=False))
    found = np.zeros(len(searched))
    columns: Iterable[tuple[str, ...]] = zip(
        *(column.take(pa.array(hits, pa.int64())).to_pylist() for column in texts), strict=True
    )
    found[hits] = [value(*row) for row in columns]
    return found


def _flag(
    searched: pa.LargeStringArray, pattern: str, texts: list[pa.LargeStringArray], find: Callable[..., str | None]
) -> Floats:
    return _where(searched, pattern, texts, lambda *row: float(find(*row) is not None))


def _counts(kind: str, texts: pa.LargeStringArray) -> Floats:
    return _where(texts, PATTERNS[kind], [texts], lambda text: float(sum(1 for _ in find_private(kind, text))))


def echo(prompt: str, answer: str) -> float:
    """The share of the answer that is the whole prompt, 0 if the prompt is not in it.

    Compared without case, white space and ASCII punctuation, in UTF-8 bytes; 0 for prompts of fewer than three words.
    """
    if len(answer) < len(prompt) // 2 or len(prompt.split(maxsplit=3)) < 3:
        return 0.0
    asked, given = (text.lower().encode().translate(None, _PUNCTUATION) for text in (prompt, answer))
    return len(asked) / len(given) if asked and asked in given else 0.0


def shown(measure: str, prompt: str, answer: str | None, languages: tuple[str, ...] = ()) -> dict[str, str | int]:
    """What shows the measure in one row, for `drop_evidence`: the matched text, the repeated words, the language."""
    answer = answer or ""
    if measure in {"refusal", "leak"}:
        return {"text": (find_refusal if measure == "refusal" else find_leak)(prompt, answer) or ""}
    if measure == "no_input":
        return {"text": find_no_input(prompt) or ""}
    if measure == "echo":
        return {"text": prompt[:200]}
    if measure == "foreign_script":
        return {"script": foreign_share(prompt, answer)[1] or ""}
    if measure == "other_language":
        return {"language": other_language(answer, languages)[1] or ""}
    if measure in KINDS:
        return {"text": ", ".join(hidden(t[a:b]) for t in (prompt, answer) for a, b in find_private(measure, t))[:200]}
    return _most_repeated(answer, int(measure[4:-4])) if measure.endswith("gram") else {}


def _most_repeated(text: str, n: int) -> dict[str, str | int]:
    words = text.split()
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    gram, times = max(grams.items(), key=lambda item: (item[1], item[0]), default=((), 0))
    return {"text": " ".join(gram)[:200], "times": times}
