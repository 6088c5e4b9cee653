"""distilabel: one TextGeneration step, whose input batch is what it holds in flight; no cache, no raw answers kept.

PROMPTS.jsonl OUT.parquet URL IN_FLIGHT.
"""

import json
import sys
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    source, out, url, in_flight = sys.argv[1:]
    with Path(source).open() as lines:
        rows = [{"instruction": json.loads(line)["prompt"]} for line in lines]
    with Pipeline("calls") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=int(in_flight))
        ask = TextGeneration(
            llm=OpenAILLM(model="mock", base_url=url, api_key="none"),
            input_batch_size=int(in_flight),
            add_raw_output=False,
            add_raw_input=False,
        )
        load >> ask
    pipeline.run(use_cache=False)["default"]["train"].to_parquet(out)


if __name__ == "__main__":
    main()
