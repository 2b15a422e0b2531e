"""The commands of the README and of the pages that it begins with do what they say, as written."""

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest

from kerasllm.cli.main import main
from tests.conftest import toy_settings
from tests.tasks.toys.question_answering import always_answered
from tests.tasks.toys.seq2seq import new_model
from tests.toy import toy_rows, write_csv
from tests.toy_language_model import book_settings, chat_settings, write_chats

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# In the order of a user's day: a page uses what the page before it left.
PAGES = ("README.md", "docs/tutorial.md", "docs/tasks.md", "docs/resuming.md")


def commands_of(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = commands_of("README.md")
# What two pages show is done once.
VERBS = list(
    dict.fromkeys(
        command
        for page in PAGES
        for command in commands_of(page)
        if command.startswith("kerasllm ")
    )
)


def test_it_opens_with_the_two_commands():
    assert COMMANDS[0] == "pip install . && kerasllm finetune --recipe bert_cls"
    assert COMMANDS[1] == 'pip install -e ".[test]" && python -m pytest'
    assert len(VERBS) >= 30


def test_ci_runs_the_readmes_test_command():
    pattern = re.search(r're\.search\(r"(.*?)", readme', (ROOT / ".ci" / "run").read_text())[1]
    assert re.search(pattern, README, re.MULTILINE)[1] == COMMANDS[1]


def test_the_commands_of_a_users_day_run(
    tmp_path, toy_preset, toy_language_model, session_cache, monkeypatch, capsys
):
    """All of them, in order, on toy data: only what makes the training short is added."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))
    for command in filter(lambda command: "data convert" in command, VERBS):
        _run(command, shlex.split(command)[1:], capsys)
        assert len((tmp_path / "reviews.csv").read_text().splitlines()) > 8000
    write_csv(tmp_path / "reviews.csv", toy_rows(120))
    write_csv(tmp_path / "test.csv", toy_rows(30, seed=1))
    (tmp_path / "texts.txt").write_text("a good film\na dull film\n", encoding="utf-8")
    short = {
        key: value
        for key, _, value in (
            setting.partition("=") for setting in toy_settings(tmp_path, toy_preset)
        )
        if key not in ("data.train", "data.test")
    }
    write_csv(tmp_path / "new.csv", toy_rows(60, seed=2))
    # Fewer than a page trains it further for.
    short["training.epochs"] = "4"
    # The models of other runs need not be good.
    quick = {**short, "training.max_steps": "4", "training.xla": "false"}
    tagged = [
        "".join(f"{word}\t{'B-thing' if word == 'film' else 'O'}\n" for word in text.split())
        for text, _ in toy_rows(60, seed=3)
    ]
    (tmp_path / "train.conll").write_text("\n".join(tagged), encoding="utf-8")
    questions = dict(always_answered(tmp_path, toy_preset).settings)
    # Writes train.en and train.de.
    translations = dict(new_model(tmp_path, None).settings)
    (tmp_path / "my_texts").mkdir()
    text_settings = dict(part.split("=", 1) for part in book_settings(tmp_path / "my_texts"))
    chats = chat_settings(tmp_path, toy_language_model / "model")
    chat = dict(part.split("=", 1) for part in chats)
    write_chats(tmp_path / "test_chats.jsonl", 6)
    for settings in (text_settings, chat, questions, translations):
        del settings["data.train"]
        settings.pop("data.test", None)
    masked = {"model.preset": str(toy_preset), "data.max_length": 32, "training.max_steps": 4}
    for command in filter(lambda command: "data convert" not in command, VERBS):
        arguments = shlex.split(command)[1:]
        own = {"gpt_lm": text_settings, "gpt_sft_lora": chat, "qa": questions, "mlm": masked}
        own["translate"] = translations
        if chosen := next((own[name] for name in own if name in arguments), None):
            arguments += [
                part for key, value in chosen.items() for part in ("--set", f"{key}={value}")
            ]
        elif "finetune" in arguments or "plan" in arguments:
            arguments += [
                part
                for key, value in (short if "--output my_run" in command else quick).items()
                if f"{key}=" not in command
                for part in ("--set", f"{key}={value}")
            ]
            if "--train" not in arguments:
                arguments += ["--train", "reviews.csv"]
        if "--resume" in arguments and "training.epochs=" not in command:
            # As a run that was killed before its end.
            (tmp_path / "my_run" / "metrics.json").unlink()
            shutil.rmtree(tmp_path / "my_run" / "model")
        if arguments[0] in ("launch", "plan"):
            # They choose the devices of their processes.
            ended = subprocess.run(
                [sys.executable, "-m", "kerasllm", *arguments], capture_output=True, text=True
            )
            assert ended.returncode == 0, (command, ended.stderr)
            continue
        if arguments[0] == "serve":
            _serve_once([*arguments[:-1], "0"])
            continue
        # Who chats says nothing, and ends.
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        _run(command, arguments, capsys)
    assert (tmp_path / "my_run" / "metrics.json").is_file()
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 3
    assert "positive\t" in capsys.readouterr().out
    for page in ("docs/run_directory.md", "docs/coding_agents.md"):
        [code] = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
        exec(code, {})
    assert capsys.readouterr().out.splitlines()[-1] in ("positive", "negative")


def _run(command: str, arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0, (command, capsys.readouterr().err)


def _serve_once(arguments: list[str]) -> None:
    """Starts a server, asks whether it is ready, and ends it as Ctrl-C does."""
    command = [sys.executable, "-m", "kerasllm", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = next(
                found[0] for line in server.stdout if (found := re.search(r"http://[\d.:]+", line))
            )
            with urllib.request.urlopen(f"{address}/ready") as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


def test_a_wheel_has_all_that_the_checkout_has(tmp_path):
    """Built by pip, unpacked beside nothing of the checkout, with the packages installed here."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", "*.egg-info", "build", "runs", ".venv", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "kerasllm", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout

    assert "bert_cls" in run("recipes", "list")
    assert "starter:movie_reviews" in run("recipes", "show", "bert_cls")
    assert "minilm_l6_en_uncased" in run("presets", "list")
    modules = {file.relative_to(ROOT) for file in (ROOT / "kerasllm").rglob("*.py")}
    assert {module for module in modules if not (target / module).is_file()} == set()
    recipes = {file.name for file in (ROOT / "recipes").iterdir()}
    assert {file.name for file in (target / "kerasllm" / "recipes").iterdir()} == recipes
    assert {file.name.partition("-")[0] for file in target.iterdir()} == {"kerasllm", "bin"}
    assert (target / "kerasllm" / "py.typed").is_file()
    starter = target / "kerasllm" / "data" / "starter"
    bundled = {file.name for file in (ROOT / "kerasllm" / "data" / "starter").iterdir()}
    assert {"NOTICE.md", "moby_dick.txt", "chat_train.jsonl"} <= bundled
    assert {file.name for file in starter.iterdir()} == bundled
    pages = Path("kerasllm", "reports", "templates")
    for page in (ROOT / pages).iterdir():
        assert (target / pages / page.name).is_file(), page.name
    assert list(target.glob("*.dist-info/licenses/LICENSE"))


@pytest.mark.slow
def test_the_first_command_in_an_empty_environment(tmp_path):
    """Real: pip installs everything, the preset is fetched, the default run is trained."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", "*.egg-info", "build", "runs")
    )
    venv.create(tmp_path / "venv", with_pip=True)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "KERASLLM_CACHE": str(tmp_path / "cache"),
        "PYTHONPYCACHEPREFIX": str(tmp_path / "pycache"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    result = subprocess.run(
        ["bash", "-c", COMMANDS[0]], cwd=source, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "kerasllm predict" in result.stderr
    (metrics,) = source.glob("runs/bert_cls/*/metrics.json")
    import json

    assert json.loads(metrics.read_text())["test"]["accuracy"] > 0.84
