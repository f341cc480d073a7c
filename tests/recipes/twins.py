"""The recipes' twins: the same DAGs on tiny models, drawn scenes and packaged photographs, with nothing to download.

``python -m tests.recipes.twins`` writes ``manifests/*_tiny.yaml`` anew after a recipe has changed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"

RECIPES = (
    "unimo_g",
    "lambda_eclipse",
    "mumu_real",
    "mumu_synthetic",
    "emma_objects",
    "emma_portraits",
    "emma_regions",
)

_SCENES = {"kind": "shapes", "scenes": 6, "max_things": 3, "unit_rows": 3}

_SOURCES: Mapping[str, Mapping[str, Any]] = {
    "emma_portraits": {"kind": "folder", "path": "build/tiny/portraits", "groups": True, "unit_rows": 3},
    "mumu_synthetic": {
        "kind": "prompts",
        "contents": "build/tiny/lists/contents.txt",
        "styles": "build/tiny/lists/styles.txt",
        "styles_per_content": 2,
        "unit_rows": 3,
    },
}
"""Of the recipes whose source is no table of URLs."""

_MODELS: Mapping[str, str] = {
    "Salesforce/blip2-flan-t5-xl": "build/tiny/blip2",
    "llava-hf/llava-v1.6-mistral-7b-hf": "build/tiny/llava",
    "Qwen/Qwen2.5-VL-7B-Instruct": "build/tiny/qwen",
    "IDEA-Research/grounding-dino-base": "shapes_detector",
    "facebook/sam-vit-huge": "shapes_segmenter",
    "openai/clip-vit-base-patch32": "build/tiny/clip",
    "openai/clip-vit-large-patch14": "build/tiny/clip",
    "yuvalkirstain/PickScore_v1": "build/tiny/clip",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "build/tiny/clip",
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": "build/tiny/open_clip",
    "google/flan-t5-xl": "build/tiny/t5",
    "stabilityai/stable-diffusion-xl-base-1.0": "build/tiny/sdxl",
    "LiheYoung/depth-anything-large-hf": "build/tiny/depth",
    "weights/table5_pidinet.pth": "build/tiny/weights/table5_pidinet.pth",
    "weights/adaface_ir50_ms1mv2.safetensors": "build/tiny/weights/adaface_ir18.ckpt",
    "weights/sac+logos+ava1-l14-linearMSE.pth": "build/tiny/weights/aesthetic.pth",
}
"""What stands for each model: of the same class, or of the same role for the two that come with Inlay."""

_PARAMS: Mapping[str, Mapping[str, Any]] = {
    "decode": {"min_side": 64},
    "describe": {"model": "build/tiny/qwen_json", "image_side": 224, "max_new_tokens": 128},
    "recaption": {"image_side": 224},
    "ground": {"box_threshold": 0.0, "text_threshold": 0.0},
    "select": {
        "min_score": 0.0,
        "min_area": 0.0,
        "max_area": 1.0,
        "min_side": 4,
        "min_pixels": 0,
        "min_aspect": 0.05,
        "max_aspect": 20,
        "min_mask_share": 0.0,
        "max_overlap": 1.0,
        "max_background_white": 1.0,
        "over_limit": "keep_best",
    },
    "crop": {"min_side": 4},
    "embed": {"architecture": "ir18"},
    "faces": {"min_face": 20},
    "draw": {"steps": 2, "width": 64, "height": 64},
}
"""Parameters by stage that random networks and small pictures need: thresholds that let things pass."""

_IF_GIVEN = frozenset({"image_side", "architecture"})
"""Parameters that are changed only where the recipe has them."""

_DROPPED: Mapping[str, tuple[str, ...]] = {"score": ("min", "max"), "filter": ("min_side",)}
"""Parameters by stage that are left out: bounds that would drop everything."""


def twin(name: str) -> dict[str, Any]:
    """A recipe's twin, as YAML has it."""
    plain = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text(encoding="utf-8"))
    plain["name"] = f"{name}_tiny"
    plain["source"] = dict(_SOURCES.get(name, _SCENES))
    gone = {node["id"]: node.get("needs", []) for node in plain["nodes"] if node["stage"] == "fetch"}
    plain["nodes"] = [_node(node, gone) for node in plain["nodes"] if node["id"] not in gone]
    return dict(plain)


def _node(node: Mapping[str, Any], gone: Mapping[str, list[str]]) -> dict[str, Any]:
    """A node on the CPU, with small batches, without those that are gone."""
    needs = [kept for need in node.get("needs", []) for kept in gone.get(need, [need])]
    made = {"id": node["id"], "stage": node["stage"], "needs": needs, "batch_size": 3, "params": _params(node)}
    return {key: value for key, value in made.items() if value}


def _params(node: Mapping[str, Any]) -> dict[str, Any]:
    given, dropped = node.get("params", {}), _DROPPED.get(node["stage"], ())
    params = {
        key: _MODELS.get(value, value) if isinstance(value, str) else value
        for key, value in given.items()
        if key not in dropped and not key.endswith("revision")  # all models are folders and files
    }
    changed = _PARAMS.get(node["stage"], {})
    return params | {key: value for key, value in changed.items() if key in given or key not in _IF_GIVEN}


def text(name: str) -> str:
    """The twin's file."""
    head = (
        "# yaml-language-server: $schema=schema.json\n"
        f"# {name}.yaml on tiny models, made from it by `python -m tests.recipes.twins`: thresholds let random\n"
        "# networks pass. `python -m tests.recipes.tiny_models` writes the models to build/tiny.\n"
    )
    return head + yaml.safe_dump(twin(name), sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    for recipe in RECIPES:
        (MANIFESTS / f"{recipe}_tiny.yaml").write_text(text(recipe), encoding="utf-8")
