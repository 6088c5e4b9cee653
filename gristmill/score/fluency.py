"""Whether a response looks like running text: by statistics of its characters and words, or by a local model.

Without a model the value is the share of Gopher's tests that the text passes (Rae et al. 2021, https://arxiv.org/abs/2112.11446,
appendix A.1.1 and table A1): the mean word has 3 to 10 characters; at least 80 % of the words have a letter; there is
at most one `#` or ellipsis to ten words; English text has at least two of `the be to of and that have with`; no word
n-gram repeats beyond the limits of table A1. The limits are the paper's, for web pages.

Departures: Gopher drops what fails one test, this counts them; its tests of length and of lines are left out
(`length`, `structure`), and a text of fewer than `LEAST_WORDS` words is not judged, as few words say little.

Not covered: grammar, spelling, sense. Tables, code and pure formulas are no running text and fail; text without spaces
between words (Chinese, Thai) cannot be judged by words.
"""

import re
from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.filter.limits import DUPLICATE_LIMITS, TOP_LIMITS
from gristmill.filter.measures import repetition
from gristmill.score import perplexity
from gristmill.score.score import Item, Score, Verdict
from gristmill.score.text import answer_of

LEAST_WORDS = 20
STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
_LETTER = re.compile(r"[^\W\d_]")
_SYMBOL = re.compile(r"#|\.\.\.|…")
_EDGES = "\"'“”‘’()[]{}<>*_`.,;:!?"


def fluency(argument: str | None = None, *, english: bool = True) -> Score:
    """hf:PATH, or nothing. Nothing: the share of Gopher's tests that a response passes, 0 to 1, `scored`; `why` names
    those it fails. With `english=false` there is no test for English words. `too_short` for fewer than 20 words has no
    value.

    `hf:PATH`: the mean log-probability of its tokens by these weights, at most 0 (`perplexity.py`). Raises UsageError.
    """
    if argument is None:
        return Score("fluency", "1", partial(_fluency, english), {"english": english})
    if not argument.startswith("hf:"):
        raise UsageError(f"score fluency:{argument}: a model is local weights; write fluency:hf:PATH")
    path = argument.removeprefix("hf:")
    return Score("fluency", "1", partial(perplexity.judge, path), {"model": perplexity.content(path)})


def _fluency(english: bool, items: Sequence[Item]) -> list[Verdict]:
    texts = [answer_of(item) for item in items]
    repeated = repetition(pa.array([text.encode(errors="replace").decode() for text in texts], pa.large_string()))
    found = []
    for number, text in enumerate(texts):
        words = text.split()
        if len(words) < LEAST_WORDS:
            found.append(Verdict(None, "too_short", f"{len(words)} words, fewer than {LEAST_WORDS}"))
            continue
        tests = _tests(text, words, english)
        broken = [limit for limit in LIMITS if limit.broken(repeated[limit.measure][number])]
        tests["repetition"] = ", ".join(f"{limit.measure} {repeated[limit.measure][number]:.2f}" for limit in broken)
        failed = [f"{name}: {told}" for name, told in tests.items() if told]
        found.append(Verdict(1 - len(failed) / len(tests), "scored", "; ".join(failed) or "passes all tests"))
    return found


LIMITS = (*TOP_LIMITS, *DUPLICATE_LIMITS)


def _tests(text: str, words: Sequence[str], english: bool) -> dict[str, str]:
    """What each test has to say against a text; empty where it passes."""
    bare = [word.strip(_EDGES) for word in words]
    mean = sum(map(len, bare)) / len(words)
    letters = sum(_LETTER.search(word) is not None for word in words) / len(words)
    symbols = len(_SYMBOL.findall(text)) / len(words)
    stops = STOP_WORDS & {word.lower() for word in bare}
    told = {
        "word length": "" if 3 <= mean <= 10 else f"{mean:.1f} characters",
        "letters": "" if letters >= 0.8 else f"in {letters:.0%} of the words",
        "symbols": "" if symbols <= 0.1 else f"{symbols:.2f} # or … a word",
    }
    return told | ({"English": "" if len(stops) >= 2 else "fewer than two common words"} if english else {})
