"""A patch agent that asks a model for a diff, with the ordinary `openai` package over captured TLS."""

import os
import pathlib
import re

from openai import OpenAI


def agent_main(input: dict) -> str:
    """Shows the model the task and the files beside it, and returns the diff in its answer."""
    model = OpenAI(base_url=os.environ["MODEL_BASE_URL"])  # the key is a placeholder that the proxy replaces
    prompt = (
        f"{input['problem_statement']}\n\n{sources()}\n"
        "Answer with one unified diff (paths a/FILE and b/FILE) in a ```diff fence.\n"
        "ASSAY-DEMO: Which diff fixes intervals.py?\n"
    )
    answer = model.chat.completions.create(
        model=os.environ["MODEL"], messages=[{"role": "user", "content": prompt}], max_tokens=2000
    )
    text = answer.choices[0].message.content or ""
    print(f"the model answered with {answer.usage.completion_tokens} tokens")
    fence = re.search(r"```(?:diff)?\n(.*?)```", text, re.DOTALL)
    return fence.group(1) if fence else ""


def sources() -> str:
    """Every small Python file of the working directory, with its name."""
    files = sorted(path for path in pathlib.Path(".").rglob("*.py") if path.stat().st_size < 20_000)
    return "\n".join(f"--- {path}\n{path.read_text()}" for path in files[:20])
