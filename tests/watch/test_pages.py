"""The pages: what they show, whom they let in, and that they only read."""

import asyncio
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from kerasllm.errors import KerasllmError
from kerasllm.watch import drawn_apart
from kerasllm.watch.app import build_app
from kerasllm.watch.run_list import RunList
from tests.reports.made_run import make_run

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


@pytest.fixture(autouse=True)
def drawn_here(monkeypatch):
    """Draws pages in this process, which is faster; one test has them drawn apart."""

    async def here(kind, paths):
        return drawn_apart.drawn(kind, paths)

    monkeypatch.setattr("kerasllm.watch.app.drawn_apart", here)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with two finished runs, one that trains, and one that stopped long ago."""
    folder = tmp_path_factory.mktemp("watched") / "runs"
    make_run(folder / "bert_cls" / "one", rows=80, noise=1, steps=40)
    make_run(folder / "bert_cls" / "two", rows=80, noise=2, steps=40)
    for name in ("trains", "stopped"):
        run = make_run(folder / name, rows=40, steps=40)
        run.metrics.unlink()
        shutil.rmtree(run.model)
    long_ago = time.time() - 3600
    for path in (folder / "stopped").iterdir():
        os.utime(path, (long_ago, long_ago))
    return folder


def client_of(*folders: Path, logged_in: bool = True, **options) -> TestClient:
    app = build_app(folders, "right", **options)
    client = TestClient(app, base_url="http://127.0.0.1:8008", raise_server_exceptions=False)
    if logged_in:
        assert client.get(f"{options.get('prefix', '')}/?token=right").status_code == 200
    return client


def test_the_list_shows_each_run_with_its_state(runs):
    page = client_of(runs).get("/").text
    rows = re.findall(r'<a href="/run/([^"]+)">.*?class="state (\w+)"', page, re.DOTALL)
    assert rows[0] == ("trains", "training")
    assert dict(rows) == {
        "trains": "training",
        "stopped": "stopped",
        "bert_cls/one": "finished",
        "bert_cls/two": "finished",
    }
    assert "There are no runs yet" in client_of(runs / "bert_cls" / "one" / "model").get("/").text


def test_a_run_is_shown_with_curves_log_report_and_comparison(runs):
    client = client_of(runs)
    page = client.get("/run/bert_cls/one").text
    assert page.count("<svg") >= 4 and "gradient norm" in page and "validation" in page
    assert "step     40" in page and "task: text_classification" in page
    assert 'id="try"' in page and 'id="try"' not in client.get("/run/trains").text
    report = client.get("/report/bert_cls/one")
    assert "Where it fails" in report.text
    assert "This training did not finish" in client.get("/report/trains").text
    compared = client.get("/compare?run=bert_cls/one&run=bert_cls/two").text
    assert "bert_cls" not in compared or "one" in compared
    assert "accuracy" in compared.lower()
    for query in ("run=bert_cls/one", "run=bert_cls/one&run=trains", "run=x&run=y", ""):
        refused = client.get(f"/compare?{query}")
        assert refused.status_code in (400, 404) and 'class="warning"' in refused.text


def test_a_curve_grows_with_the_log_and_what_is_unchanged_is_not_sent_again(runs, monkeypatch):
    monkeypatch.setattr("kerasllm.watch.run_list._SECONDS_BETWEEN_LOOKS", 0)
    client = client_of(runs)
    before = client.get("/live/trains")
    again = client.get("/live/trains", headers={"If-None-Match": before.headers["ETag"]})
    assert again.status_code == 304 and not again.content
    log = runs / "trains" / "metrics.jsonl"
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 45, "loss": 0.25}) + '\n{"step": 46, "lo')
    after = client.get("/live/trains", headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert "step     45" in after.text and "step     46" not in after.text
    # A resumed training cuts its log back to its checkpoint.
    log.write_text(json.dumps({"step": 7, "loss": 0.5}) + "\n", encoding="utf-8")
    cut = client.get("/live/trains").text
    assert "step      7" in cut and "step     45" not in cut


def test_a_curve_and_its_name_have_one_colour(tmp_path):
    run = make_run(tmp_path / "runs" / "validated", rows=40, steps=40)
    rows = ({"step": step, "validation": {"accuracy": 0.5}} for step in (10, 20))
    run.metrics_log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = client_of(tmp_path / "runs").get("/live/validated").text
    assert '<i class="s1"></i>validation' in page and 'class="line s1"' in page


def test_without_the_token_nothing_is_shown(runs):
    client = client_of(runs, logged_in=False)
    for path in ("/", "/run/trains", "/report/bert_cls/one", "/watch.js", "/list", "/nothing"):
        for query in ("", "?token=wrong", "?token="):
            answer = client.get(path + query)
            assert answer.status_code == 403 and "trains" not in answer.text
    assert client.post("/try/bert_cls/one", json={"texts": ["x"]}).status_code == 403
    let_in = client.get("/run/trains?token=right&a=b", follow_redirects=False)
    # The token leaves the address, and no script and no other site gets the cookie.
    assert let_in.headers["location"] == "/run/trains?a=b"
    assert {"HttpOnly", "SameSite=strict"} <= set(let_in.headers["set-cookie"].split("; "))
    away = client_of(runs, logged_in=False).get(
        "http://127.0.0.1:8008//elsewhere.org/?token=right", follow_redirects=False
    )
    assert away.headers["location"].startswith("/elsewhere")


def test_two_servers_of_one_machine_keep_their_cookies(runs):
    clients = [
        TestClient(build_app([runs], token), base_url="http://127.0.0.1:8008")
        for token in ("first", "second")
    ]
    sent = {}  # A browser keeps one of each name for a machine, whatever the port.
    for client, token in zip(clients, ("first", "second")):
        client.get(f"/?token={token}")
        sent |= dict(client.cookies)
    both = {"Cookie": "; ".join(f"{name}={value}" for name, value in sent.items())}
    assert [client.get("/", headers=both).status_code for client in clients] == [200, 200]


def test_pages_of_other_sites_are_not_let_in(runs):
    client = client_of(runs)
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
    sent = client.post(
        "/try/bert_cls/one", json={"texts": ["x"]}, headers={"Origin": "http://evil.example"}
    )
    assert sent.status_code == 403
    named = client_of(runs, hosts=["runs.example"])
    assert named.get("/", headers={"Host": "runs.example"}).status_code == 200


def test_only_runs_that_were_found_are_read(runs, tmp_path):
    folder = tmp_path / "runs"
    inside = make_run(folder / "inside", rows=40, steps=40)
    outside = make_run(tmp_path / "outside", rows=40, steps=40)
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret", encoding="utf-8")
    (folder / "link").symlink_to(outside.path)
    for link in (inside.report, inside.path / "report.md"):
        link.symlink_to(secret)
    client = client_of(folder)
    assert "link" not in client.get("/list").text
    for name in ("../outside", "..%2foutside", "inside/../../outside", "link", str(outside.path)):
        for kind in ("run", "live", "report"):
            assert client.get(f"/{kind}/{name}").status_code in (403, 404)
    assert "a secret" not in client.get("/report/inside").text
    assert not [path for path in outside.path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "name",
    ["recipe", "environment", "metrics_log", "metrics", "predictions", "samples", "explanations"],
)
def test_a_run_whose_files_are_links_elsewhere_shows_nothing_of_them(tmp_path, name):
    folder = tmp_path / "runs"
    run = make_run(folder / "links", rows=40, steps=40)
    elsewhere = make_run(tmp_path / "elsewhere", rows=40, steps=40, text="a secret", noise=7)
    secret = getattr(elsewhere, name)
    if not secret.exists():
        row = {"step": 1, "prompt": "a secret", "text": "a secret"}
        secret.write_text(json.dumps(row) + "\n", encoding="utf-8")
    file = getattr(run, name)
    file.unlink(missing_ok=True)
    file.symlink_to(secret)
    make_run(folder / "good", rows=40, steps=40)
    client = client_of(folder)
    page = client.get("/").text
    assert "state damaged" in page and "state finished" in page
    assert f"{file.name} is a link that leads outside" in client.get("/run/links").text
    answers = [
        client.get("/run/links"),
        client.get("/report/links"),
        client.get("/compare?run=good&run=links"),
        client.post("/open/links"),
        client.post("/try/links", json={"texts": ["x"]}),
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 403, 403, 403]
    assert not [answer for answer in answers if "a secret" in answer.text]


def test_no_file_of_a_run_stops_the_list_of_the_others(tmp_path):
    folder = tmp_path / "runs"
    make_run(folder / "good", rows=40, steps=40)
    written = {
        "parts": ("metrics", b'{"test": [1], "validation": 3}'),
        "text": ("metrics", b'{"test": {"accuracy": "<b>", "loss": {}}}'),
        "huge": ("metrics", b'{"test": {"accuracy": 1' + b"0" * 400 + b"}}"),
        "deep": ("metrics", b"[" * 100_000),
        "started": ("environment", b'{"started": {"a": 1}, "data": {"test": 3}}'),
        "step": ("metrics_log", b'{"step": 1' + b"0" * 400 + b', "tokens_per_second": "x"}\n'),
        "rate": ("metrics_log", b'{"step": 1, "tokens_per_second": "x", "loss": [1]}\n'),
        "line": ("metrics_log", b"[" * 2_000_000),
    }
    for name, (file, content) in written.items():
        run = make_run(folder / name, rows=40, steps=40)
        getattr(run, file).write_bytes(content)
        if file == "metrics_log":
            run.metrics.unlink()
    for name in ("pipe", "folder"):
        run = make_run(folder / name, rows=40, steps=40)
        for file in (run.metrics_log, run.environment, run.metrics, run.predictions):
            file.unlink()
            os.mkfifo(file) if name == "pipe" else file.mkdir()
    client = client_of(folder)
    page = client.get("/").text
    assert page.count('class="state') == len(written) + 3 and "state finished" in page
    for name in (*written, "pipe", "folder"):
        assert client.get(f"/run/{name}").status_code == 200
        for path in (f"/report/{name}", f"/compare?run=good&run={name}"):
            answer = client.get(path)
            assert (
                answer.status_code in (200, 400)
                and "see the terminal for details" not in answer.text
            )


def test_a_run_that_calls_itself_a_folder_of_seeds_leads_nowhere(runs, tmp_path):
    folder = tmp_path / "runs"
    inside = make_run(folder / "inside", rows=40, steps=40)
    make_run(folder / "other", rows=40, steps=40)
    make_run(tmp_path / "outside", rows=40, steps=40)
    (inside.path / "seed-0").symlink_to(tmp_path / "outside")
    for seeds in (["seed-0"], ["../../outside"], [".."], list(range(10_000))):
        (inside.path / "seeds.json").write_text(json.dumps({"runs": seeds}), encoding="utf-8")
        page = client_of(folder).get("/compare?run=other&run=inside")
        assert page.status_code == 200 and "outside" not in page.text


def test_pages_that_are_made_at_the_same_time_read_each_row_once(runs):
    with open(runs / "trains" / "metrics.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"step": step, "loss": 0.5}) + "\n" for step in range(20_000))
    found = RunList([runs])
    run = found.get("trains")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: found.log_of(run), range(16)))
    steps = [row["step"] for row in found.log_of(run).rows]
    assert steps == sorted(set(steps))


def test_what_stands_in_a_run_is_shown_and_never_acts(tmp_path):
    folder = tmp_path / "runs"
    name = "<img src=x onerror=alert(1)>"
    run = make_run(folder / name, rows=40, steps=40, names=(HOSTILE, "b"), text=HOSTILE)
    run.report.write_text("<script>alert(1)</script>", encoding="utf-8")
    with open(run.metrics_log, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 50, "loss": 0.1, HOSTILE: 0.5}) + "\n")
    client = client_of(folder)
    (found,) = RunList([folder]).look()
    assert found.id == name
    from urllib.parse import quote

    for path in ("/", f"/run/{quote(name)}", f"/live/{quote(name)}"):
        page = client.get(path)
        assert page.status_code == 200
        assert "<img" not in page.text and "<script>alert" not in page.text
        assert "\x1b" not in page.text and "\u202e" not in page.text
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    # A file of a run may be anybody's: its scripts are not run.
    report = client.get(f"/report/{quote(name)}")
    assert report.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_a_damaged_run_is_told_and_the_others_are_shown(tmp_path):
    folder = tmp_path / "runs"
    make_run(folder / "good", rows=40, steps=40)
    bad = make_run(folder / "bad", rows=40, steps=40)
    bad.metrics.write_text("[1, 2", encoding="utf-8")
    worse = make_run(folder / "worse", rows=40, steps=40)
    worse.recipe.write_text("task: [", encoding="utf-8")
    client = client_of(folder)
    page = client.get("/").text
    assert page.count("state damaged") == 2 and page.count("state finished") == 1
    for name in ("bad", "worse"):
        assert "state damaged" in client.get(f"/run/{name}").text
        assert client.get(f"/report/{name}").status_code in (200, 400)


def test_behind_a_prefix_all_addresses_have_it(runs):
    client = client_of(runs, prefix="/proxy/8008")
    # As a proxy gives it that keeps it, and one that does not.
    for path in ("/proxy/8008/", "/"):
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        page = client.get(path, headers={"Cookie": cookie}).text
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
        assert links and all(link.startswith("/proxy/8008/") for link in links)
    assert client.get("/proxy/8008/run/trains").status_code == 200


def test_two_folders_and_a_run_itself(runs):
    client = client_of(runs, runs / "bert_cls" / "one")
    page = client.get("/").text
    assert 'href="/run/runs/bert_cls/one"' in page and 'href="/run/one"' in page
    assert 'href="/run/one"' in client_of(runs / "bert_cls" / "one").get("/").text


def test_folders_of_one_name_and_names_that_are_no_text(tmp_path):
    for folder in ("here/runs", "there/runs"):
        make_run(tmp_path / folder / "one", rows=40, steps=40)
    odd = os.fsdecode(os.fsencode(tmp_path / "here" / "runs") + b"/\xff\xfe?&#")
    make_run(tmp_path / "plain", rows=40, steps=40).path.rename(odd)
    client = client_of(tmp_path / "here" / "runs", tmp_path / "there" / "runs")
    page = client.get("/").text
    links = re.findall(r'href="(/run/[^"]+)"', page)
    assert len(links) == 3 and {"/run/here/runs/one", "/run/there/runs/one"} <= {*links}
    for link in links:
        assert client.get(link).status_code == 200
        # pyarrow reads no file in a folder of such a name.
        assert client.get(link.replace("/run/", "/report/")).status_code in (200, 400)


def test_bad_requests_get_one_message(runs):
    client = client_of(runs)
    too_long = json.dumps({"texts": ["x" * 100_000]}).encode()
    for body in (too_long, b"", b"[", b"[]", b'{"texts": "x"}', b'{"texts": [1]}', b"[" * 50_000):
        answer = client.post("/try/bert_cls/one", content=body)
        assert answer.status_code == 400 and answer.json()["error"].startswith("Send texts")
    assert client.post("/try/bert_cls/one", json={"texts": [" "]}).status_code == 400
    assert client.post("/try/bert_cls/none", json={"texts": ["x"]}).status_code == 404
    assert client.get("/nothing").status_code == 404


def test_nothing_is_written_to_a_run(runs):
    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in (runs / "bert_cls").rglob("*")
        }

    before, client = state(), client_of(runs)
    for path in ("/", "/run/bert_cls/one", "/report/bert_cls/one", "/report/bert_cls/two"):
        client.get(path)
    client.get("/compare?run=bert_cls/one&run=bert_cls/two")
    assert state() == before


def test_pages_are_drawn_in_a_process_of_their_own_with_bounded_memory(runs, tmp_path):
    def apart(kind, *paths, **options):
        return asyncio.run(drawn_apart.drawn_apart(kind, paths, **options))

    one, two = runs / "bert_cls" / "one", runs / "bert_cls" / "two"
    assert "Where it fails" in apart("report", one)
    assert "accuracy" in apart("compare", one, two).lower()
    with pytest.raises(KerasllmError, match="did not finish"):
        apart("compare", one, runs / "stopped")
    # A file of some kilobytes that has gigabytes of texts.
    bomb = make_run(tmp_path / "bomb", rows=40, steps=40)
    table = pq.read_table(bomb.predictions)
    long = pa.array(["x" * 1_000_000])
    count = 100_000
    repeated = pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), long)
    columns = {name: table[name].take(np.zeros(count, np.int64)) for name in table.column_names}
    columns["file"] = repeated
    schema = pa.schema([(name, values.type) for name, values in columns.items()])
    metadata = {b"kerasllm": table.schema.metadata[b"kerasllm"]}
    written = pa.table(columns, schema=schema.with_metadata(metadata))
    pq.write_table(written, bomb.predictions, store_schema=False, compression="zstd")
    assert bomb.predictions.stat().st_size < 2_000_000
    with pytest.raises(KerasllmError, match="too much memory, or is damaged|not what kerasllm"):
        apart("report", bomb.path, most_memory=800_000_000)


def test_an_answer_shows_each_explanation_and_for_what_it_speaks(runs, monkeypatch):
    words = [["Ada", 0.5], ["<b>", -1.0]]
    explained = [{"target": name, "method": "occlusion", "words": words} for name in ("one", "<i>")]
    answers = [
        {"outputs": {"label": "x"}, "explained": explained, "more": True},
        {"outputs": {"label": "x"}, "explained": [{**explained[0], "words": []}]},
        {"outputs": {"label": "x"}, "explained": [], "unexplained": "there is no span"},
        {"outputs": {"text": "x"}},
    ]

    async def ask(self, path, texts):
        return answers.pop(0)

    monkeypatch.setattr("kerasllm.watch.trials.Trials.ask", ask)
    client = client_of(runs)
    shown = [client.post("/try/bert_cls/one", json={"texts": ["x"]}) for _ in range(4)]
    assert [answer.status_code for answer in shown] == [200] * 4
    assert shown[0].text.count('class="for"') == 2 and "&lt;i&gt;" in shown[0].text
    assert "--share:0.500" in shown[0].text and "The others are explained by" in shown[0].text
    assert "there is no span" in shown[2].text and "speaks for" not in shown[3].text


def test_two_hundred_runs_open_in_a_second(runs, tmp_path):
    for number in range(200):
        shutil.copytree(runs / "bert_cls" / "one", tmp_path / "runs" / f"run{number}")
    client = client_of(tmp_path / "runs")
    started = time.process_time()
    page = client.get("/").text
    assert page.count("state finished") == 200
    assert time.process_time() - started < 1
