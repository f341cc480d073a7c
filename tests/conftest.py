"""One Ray for all tests that need it, and no test that fails for being slow."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tests run beside each other; two threads for each cost more than they give

os.environ.setdefault(
    "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"
)  # for AMX's tiles oneDNN copies operands into memory of its own, which no estimate counts

settings.register_profile("inlay", deadline=None, derandomize="CI" in os.environ)  # there a commit passes, or not
settings.load_profile("inlay")


_PATIENCE_S = 1500
"""What a long test may take, on a slow machine and beside another, before it is thought to hang."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long tests more time."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("fire"):
            item.add_marker(pytest.mark.timeout(_PATIENCE_S))


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of this module alone, small and quiet; others start one of another kind."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=200_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
