"""Typed maps over batches of records. Stages know no Ray and import heavy packages only when loaded."""

from collections.abc import Mapping
from typing import Any

from stages.base import Stage

STAGES: Mapping[str, type[Stage[Any, Any]]] = {}
"""Every stage a manifest may name. To add one: a file here, an entry here, its new fields in ``Record``, a test."""
