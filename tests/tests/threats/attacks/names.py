"""DNS: names that carry data out, other resolvers, other record types."""
import os
import socket
import struct

from say import PATIENCE, connect, look_up, stopped, through

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "NAPTR": 35, "SVCB": 64, "HTTPS": 65, "ANY": 255}


def question(name, kind="A"):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", TYPES[kind], 1)


def told(name, answer):
    code, count = answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
    line = f"{name} code={code} answers={count}"
    through(line) if code == 0 and count else stopped(line)


def ask(server, kind, *names):
    """Over UDP, one question per name."""
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE)
        s.connect((server, 53))
        for name in names:
            try:
                s.send(question(name, kind))
                told(f"{name} {kind}", s.recv(4096))
            except OSError as error:
                stopped(f"{name} {kind} {error}")


def ask_tcp(server, kind, name):
    """Over TCP."""
    try:
        with connect(server, 53) as s:
            query = question(name, kind)
            s.sendall(struct.pack("!H", len(query)) + query)
            length = struct.unpack("!H", s.recv(2))[0]
            told(f"{name} {kind} tcp", s.recv(length))
    except OSError as error:
        stopped(f"{name} tcp {error}")


def every_type(server, name):
    for kind in TYPES:
        ask(server, kind, name)


def resolve(*names):
    """As any program does it."""
    for name in names:
        try:
            through(f"{name} {look_up(name)}")
        except OSError as error:
            stopped(f"{name} {error}")


def labels(server, suffix, count):
    """Many names under a suffix: what a tunnel does."""
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE)
        s.connect((server, 53))
        for number in range(int(count)):
            s.send(question(f"secret-{number:06}.{suffix}"))
            answered += s.recv(4096)[7] > 0
    through(answered) if answered else stopped(answered)


def broken(server):
    """What is no question; then a good one, which must still be answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE)
        s.connect((server, 53))
        good = question("allowed.example")
        pointer_loop = good[:12] + b"\xc0\x0c\0\1\0\1"
        for odd in (b"", b"\0", good[:11], good[:-1], b"\xff" * 600, pointer_loop, good[:4] + b"\xff\xff" + good[6:]):
            s.send(odd)
        while True:
            s.send(good)
            answer = s.recv(4096)
            if answer[:2] == good[:2] and answer[7]:
                return through("answered")
