"""Makes the bundled phrases: English sentences of a small grammar, and what they are in German.

    python -m tests.data.make_phrases

Each sentence is drawn as words with their roles, and written in both languages by rules: articles
and adjectives agree in gender, number and case, and verbs stand where German wants them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kerasllm

STARTER = Path(kerasllm.__file__).parent / "data" / "starter"
TRAIN, TEST = 8_000, 500


class Noun(NamedTuple):
    """A noun: English singular and plural, gender (m, f, n), German singular and plural, and its
    singular in the other cases where it has an ending there."""

    one: str
    many: str
    gender: str
    eine: str
    viele: str
    oblique: str = ""


class Verb(NamedTuple):
    """A verb: English base, third person, past and participle; German third person singular and
    plural of present and past, participle and infinitive."""

    base: str
    third: str
    past: str
    participle: str
    er: str
    sie: str
    war: str
    waren: str
    gewesen: str
    sein: str


def _nouns(text: str) -> list[Noun]:
    return [Noun(*line.split()) for line in text.strip().splitlines()]


def _verbs(text: str) -> list[Verb]:
    return [
        Verb(*(word.replace("_", " ") for word in line.split()))
        for line in text.strip().splitlines()
    ]


WHO = _nouns("""
man men m Mann Männer
woman women f Frau Frauen
child children n Kind Kinder
girl girls n Mädchen Mädchen
boy boys m Junge Jungen Jungen
teacher teachers m Lehrer Lehrer
doctor doctors f Ärztin Ärztinnen
farmer farmers m Bauer Bauern Bauern
friend friends m Freund Freunde
sister sisters f Schwester Schwestern
brother brothers m Bruder Brüder
student students m Student Studenten Studenten
neighbour neighbours m Nachbar Nachbarn Nachbarn
king kings m König Könige
queen queens f Königin Königinnen
mother mothers f Mutter Mütter
father fathers m Vater Väter
dog dogs m Hund Hunde
cat cats f Katze Katzen
horse horses n Pferd Pferde
bird birds m Vogel Vögel
""")
WHAT = _nouns("""
house houses n Haus Häuser
car cars n Auto Autos
book books n Buch Bücher
letter letters m Brief Briefe
apple apples m Apfel Äpfel
flower flowers f Blume Blumen
tree trees m Baum Bäume
table tables m Tisch Tische
chair chairs m Stuhl Stühle
lamp lamps f Lampe Lampen
ball balls m Ball Bälle
picture pictures n Bild Bilder
window windows n Fenster Fenster
door doors f Tür Türen
hat hats m Hut Hüte
coat coats m Mantel Mäntel
cup cups f Tasse Tassen
key keys m Schlüssel Schlüssel
boat boats n Boot Boote
bridge bridges f Brücke Brücken
shirt shirts n Hemd Hemden
newspaper newspapers f Zeitung Zeitungen
egg eggs n Ei Eier
knife knives n Messer Messer
""")
DO = _verbs("""
see sees saw seen sieht sehen sah sahen gesehen sehen
find finds found found findet finden fand fanden gefunden finden
buy buys bought bought kauft kaufen kaufte kauften gekauft kaufen
carry carries carried carried trägt tragen trug trugen getragen tragen
paint paints painted painted malt malen malte malten gemalt malen
love loves loved loved liebt lieben liebte liebten geliebt lieben
need needs needed needed braucht brauchen brauchte brauchten gebraucht brauchen
sell sells sold sold verkauft verkaufen verkaufte verkauften verkauft verkaufen
take takes took taken nimmt nehmen nahm nahmen genommen nehmen
lose loses lost lost verliert verlieren verlor verloren verloren verlieren
forget forgets forgot forgotten vergisst vergessen vergaß vergaßen vergessen vergessen
hide hides hid hidden versteckt verstecken versteckte versteckten versteckt verstecken
look_for looks_for looked_for looked_for sucht suchen suchte suchten gesucht suchen
bring brings brought brought bringt bringen brachte brachten gebracht bringen
hold holds held held hält halten hielt hielten gehalten halten
show shows showed shown zeigt zeigen zeigte zeigten gezeigt zeigen
""")
BE_BUSY = _verbs("""
sleep sleeps slept slept schläft schlafen schlief schliefen geschlafen schlafen
laugh laughs laughed laughed lacht lachen lachte lachten gelacht lachen
work works worked worked arbeitet arbeiten arbeitete arbeiteten gearbeitet arbeiten
sing sings sang sung singt singen sang sangen gesungen singen
wait waits waited waited wartet warten wartete warteten gewartet warten
play plays played played spielt spielen spielte spielten gespielt spielen
dance dances danced danced tanzt tanzen tanzte tanzten getanzt tanzen
dream dreams dreamed dreamed träumt träumen träumte träumten geträumt träumen
""")
# German adjectives without their ending.
OF_WHO = {
    "old": "alt", "young": "jung", "small": "klein", "big": "groß", "tired": "müd",
    "friendly": "freundlich", "happy": "glücklich", "clever": "klug", "hungry": "hungrig",
}  # fmt: skip
OF_WHAT = {
    "old": "alt", "new": "neu", "small": "klein", "big": "groß", "red": "rot", "blue": "blau",
    "green": "grün", "black": "schwarz", "white": "weiß", "beautiful": "schön", "heavy": "schwer",
    "expensive": "teur", "broken": "kaputt",
}  # fmt: skip
WHERE = {
    "in the garden": "im Garten", "in the kitchen": "in der Küche", "at the lake": "am See",
    "at the market": "auf dem Markt", "in the city": "in der Stadt", "in the forest": "im Wald",
    "in the park": "im Park", "behind the house": "hinter dem Haus",
    "in front of the church": "vor der Kirche", "under the bridge": "unter der Brücke",
    "at the window": "am Fenster", "by the river": "am Fluss",
}  # fmt: skip
WHEN = {
    "today": "heute",
    "in the morning": "am Morgen",
    "in the evening": "am Abend",
    "on Monday": "am Montag",
    "on Friday": "am Freitag",
    "in summer": "im Sommer",
    "in winter": "im Winter",
}
OWNERS = {"my": "mein", "your": "dein", "his": "sein", "her": "ihr", "our": "unser"}
AMOUNTS = {"two": "zwei", "three": "drei", "many": "viele", "some": "einige"}
# Endings by case and then m, f, n, plural.
_DER = {"nom": "der die das die", "acc": "den die das die"}
_DIESER = {"nom": "er e es e", "acc": "en e es e"}
_EIN = {"nom": "- e - e", "acc": "en e - e"}
_AFTER_DER = {"nom": "e e e en", "acc": "en e e en"}
_AFTER_EIN = {"nom": "er e es en", "acc": "en e es en"}


def _of(table: dict[str, str], case: str, gender: str) -> str:
    return table[case].split()["mfnp".index(gender)].replace("-", "")


class Phrase(NamedTuple):
    """A noun phrase in both languages; whether it is plural, and whether it has no article or an
    indefinite one, with what German has in a negation."""

    english: str
    german: str
    plural: bool
    none: str | None = None


def noun_phrase(draw: random.Random, nouns: list[Noun], adjectives: dict, case: str) -> Phrase:
    """Draws a noun phrase."""
    noun, plural = draw.choice(nouns), draw.random() < 0.3
    gender = "p" if plural else noun.gender
    adjective, eigenschaft = draw.choice([*adjectives.items()])
    if draw.random() < 0.5:
        adjective = eigenschaft = ""
    name = noun.many if plural else noun.one
    wort = noun.viele if plural else noun.eine
    if case != "nom" and not plural and noun.oblique:
        wort = noun.oblique
    kind = draw.choice(["the", "the", "this", "own", "a"])
    none = None
    if kind == "the":
        article, artikel = "the", _of(_DER, case, gender)
        ending = _of(_AFTER_DER, case, gender)
    elif kind == "this":
        article = "these" if plural else "this"
        artikel = "dies" + _of(_DIESER, case, gender)
        ending = _of(_AFTER_DER, case, gender)
    elif kind == "own":
        article, stem = draw.choice([*OWNERS.items()])
        artikel = stem + _of(_EIN, case, gender)
        ending = _of(_AFTER_EIN, case, gender)
    elif plural:
        article, artikel = draw.choice([*AMOUNTS.items()])
        ending = "e"
    else:
        article = "an" if (adjective or name)[0] in "aeiou" else "a"
        artikel = "ein" + _of(_EIN, case, gender)
        ending = _of(_AFTER_EIN, case, gender)
        none = "k" + artikel
    described = f"{eigenschaft}{ending}" if eigenschaft else ""

    def joined(*words: str) -> str:
        return " ".join(word for word in words if word)

    return Phrase(
        joined(article, adjective, name),
        joined(artikel, described, wort),
        plural,
        none and joined(none, described, wort),
    )


class Words(NamedTuple):
    """A clause in both languages: in German what comes before the verb is apart."""

    subject: Phrase
    verb: Verb
    tense: str
    thing: Phrase | None
    where: tuple[str, str]
    when: tuple[str, str]
    negated: bool


TENSES = ("present", "past", "perfect", "future", "can", "must")
_MODAL = {
    "future": ("will", "wird", "werden"),
    "can": ("can", "kann", "können"),
    "must": ("must", "muss", "müssen"),
}
# "Must not" forbids; "muss nicht" would only not ask for it.
_MAY = ("darf", "dürfen")


def clause(draw: random.Random) -> Words:
    """Draws a clause."""
    acts = draw.random() < 0.75
    return Words(
        noun_phrase(draw, WHO, OF_WHO, "nom"),
        draw.choice(DO if acts else BE_BUSY),
        draw.choice(TENSES),
        noun_phrase(draw, WHAT, OF_WHAT, "acc") if acts else None,
        draw.choice([*WHERE.items()]) if draw.random() < 0.5 else ("", ""),
        draw.choice([*WHEN.items()]) if draw.random() < 0.5 else ("", ""),
        draw.random() < 0.2,
    )


def english(words: Words, asked: bool = False) -> str:
    """Returns a clause in English, without a capital."""
    verb, plural, tense = words.verb, words.subject.plural, words.tense
    no = "not" if words.negated else ""
    if tense in _MODAL:
        helper, rest = _MODAL[tense][0], verb.base
        if no:
            helper, no = ("cannot", "") if tense == "can" and not asked else (helper, no)
    elif tense == "perfect":
        helper, rest = "have" if plural else "has", verb.participle
    elif asked or no:
        helper = "did" if tense == "past" else "do" if plural else "does"
        rest = verb.base
    else:
        helper = ""
        rest = verb.past if tense == "past" else verb.base if plural else verb.third
    order = [helper, words.subject.english] if asked else [words.subject.english, helper]
    thing = words.thing.english if words.thing else ""
    return " ".join(part for part in (*order, no, rest, thing, words.where[0]) if part)


def german(words: Words, order: str, when: str) -> str:
    """Returns a clause in German, without a capital.

    Args:
        words: The clause.
        order: `"first"`: after the subject the verb; `"second"`: before it, as after an adverb and
            in questions; `"last"`: at the end.
        when: When it is, where that does not come first.
    """
    verb, plural, tense = words.verb, words.subject.plural, words.tense
    rest = ""
    if tense in _MODAL:
        forbids = tense == "must" and words.negated
        finite, rest = (_MAY if forbids else _MODAL[tense][1:])[plural], verb.sein
    elif tense == "perfect":
        finite, rest = "haben" if plural else "hat", verb.gewesen
    elif tense == "past":
        finite = verb.waren if plural else verb.war
    else:
        finite = verb.sie if plural else verb.er
    no, thing = "nicht" if words.negated else "", ""
    if words.thing:
        thing = words.thing.german
        if words.negated and words.thing.none:
            no, thing = "", words.thing.none
    middle = [when, thing, no, words.where[1]]
    subject = words.subject.german
    parts = {
        "first": [subject, finite, *middle, rest],
        "second": [finite, subject, *middle, rest],
        "last": [subject, *middle, rest, finite],
    }[order]
    return " ".join(part for part in parts if part)


def sentence(draw: random.Random) -> tuple[str, str]:
    """Draws a sentence in both languages."""
    words, kind = clause(draw), draw.random()
    (when, wann), place = words.when, draw.random()
    if kind < 0.15:
        one = f"{english(words, asked=True)} {when}".strip()
        return _capital(one) + "?", _capital(german(words, "second", wann)) + "?"
    if kind < 0.35:
        reason = clause(draw)._replace(when=("", ""))
        one = f"{english(words)} {when}".strip() + f" because {english(reason)}"
        two = f"{german(words, 'first', wann)}, weil {german(reason, 'last', '')}"
    elif when and place < 0.5:
        one, two = f"{when} {english(words)}", f"{wann} {german(words, 'second', '')}"
    else:
        one, two = f"{english(words)} {when}".strip(), german(words, "first", wann)
    return _capital(one) + ".", _capital(two) + "."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def sentences(seed: int = 0) -> Iterator[tuple[str, str]]:
    """Draws sentences, none twice."""
    draw, seen = random.Random(seed), set()
    while True:
        found = sentence(draw)
        if found[0] not in seen:
            seen.add(found[0])
            yield found


def parts() -> dict[str, list[tuple[str, str]]]:
    """Returns the sentences of both parts; a hash of the English one tells which."""
    found: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    sizes = {"train": TRAIN, "test": TEST}
    for pair in sentences():
        part = "test" if hashlib.sha256(pair[0].encode()).digest()[0] < 14 else "train"
        if len(found[part]) < sizes[part]:
            found[part].append(pair)
        if all(len(found[name]) == size for name, size in sizes.items()):
            return found
    raise AssertionError("sentences do not end")


def main() -> None:
    for part, pairs in parts().items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("english", "german"), *pairs])
        file = STARTER / f"phrases_{part}.csv.gz"
        file.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
