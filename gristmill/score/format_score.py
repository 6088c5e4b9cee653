"""Whether a response has the tags that were asked for, in order, once each: `<think>…</think>`, then the answer.

The format reward and the template of DeepSeek-R1-Zero (https://arxiv.org/abs/2501.12948, section 2.2: reasoning between
`<think>` tags, then the answer between `<answer>` tags), as 1 or 0. A response whose reasoning the server split off has
its `<think>` block in the column `reasoning`.

Not covered: attributes in tags, tags in one another, and what stands between them.
"""

import re
from collections.abc import Sequence
from functools import partial

from gristmill.errors import UsageError
from gristmill.score.score import Item, Score, Verdict, each

_NAME = re.compile(r"[A-Za-z][\w-]*")


def format(argument: str = "think", *, opened: bool = False) -> Score:
    """TAG or TAG+TAG…: 1 `correct` if each tag opens and closes once, in this order, with text in it; else 0 `wrong`.

    Before the first tag and between tags there is nothing but white space. After the last the answer follows, unless
    that tag is `answer`: then nothing does. With `opened` the prompt ends in the first tag, and the response begins
    within it. Raises UsageError for what is no tag, and for one that is named twice.
    """
    tags = argument.split("+")
    if not all(_NAME.fullmatch(tag) for tag in tags) or len(set(tags)) < len(tags):
        raise UsageError(f"score format:{argument}: write tags by name, each once: format:think+answer")
    return Score("format", "1", partial(each, partial(_format, tags, opened)), {"tags": tags, "opened": opened})


def _format(tags: Sequence[str], opened: bool, item: Item) -> Verdict:
    text = item.response or ""
    if opened:
        text = f"<{tags[0]}>{text}"
    elif item.reasoning and tags[0] == "think" and "<think>" not in text:
        text = f"<think>{item.reasoning}</think>{text}"
    wrong = missing(text, tags)
    return Verdict(0.0, "wrong", wrong) if wrong else Verdict(1.0, "correct", " ".join(f"<{tag}>" for tag in tags))


def missing(text: str, tags: Sequence[str]) -> str:
    """What the text lacks of the format, in a few words; empty if nothing."""
    found = list(re.finditer(rf"</?(?:{'|'.join(map(re.escape, tags))})>", text))
    wanted = [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]
    for mark, match in zip(wanted, found, strict=False):
        if match.group() != mark:
            return f"{match.group()} where {mark} belongs"
    if len(found) != len(wanted):
        return f"no {wanted[len(found)]}" if len(found) < len(wanted) else f"{found[len(wanted)].group()} again"
    edges = [0, *(place for match in found for place in match.span()), len(text)]
    parts = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    for number, part in enumerate(parts[:-1]):
        if number % 2 == 0 and part:
            return f"text before {wanted[number]}"
        if number % 2 and not part:
            return f"nothing in <{tags[number // 2]}>"
    if tags[-1] == "answer":
        return "text after </answer>" if parts[-1] else ""
    return "" if parts[-1] else f"no answer after </{tags[-1]}>"
