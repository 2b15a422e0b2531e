"""What `kerasllm data report` finds of faults that were planted, and what a million rows cost it.

    python -m benchmarks.data_report faults   # 100 faults on 10,000 rows
    python -m benchmarks.data_report rows     # a million rows: time and memory

The rows are the words of Moby Dick, which is bundled, in lines of 12 to 28 words; the labels are
random. Each prints one JSON object.
"""

from __future__ import annotations

import csv
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import kerasllm

BOOK = Path(kerasllm.__file__).parent / "data" / "starter" / "moby_dick.txt"
LABELS = ("whale", "ship", "sea", "land")
ROWS, TEST = 10_000, 1_000
MILLION = 1_000_000
FOREIGN = (
    "Der Kapitän stand schweigend an der Reling und sah lange auf das dunkle Wasser hinaus.",
    "Am nächsten Morgen war das Schiff verschwunden, und niemand wusste, wohin es gefahren war.",
    "Le capitaine regardait la mer sans dire un mot, et personne n'osait lui parler ce soir-là.",
    "Les matelots chantaient encore quand la baleine blanche apparut à l'horizon.",
    "El capitán miraba el mar en silencio mientras los marineros preparaban las redes.",
    "A la mañana siguiente nadie recordaba lo que había ocurrido durante la tormenta.",
    "Il vecchio marinaio raccontava sempre la stessa storia della balena bianca.",
    "O capitão olhou para o mar e não disse nada aos marinheiros durante toda a noite.",
)


def lines(count: int, draw: random.Random) -> list[str]:
    """Returns lines of consecutive words of the book, none with a word of another."""
    words = BOOK.read_text(encoding="utf-8").split()
    # What the book has of its own, such as underscores of italics, is no fault.
    words = [word for word in words if re.fullmatch(r"[\w“”‘’'\"(),.;:!?—-]+", word)]
    found, place = [], 0
    while len(found) < count:
        size = draw.randint(12, 28)
        if place + size > len(words):
            raise SystemExit(f"the book has {len(found)} lines, and {count} are asked for")
        found.append(" ".join(words[place : place + size]))
        place += size
    return list(dict.fromkeys(found))


