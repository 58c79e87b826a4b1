"""Command lines: a mistyped option ends the command before it begins."""

import sys

import pytest

from scripts.command_line import run_command_line

CALLS: list[tuple] = []


def work(path: str, rows: str = "all", probe: bool = True) -> None:
    """What a command does."""
    CALLS.append((path, rows, probe))


def anything(**options: object) -> None:
    """A command that hands its options on."""
    CALLS.append(tuple(options))


def run(monkeypatch: pytest.MonkeyPatch, commands: object, *words: str) -> list[tuple]:
    CALLS.clear()
    monkeypatch.setattr(sys, "argv", ["command", *words])
    run_command_line(commands)
    return CALLS


def test_known_options_reach_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, work, "out", "--rows=some", "--noprobe") == [("out", "some", False)]
    assert run(monkeypatch, {"work": work}, "work", "out", "--rows", "some") == [("out", "some", True)]
    assert run(monkeypatch, anything, "--learning-rate", "1") == [("learning_rate",)]


@pytest.mark.parametrize("words", [["--probe", "false"], ["--probe=false"], ["--probe", "False"]])
def test_false_is_no_word(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, work, "out", *words) == [("out", "all", False)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["out", "--rowz", "some"], r"option --rowz is unknown; did you mean --rows\?"),
        (["out", "--zzz"], "option --zzz is unknown; there are --path, --rows, --probe"),
    ],
)
def test_an_unknown_option_ends_it_before_it_begins(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, work, *words)
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, {"work": work}, "work", *words)
    assert not CALLS
