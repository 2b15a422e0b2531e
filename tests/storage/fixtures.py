"""Fixtures of servers on the loopback, and a cache folder of the test's own."""

import pytest

from kerasllm import addresses
from kerasllm.storage import cache
from tests.storage import servers


@pytest.fixture(scope="session")
def s3_of_session():
    with servers.s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_session, own_cache, monkeypatch):
    """An S3 server with an empty bucket `bucket`, named by the variables of AWS' tools."""
    server, client = s3_of_session, s3_of_session.client
    client.create_bucket(Bucket="bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    yield server
    for name in server.names("bucket"):
        client.delete_object(Bucket="bucket", Key=name)
    client.delete_bucket(Bucket="bucket")


@pytest.fixture
def web(own_cache, monkeypatch):
    """A web server whose answers the test writes."""
    monkeypatch.setattr(cache, "_PAUSE", 0.001)
    with servers.web_server() as server:
        yield server


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and no credentials of whoever runs it."""
    monkeypatch.setattr(addresses, "_with_credentials", {})
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERASLLM_ALLOW_HTTP", raising=False)
    return tmp_path / "cache"
