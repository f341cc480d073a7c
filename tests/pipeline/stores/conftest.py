"""One S3 server for all tests here; a proxy and a place in the bucket for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.asyn import sync
from s3fs import S3FileSystem

from manifests.store import StorePath
from tests.pipeline.stores.server import BUCKET, CREDENTIALS, ONE_TRY, Proxy, proxying, s3_server
from tests.pipeline.stores.shelf import MANIFEST, fill


@pytest.fixture(scope="session")
def _proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    log = tmp_path_factory.mktemp("s3") / "log"
    with s3_server(log) as server, proxying(server) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, **ONE_TRY, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)
        patch.setattr(S3FileSystem, "retries", 1)
        fs = S3FileSystem(use_listings_cache=False)
        fs.mkdir(BUCKET)
        yield proxy
        sync(fs.loop, fs.s3.close)
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def proxy(_proxy: Proxy) -> Proxy:
    """The way to the server; this process, and those it starts, take it."""
    _proxy.calm()
    return _proxy


@pytest.fixture
def manifest(place: StorePath, tmp_path: Path) -> Path:
    """A manifest whose source lies in the store."""
    fill(place / "source")
    path = tmp_path / "stored.yaml"
    path.write_text(MANIFEST.format(folder=place / "source"))
    return path


@pytest.fixture
def place(proxy: Proxy, request: pytest.FixtureRequest) -> StorePath:
    """An empty place of the test's own."""
    return StorePath(f"s3://{BUCKET}/{request.node.name}".replace("[", "/").replace("]", ""))
