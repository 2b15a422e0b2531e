"""Addresses, and that their credentials stay in this process."""

import re
import time

import pytest

from kerasllm.addresses import Address, redact, take_credentials, with_credentials
from kerasllm.errors import DataError

HIDDEN = {
    "s3://AKIA:sec/ret+x=@bucket/a.csv": "s3://bucket/a.csv",
    "s3://AKIA:secret@bucket/a@b:c.csv": "s3://bucket/a@b:c.csv",
    "s3://bucket/a.csv?access_key=AKIA&secret_key=abc&region=eu-west-1": "s3://bucket/a.csv?region=eu-west-1",
    "s3://bucket/a.csv?session_token=x": "s3://bucket/a.csv",
    "s3://bucket/a.csv?endpoint_override=http://u:p@host:9000&scheme=http": "s3://bucket/a.csv?endpoint_override=http://host:9000&scheme=http",
    "gs://token@bucket/a.csv?access_token=x": "gs://bucket/a.csv",
    "hdfs://me:pw@host:8020/a.csv": "hdfs://me@host:8020/a.csv",
    "abfs://container:KEY==@account.dfs.core.windows.net/a.csv": "abfs://container@account.dfs.core.windows.net/a.csv",
    "https://me:p/w@host/a.csv": "https://host/a.csv",
    "https://TOKEN@host/a.csv": "https://host/a.csv",
    "https://b.s3.amazonaws.com/a.csv?X-Amz-Algorithm=A&X-Amz-Signature=b&versionId=3": "https://b.s3.amazonaws.com/a.csv?versionId=3",
    "https://h/a.csv?AWSAccessKeyId=A&Expires=9&Signature=b%3D": "https://h/a.csv",
    "https://x.blob.core.windows.net/c/a.csv?sv=2022&se=2026&sr=b&sp=r&sig=ab%3D": "https://x.blob.core.windows.net/c/a.csv",
    "https://h/export?id=7&token=abc": "https://h/export?id=7",
    "https://h/export?id=7&apiKey=AIzaSyA1234567890abc": "https://h/export?id=7",
    "https://h/a.csv?private_token=glpat-x#part": "https://h/a.csv",
}
OPEN = [
    "s3://bucket/a b?.csv",
    "s3://bucket/a.csv?region=eu-west-1",
    "gs://anonymous@bucket/a.csv",
    "hdfs://me@host/a.csv",
    "abfs://container@account.dfs.core.windows.net/a.csv",
    "https://host:8443/a.csv?page=2&key=train.csv",
    "hf://datasets/owner/name@main/a.csv",
    "hf://owner/name@v1",
    "pypi://package==1.0/path",
    "file:///tmp/a@b.csv",
    "starter:chat",
    "mail me@example.org: see https://example.org/a?b=c",
    "a.csv",
]


@pytest.mark.parametrize("address", HIDDEN)
def test_credentials_are_taken_out_of_an_address(address):
    assert take_credentials(address) == HIDDEN[address]
    assert with_credentials(HIDDEN[address]) == address
    assert redact(f"cannot read {address}: no") == f"cannot read {HIDDEN[address]}: no" or (
        # A colon is part of the last value.
        redact(f"cannot read {address}: no") == f"cannot read {HIDDEN[address]} no"
    )


@pytest.mark.parametrize("text", OPEN)
def test_what_holds_no_credentials_stays_as_it_is(text):
    assert take_credentials(text) == text
    assert redact(text) == text


def test_a_command_is_recorded_without_them():
    command = "kerasllm finetune --train 's3://A:B@bucket/a.csv' --set data.test=s3://C:D@b/c.csv"
    assert redact(command) == (
        "kerasllm finetune --train 's3://bucket/a.csv' --set data.test=s3://b/c.csv"
    )


def test_a_secret_may_hold_a_slash():
    parts = Address.parse("s3://AKIA:a/b/c@bucket/x/y.csv?region=r")
    assert (parts.user, parts.host, parts.path) == ("AKIA:a/b/c", "bucket", "/x/y.csv")


def test_errors_show_none():
    address = "https://me:secret@host/a.csv?sig=abc"
    error = DataError(f"{address} is bad", where=address, fix=f"look at {address}")
    assert "secret" not in str(error) and "sig" not in str(error)
    assert "https://host/a.csv" in str(error)


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000 + "?", "s3://h?region=" * 50_000, "://@?" * 200_000, "a@" * 500_000]
)
def test_a_long_text_is_redacted_in_no_time(text):
    began = time.process_time()
    redact(f"s3://KEY:SECRET@bucket {text}")
    assert time.process_time() - began < 3


def test_addresses_in_options_hold_none_either():
    text = "https://h/f?next=s3://KEY:SECRET@b/f?endpoint_override=http://U:HIDDEN@h and more"
    assert redact(text).endswith("and more")
    assert not {"KEY", "SECRET", "HIDDEN"} & {*re.findall(r"\w+", redact(text))}
    assert redact("https://h/f?next=https://g/f?page=2") == "https://h/f?next=https://g/f?page=2"
