"""The score `code` on real programs: `python bench/code_quality.py [SAMPLES]`; exits 1 if a target is missed.

The sets' own solutions must pass; WizardCoder's verdicts are those of the official HumanEval harness, and every
difference is listed; CodeGen's samples (SAMPLES a task, default all) run without harm, pass@k is reported, and every
verdict that differs from that of program and tests in one process is listed.
"""

import json
import os
import sys
import time
from collections import Counter, defaultdict
from statistics import mean

from data import rows, table

from gristmill.score.code import code
from gristmill.score.pass_at_k import pass_at_k
from gristmill.score.sandbox import STRONG, shared
from gristmill.score.sandboxed.runner import Limits
from gristmill.score.score import Item

AGREEMENT = 0.99


def main() -> None:
    score = code()
    print(f"isolation: {score.parameters['isolation']}\n")
    tasks = {row["task_id"]: row for row in rows("humaneval/HumanEval")}
    tests = {
        name: json.dumps({key: row[key] for key in ("prompt", "test", "entry_point")}) for name, row in tasks.items()
    }
    missed = _own(score, "HumanEval", [Item(row["canonical_solution"], tests[name]) for name, row in tasks.items()])
    mbpp = [{"code": row.pop("code"), "reference": json.dumps(row)} for row in rows("mbpp/mbpp_with_sanitized_flag")]
    missed |= _own(score, "MBPP", [Item(row["code"], row["reference"]) for row in mbpp])
    missed |= _harness(score, tests)
    missed |= _samples(score, tasks, tests, int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    sys.exit(missed)


def _own(score, name, items):
    verdicts = score(items)
    wrong = [verdict for verdict in verdicts if verdict.value != 1]
    print(f"{name}: {len(items) - len(wrong)} of {len(items)} of its own solutions pass\n")
    for verdict in wrong:
        print(f"- {verdict.verdict}: {verdict.why}")
    return bool(wrong)


def _harness(score, tests):
    labelled = rows("wizardcoder_humaneval/wizardcoder15b_labelled")
    lines = []
    for text in ("completion", "raw"):
        verdicts = score([Item(row[text], tests[row["task_id"]]) for row in labelled])
        pairs = list(zip(labelled, verdicts, strict=True))
        other = [(row, verdict) for row, verdict in pairs if (verdict.value == 1) != row["passed"]]
        lines.append((text, len(pairs), f"{1 - len(other) / len(pairs):.1%}", f"{AGREEMENT:.0%}"))
        for row, verdict in other:
            print(f"- {row['task_id']} ({text}): harness {row['result']}; ours {verdict.verdict}: {verdict.why}")
    table(["WizardCoder's", "programs", "agreement with the harness", "at least"], lines)
    return any(float(line[2].rstrip("%")) < AGREEMENT * 100 for line in lines)


def _samples(score, tasks, tests, most):
    prompts, counts = {}, defaultdict(list)
    for row in rows("codet_humaneval_rollouts/codegen16b_100samples"):
        prompts.setdefault(row["task_id"], row.get("prompt"))
        taken = sum(count for _, count in counts[row["task_id"]])
        if taken < most:
            counts[row["task_id"]].append((row["completion"], min(row["count"], most - taken)))
    kinds, passed, said = Counter(), {}, {}
    started, distinct = time.monotonic(), 0
    for name, samples in counts.items():
        reference = json.dumps(json.loads(tests[name]) | {"prompt": prompts[name]})
        verdicts = score([Item(completion, reference) for completion, _ in samples])
        distinct += len(samples)
        said[name] = verdicts
        for (_, count), verdict in zip(samples, verdicts, strict=True):
            kinds[verdict.verdict] += count
        passed[name] = sum(count for (_, count), verdict in zip(samples, verdicts, strict=True) if verdict.value == 1)
    seconds = time.monotonic() - started
    missed = _same_process(counts, prompts, tasks, said)
    totals = {name: sum(count for _, count in samples) for name, samples in counts.items()}
    found = [
        f"{mean(pass_at_k(totals[name], passed[name], k) for name in passed if totals[name] >= k):.1%}"
        for k in (1, 10, 100)
        if any(total >= k for total in totals.values())
    ]
    table(["tasks", "samples", "distinct", "runs/s", "pass@1", "pass@10", "pass@100"],
          [(len(passed), sum(totals.values()), distinct, f"{distinct / seconds:.0f}", *found)])  # fmt: skip
    table(["verdict", "samples"], kinds.most_common())
    return missed


def _same_process(counts, prompts, tasks, said):
    """Compare with what the official harness does: program and tests executed together, no matter who can see whom."""
    sandbox = shared(Limits(2**30, 7, 32, 2**24), os.cpu_count() or 1, STRONG)
    other, total = [], 0
    for name, samples in counts.items():
        task = tasks[name]
        texts = [f"{prompts[name]}{text}\n{task['test']}\ncheck({task['entry_point']})\n" for text, _ in samples]
        jobs = [
            {"style": "stdio", "program": [TOGETHER.format(text)], "inputs": [""], "outputs": ["ok"], "deadline": 5.0}
            for text in texts
        ]
        answers = sandbox.run(jobs)
        total += len(answers)
        other += [
            (name, verdict, answer)
            for verdict, answer in zip(said[name], answers, strict=True)
            if (verdict.value == 1) != (answer[0] == "correct")
        ]
    for name, verdict, answer in other:
        print(f"- {name}: together {answer[0]}, {answer[1]}; ours {verdict.verdict}, {verdict.why}")
    share = 1 - len(other) / total
    table(["CodeGen's", "programs", "agreement with tests in the same process", "at least"],
          [("samples", total, f"{share:.2%}", f"{AGREEMENT:.0%}")])  # fmt: skip
    return share < AGREEMENT


TOGETHER = "import io, sys\nout, sys.stdout = sys.stdout, io.StringIO()\nexec({!r}, {{}})\nout.write('ok')\n"


if __name__ == "__main__":
    main()
