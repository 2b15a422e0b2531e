"""The results that are kept: the newest file of each benchmark, and every one that a page names."""

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_only_the_newest_file_of_each_benchmark_is_kept():
    names = sorted(file.stem for file in RESULTS.iterdir())
    dated = [re.fullmatch(r"(.+?)-(\d{4}-\d\d-\d\d(?:-\d{4})?)", name) for name in names]
    assert all(dated), "a result is called NAME-DATE.json or NAME-DATE-TIME.json"
    of_benchmark = itertools.groupby(dated, key=lambda found: found[1])
    files = {name: [each[0] for each in found] for name, found in of_benchmark}
    assert {name: few for name, few in files.items() if len(few) > 1} == {}


def test_a_result_that_a_page_names_is_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").glob("*.yaml")]
    named = {
        name
        for page in pages
        for name in re.findall(r"results/([\w.-]+-\d{4}[\w-]+\.json)", page.read_text("utf-8"))
    }
    assert {name for name in named if not (RESULTS / name).is_file()} == set()
