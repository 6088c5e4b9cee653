"""The text that the duplicate and contamination steps compare.

NFKC, lower case, white space folded to single spaces and trimmed; words are what stands between spaces. In Chinese,
Japanese, Thai, Lao, Khmer and Burmese, written without spaces, every character is a word. Zero-width characters
(U+200B) are kept: they are not white space in Unicode.
"""

from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series, col, func, lit
from daft.functions import fill_null, normalize

from gristmill.errors import UsageError
from gristmill.records import Kind

TextOf = Literal["both", "prompt", "response"]


def raw_text(kind: Kind, text: TextOf = "both") -> Expression:
    """What is compared of a row, as it was written.

    `both`: the contents of the prompt's messages and the response joined by newlines (for a preference prompt, chosen
    and rejected); `prompt` or `response` (for a preference chosen and rejected) alone. Null parts are left out.
    """
    if text not in get_args(TextOf):
        raise UsageError(f"--text {text}: unknown; allowed are {', '.join(get_args(TextOf))}")
    answers = {"preference": ["chosen", "rejected"], "prompt": []}.get(kind, ["response"])
    if text == "prompt" or not answers:
        return _contents(col("prompt"))
    parts = [col(name) for name in answers]
    return _joined(*parts) if text == "response" else _joined(_contents(col("prompt")), *parts)


@func.batch(return_dtype=DataType.string())
def _contents(prompt: Series) -> pa.Array:
    # Not list_map of Daft 0.7.26, which fails on lists that are a slice of others.
    lists = prompt.to_arrow()
    contents = pc.struct_field(lists.flatten(), "content")
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(lists), 0))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    return pc.binary_join(pa.ListArray.from_arrays(offsets, contents), pa.scalar("\n", contents.type))


@func.batch(return_dtype=DataType.string())
def _joined(first: Series, *others: Series) -> pa.Array:
    parts = [part.to_arrow() for part in (first, *others)]
    if not others:
        return parts[0]
    parts[0] = pc.fill_null(parts[0], "")  # Arrow 25 leaves a row out, not empty, where all its parts are null
    return pc.binary_join_element_wise(*parts, pa.scalar("\n", pa.large_string()), null_handling="skip")


@func.batch(return_dtype=DataType.string())
def _nfkc(text: Series) -> pa.Array:
    texts = text.to_arrow()
    plain = pc.fill_null(pc.string_is_ascii(texts), True)
    if pc.all(plain).as_py():
        return texts
    others = pc.invert(plain)  # ASCII is in every normal form, and looking is ten times as fast as normalising
    return pc.replace_with_mask(texts, others, unified(texts.filter(others)))


def unified(texts: pa.Array) -> pa.Array:
    """Texts in NFKC, with every character of a script that is written without spaces as a word of its own."""
    return pc.replace_substring_regex(pc.utf8_normalize(texts, "NFKC"), _SPACELESS, r" \1 ")


_SPACELESS = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def normalized(text: Expression) -> Expression:
    """`text` as the steps compare it: NFKC, lower case, white space folded; null becomes ""."""
    return fill_null(normalize(_nfkc(text), lowercase=True, white_space=True), lit(""))


def normalized_text(kind: Kind, text: TextOf = "both") -> Expression:
    """The normalised text of a row: `normalized(raw_text(kind, text))`."""
    return normalized(raw_text(kind, text))
