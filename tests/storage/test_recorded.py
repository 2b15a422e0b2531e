"""What a run records of data elsewhere: its address, and no credentials."""

import os
from pathlib import Path

from kerasllm.cli.main import main
from tests.conftest import toy_settings
from tests.storage.servers import KEY, SECRET
from tests.toy import toy_rows, write_csv


def command(*arguments):
    """Runs a command in this process, and returns its exit status."""
    try:
        main(list(arguments))
    except SystemExit as ended:
        return ended.code


def held(folder: Path) -> list[Path]:
    """The files below a folder that hold a credential, in their names or their bytes."""
    secrets = [KEY.encode(), SECRET.encode(), b"SIGNED"]
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            content = path.read_bytes() + str(path).encode()
            if any(secret in content for secret in secrets):
                found.append(path)
    return found


def test_a_run_on_data_elsewhere_records_no_credentials(
    s3, web, toy_preset, tmp_path, monkeypatch, capfd
):
    import sys

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, count, seed in (("train", 120, 0), ("test", 40, 1)):
        write_csv(tmp_path / f"{name}.csv", toy_rows(count, seed=seed))
    content = (tmp_path / "train.csv").read_bytes()
    s3.put("bucket", "in/train.csv", content)
    signed = web.serve("/test.csv", (tmp_path / "test.csv").read_bytes())
    signed += "?X-Amz-Credential=SIGNED&X-Amz-Signature=SIGNED"
    settings = [
        setting
        for setting in toy_settings(tmp_path, toy_preset)
        if not setting.startswith(("data.train", "data.test", "training.epochs"))
    ]
    arguments = [
        "finetune", "--recipe", "bert_cls", "--train", f"s3://{KEY}:{SECRET}@bucket/in/",
        "--test", signed, "--output", str(tmp_path / "run"), "--set", "training.epochs=1",
        *(part for setting in settings for part in ("--set", setting)),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["kerasllm", *arguments])
    assert command(*arguments) == 0
    shown = "".join(capfd.readouterr())
    assert KEY not in shown and SECRET not in shown and "SIGNED" not in shown
    assert held(tmp_path / "run") == held(tmp_path / "cache") == []
    recipe = (tmp_path / "run/recipe.yaml").read_text()
    assert "s3://bucket/in/" in recipe and f"{web.url}/test.csv" in recipe
    assert "s3://bucket/in/" in (tmp_path / "run/environment.json").read_text()

    # The run alone does not give access; what is wrong is told without credentials either.
    status = command("evaluate", str(tmp_path / "run"), "--data", f"{signed}&token=SIGNED")
    assert status == 0
    error = f"s3://{KEY}:{SECRET}@bucket/none.csv"
    assert command("--debug", "evaluate", str(tmp_path / "run"), "--data", error) == 2
    shown = "".join(capfd.readouterr())
    assert "s3://bucket/none.csv" in shown and "Traceback" in shown
    assert KEY not in shown and SECRET not in shown and "SIGNED" not in shown
