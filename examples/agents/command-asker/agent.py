"""A command agent that asks the model what the instruction says, with the ordinary `openai` package, as a stream."""

import os
import pathlib

from openai import OpenAI


def main() -> None:
    instruction = pathlib.Path(os.environ["ASSAY_INSTRUCTION"]).read_text()
    model = OpenAI()  # OPENAI_BASE_URL and a placeholder OPENAI_API_KEY come from the platform
    stream = model.chat.completions.create(
        model=os.environ["MODEL"], messages=[{"role": "user", "content": instruction}], max_tokens=500, stream=True
    )
    answer = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    print("the model says:", answer)
    pathlib.Path("answer.txt").write_text(answer + "\n")


if __name__ == "__main__":
    main()
