"""Rows by the million, grown from real MIT and Apache data: what the speed benches run on.

Pieces of GSM8K and MATH (MIT), GPTeacher (MIT) and LLaMA-Factory's Alpaca demo (Apache-2.0) are cut into sentences; a
row is one of them as the prompt and four to nine others as the answer. 15 % of the rows are exact copies and 15 % are
copies of which 1 to 5 % of the words are replaced. Made once, streamed, the same for every machine.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from data import rows
from installed import PLACE

from gristmill.records import SCHEMAS, row_id

POOL = 200_000
"""Earlier rows that copies are drawn from."""
PART = 50_000
"""Rows a Parquet file."""


def texts(count: int) -> Iterator[tuple[str, str]]:
    """`count` pairs of prompt and response; the copies stand anywhere after their originals."""
    random_ = random.Random(2026)
    pieces = [f"{r['question']} {r['answer']}" for r in rows("gsm8k/train")]
    pieces += [f"{r['problem']} {r['solution']}" for r in rows("math_test/math_test")]
    pieces += [f"{r['instruction']} {r['output']}" for r in rows("llamafactory_demos/alpaca_en_demo")]
    pieces += [f"{r['instruction']} {r['output']}" for r in rows("gpteacher_toolformer/toolformer")[::4]]
    sentences = [s for piece in pieces for s in piece.replace("\n", " ").split(". ") if len(s.split()) >= 5]
    pool: list[tuple[str, str]] = []
    for number in range(count):
        draw = random_.random()
        if draw < 0.70 or number < 100:
            new = (random_.choice(sentences), ". ".join(random_.sample(sentences, random_.randint(4, 9))))
            if len(pool) < POOL:
                pool.append(new)
            else:
                pool[random_.randrange(POOL)] = new
        elif draw < 0.85:
            new = random_.choice(pool)
        else:
            prompt, response = random_.choice(pool)
            words = response.split(" ")
            for place in random_.sample(range(len(words)), max(1, round(random_.uniform(0.01, 0.05) * len(words)))):
                words[place] = random_.choice(words)
            new = (prompt, " ".join(words))
        yield new


def samples(count: int) -> str:
    """A directory of Parquet files of `count` samples with ids, and `text`, the normalised text, for tools that do not
    normalise."""
    path = PLACE / f"near_{count}"
    if path.exists():
        return str(path)
    partial = path.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    schema = SCHEMAS["sample"].append(pa.field("text", pa.large_string()))
    seen: dict[str, int] = {}
    records: list[dict[str, Any]] = []
    for number, (prompt, response) in enumerate(texts(count)):
        row: dict[str, Any] = {"prompt": [{"role": "user", "content": prompt, "extra": None}], "response": response}
        row["id"] = row_id("sample", row)
        row |= {"copy": seen.get(row["id"], 0), "source_file": "grown", "source_row": number}
        seen[row["id"]] = row["copy"] + 1
        row["text"] = " ".join(f"{prompt} {response}".lower().split())
        records.append(row)
        if len(records) == PART or number == count - 1:
            pq.write_table(pa.Table.from_pylist(records, schema=schema), partial / f"{number // PART:04}.parquet")
            records = []
    partial.rename(path)
    return str(path)


def files(count: int, parts: int = 8) -> list[str]:
    """The same rows as people have them: `parts` JSONL files of {prompt, response, source}."""
    paths = [PLACE / f"rows_{count}_{part}of{parts}.jsonl" for part in range(parts)]
    if not all(map(Path.exists, paths)):
        PLACE.mkdir(exist_ok=True)
        partials = [path.with_suffix(".partial") for path in paths]
        opened = [partial.open("wb") for partial in partials]
        for number, (prompt, response) in enumerate(texts(count)):
            row = {"prompt": prompt, "response": response, "source": f"source{number % 7}"}
            opened[number * parts // count].write(orjson.dumps(row) + b"\n")
        for file, partial, path in zip(opened, partials, paths, strict=True):
            file.close()
            partial.rename(path)
    return [str(path) for path in paths]
