"""What every attack has in common: telling how it went, and sockets that do not wait for ever."""
import socket
import subprocess

PATIENCE = 3


def through(what=""):
    print("through", what, flush=True)


def stopped(why=""):
    print("stopped", why, flush=True)


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
    return socket.create_connection((address, int(port)), timeout=patience)


def look_up(name):
    """The address that the sandbox's own resolver gives."""
    return socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
