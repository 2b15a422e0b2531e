"""The suite of benchmarks, with toy commands in the place of the sides."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import runner
from benchmarks.measure import run_measured
from benchmarks.suite import AtLeast, Case, NotBelow, SuiteOptions, Target, Way

ROOT = Path(__file__).parents[2]
CEILINGS = {"float32": 2e9, "bfloat16": 4e9, "bandwidth": 1e9}


def printing(code: str) -> list[str]:
    """A command that prints what `code`, in which `turn` is the number of the turn, makes."""
    return [sys.executable, "-c", f"import json; turn = {{repeat}}; print(json.dumps({code}))"]


class Toy(Case):
    name = "toy"
    description = "prints numbers"
    uses_peers = False

    def __init__(self, ways, **changes):
        self._ways = ways
        vars(self).update(changes)

    def ways(self, folder, options):
        return self._ways


def job(side="kerasllm", name="one", code="{'seconds': 1 + turn, 'work': {'rows': 3}}"):
    return Way(side, name, printing(code))


@pytest.fixture
def options(tmp_path):
    return SuiteOptions(peers=tmp_path / "peers", inputs=tmp_path)


@pytest.fixture
def said():
    return []


@pytest.fixture
def measured(tmp_path, options, said):
    """Measures a case, and returns what is kept of it."""

    def run(case, repeats=1, ceilings=CEILINGS):
        found = runner.measure(case, tmp_path / "case", options, repeats, said.append)
        assert found.failure is None
        return runner.result(case, found, {"before": ceilings, "after": ceilings}, options)

    return run


def test_the_ways_take_turns(measured, said):
    measured(Toy([job(), job("numpy"), job("torch")]), repeats=2)
    order = [line.split(":")[0] for line in said]
    turn = ["kerasllm one", "numpy one", "torch one"]
    assert order == [f"{number}/2 {side}" for number in (1, 2) for side in turn]


def test_median_and_spread_over_the_turns(measured):
    code = "{'seconds': [3, 10, 4][turn], 'work': {'rows': 3}}"
    (way,) = measured(Toy([job(code=code)]), repeats=3)["ways"]
    assert way["median"] == 4
    assert way["from_to"] == [3, 10]


@pytest.mark.parametrize(("more_is_better", "ratio"), [(True, 0.5), (False, 2)])
def test_a_ratio_above_one_is_ahead(measured, more_is_better, ratio):
    theirs = job("numpy", code="{'seconds': 2, 'work': {'rows': 3}}")
    case = Toy([job(), theirs], more_is_better=more_is_better)
    ours, _ = measured(case)["ways"]
    assert ours["ratio_to_best_of"] == {"numpy": ratio}


def test_the_best_way_of_a_side_counts(measured):
    ways = [
        job(name="slow", code="{'seconds': 8, 'work': {'rows': 3}}"),
        job(name="fast", code="{'seconds': 2, 'work': {'rows': 3}}"),
        job("numpy", "slow", code="{'seconds': 9, 'work': {'rows': 3}}"),
        job("numpy", "fast", code="{'seconds': 3, 'work': {'rows': 3}}"),
    ]
    found = measured(Toy(ways, targets=(Target("seconds", "numpy", 1.5),)))
    assert [way["best_of_side"] for way in found["ways"]] == [False, True, False, True]
    assert found["targets"][0]["value"] == 1.5
    assert found["targets"][0]["reached"] is True
    assert "(fast)" in found["targets"][0]["found"]


def test_different_work_is_refused(tmp_path, options, said):
    other = job("numpy", code="{'seconds': 1, 'work': {'rows': 2}}")
    with pytest.raises(runner.Refused, match="numpy one did other work.*'rows': 2"):
        runner.measure(Toy([job(), other]), tmp_path, options, 1, said.append)


def test_work_that_is_not_told_is_refused(tmp_path, options, said):
    with pytest.raises(runner.Refused, match="does not say"):
        runner.measure(Toy([job(code="{'seconds': 1}")]), tmp_path, options, 1, said.append)


def test_targets(measured):
    ours = "{'seconds': 2, 'padding': .96, 'quality': {'accuracy': .850}, 'work': {'rows': 3}}"
    theirs = "{'seconds': 4, 'quality': {'accuracy': .855}, 'work': {'rows': 3}}"
    targets = (
        Target("seconds", "numpy", 1.5),
        Target("seconds", "numpy", 1.6),
        Target("whole_seconds", "torch", 1),
        NotBelow("accuracy", "numpy", 0.005),
        NotBelow("accuracy", "numpy", 0.004),
        AtLeast("padding", 0.96),
        AtLeast("padding", 0.97),
        AtLeast("share", 0.5),
    )
    # Faster, but it does not tell how good it is.
    blind = job("numpy", "blind", code="{'seconds': 3, 'work': {'rows': 3}}")
    case = Toy([job(code=ours), job("numpy", code=theirs), blind], targets=targets)
    reached = [target["reached"] for target in measured(case)["targets"]]
    assert reached == [True, False, None, True, False, True, False, None]


def test_the_share_of_the_ceiling_is_a_target(measured):
    class Floored(Toy):
        def floor(self, results, ceilings):
            seconds = 4e9 / ceilings["bfloat16"]
            taken = results.best("kerasllm", "seconds", False).median("seconds")
            return {"seconds": seconds, "share": seconds / taken, "how": "4 billion operations"}

    code = "{'seconds': 4, 'work': {'rows': 3}}"
    case = Floored([job(code=code)], targets=(AtLeast("share", 0.5),))
    before, after = CEILINGS, {**CEILINGS, "bfloat16": 2e9}
    found = measured(case, ceilings=before)
    assert found["floor"]["share"] == 0.25
    assert found["targets"][0]["reached"] is False
    # The higher of what was seen before and after is the ceiling.
    assert measured(case, ceilings={**after, "bfloat16": 8e9})["floor"]["seconds"] == 0.5


def test_what_a_target_is_about_is_told_of_every_way(measured):
    ours = "{'seconds': 2, 'seconds_of_8': 12, 'quality': {'loss': 1}, 'work': {'rows': 3}}"
    theirs = "{'seconds': 3, 'quality': {'loss': 1}, 'work': {'rows': 3}}"
    targets = (
        Target("seconds", "numpy", 1),
        Target("seconds_of_8", "numpy", 1),
        Target("whole_seconds", "numpy", 1),
        NotBelow("loss", "numpy", 1),
    )
    found = measured(Toy([job(code=ours), job("numpy", code=theirs)], targets=targets))
    figures = [way["other_figures"] for way in found["ways"]]
    assert figures == [{"seconds_of_8": 12}, {"seconds_of_8": None}]


def test_a_seed_that_differs_from_turn_to_turn_only(measured):
    code = "{'seconds': 1, 'seed': turn, 'work': {'rows': 3}}"
    found = measured(Toy([job(code=code), job("numpy", code=code)]), repeats=2)
    seeds = [(run["side"], run["seed"]) for run in found["runs"]]
    assert seeds == [("kerasllm", 0), ("kerasllm", 1), ("numpy", 0), ("numpy", 1)]


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Runs the command line on toy cases; returns its status."""
    monkeypatch.setattr(command_line, "measure_ceilings", lambda: CEILINGS)
    monkeypatch.setattr(command_line, "RESULTS", tmp_path / "results")

    def run(cases, *arguments):
        named = {}
        for name, case in cases.items():
            case.name = name
            named[name] = case
        monkeypatch.setattr(runner, "find_cases", lambda: named)
        return command_line.main(["run", *arguments])

    return run


