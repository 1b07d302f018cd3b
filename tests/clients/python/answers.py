"""What all clients of the matrix ask, and what each prints: its version, the answer's text, and in how many pieces it came."""
import json
import os
import sys

QUESTION = {"model": "test/small", "max_tokens": 200, "messages": [{"role": "user", "content": "ASSAY-TOKENS: 40"}]}


def question(streams):
    return {**QUESTION, "stream": streams}


def address(base):
    """Where to ask. `-` is what the environment says."""
    return (os.environ["OPENAI_BASE_URL"] if base == "-" else base) + "/chat/completions"


def headers():
    return {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}


def whole(answer):
    """The pieces of an answer that is one body: one."""
    return [answer["choices"][0]["message"]["content"]]


def pieces(lines):
    """The pieces of an answer that is a stream of events."""
    for line in lines:
        line = line.decode() if isinstance(line, bytes) else line
        data = line.removeprefix("data: ").strip()
        if line.startswith("data: ") and data != "[DONE]":
            for choice in json.loads(data)["choices"]:
                yield choice["delta"].get("content", "")


def tell(version, parts):
    parts = [part for part in parts if part]
    print(json.dumps({"version": version, "pieces": len(parts), "text": "".join(parts)}))


if __name__ == "__main__":
    # For clients without a language: the answer comes on standard input.
    wanted, told = sys.argv[1:]
    tell(told, pieces(sys.stdin) if wanted == "stream" else whole(json.load(sys.stdin)))
