"""Runs the cases of the demo through `assay`, prints one table, and fails where expected and actual differ.

usage: demo.py ASSAY AGENTS MODEL        with the CLI's profile DEMO_PROFILE, else `demo`
"""

import json
import os
import pathlib
import subprocess
import sys

ASSAY, AGENTS, MODEL = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
TASKS = pathlib.Path(__file__).parent.parent / "examples" / "tasks"
BUDGET = ["--model", MODEL, "--budget", "0.05"]
PROFILE = os.environ.get("DEMO_PROFILE", "demo")
REAL = not MODEL.startswith("assay-demo/")

# task, agent, options, expected reward, expected cause
CASES = [
    ("hello-file", "oracle", [], 1, "completed"),
    ("hello-file", "nop", [], 0, "completed"),
    ("two-steps", "oracle", [], 1, "completed"),
    ("serve-http", "oracle", [], 1, "completed"),
    ("cheat-me", "oracle", [], 1, "completed"),
    ("fix-the-bug", "patch-fixer", BUDGET, 1, "completed"),
    ("ask-the-model", "command-asker", BUDGET, 1, "completed"),
    ("ask-the-model", "greedy", ["--model", MODEL, "--budget", "0.012"], 0, "budget_exhausted"),
    ("cheat-me", "hostile", [], 0, "completed"),
    ("hello-file", "sleeper", ["--timeout", "5"], 0, "agent_timeout"),
]
if REAL:
    # Only the scripted model knows that pass phrase.
    CASES = [case for case in CASES if case[1] != "command-asker"]


def assay(*arguments, check=True):
    """One JSON document of `assay`."""
    command = [ASSAY, "--profile", PROFILE, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"demo: {' '.join(arguments)} failed ({done.returncode}): {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def submit(task, agent, options):
    folder = AGENTS / agent
    return assay("submit", str(TASKS / task), "--agent", str(folder) if folder.is_dir() else agent, *options)[0]["id"]


def follow(evaluation):
    """The one run of an evaluation, once it has ended."""
    return assay("watch", evaluation, check=False)[0]["runs"][0]


def seconds(run):
    """Wall time between first claim and end."""
    from datetime import datetime

    def at(text):
        head, _, fraction = text.rstrip("Z").partition(".")
        return datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}")

    if not run["started_at"] or not run["finished_at"]:
        return None
    return (at(run["finished_at"]) - at(run["started_at"])).total_seconds()


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def audit_sample(runs):
    """One forwarded model call and one denied connection, as the proxy wrote them down."""
    wanted = {"forwarded": None, "denied": None}
    for agent, run in runs:
        for line in assay("logs", run["id"], "--proxy", check=False):
            if line["kind"] == "model" and line["decision"] == "allow" and not wanted["forwarded"]:
                wanted["forwarded"] = (agent, line)
            if line["kind"] != "model" and line["decision"] == "deny" and not wanted["denied"]:
                wanted["denied"] = (agent, line)
    for word, found in wanted.items():
        if found is None:
            print(f"  {word:<10} none in any audit")
            continue
        agent, line = found
        keys = ("time", "phase", "kind", "host", "original", "model", "decision", "reason", "status", "cost", "tokens")
        facts = [f"{key}={line[key]}" for key in keys if line.get(key) is not None]
        print(f"  {word:<10} {agent}: {' '.join(facts)}")
    return all(wanted.values())


def main():
    submitted = [(case, submit(*case[:3])) for case in CASES]
    print(f"demo: {len(submitted)} evaluations are queued", file=sys.stderr)
    head = ["TASK", "AGENT", "REWARD", "EXPECTED", "CAUSE", "COST USD", "TOKENS", "WALL", "DENIED", ""]
    rows, runs, differing = [head], [], 0
    for (task, agent, _, reward, cause), evaluation in submitted:
        run = follow(evaluation)
        runs.append((agent, run))
        as_expected = run["score"] == reward and run["cause"] == cause
        differing += not as_expected
        score = "–" if run["score"] is None else f"{run['score']:g}"
        wall = seconds(run)
        rows.append(
            [task, agent, score, f"{reward} {cause}", str(run["cause"]), run["cost"], str(run["tokens"])]
            + ["–" if wall is None else f"{wall:.1f}s", str(run["denied"]), "ok" if as_expected else "DIFFERS"]
        )
        print(f"demo: {task} by {agent}: {score} {run['cause']}", file=sys.stderr)
        if not as_expected:
            why = subprocess.run([ASSAY, "--profile", PROFILE, "why", run["id"]], capture_output=True, text=True)
            print(why.stdout, file=sys.stderr)
    print()
    table(rows)
    print("\nfrom the audit:")
    complete = audit_sample(runs)
    print("\nwhere to look next: `assay up`, then `assay run examples/tasks/hello-file --agent oracle`, `assay why RUN`,")
    print("`assay logs RUN --proxy`; docs/TASKS.md and docs/AGENTS.md to write your own, `assay task init` to begin.")
    if differing:
        sys.exit(f"demo: {differing} of {len(rows) - 1} runs are not as expected")
    if not complete:
        sys.exit("demo: the audit lacks what it should show")


if __name__ == "__main__":
    main()