def plant(folder: Path, seed: int) -> tuple[list[str], dict[str, set[str]], set[str]]:
    """Writes train.csv and test.csv with 100 faults.

    Returns:
        The files; the places of the faults by the kinds of findings that may tell of them, as
        `kind|kind`; and places that belong to a fault without being one, as what was repeated.
    """
    draw = random.Random(seed)
    rows = [[text, draw.choice(LABELS)] for text in lines(ROWS - 30, draw)]
    train, test = rows[: -TEST + 10], rows[-TEST + 10 :]
    free = draw.sample(range(len(train)), 400)
    faults: dict[str, set[str]] = {}
    allowed: set[str] = set()

    def place(number: int, part: str = "train") -> str:
        return f"{folder}/{part}.csv:{number + 2}"

    def fault(kinds: str, number: int, part: str = "train") -> None:
        faults.setdefault(kinds, set()).add(place(number, part))

    def changed(kinds: str, count: int, change) -> None:
        for one in range(count):
            number = free.pop()
            train[number] = change(train[number], one)
            fault(kinds, number)

    def repeated(kinds: str, count: int, change, rows: list, part: str = "train") -> None:
        for one in range(count):
            number = free.pop()
            allowed.add(place(number))
            rows.append(change(train[number], one))
            fault(kinds, len(rows) - 1, part)

    def nearly(row, one):
        words = row[0].split()
        spot = draw.randrange(2, len(words) - 2)
        edits = (
            lambda: " ".join([*words[:spot], "quickly", *words[spot + 1 :]]),
            lambda: " ".join([*words[:spot], *words[spot + 1 :]]),
            lambda: row[0].upper(),
            lambda: "- " + row[0].replace(",", "").replace(";", "") + " ...",
            lambda: " ".join([*words, "indeed"]),
        )
        return [edits[one % len(edits)](), row[1]]

    other = {label: LABELS[number - 1] for number, label in enumerate(LABELS)}
    repeated("duplicates", 10, lambda row, one: list(row), train)
    repeated("near_duplicates", 10, nearly, train)
    repeated("conflicts", 8, lambda row, one: [row[0], other[row[1]]], train)
    repeated("leak_test", 10, lambda row, one: list(row), test, "test")
    changed("unusable", 10, lambda row, one: ["  " * (one % 2), row[1]])
    mojibake = ("cafÃ©", "donâ€™t", "naÃ¯ve", "â€œwellâ€\x9d", "Â£5", "ÐšÐ¸Ñ‚", "SeÃ±or", "schÃ¶n")
    changed("garbled", 8, lambda row, one: [f"{mojibake[one]} {row[0]}", row[1]])
    lost = ("\ufffd", "\x07", "\x1b", "\x92")
    changed("garbled", 4, lambda row, one: [row[0].replace(" ", f" {lost[one]}", 1), row[1]])
    tags = ("<br />", "<p>", "&amp;", '<a href="x">', "<div>", "&nbsp;", "</span>", "&#39;")
    changed("markup", 8, lambda row, one: [f"{row[0]} {tags[one]}", row[1]])
    changed("languages", 8, lambda row, one: [FOREIGN[one], row[1]])
    alike = ("Whale", "SHIP", "se\u0430", "Land")
    changed("look_alike_labels", 4, lambda row, one: [row[0], alike[one]])
    mails = ("ann@example.org", "b.o-b+x@mail.example.com", "info@ships.example.net")
    changed("email", 6, lambda row, one: [f"{row[0]} {mails[one % 3]}", row[1]])
    phones = ("+49 30 9018 2000", "(555) 123-4567", "555-867-5309", "+1 212 555 0100")
    changed("phone", 4, lambda row, one: [f"{row[0]} call {phones[one]}", row[1]])
    cards = ("4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009", "4012888888881881")
    changed("card", 4, lambda row, one: [f"{row[0]} {cards[one]}", row[1]])
    keys = ("AKIA" + "QWERTYUIOPASDFGH", "sk-" + "a1B2c3D4e5F6g7H8i9J0", "password=hunter2hunter2")
    changed("key", 3, lambda row, one: [f"{row[0]} {keys[one]}", row[1]])
    for one in range(2):
        test[one * 7] = [test[one * 7][0], "shore"]
        fault("label_in_one_part", one * 7, "test")
    # One fault: a mark of the source of some rows of a label.
    taken = {place for places in faults.values() for place in places}
    ships = [number for number, row in enumerate(train) if row[1] == "ship"]
    marked = [number for number in ships[:300:10] if place(number) not in taken]
    for number in marked:
        train[number][0] += " (src:7)"
        allowed.add(place(number))
    faults["giveaways"] = {place(marked[0])}
    for part, written in (("train", train), ("test", test)):
        with open(folder / f"{part}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("text", "label"), *written])
    return [f"{folder}/train.csv", f"{folder}/test.csv"], faults, allowed


def report(files: list[str]) -> tuple[dict, float, int]:
    """Returns the report of the command, its seconds, and the most bytes of memory it had."""
    command = [sys.executable, "-m", "kerasllm", "data", "report", files[0], "--json"]
    command += ["--test", files[1]] if len(files) > 1 else []
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return json.loads(done.stdout), seconds, peak


def planted_faults(seed: int = 0) -> dict:
    """Plants faults and returns how many were found, and how many rows were called in vain."""
    with tempfile.TemporaryDirectory() as folder:
        files, faults, allowed = plant(Path(folder), seed)
        found, seconds, peak = report(files)
    told: dict[str, set[str]] = {}
    for finding in found["findings"]:
        # A row that cannot be read is told with the reason.
        places = {":".join(place.split(":")[:2]) for place in finding["places"]}
        told.setdefault(finding["kind"], set()).update(places)
    hit = {kind: len(places & told.get(kind, set())) for kind, places in faults.items()}
    planted = set().union(*faults.values())
    known = planted | allowed
    alarms = {kind: places - known for kind, places in told.items() if places - known}
    return {
        "rows": sum(part["rows"] + part["unusable"] for part in found["parts"].values()),
        "planted": sum(map(len, faults.values())),
        "found": sum(hit.values()),
        "missed": {
            kind: len(faults[kind]) - count
            for kind, count in hit.items()
            if count < len(faults[kind])
        },
        "false_alarms": len(set().union(*alarms.values())) if alarms else 0,
        "false_alarms_by_kind": {kind: len(places) for kind, places in alarms.items()},
        "seconds": round(seconds, 2),
        "memory_mb": round(peak / 1e6),
    }


def million_rows(count: int = MILLION, seed: int = 0) -> dict:
    """Returns the time and the memory of a report on many rows, of which 1% are repeated."""
    draw = random.Random(seed)
    words = Counter(BOOK.read_text(encoding="utf-8").split())
    names, weights = list(words), list(words.values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("text", "label"))
            for _ in range(count // 10_000):
                drawn = draw.choices(names, weights, k=220_000)
                rows, place = [], 0
                for _ in range(9_900):
                    size = draw.randint(12, 28)
                    rows.append((" ".join(drawn[place : place + size]), draw.choice(LABELS)))
                    place += size
                writer.writerows([*rows, *rows[:100]])
        size = path.stat().st_size
        found, seconds, peak = report([str(path)])
    repeated = [one["rows"] for one in found["findings"] if one["kind"] == "duplicates"]
    return {
        "rows": found["parts"]["train"]["rows"],
        "megabytes": round(size / 1e6),
        "duplicates_found": sum(repeated),
        "seconds": round(seconds, 1),
        "memory_mb": round(peak / 1e6),
    }


if __name__ == "__main__":
    runs = {"faults": planted_faults, "rows": million_rows}
    if len(sys.argv) != 2 or sys.argv[1] not in runs:
        raise SystemExit(__doc__)
    print(json.dumps(runs[sys.argv[1]](), indent=2))
