"""What is measured, in the order of the table, each round every peer once."""

import os

from load import SPLICED, Target
from peers import BACKEND, SLOW, wait_until_idle
from table import Table

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
CHURN = int(os.environ.get("BENCH_CHURN", "20000"))
HELD = 500
STREAMS = 200
BUDGET_USD, CALLS, AT_ONCE = 0.05, 1000, 100


def measure(peers, load):
    table = Table(ROUNDS)
    direct = {"splice": Target(BACKEND, SPLICED, "/file", load.root), "terminate": peers.direct}
    loads(table, peers, load, direct)
    streams(table, peers, load)
    memory(table, peers, load)
    overspend(table, peers, load)
    return table


def loads(table, peers, load, direct):
    """Rates and latencies of requests."""
    plan = [
        ("keep-alive splice", "splice", {"connections": 32}, ["assay", "nginx", "haproxy"]),
        ("keep-alive terminate", "terminate", {"connections": 32}, ["assay", "nginx", "haproxy", "mitmproxy", "litellm"]),
        ("new connection splice", "splice", {"connections": 16, "fresh": True}, ["assay", "nginx", "haproxy"]),
        ("new connection terminate", "terminate", {"connections": 16, "fresh": True}, ["assay", "nginx", "haproxy"]),
        ("one connection splice", "splice", {"connections": 1}, ["assay", "nginx", "haproxy"]),
        ("one connection terminate", "terminate", {"connections": 1}, ["assay", "nginx", "haproxy", "mitmproxy", "litellm"]),
    ]
    for _ in range(ROUNDS):
        for row, mode, options, names in plan:
            table.add(row, "direct", load.requests(direct[mode], seconds=SECONDS, **options))
            for name in names:
                if name in peers.running:
                    table.add(row, name, one_load(load, peers.running[name], mode, options))
    table.rate("keep-alive splice", [(">=", 1.0, ["nginx", "haproxy"])])
    table.rate("keep-alive terminate", [(">=", 0.8, ["nginx"]), (">=", 15, ["mitmproxy"]), (">=", 50, ["litellm"])])
    table.rate("new connection splice", [(">=", 1.0, ["nginx"])])
    table.rate("new connection terminate", [(">=", 1.0, ["nginx"])])
    table.added_latency("one connection splice", "nginx", 1.0)
    table.added_latency("one connection terminate", "nginx", 1.3)


def one_load(load, peer, mode, options):
    wait_until_idle(peer)
    before = peer.cpu_seconds()
    sample = load.requests(getattr(peer, mode), seconds=SECONDS, **options)
    used = peer.cpu_seconds() - before
    sample["cpu_us"] = used * 1e6 / max(1, sample["requests"])
    # Below one, something else than the proxy was the limit.
    sample["cpu_share"] = used / sample["seconds"]
    return sample


def streams(table, peers, load):
    names = [name for name in ("assay", "nginx", "haproxy") if name in peers.running]
    targets = {"direct": peers.direct, **{name: peers.running[name].terminate for name in names}}
    for round_ in range(ROUNDS):
        for name, target in targets.items():
            sample = load.streams(target.posting(load.stream_body), streams=STREAMS, prefix=f"{name}-{round_}-")
            sent, got = load.bill(BACKEND)["streams"], sample.pop("hashes")
            sample["identical"] = sum(sent.get(stream) == hash_ for stream, hash_ in got.items())
            table.add("streams", name, sample)
    table.streams(STREAMS, limit_ms=2.0)


def memory(table, peers, load):
    for name, start in {"assay": peers.assay, "nginx": peers.nginx, "haproxy": peers.haproxy}.items():
        if name not in peers.running:
            continue
        sample = {}
        for mode in ("splice", "terminate"):
            peer = peers.start(name, start)
            wait_until_idle(peer)
            sample["idle_bytes"] = peer.resident_bytes()
            # What the first connections bring in is code and tables, and is there once.
            load.requests(getattr(peer, mode), connections=8, fresh=True, seconds=10, most=40)
            wait_until_idle(peer)
            begin = peer.resident_bytes()
            with load.held(getattr(peer, mode), HELD):
                wait_until_idle(peer)
                sample[f"{mode}_bytes"] = (peer.resident_bytes() - begin) / HELD
        table.add("memory", name, sample)
    peer = peers.start("assay", peers.assay)
    for _ in range(5):
        for mode in ("splice", "terminate"):
            load.requests(getattr(peer, mode), connections=16, fresh=True, seconds=3600, most=CHURN // 10)
        wait_until_idle(peer)
        table.add("churn", "assay", {"resident_bytes": peer.resident_bytes()})
    table.memory(idle_mb=15, splice_kb=20, terminate_kb=60)
    table.flat(CHURN)


def overspend(table, peers, load):
    starts = {"assay": peers.assay, "litellm": peers.litellm}
    for name, start in starts.items():
        if name not in peers.running:
            continue
        peer = peers.start(name, start, budget=BUDGET_USD if name == "litellm" else str(BUDGET_USD), backend=SLOW)
        before = dollars(load.bill(SLOW))
        sample = load.requests(peer.terminate, connections=AT_ONCE, most=CALLS, seconds=120)
        sample["billed_usd"] = dollars(load.bill(SLOW)) - before
        table.add("overspend", name, sample)
    table.overspend(BUDGET_USD)


def dollars(bill):
    """By the prices that every peer was told."""
    return (bill["input_tokens"] + 2 * bill["output_tokens"]) / 1e6

