"""HTTPS: a real certificate, and connections that are held to the limits of all others."""

import json
import socket
import ssl
import time
import urllib.request

import pytest

from kerasllm.errors import CommandError
from kerasllm.serving import connections, server
from kerasllm.serving.app import build_app
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.tls import read_certificate
from tests.serving.running import running, until
from tests.serving.test_connections import HEAD, Echo, Nothing, closed
from tests.signing.keys import make_key, openssl


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of localhost, made as the refusal of a wrong one says, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    openssl(
        *"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30".split(),
        *"-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(),
        *("-keyout", folder / "tls.key", "-out", folder / "tls.pem"),
    )
    return str(folder / "tls.pem"), str(folder / "tls.key")


@pytest.fixture
def client(certificate, monkeypatch):
    """Serves with at most 20 connections, which have a second to be encrypted, and one to ask."""
    monkeypatch.setattr(server, "most_connections", lambda: 20)
    monkeypatch.setattr(
        server, "protocol", lambda most, **options: connections.protocol(most, 1.0, **options)
    )
    worker = Nothing()
    app = build_app(Echo(), worker, Metrics())
    with running(app, worker, read_certificate(*certificate)) as client:
        yield client


@pytest.fixture
def trusting(certificate):
    return ssl.create_default_context(cafile=certificate[0])


def ask(client, trusting, body=b"12345"):
    request = urllib.request.Request(f"https://{client.host}/echo", body)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, context=trusting, timeout=20) as answer:
        return json.loads(answer.read())


def connect(client, trusting):
    return trusting.wrap_socket(client.connect(), server_hostname="localhost")


def test_requests_are_answered_over_https(client, trusting):
    assert ask(client, trusting) == 5
    assert ask(client, trusting, b"x" * 300_000) == 300_000
    with connect(client, trusting) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        # Two requests of one connection, the first with the last byte of the handshake.
        for _ in range(2):
            connection.sendall(HEAD + b"abc")
            answer = b""
            while not answer.endswith(b"\r\n\r\n3"):
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_does_not_know_the_certificate_ends_the_connection(client, trusting):
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(client, ssl.create_default_context())
    assert ask(client, trusting) == 5


def test_old_versions_and_plain_http_are_not_answered(client, trusting):
    with client.connect() as connection:
        connection.sendall(HEAD + b"abc")
        assert b"200" not in connection.recv(4096)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError), client.connect() as connection:
        old.wrap_socket(connection)
    assert ask(client, trusting) == 5


def test_connections_that_never_encrypt_take_no_place(client, trusting):
    silent = [client.connect() for _ in range(40)]
    slow = client.connect()
    slow.sendall(b"\x16\x03\x01")
    # Those of them that came first make room.
    assert ask(client, trusting) == 5
    idle = [connect(client, trusting) for _ in range(3)]
    begun = time.monotonic()
    for connection in (*silent, slow, *idle):
        assert closed(connection)
    assert time.monotonic() - begun < 10
    assert ask(client, trusting) == 5


def test_a_client_that_goes_away_in_the_handshake_leaves_nothing(client, trusting):
    for _ in range(50):
        connection = client.connect()
        connection.sendall(b"\x16\x03\x01\x02\x00")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    until(lambda: ask(client, trusting) == 5)


def test_files_that_are_none_are_refused(certificate, tmp_path):
    pem, key = certificate
    both = tmp_path / "both.pem"
    both.write_text(open(key).read() + open(pem).read())
    read_certificate(str(both))
    cases = {
        (pem, None): "do not contain a certificate and its private key",
        (key, key): "do not contain a certificate and its private key",
        (str(tmp_path / "none"), key): r"No such file(.|\n)*--tls-cert",
        (pem, str(tmp_path / "none")): r"No such file(.|\n)*--tls-key",
        (pem, str(tmp_path)): "Is a directory",
        (pem, str(make_key(tmp_path)[0])): "does not belong to the certificate",
    }
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:word", "-out", locked)
    cases[pem, str(locked)] = r"is encrypted(.|\n)*openssl pkey"
    for files, message in cases.items():
        with pytest.raises(CommandError, match=message):
            read_certificate(*files)
