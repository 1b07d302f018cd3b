"""HTTP as it is not meant, on port 80, on opened hosts and on the model port."""
import json
import re
import ssl
import threading

from say import connect, look_up, stopped, through
from tls import answer, context, opened

CHAT = "/api/v1/chat/completions"
MODELS = "models.example.com"
BODY = json.dumps({"model": "test/small", "messages": [{"role": "user", "content": "hi"}]})
BEARER = "authorization: Bearer sk-stage-real-credential\r\n"


def plain(host, address="", path="/", headers=""):
    """One request on port 80."""
    try:
        with connect(address or look_up(host), 80) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n".encode())
            said = answer(stream)
        line = said.split(b"\r\n")[0].decode(errors="replace")
        through(f"{host} {line}") if b" 200" in said[:20] else stopped(f"{host} {said[-150:]!r}")
        return said
    except OSError as error:
        stopped(f"{host} {error}")
        return b""


def plain_each(*hosts):
    for host in hosts:
        plain(host)


def follow(host):
    """Follows a redirect, wherever it leads."""
    said = plain(host, path="/redirect")
    for line in said.decode(errors="replace").split("\r\n"):
        if line.startswith("location: http://"):
            target, _, path = line.removeprefix("location: http://").partition("/")
            plain(target, address=target, path="/" + path)


def raw(where, text):
    """Bytes as they are: `80` goes to allowed.example, `443` into an opened connection to the model host."""
    data = text.encode().decode("unicode_escape").encode("latin-1")
    try:
        stream = connect(look_up("allowed.example"), 80) if where == "80" else opened(MODELS)
        with stream:
            stream.sendall(data)
            said = b""
            try:
                while more := stream.recv(65536):
                    said += more
                    # Somebody answers; whether he goes on nobody knows.
                    stream.settimeout(2)
            except (TimeoutError, ssl.SSLError):
                pass
        lines = re.findall(r"HTTP/1\.[01] \d{3}", said.decode(errors="replace"))
        print("answers", lines)
        through(lines[0]) if any(" 200" in line for line in lines) else stopped(said[:300])
    except OSError as error:
        stopped(str(error))


def call(body=BODY, headers="content-type: application/json\r\n", path=CHAT, method="POST", host=MODELS, key=BEARER, encode=True,
         to=MODELS, made=None):
    """One request to a model service; the status and the code of a refusal."""
    data = body.encode() if encode else body
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{key}{headers}content-length: {len(data)}\r\n\r\n"
    with opened(to, made=made) as stream:
        stream.settimeout(10)
        stream.sendall(head.encode() + data)
        return told(answer(stream))


def told(said):
    status = said[9:12].decode(errors="replace")
    code = ""
    try:
        code = json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"]
    except (ValueError, KeyError, TypeError):
        pass
    return status, code


def table(path):
    """Calls out of a file: JSON lines of {name, body?, headers?, path?, method?, host?, to?, hex?}."""
    made = context()
    with open(path) as file:
        for line in file:
            case = json.loads(line)
            name = case.pop("name")
            if "hex" in case:
                case["body"], case["encode"] = bytes.fromhex(case.pop("hex")), False
            try:
                status, code = call(**case, made=made)
                (through if status == "200" else stopped)(f"{name} {status} {code}")
            except OSError as error:
                stopped(f"{name} 000 {error}")


def upgrade(protocol):
    """Asks for another protocol on an opened connection."""
    with opened(MODELS) as stream:
        stream.sendall(
            f"GET {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\n{BEARER}connection: upgrade\r\nupgrade: {protocol}\r\n"
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n".encode()
        )
        print(protocol, *told(answer(stream)))


def preface():
    """HTTP/2 without asking."""
    try:
        with opened(MODELS) as stream:
            stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            said = stream.recv(100)
        through(said) if said[3:4] == b"\4" else stopped(said)
    except OSError as error:
        stopped(str(error))


