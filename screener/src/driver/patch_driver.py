"""Calls the agent_main of a patch agent and writes the diff that it returns. Runs inside the sandbox."""

import importlib.util
import os
import sys

HOME = os.path.dirname(os.path.abspath(__file__))
DIFF = "/logs/agent/patch.diff"


def main() -> int:
    if os.path.exists(DIFF):
        os.remove(DIFF)
    with open(os.environ["ASSAY_INSTRUCTION"], encoding="utf-8") as file:
        instruction = file.read()
    sys.path.insert(0, HOME)
    spec = importlib.util.spec_from_file_location("agent", os.path.join(HOME, "agent.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["agent"] = module
    spec.loader.exec_module(module)
    diff = module.agent_main({"problem_statement": instruction})
    if not isinstance(diff, str):
        print(f"agent_main returned {type(diff).__name__}, not str", file=sys.stderr)
        return 3
    with open(DIFF, "w", encoding="utf-8", newline="") as file:
        file.write(diff)
    return 0


if __name__ == "__main__":
    sys.exit(main())
