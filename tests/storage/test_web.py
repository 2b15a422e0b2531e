"""Files of web servers, over real HTTP on the loopback."""

import base64
import gzip
from pathlib import Path

import pytest

from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError
from kerasllm.storage import cache
from kerasllm.storage import web as web_module
from tests.storage.servers import Answer

ROWS = b"text,label\na good one,1\na bad one,0\n"


def texts(spec):
    return [text for batch in Source(spec).batches() for text in batch.texts]


def refusal(spec):
    with pytest.raises(DataError) as caught:
        find_files(spec, "train")
    return caught.value


def test_a_file_is_fetched_once_and_asked_for_again(web):
    address = web.serve("/data/reviews.csv", ROWS)
    assert texts(address) == ["a good one", "a bad one"]
    assert Source(address).files == (address,)
    bodies = [r for r in web.requests if "If-None-Match" not in r.headers]
    assert len(bodies) == 1 < len(web.requests)
    web.serve("/data/reviews.csv", ROWS.replace(b"good", b"fine"))
    assert texts(address) == ["a fine one", "a bad one"]


def test_packed_files_and_names(web):
    assert len(texts(web.serve("/my%20data.csv.gz", gzip.compress(ROWS)))) == 2
    assert len(texts(web.serve("/a.csv", gzip.compress(ROWS), **{"Content-Encoding": "gzip"}))) == 2
    named = {"Content-Disposition": 'attachment; filename="reviews.csv"'}
    assert len(texts(web.serve("/download", ROWS, **named) + "?id=7")) == 2
    address = web.serve("/export", ROWS)
    with pytest.raises(DataError, match="suffix"):
        Source(address)


def test_redirects_are_followed(web):
    target = web.serve("/files/reviews.csv", ROWS)
    web.answers["/latest"] = lambda request: Answer(302, headers={"Location": target})
    assert texts(f"{web.url}/latest") == ["a good one", "a bad one"]
    web.answers["/away"] = lambda request: Answer(
        302, headers={"Location": "http://example.org/a.csv?sig=secret"}
    )
    error = refusal(f"{web.url}/away")
    assert "for this machine only" in error.what and "secret" not in str(error)


def test_a_download_that_broke_is_resumed(web):
    content = b"text,label\n" + b"some text,1\n" * 300_000
    address = web.serve("/a.csv", content)
    whole, ranges = web.answers["/a.csv"], []

    def breaking(request):
        ranges.append(request.headers.get("Range"))
        answer = whole(request)
        if len(ranges) < 3:
            answer.cut_after = 1_000_000
        return answer

    web.answers["/a.csv"] = breaking
    (file,) = find_files(address, "train")
    assert Path(file.path).read_bytes() == content
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"]


def test_a_download_that_broke_is_resumed_by_the_next_command(web):
    content = b"text,label\n" + b"some text,1\n" * 300_000
    address = web.serve("/a.csv", content)
    whole, ranges, broken = web.answers["/a.csv"], [], [True]

    def breaking(request):
        ranges.append(request.headers.get("Range"))
        answer = whole(request)
        answer.cut_after = 1_000_000 if len(ranges) == 1 else 0 if broken else None
        return answer

    web.answers["/a.csv"] = breaking
    assert "is kept" in refusal(address).fix
    broken.clear()
    del ranges[1:]
    (file,) = find_files(address, "train")
    assert Path(file.path).read_bytes() == content
    assert ranges[-1] == "bytes=1000000-"


def test_a_file_that_changed_while_it_broke_is_not_put_together(web):
    first, second = b"text,label\n" + b"a,1\n" * 300_000, b"text,label\n" + b"b,1\n" * 300_000
    address = web.serve("/a.csv", first)
    whole = web.answers["/a.csv"]

    def breaking(request):
        answer = whole(request)
        answer.cut_after = 700_000
        web.serve("/a.csv", second)
        return answer

    web.answers["/a.csv"] = breaking
    assert "changed while it was read" in refusal(address).what
    (file,) = find_files(address, "train")
    assert Path(file.path).read_bytes() == second


