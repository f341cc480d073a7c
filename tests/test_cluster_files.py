"""The cluster files pass the checks of those who read them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(Path("ray_cluster.yaml").read_text())
    return config


def test_the_cluster_passes_ray_s_schema_and_preparation(cluster: dict[str, Any]) -> None:
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["resources"]["CPU"] == 0


def test_workers_are_spot_machines_and_the_head_is_not(cluster: dict[str, Any]) -> None:
    kinds = {
        name: kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        for name, kind in cluster["available_node_types"].items()
    }
    assert kinds == {"head": None, "cpu_download": "spot", "gpu_vision": "spot", "gpu_caption": "spot"}


def test_every_node_starts_with_the_token(cluster: dict[str, Any]) -> None:
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]


def test_what_the_nodes_install_is_what_the_project_needs(cluster: dict[str, Any], tmp_path: Path) -> None:
    """The one-liner in ``setup_commands`` reads the requirements out of pyproject.toml."""
    import subprocess
    import sys

    script = cluster["setup_commands"][0].split('python -c "')[1].split('" > requirements.txt')[0]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert any(line.startswith("ray[data,default]") for line in done.stdout.splitlines())
    assert any(line.startswith("transformers") for line in done.stdout.splitlines())


def test_the_kubernetes_job_runs_the_same_version_and_command() -> None:
    job = yaml.safe_load(Path("docs/rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["entrypoint"].startswith("python -m pipeline run ")
    assert f"ray=={spec['rayClusterSpec']['rayVersion']}" in Path("constraints.txt").read_text().splitlines()
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    for group in groups:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_kubernetes_job_has_the_operator_hand_out_the_token() -> None:
    """A token in the nodes' environment alone is not in that of the pod that submits the job, which is then refused."""
    page = Path("docs/rayjob.yaml").read_text()
    auth = yaml.safe_load(page)["spec"]["rayClusterSpec"]["authOptions"]
    assert auth["mode"] == "token"
    assert f"kubectl create secret generic {auth['secretName']} --from-literal=auth_token=" in page


def test_what_the_pages_have_one_make_in_the_repository_is_not_uploaded_with_a_job() -> None:
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    excludes = get_excludes_from_ignore_files(Path("."), include_gitignore=True)
    for path in ("ray-token", "models/models--a--b/blobs/0", "out/units/000000.json", "run/log.jsonl"):
        assert any(excluded(Path(path)) for excluded in excludes), path
    for path in (
        "weights/a.pth",
        "stages/data/en_caption/meta.json",
        "pipeline/run.py",
        "training/fit/run.py",
        "manifests/demo.yaml",
    ):
        assert not any(excluded(Path(path)) for excluded in excludes), path
