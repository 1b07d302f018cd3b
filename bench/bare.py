"""What the container engine does alone: three containers of a sandbox's shape, without our programs."""

import concurrent.futures
import time

import engine

MAIN = {"NanoCpus": 10**9, "Memory": 512 << 20, "PidsLimit": 256}


def measure(socket, image):
    yield "bare_sandbox_ready_ms", [sandbox(socket, image) for _ in range(21)]
    rates = []
    for _ in range(10):
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: sandbox(socket, image), range(40)))
        rates.append(40 * 60 / (time.monotonic() - begin))
    yield "bare_sandboxes_per_minute", rates


def sandbox(socket, image):
    """Holder of the network namespace, then two containers in it; gone again. Milliseconds until all three run."""
    begin = time.monotonic()
    holder = start(socket, image, {})
    others = [start(socket, image, {"NetworkMode": f"container:{holder}", **limits}) for limits in ({}, MAIN)]
    ready = (time.monotonic() - begin) * 1000
    for container in [*others, holder]:
        engine.call(socket, "DELETE", f"/containers/{container}?force=1&v=1")
    return ready


def start(socket, image, host):
    config = {"Image": image, "Cmd": ["sleep", "1000"], "HostConfig": host}
    container = engine.call(socket, "POST", "/containers/create", config)["Id"]
    engine.call(socket, "POST", f"/containers/{container}/start")
    return container
