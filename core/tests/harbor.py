"""Reads a JSON list of task.toml texts and prints what Harbor's own parser makes of each, as a JSON list."""

import json
import sys
import warnings

from harbor.models.task.artifacts import normalize_artifact_entries
from harbor.models.task.config import TaskConfig

warnings.simplefilter("ignore")


def entries(items):
    return [entry.model_dump(mode="json") for entry in normalize_artifact_entries(items)]


def read(text):
    try:
        config = TaskConfig.model_validate_toml(text)
    except Exception as error:
        return {"accepted": False, "error": str(error)[:300]}
    value = config.model_dump(mode="json")
    value["artifacts"] = entries(config.artifacts)
    for step, dumped in zip(config.steps or [], value["steps"] or []):
        dumped["artifacts"] = entries(step.artifacts)
    return {"accepted": True, "value": value}


print(json.dumps([read(text) for text in json.load(sys.stdin)]))
