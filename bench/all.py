"""Every bench in turn, each in its own process: `make bench`. Exits 1 if one missed its target."""

import subprocess
import sys
from pathlib import Path

BENCHES = [
    *("rules", "near_quality", "contamination", "diversity", "balance", "reading", "code_quality"),
    *(
        "near_speed",
        "filter_speed",
        "calls_speed",
        "calls_peers",
        "killed",
        "sandbox_speed",
        "templates_memory",
        "two_nodes",
    ),
    *("score_math", "score_cache", "gap_alarm", "gate_power", "curve_coverage", "ablate_claims", "mining_recall"),
]


def main() -> None:
    missed = []
    for name in BENCHES:
        print(f"## {name}\n", flush=True)
        if subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False).returncode:
            missed.append(name)
    print(f"missed a target: {', '.join(missed)}" if missed else "every target met")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
