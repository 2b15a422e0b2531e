"""A run whose data and directory lie elsewhere, and that no credentials are recorded."""

import json
import shutil
import sys

from kerasllm.cli.main import main
from tests.conftest import toy_settings
from tests.storage.servers import KEY, SECRET
from tests.toy import toy_rows, write_csv

RUN = f"s3://{KEY}:{SECRET}@bucket/runs/one"
_SECRETS = (KEY, SECRET, "SIGNED")


def metrics_in(shown: str) -> dict:
    return json.loads(next(line for line in shown.splitlines() if line.startswith("{")))


def test_a_run_elsewhere(s3, web, toy_preset, tmp_path, own_cache, monkeypatch, capfd):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["kerasllm", *arguments])
        try:
            main(list(arguments))
        except SystemExit as ended:
            shown = "".join(capfd.readouterr())
            assert not [secret for secret in _SECRETS if secret in shown]
            return ended.code, shown

    def forget():
        """Leaves what another machine would have: nothing."""
        contents = [path.read_bytes() for path in own_cache.rglob("*") if path.is_file()]
        contents += [str(path).encode() for path in own_cache.rglob("*")]
        contents += [
            s3.client.get_object(Bucket="bucket", Key=name)["Body"].read()
            for name in s3.names("bucket", "runs/")
        ]
        for secret in _SECRETS:
            assert not any(secret.encode() in content for content in contents)
        shutil.rmtree(own_cache)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, count, seed in (("train", 120, 0), ("test", 40, 1)):
        write_csv(tmp_path / f"{name}.csv", toy_rows(count, seed=seed))
    s3.put("bucket", "in/train.csv", (tmp_path / "train.csv").read_bytes())
    signed = web.serve("/test.csv", (tmp_path / "test.csv").read_bytes())
    signed += "?X-Amz-Credential=SIGNED&X-Amz-Signature=SIGNED"
    training = [
        "--train",
        f"s3://{KEY}:{SECRET}@bucket/in/",
        "--test",
        signed,
        "--output",
        RUN,
        "--set",
        "training.epochs=1",
    ]
    for setting in toy_settings(tmp_path, toy_preset):
        if not setting.startswith(("data.train", "data.test", "training.epochs")):
            training += ["--set", setting]
    status, shown = command("finetune", "--recipe", "bert_cls", *training)
    assert status == 0, shown
    assert "s3://bucket/runs/one" in shown
    names = {name.removeprefix("runs/one/") for name in s3.names("bucket", "runs/")}
    assert {"recipe.yaml", "environment.json", "metrics.json", "metrics.jsonl"} <= names
    assert any(name.endswith(".committed") for name in names)
    forget()

    error = f"s3://{KEY}:{SECRET}@bucket/none.csv"
    status, shown = command("--debug", "evaluate", RUN, "--data", error)
    assert status == 2 and "Traceback" in shown and "s3://bucket/none.csv" in shown
    status, shown = command("evaluate", RUN, "--data", f"{signed}&token=SIGNED", "--json")
    assert status == 0
    before = metrics_in(shown)
    forget()

    # It is continued where it is, on another machine.
    more = [part if part != "training.epochs=1" else "training.epochs=2" for part in training]
    status, shown = command("finetune", "--recipe", "bert_cls", *more, "--resume")
    assert status == 0 and "resuming after step" in shown, shown
    status, shown = command("evaluate", RUN, "--data", signed, "--json")
    assert metrics_in(shown)["loss"] != before["loss"]
    answers = tmp_path / "answers.jsonl"
    rows = ["--input", f"s3://{KEY}:{SECRET}@bucket/in/train.csv", "--output", str(answers)]
    assert command("predict", RUN, *rows)[0] == 0
    written = answers.read_text()
    assert written.count("\n") == 120 and not any(secret in written for secret in _SECRETS)
    assert command("compress", RUN, "--method", "int8", "--output", RUN)[0] == 2
