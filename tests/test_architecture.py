"""What may import what, and that ours are the packages that run."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh process after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", ["manifests", "stages", "training", "pipeline"])
def test_a_package_of_ours_is_not_a_namesake_of_somebody_else(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ and Path(package.__file__).is_relative_to(ROOT)


def test_all_stages_import_without_heavy_packages() -> None:
    models = {"torch", "torchvision", "transformers", "spacy", "open_clip", "groundingdino", "segment_anything"}
    heavy = models | {"ray", "aiohttp"}
    assert not heavy & loaded_by("import stages")


def test_the_contracts_import_without_image_libraries() -> None:
    modules = ["record", "prompt", "shard", "dag"]
    loaded = loaded_by("; ".join(f"import manifests.{name}" for name in modules))
    assert not {"torch", "ray", "PIL", "cv2", "stages", "pipeline"} & loaded


def test_the_command_line_answers_without_ray() -> None:
    assert "ray" not in loaded_by("import pipeline.__main__")


def test_the_command_line_of_training_answers_without_torch() -> None:
    assert "torch" not in loaded_by("import training.__main__")


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    packages = [ROOT / name for name in ("manifests", "stages", "training", "pipeline")]
    assert not [path for package in packages for path in package.rglob("*.py") if path.stem in vague]


def test_one_broad_except_in_all() -> None:
    packages = [ROOT / name for name in ("manifests", "stages", "training", "pipeline")]
    broad = [path for package in packages for path in package.rglob("*.py") if "except Exception" in path.read_text()]
    assert broad == [ROOT / "pipeline" / "actor.py"]
