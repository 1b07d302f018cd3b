"""An agent that asks for long answers until the platform refuses. It needs nothing but Python's own library."""

import json
import os
import urllib.error
import urllib.request

URL = os.environ["OPENAI_BASE_URL"] + "/chat/completions"


def ask() -> int:
    """Asks for a long answer and returns the HTTP status."""
    body = {
        "model": os.environ["MODEL"],
        "messages": [{"role": "user", "content": "ASSAY-TOKENS: 1500\nWrite a long story of about 1500 tokens."}],
        "max_tokens": 1500,
    }
    request = urllib.request.Request(
        URL,
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        print("refused:", error.read().decode(errors="replace")[:300])
        return error.code


def main() -> None:
    for number in range(200):
        status = ask()
        print(f"request {number + 1}: status {status}", flush=True)
        if status != 200:
            break
    with urllib.request.urlopen(os.environ["ASSAY_USAGE_URL"], timeout=10) as usage:
        print("usage:", usage.read().decode())


if __name__ == "__main__":
    main()