def results(tmp_path):
    return {
        path.name.split("-")[0]: json.loads(path.read_text())
        for path in (tmp_path / "results").glob("*.json")
    }


def test_a_process_that_fails_does_not_stop_the_other_benchmarks(suite, tmp_path, capsys):
    code = "import sys; sys.exit('the dog ate it')"
    failing = Toy([Way("kerasllm", "one", [sys.executable, "-c", code])])
    assert suite({"failing": failing, "well": Toy([job()])}, "--repeats", "2") == 1
    shown = capsys.readouterr().err
    assert "failing failed" in shown
    assert "-c import sys" in shown
    assert "the dog ate it" in shown
    assert list(results(tmp_path)) == ["well"]
    assert results(tmp_path)["well"]["complete"] is True


def test_a_process_without_json_fails(suite, capsys):
    silent = Toy([Way("kerasllm", "one", [sys.executable, "-c", "print('hello')"])])
    assert suite({"silent": silent}) == 1
    assert "without a JSON object" in capsys.readouterr().err


def test_refused_work_is_told_and_not_written(suite, tmp_path, capsys):
    other = job("numpy", code="{'seconds': 1, 'work': {'rows': 2}}")
    assert suite({"toy": Toy([job(), other])}) == 1
    assert "toy is refused" in capsys.readouterr().err
    assert results(tmp_path) == {}


def test_quick_is_shown_and_not_written(suite, tmp_path, capsys):
    assert suite({"toy": Toy([job()])}, "--quick") == 0
    assert "Quick" in capsys.readouterr().out
    assert results(tmp_path) == {}


