"""Whether a response does what it was told: the 25 verifiable instructions of IFEval, strict and loose.

Zhou et al. 2023, https://arxiv.org/abs/2311.07911. A row's `meta` has `instruction_id_list` and `kwargs`, which is what
the columns of the published prompts are called; what an instruction means is read off the official checker
(https://github.com/google-research/google-research/tree/master/instruction_following_eval). The strict score is 1 if
every instruction is met. The loose score tries eight forms of the response for each instruction, as in the paper: as it
is, without its first line, its last line and both, and these without asterisks.

Departures: sentences and languages are told by rules and by py3langid, which always say the same, in place of NLTK's
punkt, whose data are downloaded, and langdetect, whose answer on short texts is drawn by chance; keywords are no
regular expressions; a letter may be any character (the official checker draws another at random for `#`); a text
without letters is in no language; a leading `<think>` block is left out. An empty response meets no instruction.
docs/text_scores.md has the measured agreement.

Not covered: instructions of other benchmarks (IFBench, M-IFEval), and whether the response is any good.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError, validate_call

from gristmill.models.answer import split_thinking
from gristmill.score import instruction_format as form
from gristmill.score import instruction_words as word
from gristmill.score.instruction import Outcome
from gristmill.score.score import Item, Score, Verdict, each

CHECKS: dict[str, Callable[..., Outcome]] = {
    "change_case:capital_word_frequency": word.capital_words,
    "change_case:english_capital": word.english_capital,
    "change_case:english_lowercase": word.english_lowercase,
    "combination:repeat_prompt": form.repeat_prompt,
    "combination:two_responses": form.two_responses,
    "detectable_content:number_placeholders": form.placeholders,
    "detectable_content:postscript": form.postscript,
    "detectable_format:constrained_response": form.constrained,
    "detectable_format:json_format": form.json_format,
    "detectable_format:multiple_sections": form.sections,
    "detectable_format:number_bullet_lists": form.bullets,
    "detectable_format:number_highlighted_sections": form.highlights,
    "detectable_format:title": form.title,
    "keywords:existence": word.existence,
    "keywords:forbidden_words": word.forbidden,
    "keywords:frequency": word.frequency,
    "keywords:letter_frequency": word.letter_frequency,
    "language:response_language": word.response_language,
    "length_constraints:nth_paragraph_first_word": form.nth_paragraph,
    "length_constraints:number_paragraphs": form.divided_paragraphs,
    "length_constraints:number_sentences": word.number_sentences,
    "length_constraints:number_words": word.number_words,
    "punctuation:no_comma": word.no_comma,
    "startend:end_checker": form.end,
    "startend:quotation": form.quotation,
}
"""The check of each instruction; its keyword parameters are the instruction's `kwargs`."""

_CHECKED = {id: validate_call(check) for id, check in CHECKS.items()}


def instructions() -> Score:
    """Whether every instruction is met by the response as it is: 1 `correct`, 0 `wrong`."""
    return _score("instructions", loose=False)


def instructions_loose() -> Score:
    """Whether every instruction is met by some form of the response: 1 `correct`, 0 `wrong`."""
    return _score("instructions_loose", loose=True)


def _score(name: str, *, loose: bool) -> Score:
    return Score(name, "1", partial(each, partial(_judge, loose)), reads=("instruction_id_list", "kwargs"))


def _judge(loose: bool, item: Item) -> Verdict:
    try:
        outcomes = followed(item.response or "", *_asked(item.meta), loose=loose)
    except Unusable as error:
        return Verdict(None, "unparseable_gold", str(error))
    met = all(outcome["met"] for outcome in outcomes)
    return Verdict(float(met), "correct" if met else "wrong", orjson.dumps(outcomes).decode())


class Unusable(Exception):
    """Instructions that cannot be checked: an unknown one, or one without what it needs."""


def followed(
    response: str, ids: Iterable[str], kwargs: Iterable[Mapping[str, Any]], *, loose: bool = False
) -> list[dict[str, Any]]:
    """What became of each instruction: `instruction`, whether it was `met`, what was `found`, and, where it is not the
    response as it is that met it, `without`, which names what was taken away.

    `kwargs` has one mapping for each of the `ids`; nulls in it are left out, as data sets have a column for each name.
    Raises Unusable.
    """
    answer = split_thinking(response)[1]
    forms = loose_forms(answer) if loose else {"": answer}
    return [
        _followed(id, {k: v for k, v in given.items() if v is not None}, forms)
        for id, given in zip(ids, kwargs, strict=True)
    ]


def loose_forms(answer: str) -> dict[str, str]:
    """The eight forms of a response that the loose score tries, by what was taken away."""
    lines = answer.split("\n")
    forms = {
        "": answer,
        "first line": "\n".join(lines[1:]).strip(),
        "last line": "\n".join(lines[:-1]).strip(),
        "first and last line": "\n".join(lines[1:-1]).strip(),
    }
    return forms | {f"{name}, asterisks".removeprefix(", "): text.replace("*", "") for name, text in forms.items()}


def _followed(id: str, given: Mapping[str, Any], forms: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(id, str) or id not in _CHECKED:
        raise Unusable(f"instruction {id!r} is unknown; known are {', '.join(CHECKS)}")
    first = None
    for name, text in forms.items():
        try:
            outcome = _CHECKED[id](text, **given)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise Unusable(f"instruction {id}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
        if outcome.met and text.strip():
            return {"instruction": id, "met": True, "found": outcome.found} | ({"without": name} if name else {})
        first = first or outcome
    return {"instruction": id, "met": False, "found": first.found if first else ""}


def _asked(meta: Mapping[str, Any]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The instructions of a row and what each asks for, lists or their JSON."""
    ids, kwargs = (_list(meta, name) for name in ("instruction_id_list", "kwargs"))
    if not ids:
        raise Unusable("there is no instruction_id_list in meta")
    kwargs = kwargs if kwargs is not None else [{}] * len(ids)
    if len(kwargs) != len(ids):
        raise Unusable(f"{len(ids)} instructions, but kwargs for {len(kwargs)}")
    return ids, [_mapping(each) for each in kwargs]


def _list(meta: Mapping[str, Any], name: str) -> list[Any] | None:
    value = _parsed(meta.get(name))
    if value is not None and not isinstance(value, list):
        raise Unusable(f"{name} is no list but {type(value).__name__}")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    found = _parsed(value)
    if found is not None and not isinstance(found, Mapping):
        raise Unusable(f"kwargs hold {type(found).__name__}; each is an object")
    return found or {}


def _parsed(value: Any) -> Any:
    try:
        return orjson.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise Unusable(f"{value[:60]!r} is no JSON") from None
