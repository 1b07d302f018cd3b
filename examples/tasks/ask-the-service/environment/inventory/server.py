"""Answers GET /items with a stock that is another one at each start: nobody can know it without asking."""

import json
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ITEMS = [
    {"name": name, "count": random.randint(1, 99), "price": random.randint(1, 999)}
    for name in ("bolt", "nut", "screw", "washer")
]


class Inventory(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(ITEMS).encode() if self.path == "/items" else b"not found"
        self.send_response(200 if self.path == "/items" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print("inventory is open", flush=True)
ThreadingHTTPServer(("127.0.0.1", 8000), Inventory).serve_forever()
