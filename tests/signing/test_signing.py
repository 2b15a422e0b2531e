"""A folder is what was signed, by a key that is trusted, or the refusal names what is wrong."""

import base64
import json
import os

import pytest

from kerasllm.errors import CommandError, SignatureError
from kerasllm.signing import SIGNATURE, read_private_key, read_public_key, sign, verify
from tests.signing.keys import make_key, openssl


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, name) for name in ("my", "other")}


@pytest.fixture
def folder(tmp_path):
    """A folder whose names sort one way as paths and another way as texts."""
    folder = tmp_path / "model"
    for name in ("config.json", "a/x", "a.b/x", "a b", "sub/vocab.txt", ".hidden"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def signed(folder, keys):
    sign(folder, read_private_key(keys["my"][0]))
    return folder


def public(keys, *names):
    return [read_public_key(keys[name][1]) for name in names]


def bundle_of(folder):
    return json.loads((folder / SIGNATURE).read_text())


def test_what_was_signed_verifies_with_any_of_the_trusted_keys(signed, keys):
    found = verify(signed, public(keys, "other", "my"))
    assert sorted(found.files) == [
        ".hidden",
        "a b",
        "a.b/x",
        "a/x",
        "config.json",
        "sub/vocab.txt",
    ]
    assert found.key.file.endswith("my.pub")


def test_the_library_of_the_format_verifies_ours_and_we_verify_the_librarys(signed, keys):
    import model_signing

    private, key = keys["my"]
    check = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key)
    check.verify(signed, signed / SIGNATURE)
    (signed / "a/x").write_text("changed")
    with pytest.raises(ValueError, match="a/x"):
        check.verify(signed, signed / SIGNATURE)
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE])
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(
        hashing
    ).sign(signed, signed / SIGNATURE)
    assert "a/x" in verify(signed, public(keys, "my")).files
    # What the library's signature declares to be none of its own is a file that nobody signed.
    hashing.set_ignored_paths(paths=[SIGNATURE, "a/x"])
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(
        hashing
    ).sign(signed, signed / SIGNATURE)
    with pytest.raises(SignatureError, match="1 file not covered by the signature: a/x"):
        verify(signed, public(keys, "my"))


@pytest.mark.parametrize("curve", ["P-384", "P-521"])
def test_larger_curves(folder, tmp_path, curve):
    import model_signing

    private, key = make_key(tmp_path, "large", curve)
    sign(folder, read_private_key(private))
    verify(folder, [read_public_key(key)])
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(
        folder, folder / SIGNATURE
    )


def test_every_kind_of_change_is_named(signed, keys):
    (signed / "config.json").write_text("{}")
    (signed / "sub/vocab.txt").unlink()
    (signed / "sub/new.txt").write_text("new")
    with pytest.raises(SignatureError) as error:
        verify(signed, public(keys, "my"))
    assert "1 file changed: config.json; 1 file missing: sub/vocab.txt" in error.value.what
    assert "1 file not covered by the signature: sub/new.txt" in error.value.what
    for number in range(9):
        (signed / f"{number}.py").write_text("")
    with pytest.raises(SignatureError, match="10 files not covered.*: 0.py, .* and 5 more"):
        verify(signed, public(keys, "my"))


def test_another_key_an_altered_signature_and_none(signed, keys):
    with pytest.raises(SignatureError, match=r"another key, '\w{16}'. Trusted: .*other"):
        verify(signed, public(keys, "other"))
    bundle = bundle_of(signed)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"].pop()
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    bundle["dsseEnvelope"]["payload"] = payload
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match="changed after it was signed, or forged"):
        verify(signed, public(keys, "my"))
    # Whose key it is said to be decides nothing.
    bundle["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match="signed with another key"):
        verify(signed, public(keys, "my"))
    (signed / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match=r"not signed: there is no model.sig(.|\n)*--key KEY"):
        verify(signed, public(keys, "my"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        ("null", "has no verificationMaterial"),
        ('{"verificationMaterial": {"certificate": {}}}', "certificate or an identity"),
        ('{"verificationMaterial": {"publicKey": {}}}', "has no dsseEnvelope"),
        ('{"verificationMaterial": {"publicKey": 7}}', "has no publicKey"),
        (
            '{"verificationMaterial": {"publicKey": {}}, "dsseEnvelope": {"payload": "e30="}}',
            "another kind",
        ),
    ],
)
def test_a_file_that_is_no_signature(signed, keys, content, message):
    (signed / SIGNATURE).write_text(content)
    with pytest.raises(SignatureError, match=message):
        verify(signed, public(keys, "my"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["predicate"]["resources"][0].update(name="../secret"), "outside the folder"),
        (lambda s: s["predicate"]["resources"][0].update(name="/etc/passwd"), "outside the folder"),
        (lambda s: s["predicate"]["resources"][0].update(digest="zz"), "cannot be used"),
        (lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]), "twice"),
        (lambda s: s["predicate"]["resources"].pop(), "are inconsistent"),
        (lambda s: s["predicate"].pop("resources"), "cannot be used"),
        (lambda s: s["predicate"]["serialization"].update(method="shards"), "sha256 of files"),
        (lambda s: s.update(predicate=7), "cannot be used"),
        (lambda s: s.update(predicateType="https://example.org"), "states"),
        (lambda s: s.update(subject=[]), "cannot be used"),
    ],
)
def test_what_a_trusted_key_signed_may_be_wrong_as_well(signed, keys, change, message):
    from kerasllm.signing import bundle as of_format
    from kerasllm.signing.keys import algorithm

    private, bundle = read_private_key(keys["my"][0]), bundle_of(signed)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    signature = private.sign(of_format._encoded(payload), algorithm(private))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode()}]
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match=message):
        verify(signed, public(keys, "my"))


