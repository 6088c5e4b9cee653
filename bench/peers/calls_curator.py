"""curator, its own OpenAI backend: no cache, no telemetry, no viewer, no display, limits out of the way.

PROMPTS.jsonl OUT.parquet URL IN_FLIGHT.
"""

import json
import sys
from pathlib import Path

from bespokelabs import curator
from datasets import Dataset


class Asker(curator.LLM):
    """Asks each prompt as it is."""

    def prompt(self, row: dict[str, str]) -> str:
        """Curator's: what is asked of a row."""
        return row["prompt"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        """Curator's: the row of an answer."""
        return {"prompt": row["prompt"], "response": response}


def main() -> None:
    source, out, url, in_flight = sys.argv[1:]
    with Path(source).open() as lines:
        prompts = Dataset.from_list([json.loads(line) for line in lines])
    params = {"base_url": url, "api_key": "none", "max_concurrent_requests": int(in_flight)}
    unlimited = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
    asker = Asker(model_name="mock", backend="openai", backend_params={**params, **unlimited})
    asker(prompts).dataset.to_parquet(out)


if __name__ == "__main__":
    main()
