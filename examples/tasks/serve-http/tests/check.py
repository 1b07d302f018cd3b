"""Asks the server that the agent left, on its own addresses: such packets are left alone by the sandbox's rules."""

import json
import ssl
import time
import urllib.error
import urllib.request

# The certificate that the image was built with, so that only its key can answer.
TLS = ssl.create_default_context(cafile="/tests/cert.pem")
OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=TLS)
)


def ask(url):
    try:
        with OPENER.open(url, timeout=5) as answer:
            return answer.status, answer.read(100).decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except Exception as error:
        return 0, repr(error)


def main():
    deadline = time.monotonic() + 10
    while ask("http://127.0.0.1:8080/health")[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    rewards = {}
    for key, base in [("http", "http://127.0.0.1:8080"), ("https", "https://127.0.0.1:443")]:
        health, other = ask(base + "/health"), ask(base + "/other")
        print(key, health, other)
        rewards[key] = 1 if health == (200, "ok") and other[0] == 404 else 0
    rewards["reward"] = min(rewards.values())
    with open("/logs/verifier/reward.json", "w") as file:
        json.dump(rewards, file)


main()
