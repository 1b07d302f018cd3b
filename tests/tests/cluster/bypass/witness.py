"""Somebody whom a sandbox must not reach: writes down every connection, datagram and echo request, and answers.

`python3 witness.py`: one line per visit on standard output, `proto port`.
"""
import select
import socket
import struct
import sys

TCP, UDP = (22, 53, 80, 443, 853, 5432, 8443), (53, 443, 9999)

listeners = {}
for port in TCP:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(64)
    listeners[listener] = port
datagrams = {}
for port in UDP:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("0.0.0.0", port))
    datagrams[one] = port
echoes = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def told(*words):
    print(*words, flush=True)


told("listens")
while True:
    for ready in select.select([*listeners, *datagrams, echoes], [], [])[0]:
        if ready in listeners:
            stream, peer = ready.accept()
            # A probe of the node's kubelet says nothing and is nobody's attack.
            try:
                # Whoever has connected says something, on a busy machine a moment later.
                stream.settimeout(10)
                said = stream.recv(200)
                if said:
                    told("tcp", listeners[ready], peer[0])
                    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwitness")
            except OSError:
                pass
            stream.close()
        elif ready in datagrams:
            data, peer = ready.recvfrom(65_535)
            told("udp", datagrams[ready], peer[0])
            ready.sendto(b"witness", peer)
        else:
            packet, peer = ready.recvfrom(65_535)
            header = (packet[0] & 15) * 4
            if packet[header] == 8 and b"assay-bypass" in packet:
                told("icmp", 8, peer[0])
