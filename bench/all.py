"""Every bench in turn, each in its own process: `make bench`. Exits 1 if one missed its target or what it needs.

    python bench/all.py                 all of them, some hours
    python bench/all.py gate_power ...  those
    python bench/all.py --list          what each needs

Data sets lie in ../shared/data, or where GRISTMILL_DATA says.
"""

import subprocess
import sys
from pathlib import Path

DATA = "data sets"
GROWN = f"{DATA}: gsm8k, math_test, llamafactory_demos, gpteacher_toolformer (rows are grown from them in .bench/)"
PEERS = "the network, to install peers into .bench/"

BENCHES = {
    # found by simulation, on made-up rows or against a server of our own
    "ablate_claims": "",
    "calls_faults": "",
    "calls_ledger": "4 GiB in .bench/",
    "calls_speed": "two free cores",
    "curve_coverage": "",
    "gap_alarm": "",
    "gate_power": "",
    "mix_tune": "",
    "score_cache": "",
    "templates_memory": "",
    # on real sets
    "balance": f"{DATA}: alpaca52k, dolly3k, lima1k",
    "code_quality": f"{DATA}: codet_humaneval_rollouts, humaneval, mbpp, wizardcoder_humaneval; namespaces",
    "contamination": f"{DATA}: most of them",
    "diversity": f"{DATA}: most of them",
    "mining_recall": f"{DATA}: evaltree_weakness, math_test",
    "near_quality": f"{DATA}: alpaca52k, gpteacher_toolformer, gsm_hard",
    "reading": f"{DATA}: llamafactory_demos",
    "rules": f"{DATA}: as many as are there",
    "sandbox_speed": f"{DATA}: humaneval; namespaces",
    "score_math": f"{DATA}: evaltree_math_rollouts, gsm8k_rollouts",
    # on rows grown from real ones
    "filter_speed": f"{GROWN}, humaneval",
    "killed": GROWN,
    "mix_speed": f"{GROWN}; {PEERS}; the extra ray",
    "near_speed": f"{GROWN}; {PEERS}",
    "two_nodes": f"{GROWN}; the extra ray",
    # beside peers, or with a model that is trained here
    "calls_peers": f"{PEERS}; two free cores",
    "ablate_tiny": "the extra train; a third of an hour",
    "demo_claims": "the extra train; a quarter of an hour on two free cores",
    "loop_killed": "the extra train",
    "tiny_rl": "the extra train",
}
"""Each bench and what it needs beside the package."""


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    if names == ["--list"]:
        print("\n".join(f"{name:<17} {needs or 'nothing'}" for name, needs in BENCHES.items()))
        return
    if unknown := [name for name in names if name not in BENCHES]:
        sys.exit(f"{unknown[0]}: no such bench; there are {', '.join(BENCHES)}")
    missed = []
    for name in names:
        print(f"## {name}\n", flush=True)
        if subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False).returncode:
            missed.append(f"{name} (needs {BENCHES[name] or 'nothing'})")
    print(f"missed a target: {'; '.join(missed)}" if missed else "every target met")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