def endless(size):
    """A chunked body that does not end before `size` MiB."""
    try:
        with opened(MODELS) as stream:
            stream.settimeout(30)
            stream.sendall(
                f"POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\n{BEARER}content-type: application/json\r\n"
                "transfer-encoding: chunked\r\n\r\n".encode()
            )
            chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
            sent = 0
            try:
                for _ in range(int(size)):
                    stream.sendall(chunk)
                    sent += 1
                stream.sendall(b"0\r\n\r\n")
            except OSError as error:
                print("cut off", error)
            print("sent", sent)
            print(*told(answer(stream)))
    except OSError as error:
        print("closed", error)


def ask_port(port, method, path, headers="", body=""):
    """What a port of the sandbox itself answers."""
    try:
        with connect("127.0.0.1", port) as stream:
            stream.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n{body}".encode())
            said = answer(stream)
        print(port, method, path, said[9:12].decode(errors="replace"))
    except OSError as error:
        print(port, method, path, error)


def ports():
    """Every listening port of this network namespace, by the kernel's own table."""
    found = set()
    for table_name in ("tcp", "tcp6"):
        with open(f"/proc/net/{table_name}") as lines:
            for line in list(lines)[1:]:
                columns = line.split()
                if columns[3] == "0A":
                    found.add(int(columns[1].rsplit(":", 1)[1], 16))
    print("listening", *sorted(found))


def model_call(count="1", content="hi"):
    """Ordinary calls to the model port."""
    body = json.dumps({"model": "test/small", "messages": [{"role": "user", "content": content}]})
    for _ in range(int(count)):
        with connect("127.0.0.1", 15088, 20) as stream:
            stream.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
            )
            print(*told(answer(stream)))


def ask(message, **fields):
    """The body of a call."""
    return json.dumps({"model": "test/small", "messages": [{"role": "user", "content": message}], **fields})


def speak(path):
    """One call out of a file {to, path, headers?, body}, and the answer to it as it came."""
    with open(path) as file:
        case = json.load(file)
    body = json.dumps(case["body"]).encode()
    with opened(case["to"]) as stream:
        stream.sendall(f"POST {case['path']} HTTP/1.1\r\nhost: {case['to']}\r\n{BEARER}{case.get('headers', '')}"
                       f"connection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        said = b""
        while more := stream.recv(65536):
            said += more
    print(said.decode())


def spend(count, message="hi"):
    """Ordinary calls to the model service, one after the other."""
    for _ in range(int(count)):
        status, code = call(ask(message))
        (through if status == "200" else stopped)(f"{status} {code}")


def spend_at_once(count, message):
    """Calls that all look at the budget before one of them has ended."""
    def one():
        try:
            status, code = call(ask(message))
            (through if status == "200" else stopped)(f"{status} {code}")
        except OSError as error:
            stopped(str(error))

    callers = [threading.Thread(target=one) for _ in range(int(count))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def hang_up(count, message):
    """Takes the first words of a stream and goes away before its end tells what it cost."""
    body = ask(message, stream=True).encode()
    for _ in range(int(count)):
        with opened(MODELS) as stream:
            stream.settimeout(10)
            stream.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\n{BEARER}content-type: application/json\r\n"
                           f"content-length: {len(body)}\r\n\r\n".encode() + body)
            said = b""
            while b"data: " not in said and b" 403 " not in said[:20]:
                said += stream.recv(256)
        through("no usage seen") if b" 200 " in said[:20] and b"prompt_tokens" not in said else stopped(said[:20])


def stream_to_its_end(message):
    """One stream from the model port, told as it came."""
    body = ask(message, stream=True, max_tokens=4000).encode()
    with connect("127.0.0.1", 15088, 300) as stream:
        stream.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
                       f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        said = b""
        while more := stream.recv(65536):
            said += more
    print(said[-500:].decode(errors="replace"))
