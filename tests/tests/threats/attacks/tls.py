"""TLS by the book: names, addresses and requests that do not fit together."""
import socket
import ssl
import threading

from say import SILENCE, connect, look_up, stopped, through


def context(verify=False):
    made = ssl.create_default_context()
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def opened(name, address=None, verify=False, port=443, session=None, made=None):
    """A TLS connection to `address` that says it wants `name`."""
    stream = connect(address or look_up(name), port)
    return (made or context(verify)).wrap_socket(stream, server_hostname=name or None, session=session)


def get(stream, host, path="/"):
    stream.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    return answer(stream)


def answer(stream):
    """One answer with a length."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = stream.recv(4096)
        if not more:
            return head
        head += more
    head, _, body = head.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        more = stream.recv(65536)
        if not more:
            break
        body += more
    return head + b"\r\n\r\n" + body


def fetch(name, address="", host="", path="/"):
    """A request to `address` under the server name `name`, for the host `host`."""
    try:
        with opened(name, address or None) as stream:
            said = get(stream, host or name, path)
        status = said.split(b"\r\n")[0].decode()
        through(status) if b" 200" in said[:20] else stopped(f"{name} {status}")
    except OSError as error:
        stopped(f"{name} {error}")


def fetch_each(*names):
    for name in names:
        fetch(name)


def fetch_labels(suffix, count):
    """Many names under a suffix: what a tunnel does that has no resolver."""
    for number in range(int(count)):
        fetch(f"secret-{number:03}.{suffix}")


def fetch_resolved(*names):
    """Like `fetch`, told apart by name."""
    for name in names:
        print(name, end=" ")
        fetch(name)


def two_hosts(name, other):
    """Two requests on one connection, the second for another host."""
    try:
        with opened(name, verify=False) as stream:
            print("first", get(stream, name, "/api/v1/models").split(b"\r\n")[0].decode())
            said = get(stream, other, "/api/v1/models").split(b"\r\n")[0].decode()
            stopped(said) if "421" in said or not said else through(said)
    except OSError as error:
        stopped(str(error))


def resume(name):
    """Is a session of an earlier connection taken up again?"""
    made = context()
    with opened(name, made=made) as first:
        get(first, name, "/api/v1/models")
        session = first.session
    with opened(name, made=made, session=session) as second:
        get(second, name, "/api/v1/models")
        through("resumed") if second.session_reused else stopped("a full handshake")


def trusted(name):
    """Does the sandbox's own trust store hold for this host?"""
    try:
        with opened(name, verify=True) as stream:
            through(stream.getpeercert()["subject"])
    except OSError as error:
        stopped(str(error))


def negotiated(name, *protocols):
    """Which protocol is chosen?"""
    made = context()
    made.set_alpn_protocols(list(protocols))
    try:
        with opened(name, made=made) as stream:
            print("chosen", stream.selected_alpn_protocol(), stream.version())
    except OSError as error:
        stopped(str(error))


def old(name):
    """A version of TLS that nobody should speak any more."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with opened(name, made=made) as stream:
            through(stream.version())
    except (OSError, ValueError) as error:
        stopped(str(error))


def proxy_port(port, name):
    """Speaks to the proxy's own port, where nothing was redirected."""
    try:
        with opened(name, "127.0.0.1", port=int(port)) as stream:
            said = get(stream, name)
        through(said[:20]) if b" 200" in said[:20] else stopped(said[:60])
    except OSError as error:
        stopped(str(error))


def back_to_itself(name, port):
    """Listens where a name that means this machine would lead, and asks for that name."""
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        came = []
        listener.settimeout(4)

        def wait():
            try:
                came.append(listener.accept())
            except OSError:
                pass

        waiting = threading.Thread(target=wait)
        waiting.start()
        try:
            # Who came back to itself gets no answer.
            stream = connect(look_up(name), port, SILENCE)
            if int(port) == 443:
                context().wrap_socket(stream, server_hostname=name)
            else:
                stream.sendall(b"GET / HTTP/1.1\r\nhost: " + name.encode() + b"\r\n\r\n")
                print(stream.recv(300))
        except OSError as error:
            print("refused", error)
        waiting.join()
        through("came back") if came else stopped("nobody came")


def upload(name, size):
    """Sends much and closes at once."""
    with opened(name) as stream:
        # Session tickets that nobody reads would turn the close into a reset.
        get(stream, name)
        stream.sendall(b"u" * int(size))
    through(size)


def distrust(name):
    """A client that knows none of our roots."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with opened(name, made=made) as stream:
            through(stream.version())
    except OSError as error:
        stopped(str(error))


def present_credential(name):
    """Sends a credential to whoever answers under this name."""
    try:
        with opened(name) as stream:
            stream.sendall(f"POST /api/v1/chat/completions HTTP/1.1\r\nhost: {name}\r\nauthorization: Bearer x\r\n"
                           "content-type: application/json\r\ncontent-length: 75\r\n\r\n".encode()
                           + b'{"model":"test/small","messages":[{"role":"user","content":"hi"}],"seed":1}')
            print(answer(stream)[:300])
    except OSError as error:
        stopped(str(error))
