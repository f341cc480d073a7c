"""The schema that editors complete manifests by."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.schema import json_schema

SCHEMA = json.loads(json_schema())


def complaints(plain: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(plain)]


def test_the_kept_schema_is_that_of_the_code() -> None:
    kept = Path("manifests/schema.json").read_text()
    assert kept == json_schema(), "run: python -m pipeline schema > manifests/schema.json"


@pytest.mark.parametrize("path", sorted(Path("manifests").glob("*.yaml")), ids=lambda path: path.name)
def test_our_manifests_follow_it_and_name_it(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert complaints(yaml.safe_load(path.read_text())) == []


def test_it_knows_the_parameters_of_each_stage() -> None:
    node = {"id": "a", "stage": "decode", "params": {"max_side": "large"}}
    manifest = {"name": "x", "source": {"kind": "folder", "path": "p"}, "nodes": [node]}
    assert any("large" in complaint for complaint in complaints(manifest))
    node["params"] = {"max_sides": 3}
    assert any("max_sides" in complaint for complaint in complaints(manifest))
    node["params"] = {"max_side": 512}
    assert complaints(manifest) == []
    node["stage"] = "decod"
    assert complaints(manifest)