def test_a_server_that_does_not_say_what_changed(web):
    answers = [Answer(200, ROWS)]
    web.answers["/a.csv"] = lambda request: answers[-1]
    assert texts(f"{web.url}/a.csv") == ["a good one", "a bad one"]
    answers.append(Answer(200, b"text,label\nc,1\n"))
    assert texts(f"{web.url}/a.csv") == ["a good one", "a bad one"], "one file for one process"
    web_module._unversioned.clear()
    assert texts(f"{web.url}/a.csv") == ["c"]


@pytest.mark.parametrize(
    ("status", "what", "fix"),
    [
        (404, "The file does not exist (HTTP status 404)", "check the address"),
        (410, "The file does not exist (HTTP status 410)", "check the address"),
        (401, "Access to the file was denied (HTTP status 401)", "~/.netrc"),
        (403, "Access to the file was denied (HTTP status 403)", "may have expired"),
        (503, "did not return the file (HTTP status 503)", "try again later"),
    ],
)
def test_refusals_of_a_server(web, status, what, fix):
    web.answers["/a.csv"] = lambda request: Answer(status)
    error = refusal(f"{web.url}/a.csv?sig=secret")
    assert what in error.what and fix in error.fix and error.where == f"{web.url}/a.csv"
    assert len(web.requests) == (3 if status == 503 else 1), "what may pass is tried again"


def test_a_server_that_is_busy_for_a_moment(web):
    answers = [Answer(200, ROWS), Answer(503)]
    web.answers["/a.csv"] = lambda request: answers.pop()
    assert len(texts(f"{web.url}/a.csv")) == 2


def test_a_server_that_does_not_answer(web, monkeypatch):
    import threading

    done = threading.Event()
    monkeypatch.setattr(web_module, "_SECONDS", 0.1)
    web.answers["/a.csv"] = lambda request: (done.wait(5) and Answer(404)) or Answer(404)
    error = refusal(f"{web.url}/a.csv")
    done.set()
    assert "did not respond within" in error.what


def test_no_server_there(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "_PAUSE", 0.001)
    error = refusal("http://127.0.0.1:9/a.csv")
    assert "Connection refused" in error.what and "check the address" in error.fix


def test_an_open_line_is_for_this_machine_alone(own_cache, monkeypatch):
    error = refusal("http://example.org/a.csv")
    assert "others on the network could change the data" in error.what
    assert "https://" in error.fix and "KERASLLM_ALLOW_HTTP=1" in error.fix
    monkeypatch.setenv("KERASLLM_ALLOW_HTTP", "1")
    assert "for this machine only" not in refusal("http://nowhere.invalid/a.csv").what


def test_a_glob_is_refused(web):
    assert "cannot list its files" in refusal(f"{web.url}/*.csv").what


def test_a_web_page_is_no_data(web):
    page = b"<!DOCTYPE html><html>Log in</html>"
    address = web.serve("/blob/a.csv", page, **{"Content-Type": "text/html; charset=utf-8"})
    error = refusal(address)
    assert "returned a web page" in error.what and "Raw" in error.fix


@pytest.mark.parametrize("where", ["address", "netrc"])
def test_credentials_are_sent_to_this_server_alone(web, where, tmp_path):
    wanted = "Basic " + base64.b64encode(b"me:pass word").decode()
    seen = {}

    def private(request):
        seen["private"] = request.headers.get("Authorization")
        if seen["private"] != wanted:
            return Answer(401)
        elsewhere = web.url.replace("127.0.0.1", "localhost") + "/public.csv"
        return Answer(302, headers={"Location": elsewhere})

    def public(request):
        seen["public"] = request.headers.get("Authorization")
        return Answer(200, ROWS)

    web.answers |= {"/private.csv": private, "/public.csv": public}
    address = f"{web.url}/private.csv"
    if where == "netrc":
        (tmp_path / ".netrc").write_text('machine 127.0.0.1 login me password "pass word"\n')
        (tmp_path / ".netrc").chmod(0o600)
    else:
        address = address.replace("://", "://me:pass%20word@")
    assert texts(address) == ["a good one", "a bad one"]
    assert Source(address).files == (f"{web.url}/private.csv",)
    assert seen["private"] == wanted
    # urllib's own netrc lookup does not exist; the other host has no entry.
    assert seen["public"] is None
