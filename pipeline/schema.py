"""The JSON Schema by which editors complete manifests: form from the contract, parameters from the stages."""

import json
from typing import Any

from manifests.dag import Manifest
from stages import STAGES


def json_schema() -> str:
    """The schema of a manifest, with the stages there are and the parameters of each."""
    schema = Manifest.model_json_schema()
    node = schema["$defs"]["Node"]
    node["properties"]["stage"]["enum"] = sorted(STAGES)
    node["allOf"] = [_when(name, stage.Params.model_json_schema()) for name, stage in sorted(STAGES.items())]
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _when(stage: str, params: dict[str, Any]) -> dict[str, Any]:
    """The rule that a node of this stage takes these parameters."""
    return {"if": {"properties": {"stage": {"const": stage}}}, "then": {"properties": {"params": params}}}
