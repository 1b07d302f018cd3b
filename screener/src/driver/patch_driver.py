"""Calls the agent_main of a patch agent and writes the diff that it returns. Runs inside the sandbox."""

import importlib.util
import os
import sys

HOME = os.path.dirname(os.path.abspath(__file__))
AGENT = os.path.join(HOME, "agent.py")
DIFF = "/logs/agent/patch.diff"
REFUSAL = "/logs/agent/refusal.txt"


def refuse(reason: str) -> int:
    """Says why this is no agent: to the log, and to the platform."""
    print(reason, file=sys.stderr)
    with open(REFUSAL, "w", encoding="utf-8", errors="replace") as file:
        file.write(reason)
    return 65


def main() -> int:
    for old in (DIFF, REFUSAL):
        if os.path.exists(old):
            os.remove(old)
    with open(os.environ["ASSAY_INSTRUCTION"], encoding="utf-8") as file:
        instruction = file.read()
    try:
        with open(AGENT, "rb") as file:
            compile(file.read(), "agent.py", "exec")
    except SyntaxError as error:
        return refuse(f"agent.py: line {error.lineno}, column {error.offset}: {error.msg}")
    except ValueError as error:
        return refuse(f"agent.py: {error}")
    sys.path.insert(0, HOME)
    spec = importlib.util.spec_from_file_location("agent", AGENT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["agent"] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "agent_main", None)):
        return refuse("agent.py: there is no function agent_main")
    diff = module.agent_main({"problem_statement": instruction})
    if not isinstance(diff, str):
        return refuse(f"agent.py: agent_main returned {type(diff).__name__}, not str")
    with open(DIFF, "w", encoding="utf-8", newline="") as file:
        file.write(diff)
    return 0


if __name__ == "__main__":
    sys.exit(main())
