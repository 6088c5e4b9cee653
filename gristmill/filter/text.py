"""The text that the duplicate and contamination steps compare.

NFKC, lower case, white space folded to single spaces and trimmed; words are what stands between spaces. In Chinese,
Japanese, Thai, Lao, Khmer and Burmese, written without spaces, every character is a word. Zero-width characters
(U+200B) are kept: they are not white space in Unicode.
"""

import unicodedata
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series, col, func

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


def unified(texts: pa.Array) -> pa.Array:
    """Texts in NFKC, with every character of a script that is written without spaces as a word of its own."""
    # Not utf8_normalize of Arrow 25, which leaves letters and accents apart; most texts are normal as they are.
    normal = [
        text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)
        for text in texts.to_pylist()
    ]
    return pc.replace_substring_regex(pa.array(normal, pa.large_string()), _SPACELESS, r" \1 ")


_SPACELESS = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def normalized(text: Expression) -> Expression:
    """`text` as the steps compare it: NFKC, lower case, white space folded; null becomes ""."""
    return _normalized(text)


@func.batch(return_dtype=DataType.string())
def _normalized(text: Series) -> pa.Array:
    return normalize_texts(text.to_arrow())


def normalize_texts(texts: pa.Array) -> pa.LargeStringArray:
    """Arrow texts as the steps compare them: NFKC, lower case, white space folded; null becomes "".

    Letters outside ASCII are lowered one by one (a final sigma stays a sigma).
    """
    texts = pc.fill_null(texts.cast(pa.large_string()), "")
    plain = pc.string_is_ascii(texts)
    if not pc.all(plain, min_count=0).as_py():  # ASCII is in every normal form; looking is cheaper than normalising
        others = pc.invert(plain)
        lowered = pc.utf8_lower(unified(texts.filter(others)))
        texts = pc.replace_with_mask(texts, others, pc.replace_substring_regex(lowered, _OTHER_SPACE, " "))
    return _folded(texts)


_OTHER_SPACE = r"[\x{85}\x{1680}\x{2028}\x{2029}]"
"""White space that NFKC does not make a plain space."""

_LOWER = bytes(range(256)).lower().translate(bytes.maketrans(b"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f", b" " * 9))
"""Each ASCII byte in lower case, white space as a space."""


def _folded(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """ASCII letters in lower case and runs of white space as one space, by bytes: UTF-8 keeps its others above 127."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = memoryview(texts.buffers()[2] or b"")[offsets[0] : offsets[-1]].tobytes().translate(_LOWER)
    offsets = offsets - offsets[0]
    characters = np.frombuffer(data, np.uint8)
    space = characters == _SPACE
    followed = np.zeros(len(data), bool)  # by another space or by the end of the text
    followed[:-1] = space[1:]
    followed[offsets[1:][offsets[1:] > offsets[:-1]] - 1] = True
    characters, offsets = _without(characters, offsets, np.flatnonzero(space & followed))
    begins = offsets[:-1][offsets[:-1] < offsets[1:]]
    characters, offsets = _without(characters, offsets, begins[characters[begins] == _SPACE])
    return pa.Array.from_buffers(pa.large_string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(characters)])


_SPACE = 32
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def _without(characters: Bytes, offsets: Ints, gone: Ints) -> tuple[Bytes, Ints]:
    """Characters and offsets of texts without the characters at the ascending places `gone`."""
    if not len(gone):
        return characters, offsets
    return np.delete(characters, gone), offsets - np.searchsorted(gone, offsets)


def normalized_text(kind: Kind, text: TextOf = "both") -> Expression:
    """The normalised text of a row: `normalized(raw_text(kind, text))`."""
    return normalized(raw_text(kind, text))
