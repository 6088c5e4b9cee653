"""Sentences, words and tokens of English text, by rules, counted as the IFEval checker counts them.

The official checker (https://github.com/google-research/google-research/tree/master/instruction_following_eval) splits
sentences by NLTK's punkt (Kiss & Strunk 2006, https://doi.org/10.1162/coli.2006.32.4.485), whose data are downloaded,
and counts capital words among the tokens of NLTK's word tokenizer. The rules here decide as that method does with
English text, from a written list of abbreviations in place of a learned one; docs/text_scores.md says how often the
two agree.

Not covered: sentence ends of other scripts (`。`, `।`), as in punkt's English model, and abbreviations off the list
(`e.g.`, `etc.` and `No.` are none in that model either: what follows them is a sentence).
"""

import re
from collections.abc import Iterator

_ABBREVIATIONS = re.compile(
    r"""(?x)
    mr|mrs|ms|dr|prof|messrs|rev|gen|sen|rep|gov|sgt|col|capt|lt|maj|adm|jr|sr|st|mt|ft|jan|feb|mar|apr|aug|sept|
    oct|nov|dec|inc|ltd|co|corp|bros|vs|a\.m|p\.m|u\.s|u\.k|u\.n|d\.c|l\.a|n\.y|n\.j|ave|blvd|rd|ala|ariz|calif|
    colo|conn|del|fla|ga|ill|ind|kan|ky|la|mass|md|mich|minn|mo|mont|nev|okla|ore|pa|tenn|tex|va|wash|wis"""
)
_STARTERS = re.compile(
    r"""(?x)
    a|after|all|also|although|an|and|as|at|because|before|but|by|can|do|for|from|he|her|here|his|how|however|i|if|
    in|is|it|its|let|many|more|most|my|new|no|not|now|of|on|once|one|our|please|since|so|some|such|that|the|their|then|
    there|these|they|this|those|though|to|under|until|we|what|when|where|which|while|who|why|with|yes|you|your"""
)
"""Words that begin many sentences: after an abbreviation a capital one of these begins another."""

_STOP = re.compile(r"(?<![.?!])[.?!]++(?=\s|[)\";}\]*:@'({\[]|$)")
_CLOSERS = re.compile(r"[\"')\]}]+(?=\s|--|$)")
_WORDS = re.compile(r"\w+")
_OPENERS = "\"'([{*_#>-"
_BETWEEN = re.compile(r"[\s«»“”„‘’`;@#$%&?!*\[\](){}<>\"\u2012-\u2015]+|--+|\.{2,}|[:,](?!\d)")
_CLITIC = re.compile(r"(?i)(?<=[^'])(?:'(?:s|m|d|ll|re|ve)|n't)$")

LONGEST = 80
"""Characters that are looked at on either side of a full stop."""


def words(text: str) -> int:
    """How many words there are: runs of letters, digits and underscores of any script."""
    return sum(1 for _ in _WORDS.finditer(text))


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space around them."""
    found, start = [], 0
    for stop in _STOP.finditer(text):
        if _ends(text, start, stop):
            closed = _CLOSERS.match(text, stop.end())
            end = closed.end() if closed else stop.end()
            found.append(text[start:end].strip())
            start = end
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def tokens(text: str) -> Iterator[str]:
    """Words as they are written, cut at white space, brackets, quotes, commas and before `n't`, `'s` and their like."""
    for token in _BETWEEN.split(text):
        clitic = _CLITIC.search(token)
        yield token[: clitic.start()] if clitic else token
        if clitic:
            yield clitic.group()


def _ends(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether the `.`, `?` or `!` at `stop` ends the sentence that begins at `start`."""
    after = text[stop.end() : stop.end() + LONGEST]
    mark = stop.group()
    if not after[:1].isspace() or mark[-1] != "." or (len(mark) > 1 and mark[-2] != "."):
        return True
    following = after.split(maxsplit=1)[0] if after.strip() else ""
    if len(mark) > 1:
        return following[:1].isupper()
    before = text[max(start, stop.start() - LONGEST) : stop.start()].split()
    word = before[-1].lstrip(_OPENERS).lower() if before else ""
    if word.isdigit():
        return not following[:1].islower()
    if _ABBREVIATIONS.fullmatch(word) or (len(word) == 1 and word.isalpha()):
        return following[:1].isupper() and _begins(following)
    return True


def _begins(word: str) -> bool:
    """Whether it is one of the words that begin sentences; `Let's` and `I'm` are."""
    first = _WORDS.match(word)
    return first is not None and _STARTERS.fullmatch(first.group().lower()) is not None
