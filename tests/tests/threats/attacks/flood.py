"""More than anybody needs: connections, bytes, slowness."""
import collections
import resource
import select
import socket
import time

import tls
import web
from say import connect, look_up, stopped, through


def connections(address, port, count):
    """Opens many at once and keeps them; then one honest client must still be served."""
    resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[::-1][:1] * 2)
    kept, refused = [], 0
    for _ in range(int(count)):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((address, int(port)))
        kept.append(s)
        if len(kept) % 500 == 0:
            # What was reset makes room.
            poll = select.poll()
            for one in kept:
                poll.register(one, select.POLLIN | select.POLLHUP | select.POLLERR)
            ended = {fd for fd, _ in poll.poll(20)}
            refused += len(ended)
            for one in [one for one in kept if one.fileno() in ended]:
                one.close()
            kept = [one for one in kept if one.fileno() != -1]
    print("kept", len(kept), "refused", refused)
    for one in kept:
        one.close()


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
