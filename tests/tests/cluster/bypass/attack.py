"""The hostile workload of a pod: `python3 attack.py PRIVATE PUBLIC API RESOLVER [LEFT OUT,…]`.

PRIVATE is a pod of somebody else, PUBLIC an address that looks public, API the API server's, RESOLVER a name server that
nobody allowed. Each attack prints one line, `through ROW NAME` or `stopped ROW NAME why`. Every attack that reached somebody
has an answer to show: the redirect takes connections itself.
"""
import os
import socket
import ssl
import struct
import subprocess
import sys

# Two seconds for what is dropped in silence; who knows that all is open waits longer, for a busy machine.
PATIENCE = float(os.environ.get("PATIENCE", "2"))
PRIVATE, PUBLIC, API, RESOLVER = sys.argv[1:5]
# What only somebody outside of the pod could do is left out, by name.
LEFT_OUT = sys.argv[5].split(",") if len(sys.argv) > 5 else []


def asked(stream, patience=PATIENCE):
    stream.settimeout(patience)
    stream.sendall(b"GET /assay-bypass HTTP/1.1\r\nhost: witness.example\r\n\r\n")
    answer = b""
    while more := stream.recv(200):
        answer += more
    if b"witness" not in answer:
        raise OSError(f"answered {answer[:30]!r}")


def tcp(address, port):
    # Policies alone have to let some of these through, in time on a busy machine too.
    patience = max(PATIENCE, 6) if address == PUBLIC else PATIENCE
    with socket.create_connection((address, port), patience) as stream:
        asked(stream, patience)


def udp(address, port, size=0):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE)
        one.sendto(b"assay-bypass" + b"x" * size, (address, port))
        if one.recv(100) != b"witness":
            raise OSError("somebody else answered")


def tls(address, port):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address, port), PATIENCE) as stream:
        with context.wrap_socket(stream, server_hostname="kubernetes"):
            pass


def marked(address):
    with socket.socket() as stream:
        stream.setsockopt(socket.SOL_SOCKET, 36, 0x1337)
        stream.settimeout(PATIENCE)
        stream.connect((address, 8443))
        asked(stream)


def as_proxy(address):
    os.setresuid(1337, 1337, 1337)
    tcp(address, 8443)


def in_user_namespace(address):
    here = os.path.abspath(__file__)
    code = (f"import sys; sys.argv = ['x', 'a', 'b', 'c', 'd']; sys.path.insert(0, {os.path.dirname(here)!r})\n"
            f"import attack; attack.tcp({address!r}, 8443)")
    subprocess.run(["unshare", "-U", "--map-user=1337", sys.executable, "-c", code], check=True, capture_output=True)


def echo(address):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as one:
        one.settimeout(PATIENCE)
        body = b"assay-bypass" + b"\0" * 4
        head = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
        total = sum(struct.unpack(f"!{(len(head) + len(body)) // 2}H", head + body))
        total = (total & 0xFFFF) + (total >> 16)
        head = struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, 7, 1)
        one.sendto(head + body, (address, 0))
        while True:
            packet, _ = one.recvfrom(2000)
            if packet[20] == 0 and b"assay-bypass" in packet:
                return


def raw(address):
    """A datagram whose header is made by hand. That it was sent says nothing: it has to be answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as one:
        one.settimeout(PATIENCE)
        body = b"assay-bypass"
        one.sendto(struct.pack("!HHHH", 4444, 9999, 8 + len(body), 0) + body, (address, 0))
        while b"witness" not in one.recv(2000):
            pass


def frame(address):
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)):
        pass


def token():
    with open("/var/run/secrets/kubernetes.io/serviceaccount/token", "rb") as file:
        if not file.read():
            raise OSError("empty")


def proxys_files():
    with open("/assay/assignment.json", "rb") as file:
        file.read()


ATTACKS = [
    ("A14", "443 of a private address, no TLS", lambda: tcp(PRIVATE, 443)),
    ("A14", "443 of a public address, no TLS", lambda: tcp(PUBLIC, 443)),
    ("B1", "as the proxy's user", lambda: as_proxy(PRIVATE)),
    ("B5", "in a user namespace as the proxy's user", lambda: in_user_namespace(PRIVATE)),
    ("B6", "with a mark", lambda: marked(PRIVATE)),
    ("B8", "a raw packet", lambda: raw(PRIVATE)),
    ("B8", "a socket for frames", lambda: frame(PRIVATE)),
    ("B10", "22 of a private address", lambda: tcp(PRIVATE, 22)),
    ("B10", "8443 of a private address", lambda: tcp(PRIVATE, 8443)),
    ("B10", "8443 of a public address", lambda: tcp(PUBLIC, 8443)),
    ("B11", "QUIC to a private address", lambda: udp(PRIVATE, 443)),
    ("B11", "QUIC to a public address", lambda: udp(PUBLIC, 443)),
    ("B12", "5432 of a private address", lambda: tcp(PRIVATE, 5432)),
    ("B24", "an echo request", lambda: echo(PRIVATE)),
    ("B24", "a fragmented datagram", lambda: udp(PRIVATE, 9999, 8000)),
    ("B26", "the API server", lambda: tls(*API.split(":"))),
    ("B26", "a service-account token", token),
    ("C3", "80 of a public address for a name nobody allowed", lambda: tcp(PUBLIC, 80)),
    ("C4", "DNS over TLS", lambda: tcp(PRIVATE, 853)),
    ("C5", "another resolver over UDP", lambda: udp(RESOLVER, 53)),
    ("C5", "another resolver over TCP", lambda: tcp(RESOLVER, 53)),
    ("I5", "the proxy's assignment", proxys_files),
]


def main():
    # Whoever has become somebody else cannot load it any more.
    "x".encode("idna")
    for row, name, act in ATTACKS:
        if name in LEFT_OUT:
            continue
        # In a child: some change who they are.
        child = os.fork()
        if child == 0:
            try:
                act()
                print("through", row, name, flush=True)
            except BaseException as error:  # noqa: whatever stopped it
                print("stopped", row, name, "|", str(error).replace("\n", " "), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
