"""The first signal asks, the second one ends, and afterwards all is as before."""

import signal
import subprocess
import sys

import pytest

from kerasllm.workflows.signals import Signalled, asked_to_stop, signals_raised

ALL = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def not_ignored():
    """Where the tests run under `nohup`, SIGHUP is ignored from the start."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.parametrize("number", ALL)
def test_the_first_signal_is_told_and_ends_nothing(number):
    before, told = signal.getsignal(number), []
    with asked_to_stop(told.append) as caught:
        signal.raise_signal(number)
    assert told == [number] and caught.signal is number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts(request):
    # Where the tests run in the background of a shell, Ctrl-C is ignored from the start.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    with pytest.raises(KeyboardInterrupt), asked_to_stop(lambda _: None):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_ends_the_process():
    code = (
        "import signal\n"
        "from kerasllm.workflows.signals import asked_to_stop\n"
        "with asked_to_stop(lambda _: print('asked', flush=True)):\n"
        "    [signal.raise_signal(signal.SIGTERM) for _ in range(2)]\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "asked\n" and ended.returncode == -signal.SIGTERM


@pytest.mark.parametrize("block", [lambda: asked_to_stop(lambda _: None), signals_raised])
def test_under_nohup_a_hangup_stays_ignored(block):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with block():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_raised_where_the_block_is(number):
    before = signal.getsignal(number)
    with pytest.raises(Signalled, match=number.name) as raised, signals_raised():
        signal.raise_signal(number)
    assert raised.value.signal == number and signal.getsignal(number) is before
