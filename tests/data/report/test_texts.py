"""Damaged texts, markup and personal data are found; what looks like them is not."""

import pytest

from kerasllm.data.report.personal_data import masked, personal_data
from kerasllm.data.report.quality import garbled, markup


@pytest.mark.parametrize(
    "text",
    [
        "The cafÃ© was closed",
        "It was Stalloneâ€™s film",
        "a lost \ufffd character",
        "a bell \x07 rings",
        "ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€",
        "nice ðŸ˜€ film",
        "FranÃ§ois",
        "b'a text of bytes'",
    ],
)
def test_damage_is_found(text):
    assert garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        "The café was closed – “truly”",
        "Привет, мир! Ça va? Señor Müller’s 50 €",
        "NÃO É ASSIM, IRMÃO",
        "日本語のテキスト 한국어 😀👍🏽",
        "two lines\nand a\ttab",
        "plain ascii!",
    ],
)
def test_sound_texts_are_not_called_garbled(text):
    assert garbled(text) is None


def test_markup_is_told_from_comparison():
    assert markup("a <br /> b") == "<br />"
    assert markup('see <a href="x">this</a>') == '<a href="x">'
    assert markup("fish &amp; chips") == "&amp;"
    assert markup("I <3 you, 2 < 3 and 4 > 1, <name>, AT&T") is None


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to ann.lee+x@mail.example.org!", ["email"]),
        ("call +49 30 9018 2000 now", ["phone"]),
        ("call (555) 123-4567", ["phone"]),
        ("555-123-4567", ["phone"]),
        ("card 4111 1111 1111 1111", ["card"]),
        ("card 5500-0000-0000-0004.", ["card"]),
        ("key AKIA" + "ABCDEFGHIJKLMNOP", ["key"]),
        ("password: hunter2hunter2", ["key"]),
        ("sk-" + "abcdefghij0123456789", ["key"]),
        ("4111 1111 1111 1112", []),
        ("on 2024-01-12 at 12:30, 1,234,567 of 1000000000 people", []),
        ("version 3.11.2, 192.168.10.11, @ann, 1999-2004", []),
        ("the secret: nobody knew. ISBN 978-3-16-148410-0", []),
    ],
)
def test_personal_data(text, kinds):
    assert personal_data(text) == kinds


def test_personal_data_is_never_shown_whole():
    text = "ann@example.org, 4111 1111 1111 1111 and +49 30 9018 2000"
    assert masked(text) == "[email], [card] and [phone]"
