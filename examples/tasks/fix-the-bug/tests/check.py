"""Runs the cases, each in the same interpreter, and leaves a reward and a report."""

import importlib.util
import json

CASES = [
    ([], []),
    ([(1, 3), (2, 6), (8, 10)], [(1, 6), (8, 10)]),
    ([(1, 10), (2, 3)], [(1, 10)]),
    ([(1, 2), (2, 3)], [(1, 3)]),
    ([(5, 6), (1, 2)], [(1, 2), (5, 6)]),
    ([(1, 4), (0, 9), (9, 9)], [(0, 9)]),
]


def run(merge, given, want):
    before = list(given)
    got = merge(given)
    if [tuple(pair) for pair in got] != want:
        return f"merge({before}) gave {got}, want {want}"
    if given != before:
        return f"merge({before}) changed its input"
    return None


def main():
    tests = []
    try:
        spec = importlib.util.spec_from_file_location("intervals", "/app/intervals.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for given, want in CASES:
            try:
                fault = run(module.merge, list(given), want)
            except Exception as error:
                fault = repr(error)
            tests.append({"name": str(given), "status": "failed" if fault else "passed", "message": fault})
            print("FAIL" if fault else "ok", given, fault or "")
    except Exception as error:
        tests.append({"name": "import", "status": "failed", "message": repr(error)})
        print("FAIL import", error)
    passed = all(test["status"] == "passed" for test in tests)
    with open("/logs/verifier/ctrf.json", "w") as file:
        json.dump({"results": {"tool": {"name": "check.py"}, "tests": tests}}, file)
    with open("/logs/verifier/reward.json", "w") as file:
        json.dump({"reward": 1 if passed else 0}, file)


main()
