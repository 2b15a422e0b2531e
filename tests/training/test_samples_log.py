"""Samples as a file: written as they come, and again from where a training resumes."""

import json

from kerasllm.training.samples_log import SamplesLog


def test_samples_are_lines_and_those_after_a_resume_are_written_again(tmp_path):
    path = tmp_path / "samples.jsonl"
    log = SamplesLog(path)
    assert not path.exists()
    log.samples(10, [("It was", " a \u2028dark\nnight"), ("She", " said")])
    log.samples(20, [("It was", " night")])
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"step": 30, "prom')  # The process was killed here.
    again = SamplesLog(path, done=15)
    again.samples(20, [("It was", " late")])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert [(row["step"], row["text"]) for row in rows] == [
        (10, " a \u2028dark\nnight"),
        (10, " said"),
        (20, " late"),
    ]


def test_without_a_file_nothing_is_written():
    SamplesLog().samples(1, [("a", "b")])
