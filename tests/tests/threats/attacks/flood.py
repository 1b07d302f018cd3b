"""More than anybody needs: connections, bytes, slowness."""
import resource
import select
import socket
import time

from say import connect, stopped, through


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


def slow_heads(port, seconds):
    """A request head that comes byte by byte: how long is it waited for?"""
    start = time.monotonic()
    try:
        with connect("127.0.0.1", port, 200) as stream:
            while time.monotonic() - start < float(seconds):
                stream.sendall(b"x")
                if select.select([stream], [], [], 0.5)[0] and not stream.recv(100):
                    return stopped(f"closed after {time.monotonic() - start:.0f} s")
        through(f"kept for {seconds} s")
    except OSError as error:
        stopped(f"closed after {time.monotonic() - start:.0f} s: {error}")


def denials(address, count):
    """Makes the proxy refuse as often as possible."""
    for _ in range(int(count)):
        try:
            with connect(address, 8443) as stream:
                stream.recv(1)
        except OSError:
            pass
    through(count)
