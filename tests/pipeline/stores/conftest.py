"""One S3 server, and one of Google's kind, for all tests here; a proxy and a place in the bucket for each."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import fsspec.config
import pytest
from aiohttp import web
from fsspec.asyn import sync
from s3fs import S3FileSystem

from manifests.store import StorePath
from tests.pipeline.stores.gcs_server import Bucket
from tests.pipeline.stores.server import BUCKET, CREDENTIALS, ONE_TRY, Proxy, proxying, s3_server, serving
from tests.pipeline.stores.shelf import MANIFEST, fill

EMULATED = {"FSSPEC_GS_TOKEN": "anon", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
"""No credentials, and no gRPC, which gcsfs would ask for the kind of bucket."""


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


@pytest.fixture(scope="session")
def _gcs() -> Iterator[tuple[Bucket, Proxy]]:
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip("the extra `gcs` is not installed")
    bucket, app = Bucket(BUCKET), web.Application(client_max_size=1 << 30)
    app.add_routes(bucket.routes())
    with serving(app) as server, proxying(server) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in {**EMULATED, "STORAGE_EMULATOR_HOST": proxy.url}.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        yield bucket, proxy
        fsspec.get_filesystem_class("gs").clear_instance_cache()


@pytest.fixture
def bucket(_gcs: tuple[Bucket, Proxy]) -> Bucket:
    """What the server of Google's kind holds."""
    return _gcs[0]


@pytest.fixture
def gcs_proxy(_gcs: tuple[Bucket, Proxy]) -> Proxy:
    """The way to it."""
    _gcs[1].calm()
    return _gcs[1]


@pytest.fixture
def gcs_place(gcs_proxy: Proxy, request: pytest.FixtureRequest) -> StorePath:
    """An empty place there of the test's own."""
    return StorePath(f"gs://{BUCKET}/{request.node.name}".replace("[", "/").replace("]", ""))