def test_what_is_printed(suite, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    theirs = job("numpy", code="{'seconds': 3, 'work': {'rows': 3}, 'versions': {'numpy': '9.9'}}")
    case = Toy([job(), theirs], targets=(Target("seconds", "numpy", 4),))
    assert suite({"toy": case}, "--repeats", "1") == 0
    shown = capsys.readouterr().out
    assert "toy: prints numbers" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["kerasllm", "numpy"] in rows
    assert ["seconds,", "median", "1.000", "3.000"] in rows
    assert ["times", "numpy", "3.00"] in rows
    assert "not reached, 3.00 times" in shown
    assert "ceilings after: float32 2 GFLOP/s, bfloat16 4 GFLOP/s, memory 1.0 GB/s" in shown
    assert "numpy 9.9" in shown


def test_an_unknown_name_is_refused_with_the_nearest(suite, capsys):
    with pytest.raises(SystemExit) as refused:
        suite({"lora": Toy([job()])}, "lara")
    assert refused.value.code == 2
    assert "did you mean 'lora'?" in capsys.readouterr().err


def test_a_missing_environment_is_told_before_anything_runs(suite, tmp_path, capsys, monkeypatch):
    def run():
        raise AssertionError("nothing may run")

    monkeypatch.setattr(command_line, "measure_ceilings", run)
    with pytest.raises(SystemExit) as refused:
        suite({"toy": Toy([job()], uses_peers=True)}, "--peers", str(tmp_path / "none"))
    assert refused.value.code == 2
    assert f"sh benchmarks/peers/setup.sh {tmp_path / 'none'}" in capsys.readouterr().err


def test_what_was_measured_before_an_interrupt_is_written(suite, tmp_path, monkeypatch):
    turns = []

    def interrupted(command, **others):
        turns.append(command)
        # After a cold turn and one of each side.
        if len(turns) == 4:
            raise KeyboardInterrupt
        return run_measured(command, **others)

    monkeypatch.setattr(runner, "run_measured", interrupted)
    assert suite({"toy": Toy([job(), job("numpy")]), "next": Toy([job()])}) == 130
    written = results(tmp_path)
    assert list(written) == ["toy"]
    assert written["toy"]["complete"] is False
    runs = [(run["side"], run["cold"]) for run in written["toy"]["runs"]]
    assert runs == [("kerasllm", False), ("kerasllm", True), ("numpy", False)]


def test_an_interrupt_while_the_ceilings_are_measured_loses_nothing(suite, tmp_path, monkeypatch):
    calls = []

    def ceilings():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return CEILINGS

    monkeypatch.setattr(command_line, "measure_ceilings", ceilings)
    assert suite({"toy": Toy([job()])}, "--repeats", "1") == 130
    assert results(tmp_path)["toy"]["ceilings"] == {"before": CEILINGS}


@pytest.fixture
def interruptible():
    """A shell has what runs in its background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_process_that_is_measured_and_what_it_started(
    tmp_path, interruptible
):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); "
    inner = [sys.executable, "-c", code + "time.sleep(60)"]
    command = [sys.executable, "-c", f"import subprocess; subprocess.run({inner!r})"]

    def interrupt():
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_measured(command)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_every_case_tells_its_ways_without_importing_tensorflow(tmp_path):
    code = """
import sys
from pathlib import Path
from benchmarks.runner import find_cases
from benchmarks.suite import SuiteOptions

for name, case in find_cases().items():
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    options = SuiteOptions(peers=folder / "peers", quick=True, inputs=folder)
    ways = case.ways(folder, options)
    assert case.name == name, (case.name, name)
    assert case.description, name
    assert "kerasllm" in {way.side for way in ways}, name
    assert len({way.label for way in ways}) == len(ways), name
    for target in case.targets:
        assert getattr(target, "peer", "kerasllm") in {way.side for way in ways}, (name, target)
assert "tensorflow" not in sys.modules
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


COLD = "{'seconds': 1 + turn, 'found': len(files), 'work': {'rows': 3}}"
CACHING = (
    "import json, os, pathlib; turn = {repeat}; "
    "cache = pathlib.Path(os.environ['KERASLLM_CACHE']); files = list(cache.glob('*.pb')); "
    f"(cache / f'{{turn}}.pb').touch(); print(json.dumps({COLD}))"
)


def test_cold_turns_begin_with_an_emptied_cache_and_warm_ones_with_theirs(tmp_path, said):
    ours = Way("kerasllm", "one", [sys.executable, "-c", CACHING])
    case = Toy([ours, job("numpy")], targets=(Target("seconds", "numpy", 0.01, cold=True),))
    options = SuiteOptions(peers=tmp_path / "peers", inputs=tmp_path, cold=1)
    found = runner.measure(case, tmp_path / "case", options, 2, said.append)
    assert found.failure is None
    result = runner.result(case, found, {"before": CEILINGS}, options)
    runs = [(run["cold"], run["found"]) for run in result["runs"] if run["side"] == "kerasllm"]
    # The second warm turn finds what the first one made as well.
    assert runs == [(False, 1), (False, 2), (True, 0)]
    way = result["ways"][0]
    # Of another seed than that of any warm turn.
    assert way["median"] == 1.5 and way["cold"]["seconds"] == 101
    assert result["targets"][0]["value"] == pytest.approx(1.5 / 101)
    assert [line.split(":")[0] for line in said][:2] == [
        "1/1 kerasllm one, cold",
        "1/2 kerasllm one",
    ]
