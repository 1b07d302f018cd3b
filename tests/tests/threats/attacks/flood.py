"""More than anybody needs: connections, bytes, slowness."""
import collections
import resource
import select
import socket
import threading
import time

import tls
import web
from say import connect, look_up, stopped, through


def all_files():
    """As many descriptors as there may be."""
    resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[::-1][:1] * 2)


def begun(address, port):
    """A connection that nothing is said on, and that is not waited for."""
    made = socket.socket()
    made.setblocking(False)
    made.connect_ex((address, int(port)))
    return made


def ended(streams, milliseconds):
    """Those that the other side has ended."""
    poll = select.poll()
    for one in streams:
        poll.register(one, select.POLLIN | select.POLLHUP | select.POLLERR)
    found = {fd for fd, _ in poll.poll(milliseconds)}
    return [one for one in streams if one.fileno() in found]


def opened(address, port, count):
    """Opens many at once; those that are kept, and how many were refused. What was reset makes room."""
    kept, refused = [], 0
    for number in range(1, int(count) + 1):
        kept.append(begun(address, port))
        if number % 500 == 0:
            for one in ended(kept, 20):
                one.close()
                refused += 1
            kept = [one for one in kept if one.fileno() != -1]
    return kept, refused


def connections(address, port, count):
    """Opens many at once and keeps them."""
    all_files()
    kept, refused = opened(address, port, count)
    print("kept", len(kept), "refused", refused)
    for one in kept:
        one.close()


def at_once(name, count, *targets):
    """Floods every target at the same time and holds what it gets. Somebody who is connected asks for pages meanwhile."""
    all_files()
    floods, pages, slowest = {}, {"meanwhile": 0, "held": 0}, 0.0

    def flood(target):
        address, port = target.split(" ")
        kept, refused = opened(address, port, count)
        print(f"{target} kept {len(kept)} refused {refused}")
        floods[target] = kept

    with tls.opened(name) as honest:
        started = [threading.Thread(target=flood, args=[target]) for target in targets]
        for thread in started:
            thread.start()
        while pages["held"] < 50:
            when = "meanwhile" if any(thread.is_alive() for thread in started) else "held"
            start = time.monotonic()
            if b" 200" not in tls.get(honest, name)[:20]:
                return stopped(f"not served: {pages}")
            slowest = max(slowest, time.monotonic() - start)
            pages[when] += 1
    through(f"pages {pages['meanwhile']} meanwhile, {pages['held']} held, slowest {slowest * 1000:.0f} ms")
    for kept in floods.values():
        for one in kept:
            one.close()


def until_one_ends(address, port, count):
    """Opens so many, and keeps them until the first is ended by the other side."""
    kept = [begun(address, port) for _ in range(int(count))]
    stopped("ended") if ended(kept, 20_000) else through("all kept")


def denials(address, count):
    """Makes the proxy refuse as often as possible."""
    for _ in range(int(count)):
        try:
            with connect(address, 8443) as stream:
                stream.recv(1)
        except OSError:
            pass
    through(count)


def slow_head(address, port, seconds):
    """A head that comes byte by byte: how long is it waited for?"""
    start, sent = time.monotonic(), 0
    try:
        with connect(address, port, 200) as stream:
            while time.monotonic() - start < float(seconds):
                # As much as a slow client sends: never a whole record.
                stream.sendall(b"\x16\x03\x01\x3f"[sent:sent + 1] or b"x")
                sent += 1
                if select.select([stream], [], [], 0.5)[0] and not stream.recv(100):
                    return stopped(f"closed after {time.monotonic() - start:.0f} s")
        through(f"kept for {seconds} s")
    except OSError as error:
        stopped(f"closed after {time.monotonic() - start:.0f} s: {error}")


def churn(rounds):
    """Everything that a proxy does for a workload, begun and ended again and again; how often each was done as meant."""
    made = tls.context()
    opened = lambda name, address=None: tls.opened(name, address, made=made)

    def spliced():
        with opened("allowed.example") as stream:
            return b" 200" in tls.get(stream, "allowed.example")[:20]

    def model(body, *marks):
        with opened(web.MODELS) as stream:
            stream.sendall(f"POST {web.CHAT} HTTP/1.1\r\nhost: {web.MODELS}\r\ncontent-type: application/json\r\n"
                           f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            said = b""
            while more := stream.recv(65536):
                said += more
            return all(mark in said for mark in marks)

    def aborted():
        body = web.ask("ASSAY-TOKENS: 200", stream=True)
        with connect("127.0.0.1", 15088) as stream:
            stream.sendall("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                           f"content-length: {len(body)}\r\n\r\n{body}".encode())
            return stream.recv(10) == b"HTTP/1.1 2"

    def plain():
        with connect(look_up("allowed.example"), 80) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nhost: allowed.example\r\n\r\n")
            return b" 200" in tls.answer(stream)[:20]

    def half_a_hello():
        with connect("11.1.0.1", 443) as stream:
            return stream.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") > 0

    def refused(act, *arguments):
        try:
            act(*arguments)
            return False
        except OSError:
            return True

    acts = {
        "spliced": spliced,
        "called": lambda: model(web.ask("hi"), b" 200 ", b"scripted"),
        "streamed": lambda: model(web.ask("ASSAY-TOKENS: 20", stream=True), b" 200 ", b"[DONE]"),
        "aborted": aborted,
        "plain": plain,
        "half": half_a_hello,
        "host": lambda: refused(opened, "evil.example", "11.66.0.1"),
        "name": lambda: refused(look_up, f"{time.monotonic_ns()}.evil.example"),
        "model": lambda: model(json_of("x" * 200_000), b" 403 ", b"model_not_allowed"),
        "bytes": lambda: model("{" * 1000, b" 403 ", b"body_malformed"),
    }
    done = collections.Counter()
    for _ in range(int(rounds)):
        for name, act in acts.items():
            done[name] += act()
    print("done", *(f"{name}={done[name]}" for name in acts))


def json_of(text):
    return web.ask(text).replace("test/small", "other/model")
