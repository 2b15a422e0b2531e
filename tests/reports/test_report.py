"""The report of a run: what it shows, what it lacks and why, and that nothing in it acts."""

import json
import re
from html.parser import HTMLParser

import pytest

from kerasllm.errors import RunError
from kerasllm.evaluation.resampling import RESAMPLES
from kerasllm.reports.run_facts import facts_for_report
from kerasllm.run import Run, read_json, write_json
from kerasllm.workflows.compare_runs import list_runs
from kerasllm.workflows.report_run import report_run
from tests.reports.made_run import make_run

SCRIPT = '"><script>alert(1)</script>'
EVIL = f"<img src=x onerror=alert(1)> {SCRIPT} \x1b[31mred\x1b[0m \u202egnp.exe\u2066 {{{{7*7}}}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "good")


@pytest.fixture(scope="module")
def page(run) -> str:
    path, _ = report_run(run.path)
    assert path == run.report
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would see: tags, attributes and texts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_shows_metrics_failures_classes_mistakes_curves_data_and_commands(page):
    read = Page(page)
    text = " ".join(" ".join(read.texts).split())
    for shown in (
        "accuracy on the test data, 95% interval",
        f"{RESAMPLES:,} resamples of 600 rows, seed 0",
        "95 to 128 tokens",
        "web",
        "neutral",
        "Expected calibration error",
        "predicted",
        "test.csv:",
        "gradient norm",
        "tokens per second",
        "8,000 rows",
        "ffffffffffff",
        "kerasllm finetune --recipe bert_cls",
        "keras 3.15.1",
    ):
        assert shown in text, shown
    assert read.open == []
    assert read.tags.count("svg") >= 6


def test_the_page_opens_offline_and_runs_nothing(page):
    read = Page(page)
    assert "script" not in read.tags
    loaded = [value for name, value in read.attributes if name in ("src", "href", "action")]
    assert all(value.startswith("#") for value in loaded)
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_intervals_hold_the_metric_and_only_of_those_that_are_measured_again(run):
    facts = facts_for_report(run.path)
    intervals, test = facts["intervals"]["metrics"], run.read_metrics()["test"]
    assert {"accuracy", "macro_f1", "mcc", "loss"} <= intervals.keys()
    assert "ece" not in intervals
    for name, (low, high) in intervals.items():
        assert low < test[name] < high


def test_a_metric_of_the_same_name_that_is_another_has_no_interval(tmp_path):
    run = make_run(tmp_path / "run")
    metrics = run.read_metrics()
    metrics["test"]["loss"] *= 2
    write_json(run.metrics, metrics)
    assert "loss" not in facts_for_report(run.path)["intervals"]["metrics"]


def test_slices_are_the_groups_that_are_worse(run):
    found = facts_for_report(run.path)["slices"]
    assert {(one["column"], one["value"]) for one in found["slices"]} == {
        ("source", "web"),
        ("length", "95 to 128 tokens"),
    }
    for one in found["slices"]:
        assert one["rest"] < one["low"] < one["error"] < one["high"]
        assert one["p"] < 0.05


def test_without_a_worse_group_none_is_named(tmp_path):
    run = make_run(tmp_path / "run", skill=0.0, rows=400)
    assert facts_for_report(run.path)["slices"]["slices"] == []
    assert "No group of rows is significantly worse" in report_run(run.path)[0].read_text()


def test_mistakes_are_the_most_confident_ones_and_take_explanations(tmp_path):
    run = make_run(tmp_path / "run")
    first = facts_for_report(run.path)["mistakes"][0]
    words = [["A film that is ", 0.1], ["<b>dull</b>", -0.9]]
    outputs = [{"target": target, "words": words} for target in ("<i>one</i>", "other")]
    write_json(run.explanations, {f"{first['file']}:{first['line']}": outputs})
    mistakes = facts_for_report(run.path)["mistakes"]
    assert mistakes[0]["explained"] == outputs
    assert [one["confidence"] for one in mistakes] == sorted(
        (one["confidence"] for one in mistakes), reverse=True
    )
    assert all(one["expected"] != one["predicted"] for one in mistakes)
    assert "&lt;b&gt;dull&lt;/b&gt;" in report_run(run.path)[0].read_text()


def test_nothing_of_texts_labels_columns_and_names_acts_on_the_page(tmp_path):
    name = "run <script>alert(2)</script>".replace("/", "-")
    names = (f"good {EVIL}", "bad", "'or\"")
    run = make_run(tmp_path / name, names=names, text=EVIL, column=EVIL, values=(EVIL, "print"))
    environment = run.read_environment()
    environment["command"] = f"kerasllm {EVIL}"
    environment["contents"]["test"] = EVIL
    write_json(run.environment, environment)
    metrics = run.read_metrics()
    write_json(run.metrics, metrics)
    run.samples.write_text(json.dumps({"step": 3, "prompt": EVIL, "text": EVIL}) + "\n")
    with open(run.metrics_log, "a", encoding="utf-8") as log:
        log.write(json.dumps({"step": 401, EVIL: 0.5}) + "\n")
        log.write(json.dumps({"step": 402, EVIL: 0.4}) + "\n")
    text = report_run(run.path)[0].read_text(encoding="utf-8")
    read = Page(text)
    assert not {"script", "img"} & {*read.tags}
    assert not any(name.startswith("on") for name, _ in read.attributes)
    assert text.count("&lt;script&gt;") > 20
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "\\x1b[31mred" in text and "\\u202e" in text
    assert "{{7*7}}" in text.replace("&#123;", "{")


