#!/usr/bin/env bash
# Sets the demo up for the real service: says what it can cost at most, writes the upstreams, points the agents at it.
#
# usage: real.sh MODEL WORK        needs OPENROUTER_API_KEY; prices come from the service's own list
set -euo pipefail
model=$1 work=$2
curl -fsS --max-time 30 https://openrouter.ai/api/v1/models -o "$work/models.json"
umask 077
python3 - "$model" "$work" <<'PYTHON'
import json, os, sys

model, work = sys.argv[1:]
entry = next((item for item in json.load(open(f"{work}/models.json"))["data"] if item["id"] == model), None)
if entry is None:
    sys.exit(f"demo: {model} is not offered; name another by DEMO_MODEL")
price = entry["pricing"]
most = entry.get("top_provider", {}).get("max_completion_tokens") or 16384
quote = json.dumps
with open(f"{work}/upstreams.toml", "w") as file:
    file.write(
        f'[prices]\nversion = "service"\n[prices.models.{quote(model)}]\ninput = {quote(price["prompt"])}\n'
        f'output = {quote(price["completion"])}\ncontext_tokens = {entry["context_length"]}\nmax_output_tokens = {most}\n'
        f'[[upstreams]]\nhost = "openrouter.ai"\nbase_path = "/api/v1"\ndialect = "open_router"\n'
        f'models = [{quote(model)}]\ncredential = {quote(os.environ["OPENROUTER_API_KEY"])}\n'
    )
PYTHON
sed -i "s|assay-demo/scripted-1|$model|; s|https://models.assay-demo.example/v1|https://openrouter.ai/api/v1|" "$work"/agents/*/agent.toml
echo "demo: the real service is used with $model. At most 0.062 USD are spent: 0.05 for patch-fixer, 0.012 for greedy; three times that if attempts are lost to faults of this machine." >&2
