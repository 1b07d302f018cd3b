"""What every attack has in common: telling how it went, and sockets that do not wait for ever."""
import socket
import subprocess
import sys

# The longest that a busy machine may take for something that comes.
PATIENCE = 20
# How long something is waited for that need not come.
SILENCE = 3


def tell(how, what):
    # In one piece: attacks have threads.
    sys.stdout.write(f"{how} {what}\n")
    sys.stdout.flush()


def through(what=""):
    tell("through", what)


def stopped(why=""):
    tell("stopped", why)


def attempt(what, act, *arguments):
    """Tells whether `act` works."""
    try:
        result = act(*arguments)
    except (OSError, subprocess.SubprocessError) as error:
        stopped(f"{what}: {type(error).__name__} {error}")
        return None
    through(what)
    return result if result is not None else True


def connect(address, port, patience=PATIENCE):
    made = socket.create_connection((address, int(port)), timeout=patience)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def look_up(name):
    """The address that the sandbox's own resolver gives."""
    return socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