def test_links_lead_nowhere_else(signed, keys, tmp_path):
    (tmp_path / "outside").write_text("vocab.txt")
    cases = {
        "out": ("is a link that leads outside", lambda path: path.symlink_to(tmp_path / "outside")),
        "loop": ("is not a regular file", lambda path: path.symlink_to(path.name)),
        "up": ("is a link to a folder", lambda path: path.symlink_to("..")),
        "pipe": ("is not a regular file", os.mkfifo),
    }
    for name, (message, make) in cases.items():
        path = signed / "sub" / name
        make(path)
        with pytest.raises(SignatureError, match=rf"sub/{name} {message}"):
            verify(signed, public(keys, "my"))
        with pytest.raises(SignatureError, match=rf"sub/{name} {message}"):
            sign(signed, read_private_key(keys["my"][0]))
        path.unlink()
    # One within the folder is a file as any other.
    (signed / "sub/vocab.txt").rename(signed / "sub/real.txt")
    (signed / "sub/vocab.txt").symlink_to("real.txt")
    sign(signed, read_private_key(keys["my"][0]))
    assert {"sub/real.txt", "sub/vocab.txt"} <= set(verify(signed, public(keys, "my")).files)


def test_the_cache_of_the_hub_links_into_its_blobs(tmp_path, keys):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/1234"
    blobs.mkdir(parents=True), snapshot.mkdir(parents=True)
    (blobs / "5678").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/5678")
    sign(snapshot, read_private_key(keys["my"][0]))
    verify(snapshot, public(keys, "my"))
    (blobs / "5678").write_text("[]")
    with pytest.raises(SignatureError, match="1 file changed: config.json"):
        verify(snapshot, public(keys, "my"))


def test_keys_that_are_none(tmp_path, keys, monkeypatch):
    private, public_key = keys["my"]
    with pytest.raises(CommandError, match="is a public key"):
        read_private_key(public_key)
    with pytest.raises(CommandError, match=r"is a private key(.|\n)*-pubout"):
        read_public_key(private)
    openssl("genpkey", "-algorithm", "ED25519", "-out", tmp_path / "ed.key")
    with pytest.raises(CommandError, match="P-256, P-384 and P-521"):
        read_private_key(tmp_path / "ed.key")
    secret = tmp_path / "secret.key"
    openssl("pkey", "-in", private, "-aes256", "-passout", "pass:word", "-out", secret)
    with pytest.raises(CommandError, match=r"is encrypted(.|\n)*KERASLLM_SIGN_PASSWORD"):
        read_private_key(secret)
    with pytest.raises(CommandError, match="cannot be read with this password"):
        read_private_key(secret, "wrong")
    assert read_private_key(secret, "word").curve.name == "secp256r1"
    armoured = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    for content in (b"", b"\xff", armoured):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(CommandError, match="not a private key"):
            read_private_key(tmp_path / "broken")
    with pytest.raises(CommandError, match=r"cannot be read: No such file"):
        read_private_key(tmp_path / "none")
    with pytest.raises(CommandError, match="not a regular file"):
        read_public_key(tmp_path)


def test_a_folder_without_files_is_not_signed(tmp_path, keys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignatureError, match="no files to sign"):
        sign(tmp_path / "empty", read_private_key(keys["my"][0]))
