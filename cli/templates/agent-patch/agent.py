"""A patch agent. Assay calls agent_main; what it returns is applied to a clean copy of the task's folder."""

import difflib


def agent_main(input: dict) -> str:
    """Returns a unified diff. `input` says what the task asks for and where its folder is."""
    print("the task asks:", input.get("problem_statement", ""))
    # Replace this by real work. An answer without a change scores 0.
    note = ["This agent was here.\n"]
    diff = difflib.unified_diff([], note, "/dev/null", "b/AGENT_NOTE.md")
    return "".join(diff)
