#!/bin/sh
set -e
python3 - <<'END' > /app/total.txt
import json
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open("http://inventory:8000/items", timeout=10) as answer:
    print(sum(item["count"] * item["price"] for item in json.load(answer)))
END
