"""Model calls a second, against peers: `python bench/calls_peers.py [IN_FLIGHT [TURNS]]`.

`gristmill generate` as in `calls_speed.py` (20,000 prompts; ledger, parsing, Parquet), AsyncOpenAI in a plain loop,
with either of its HTTP clients, distilabel and curator, against the mock server with a fixed 200 ms, 1,000 in flight.
Slow peers get fewer prompts. Peers are installed into `.bench/`; their caches are off and go to a directory that is
thrown away. They run in turn, three times, since the machine may be shared; a ratio is of one turn, the median counts.

Calls a second are by the server's log: from when a hundredth of the requests had come to the last answer, so that
imports, probes and files that are written at the end count only in the seconds of the whole command. CPU seconds are
those of the whole command, memory that of its largest process. Gristmill is bound to one core; peers may take both.
Exits 1 if a target is missed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from calls_speed import LATENCY, command, prompts
from data import ROOT, table
from installed import PLACE, python_of

from gristmill.models.mock import mock_server


class Peer(NamedTuple):
    """A client under test."""

    package: str
    """Also the name of its environment, and the end of its script's."""
    needs: list[str]
    prompts: int
    target: float = 0.0
    """So many times its calls a second are wanted."""
    options: tuple[str, ...] = ()


OPENAI = ["openai[aiohttp]"]
PEERS = {
    "gristmill": Peer("gristmill", [], 20_000),
    "AsyncOpenAI": Peer("openai", OPENAI, 3_000, 8.0),
    "AsyncOpenAI, aiohttp": Peer("openai", OPENAI, 5_000, options=("aiohttp",)),
    "distilabel": Peer("distilabel", ["distilabel[openai]", "requests"], 3_000, 10.0),
    "curator": Peer("bespokelabs-curator", ["bespokelabs-curator"], 8_000, 4.0),
}


class Run(NamedTuple):
    """What one run took."""

    rate: float
    """Calls a second."""
    cpu: float
    """CPU seconds per 1,000 calls."""
    peak: float
    """MiB."""
    wall: float
    """Seconds of the whole command."""
    load: float
    """Of the machine, when it ended."""


def environment(peer: Peer, place: Path) -> dict[str, str]:
    """No caches, no telemetry, no display, nothing looked for on the network."""
    quiet = {"DISTILABEL_LOG_LEVEL": "WARNING", "DISTILABEL_CACHE_DIR": str(place), "HF_HOME": str(place / "hub")}
    quiet |= {"CURATOR_DISABLE_CACHE": "1", "CURATOR_CACHE_DIR": str(place), "CURATOR_DISABLE_RICH_DISPLAY": "1"}
    quiet |= {"TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    # curator counts tokens with an encoding that tiktoken fetches, and that litellm ships.
    shipped = next((PLACE / peer.package).glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers"), None)
    return os.environ | quiet | ({"TIKTOKEN_CACHE_DIR": str(shipped)} if shipped else {})


def run(peer: Peer, in_flight: int) -> Run:
    """Run a client in a process of its own, against a server of its own."""
    with tempfile.TemporaryDirectory() as name, mock_server("--latency", str(LATENCY), "--log", f"{name}/log") as url:
        place = Path(name)
        source = prompts(place, peer.prompts)
        if peer.package == "gristmill":
            asking = command(source, url, place, in_flight)
        else:
            script = ROOT / "bench" / "peers" / f"calls_{peer.package.rpartition('-')[2]}.py"
            asking = [python_of(peer.package, peer.needs), str(script), str(source), f"{name}/out", url]
            asking += [str(in_flight), *peer.options]
        start = time.monotonic()
        with (place / "said").open("wb") as said:
            process = subprocess.Popen(asking, stdout=said, stderr=said, env=environment(peer, place))
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        log = [json.loads(line) for line in (place / "log").read_bytes().splitlines()]
        if process.returncode or len(log) < peer.prompts:
            sys.exit(f"{asking} asked {len(log)}: {(place / 'said').read_text()[-2_000:]}")
    begin = sorted(line["received"] for line in log)[len(log) // 100]
    rate = 0.99 * len(log) / (max(line["answered"] for line in log) - begin)
    cpu = (used.ru_utime + used.ru_stime) / peer.prompts * 1_000
    return Run(rate, cpu, used.ru_maxrss / 1_024, wall, os.getloadavg()[0])


def version(peer: Peer) -> str:
    """Of a peer; makes its environment."""
    if peer.package == "gristmill":
        return ""
    asked = f"from importlib.metadata import version; print(version({peer.package!r}))"
    told = subprocess.run(
        [python_of(peer.package, peer.needs), "-c", asked], check=True, capture_output=True, text=True
    )
    return f" {told.stdout.strip()}"


def main() -> None:
    given = [int(each) for each in sys.argv[1:3]]
    in_flight, turns = [*given, *(1_000, 3)[len(given) :]]
    names, runs = {}, {}
    for name, peer in PEERS.items():
        try:
            names[name], runs[name] = f"{name}{version(peer)}", []
        except subprocess.CalledProcessError as error:
            print(f"{name} cannot be installed here and is left out: {error}")
            runs.pop(name, None)
    for _ in range(turns):
        for name, done in runs.items():
            done.append(run(PEERS[name], in_flight))
            print(name, done[-1], file=sys.stderr, flush=True)
    lines, good = [], True
    for name, done in runs.items():
        ratios = [ours.rate / each.rate for ours, each in zip(runs["gristmill"], done, strict=True)]
        good &= median(ratios) >= PEERS[name].target or in_flight != 1_000
        rate, cpu, peak, wall, load = (median(each) for each in zip(*done, strict=True))
        shown = [names[name], f"{PEERS[name].prompts:,}", f"{rate:,.0f}", f"{rate * LATENCY / in_flight:.0%}"]
        shown += [f"{cpu:.2f}", f"{peak:,.0f}", f"{wall:.1f}", f"{load:.0f}"]
        target = f">= {PEERS[name].target:g}" if PEERS[name].target and in_flight == 1_000 else "-"
        cpu_ratio = median(each.cpu / ours.cpu for ours, each in zip(runs["gristmill"], done, strict=True))
        shown += [f"{cpu_ratio:.1f}", f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"]
        lines.append([*shown, target])
    print(f"{in_flight:,} in flight, {turns} turns, {os.cpu_count()} cores\n")
    heads = ["client", "prompts", "calls/s", "of the limit", "CPU s per 1,000", "peak MiB", "whole command s", "load"]
    table([*heads, "CPU, theirs / ours", "calls/s, ours / theirs", "target"], lines)
    sys.exit(not good)


if __name__ == "__main__":
    main()
