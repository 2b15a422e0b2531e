"""With everything on this machine no connection is opened: no telemetry, no check for updates."""

import json
import os

from tests import forked
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv

# Python tells of each look-up of a name and each connection, whichever library makes it.
CODE = """
import json, socket, sys
seen = []

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[0] if event.startswith("socket.get") else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        if not isinstance(address, (str, bytes)) or event.startswith("socket.get"):
            if host not in ("127.0.0.1", "::1", "localhost"):
                seen.append((event, str(host)))
                raise OSError(f"no connection to {host}")

sys.addaudithook(watch)
from kerasllm.cli.main import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert ended.code == 0, (arguments, ended.code)
assert seen == [], seen
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError:
    pass
assert [host for _, host in seen] == ["192.0.2.1"], seen
"""


def test_an_offline_training_and_all_that_follows_opens_none(toy_preset, tmp_path):
    write_csv(tmp_path / "train.csv", toy_rows(120))
    write_csv(tmp_path / "test.csv", toy_rows(20, seed=1))
    settings = [f"--set={one}" for one in toy_settings(tmp_path, toy_preset)]
    commands = [
        ["finetune", "--recipe", "bert_cls", *settings, "--set=training.epochs=1"],
        ["evaluate", "my_run", "--data", "test.csv", "--json"],
        ["predict", "my_run", "a good film"],
        ["report", "my_run"],
        ["runs", "."],
        ["doctor"],
    ]
    commands[0] += ["--output", "my_run"]
    environment = {**os.environ, "KERASLLM_CACHE": str(tmp_path / "cache")}
    done = forked.run("-c", CODE, json.dumps(commands), env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