def test_a_run_without_rows_says_why(tmp_path):
    run = make_run(tmp_path / "run")
    run.predictions.unlink()
    facts = facts_for_report(run.path)
    assert facts["slices"] is facts["mistakes"] is facts["intervals"] is None
    assert "predictions.parquet" in facts["empty"]["slices"]
    assert "predictions.parquet" in report_run(run.path)[0].read_text()


def test_a_run_without_test_data_says_why(tmp_path):
    run = make_run(tmp_path / "run")
    run.predictions.unlink()
    write_json(run.metrics, {**run.read_metrics(), "test": {}})
    page = report_run(run.path)[0].read_text()
    assert "the run has no test data" in page
    assert "on the validation data" in page


def test_an_unfinished_run_shows_its_curves_and_says_so(tmp_path):
    run = make_run(tmp_path / "run")
    run.metrics.unlink()
    page = report_run(run.path)[0].read_text()
    assert "This training did not finish" in page
    assert "gradient norm" in page
    assert f"kerasllm finetune --resume --output {run.path}" in page


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="There is no run directory"):
        report_run(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a run"):
        report_run(tmp_path / "empty")


def test_a_damaged_log_is_named_by_its_line(tmp_path):
    run = make_run(tmp_path / "run")
    lines = run.metrics_log.read_text().splitlines()
    lines[3] = "nonsense"
    run.metrics_log.write_text("\n".join(lines))
    with pytest.raises(RunError) as refused:
        report_run(run.path)
    assert refused.value.where.endswith("metrics.jsonl:4")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("metrics", ("test",), [1]),
        ("metrics", ("test", "per_class"), 3),
        ("metrics", ("test", "confusion_matrix"), [[1], [2, 3], []]),
        ("metrics", ("test", "reliability"), [{}]),
        ("metrics", ("test", "loss"), 10**400),
        ("metrics", ("timing",), {"steps": "x"}),
        ("environment", ("balance",), {"train": None}),
        ("environment", ("tokens",), "x"),
        ("environment", ("data",), {"train": 5}),
    ],
)
def test_a_value_of_another_type_is_told_as_a_damaged_file(tmp_path, file, key, value):
    made = make_run(tmp_path / "run", rows=40, steps=40)
    whole = read_json(getattr(made, file))
    within = whole
    for name in key[:-1]:
        within = within[name]
    within[key[-1]] = value
    getattr(made, file).write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(RunError) as refused:
        report_run(made.path)
    assert str(made.path) in refused.value.where and "--debug" in refused.value.fix
    assert list_runs([tmp_path])[0]["path"] == str(made.path)


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    made = make_run(tmp_path / "run", rows=40, steps=40)
    monkeypatch.setattr("kerasllm.evaluation.outcomes._MOST_ROWS", 30)
    with pytest.raises(RunError, match="it has 40 rows"):
        report_run(made.path)
    with open(made.metrics, "r+b") as file:
        file.truncate(200_000_000)
    with pytest.raises(RunError, match="it has 200,000,000 bytes"):
        report_run(made.path)


def test_of_samples_without_end_the_last_ones_are_shown(tmp_path):
    made = make_run(tmp_path / "run", rows=40, steps=40)
    with open(made.samples, "wb") as file:
        file.truncate(200_000_000)
        file.seek(0, 2)
        file.write(b'\n{"step": 9, "prompt": "Once", "text": "upon a time"}\n')
    [sample] = facts_for_report(made.path)["samples"]
    assert sample == {"step": 9, "prompt": "Once", "text": "upon a time"}


def test_the_same_run_gives_the_same_report(run):
    assert facts_for_report(run.path) == facts_for_report(run.path)
    assert json.loads(json.dumps(facts_for_report(run.path))) == facts_for_report(run.path)
    assert read_json(run.environment)["seed"] == 0


def test_the_report_of_many_rows_takes_seconds_and_little_memory():
    from benchmarks.report import LIMIT_BYTES, measure

    found = measure(20_000)
    # Of 100,000 rows 20 s and 1 GB; the tests share their cores.
    assert found["processor_seconds"] < 4
    assert found["peak_bytes"] < LIMIT_BYTES / 2


@pytest.mark.slow
def test_the_report_of_100_000_rows_keeps_its_limits():
    from benchmarks.report import LIMIT_BYTES, LIMIT_SECONDS, measure

    found = measure(100_000)
    assert found["seconds"] < LIMIT_SECONDS
    assert found["peak_bytes"] < LIMIT_BYTES
