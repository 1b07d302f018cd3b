"""Asks the service itself what the answer is."""

import json
import urllib.request


def total():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open("http://inventory:8000/items", timeout=10) as answer:
        return sum(item["count"] * item["price"] for item in json.load(answer))


def told():
    try:
        with open("/app/total.txt") as file:
            return float(file.read())
    except (OSError, ValueError):
        return None


reward = 1 if told() == total() else 0
with open("/logs/verifier/reward.txt", "w") as file:
    file.write(f"{reward}\n")
