"""`kerasllm`: quick help, one exit status for each kind of end, errors as a block."""

import errno
import subprocess
import sys

import pytest

from kerasllm.cli import main as command_line
from kerasllm.errors import CommandError, JobError


@pytest.mark.parametrize("arguments", [["--help"], ["recipes", "list"], ["--version"]])
def test_what_is_asked_first_imports_nothing_slow(arguments):
    code = (
        "import sys\nfrom kerasllm.cli.main import main\n"
        f"try: main({arguments})\nexcept SystemExit as end: assert end.code == 0\n"
        "slow = {'tensorflow', 'keras', 'pyarrow', 'pydantic', 'rich', 'numpy'}\n"
        "slow &= set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["finetun"], "Did you mean 'finetune'?"),
        (["finetune"], "Missing option '--recipe'"),
        (["finetune", "--recipe", "bert_clas"], "did you mean bert_cls?"),
        (["finetune", "--recipe", "bert_cls", "--trian", "x.csv"], "'--train'?"),
        (["finetune", "--recipe", "bert_cls", "--seed", "-1"], "Received: -1"),
        (["finetune", "--recipe", "bert_cls", "--set", "training.epoch=2"], "training.epochs"),
        (["predict", "no_such_run", "a"], "no run directory 'no_such_run'"),
    ],
)
def test_a_command_that_is_refused_ends_with_2_and_says_why(kerasllm, arguments, words):
    result = kerasllm(*arguments)
    assert result.status == 2
    assert words in result.err and not result.out


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("cannot flush (errno = 28, error message = 'No space left on device')"),
    ],
)
def test_a_full_disk_is_a_failed_job_that_is_called_by_its_name(kerasllm, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(command_line.Verbs, "get_command", fail)
    result = kerasllm("finetune")
    assert result.status == JobError.exit_status == 1
    assert "No space left on the disk" in result.err and "do:" in result.err


def test_a_full_disk_is_found_as_the_cause_of_another_error(kerasllm, monkeypatch):
    def fail(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("the file is still open")  # noqa: B904 - as h5py does

    monkeypatch.setattr(command_line.Verbs, "get_command", fail)
    assert "No space left on the disk" in kerasllm("finetune").err


def test_an_interrupt_ends_with_130(kerasllm, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.Verbs, "get_command", interrupt)
    result = kerasllm("finetune")
    assert result.status == 130 and "Interrupted" in result.err


def test_debug_shows_the_traceback_and_changes_nothing_else(monkeypatch, capsys):
    def fail(*_):
        raise CommandError("something")

    monkeypatch.setattr(command_line.Verbs, "get_command", fail)
    shown = []
    for arguments in (["finetune"], ["--debug", "finetune"]):
        with pytest.raises(SystemExit) as ended:
            command_line.main(arguments)
        shown.append(capsys.readouterr().err)
        assert ended.value.code == 2
    plain, debugged = shown
    assert "Traceback" in debugged and "Traceback" not in plain
    assert debugged.endswith(plain)


def test_a_device_whose_memory_ran_out_under_jax_is_told_what_to_lower(kerasllm, monkeypatch):
    class JaxRuntimeError(RuntimeError):
        """Stands for JAX's: importing it takes long."""

    def fail(*_, **__):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80 bytes.")

    monkeypatch.setattr(command_line.cli, "invoke", fail)
    result = kerasllm("doctor")
    assert result.status == 1 and "Error: Memory ran out" in result.err
    assert "training.batch_size" in result.err
