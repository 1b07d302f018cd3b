"""Hellos of TLS that no honest client sends, made from one that an honest client sends."""
import socket
import ssl
import struct
import time

from say import connect, stopped, through


def honest(name, alpn=None):
    """The first flight of a client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def parts(hello):
    """The message up to its extensions, and these."""
    body = hello[5:]
    at = 4 + 2 + 32
    at += 1 + body[at]
    at += 2 + struct.unpack("!H", body[at:at + 2])[0]
    at += 1 + body[at]
    fixed, rest, extensions = body[4:at], body[at + 2:], []
    while rest:
        kind, length = struct.unpack("!HH", rest[:4])
        extensions.append((kind, rest[4:4 + length]))
        rest = rest[4 + length:]
    return fixed, extensions


def message(fixed, extensions):
    packed = b"".join(struct.pack("!HH", kind, len(data)) + data for kind, data in extensions)
    body = fixed + struct.pack("!H", len(packed)) + packed
    return b"\1" + struct.pack("!I", len(body))[1:] + body


def records(handshake, size=16_000):
    cut = [handshake[at:at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16\3\1" + struct.pack("!H", len(part)) + part for part in cut)


def names(*each):
    """The extension that names the server, with any bytes as names."""
    listed = b"".join(b"\0" + struct.pack("!H", len(name)) + name for name in each)
    return (0, struct.pack("!H", len(listed)) + listed)


def with_names(*extensions):
    """A hello whose server names are these extensions."""
    fixed, others = parts(honest("x.example"))
    return message(fixed, list(extensions) + [one for one in others if one[0] != 0])


def odd(kind, name):
    """A hello of some kind for `name`, as bytes to send."""
    good = honest(name) if name else honest("x.example")
    fixed, extensions = parts(good)
    encoded = name.encode()
    made = {
        "plain": lambda: good,
        "segments": lambda: good,
        "records": lambda: records(good[5:], 7),
        "one-byte-records": lambda: records(good[5:], 1),
        "two-names": lambda: records(with_names(names(encoded, b"evil.example"))),
        "two-names-reversed": lambda: records(with_names(names(b"evil.example", encoded))),
        "two-extensions": lambda: records(with_names(names(encoded), names(b"evil.example"))),
        "no-name": lambda: records(message(fixed, [one for one in extensions if one[0] != 0])),
        "nul": lambda: records(with_names(names(encoded + b"\0.evil.example"))),
        "underscore": lambda: records(with_names(names(b"_a.wild.example"))),
        "empty": lambda: records(with_names(names(b""))),
        "long": lambda: records(with_names(names(b"a" * 60 + b"." + b"b" * 60 + b"." + b"c" * 60 + b"." + b"d" * 60 + b".wild.example"))),
        "non-ascii": lambda: records(with_names(names("ällowed.example".encode()))),
        "trailing-dot": lambda: records(with_names(names(encoded + b"."))),
        "address": lambda: records(with_names(names(b"11.66.0.1"))),
        "upper-case": lambda: records(with_names(names(encoded.upper()))),
        "ech": lambda: records(message(fixed, extensions + [(0xFE0D, b"\0\0\1\0\1\1\0\x20" + b"e" * 32 + b"\0\x10" + b"p" * 16)])),
        "ccs-first": lambda: b"\x14\3\3\0\1\1" + good,
        "ccs-after": lambda: good + b"\x14\3\3\0\1\1",
        "padded-2000": lambda: padded(fixed, extensions, 2_000),
        "padded-8000": lambda: padded(fixed, extensions, 8_000),
        "padded-24000": lambda: padded(fixed, extensions, 24_000),
        # The lengths of a hello allow no more than two full lists of 64 KiB.
        "padded-70000": lambda: records(b"\1" + struct.pack("!I", 70_000)[1:] + fixed + b"\xff\xff" + b"\0\x15\xff\xf0" + b"\0" * 70_000),
        "ssh": lambda: b"SSH-2.0-OpenSSH_9.2\r\n",
        "http": lambda: b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "truncated": lambda: good[:-1],
        "endless": lambda: b"\x16\3\1\x40\0\1\xff\xff\xff" + b"\0" * 200_000,
        "zero-records": lambda: b"\x16\3\1\0\0" * 50_000,
        "garbage": lambda: bytes(range(256)) * 20,
    }
    return made[kind]()


def padded(fixed, extensions, size):
    """Padded in steps, because one extension holds 64 KiB at most."""
    padding = [(0xFA00 + at, b"p" * min(30_000, size - at * 30_000)) for at in range(size // 30_000 + 1)]
    # What is shared (pre_shared_key) has to stay the last one.
    return records(message(fixed, padding + extensions))


def send(address, kind, name=""):
    """Sends such a hello, and tells whether a server answered it with a handshake of its own."""
    data = odd(kind, name)
    try:
        with connect(address, 443, 12) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if kind == "segments":
                for at, byte in enumerate(data):
                    stream.sendall(bytes([byte]))
                    if at == 10:
                        time.sleep(0.5)
            else:
                stream.sendall(data)
            answer = stream.recv(6)
            if answer[:1] == b"\x16" or (answer and kind in ("ssh", "http")):
                return through(f"{kind} {answer!r}")
            stopped(f"{kind} {answer!r}")
    except OSError as error:
        stopped(f"{kind} {error}")


def send_all(address, name, *kinds):
    for kind in kinds:
        send(address, kind, name)


def never(address, name):
    """Half of a hello, and then nothing: how long is the place kept?"""
    data = odd("plain", name)
    with connect(address, 443, 20) as stream:
        stream.sendall(data[:50])
        start = time.monotonic()
        try:
            stream.recv(1)
        except OSError:
            pass
        seconds = time.monotonic() - start
        through(f"kept for {seconds:.1f} s") if seconds > 10 else stopped(f"closed after {seconds:.1f} s")
