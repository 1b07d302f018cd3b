"""Asks the agent's code in a child of its own: it cannot reach the judge, only answer numbers.

The child runs as another user where that is possible, in a time limit, and its answers are compared with a sieve. What the
child prints beside its answers, how it exits and which files it writes is never looked at.
"""

import json
import os
import random
import subprocess
import sys

CHILD = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("prime", "/app/prime.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
numbers = json.load(sys.stdin)
print("\\n" + json.dumps([module.is_prime(number) is True for number in numbers]))
"""


def sieve(limit):
    is_prime = bytearray([1]) * limit
    is_prime[0:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return is_prime


def nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def answers(numbers):
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-c", CHILD],
            input=json.dumps(numbers),
            capture_output=True,
            text=True,
            timeout=20,
            preexec_fn=nobody,
            cwd="/",
        )
        return json.loads(child.stdout.strip().splitlines()[-1])
    except Exception as error:
        print("no answer:", error)
        return None


def main():
    limit = 100_000
    truth = sieve(limit)
    # Drawn anew each time: knowing the example, or an earlier run, does not help.
    numbers = [-7, -1, 0, 1, 2, 3, 4, 9, 25, 9_999_991, 9_999_999]
    numbers += random.SystemRandom().sample(range(limit), 400)
    want = [number == 9_999_991 or (0 <= number < limit and truth[number] == 1) for number in numbers]
    got = answers(numbers)
    reward = 1 if got == want else 0
    if got is not None and reward == 0:
        wrong = [number for number, a, b in zip(numbers, got, want) if a != b]
        print("wrong for", wrong[:10])
    with open("/logs/verifier/reward.json", "w") as file:
        json.dump({"reward": reward}, file)


main()
