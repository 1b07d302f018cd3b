"""The cluster's API server, as far as measuring needs it."""

import http.client
import json
import ssl
import subprocess
import urllib.parse


class Cluster:
    def __init__(self, kubectl, kubeconfig):
        self.client = [kubectl, "--kubeconfig", kubeconfig]
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.host = urllib.parse.urlsplit(cluster["server"]).netloc
        self.trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self.trust.load_cert_chain(user["client-certificate"], user["client-key"])

    def kubectl(self, *words, text=None):
        done = subprocess.run([*self.client, *words], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def ask(self, method, path, body=None):
        connection = http.client.HTTPSConnection(self.host, context=self.trust, timeout=300)
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, {"Content-Type": "application/json", "Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.read()[:300]}")
        return answer

    def call(self, method, path, body=None):
        return json.load(self.ask(method, path, body))

    def watch(self, path, **fields):
        """Objects as they change, from what the API server has in memory on."""
        asked = urllib.parse.urlencode({"watch": 1, "resourceVersion": 0, **fields})
        for line in self.ask("GET", f"{path}?{asked}"):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise RuntimeError(f"{path}: {event['object']}")
            yield event["object"]


def condition(thing, kind):
    """Does an object have a condition of that kind that is true?"""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)
