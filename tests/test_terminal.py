"""Terminals of every kind, pipes, NO_COLOR and shells: what the command line prints there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
MAIN = [sys.executable, "-m", "sgmatte"]
STAGES = """
from sgmatte.cli.messages import Screen
with Screen().progress() as observe:
    for step in range(4):
        observe("an inversion with a long name", step, 3)
    observe("trimap", 0, 1)
    observe("alpha", 0, 1)
    observe("alpha", 1, 1)
"""


def environment(**more: str) -> dict[str, str]:
    """This process's, without what others have set to say how to print."""
    left_out = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "TERM": "xterm-256color", "PYTHONUTF8": "1", "SGMATTE_CONFIG": "none", **more}


def piped(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=environment(**more), encoding="utf-8")


def on_terminal(command: list[str], columns: int = 40, **more: str) -> str:
    """What a command prints, on stdout and stderr, to a terminal of so many columns."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    lead, follow = pty.openpty()
    termios.tcsetwinsize(follow, (24, columns)) if hasattr(termios, "tcsetwinsize") else fcntl.ioctl(
        follow, termios.TIOCSWINSZ, np.array([24, columns, 0, 0], np.uint16).tobytes()
    )
    child = subprocess.Popen(command, stdin=follow, stdout=follow, stderr=follow, env=environment(**more))
    os.close(follow)
    shown = b""
    while True:
        try:
            part = os.read(lead, 65536)
        except OSError:  # Linux says so where others say b""
            break
        if not part:
            break
        shown += part
    child.wait()
    os.close(lead)
    return shown.decode().replace("\r\n", "\n")


def widest(text: str) -> int:
    return max(map(len, re.split(r"[\r\n]+", ESCAPE.sub("", text))))


@pytest.fixture
def alphas(tmp_path: Path) -> list[str]:
    """Arguments of `sgmatte evaluate`, which prints a table of eight columns."""
    for folder in ("pred", "true"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))).save(
            tmp_path / folder / "portrait-of-somebody-with-a-long-name.png"
        )
    return ["evaluate", str(tmp_path / "pred"), str(tmp_path / "true"), "--all"]


# --- pipes and files


def test_pipes_get_text_and_a_line_at_the_end_of_a_stage() -> None:
    done = piped([sys.executable, "-c", STAGES])
    assert done.stdout == ""
    assert re.sub(r"\d:\d\d:\d\d", "TIME", done.stderr).splitlines() == [
        "an inversion with a long name: done in TIME",
        "trimap: done in TIME",
        "alpha: done in TIME",
    ]


def test_files_get_tables_uncut(alphas: list[str]) -> None:
    done = piped([*MAIN, *alphas], COLUMNS="40")
    (head, row, *_) = done.stdout.splitlines()
    assert head.split() == ["region", "SAD", "MSE", "MAD", "Grad", "Conn", "IoU"]
    assert row.split()[:2] == ["portrait-of-somebody-with-a-long-name.png", "whole"] or "with-a-long-name" in row
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


# --- terminals


def test_narrow_terminals_get_tables_as_paragraphs(alphas: list[str]) -> None:
    shown = on_terminal([*MAIN, *alphas])
    assert "…" not in shown
    assert re.search(r"SAD\s+0\.000\s+MSE\s+0\.00000", shown)
    assert widest(shown) <= 40
    assert re.search("region +SAD +MSE", ESCAPE.sub("", on_terminal([*MAIN, *alphas], columns=120)))


def test_narrow_terminals_get_bars_of_one_line() -> None:
    shown = on_terminal([sys.executable, "-c", STAGES])
    assert widest(shown) <= 40
    assert re.search(r"trimap [^\r\n]*100%", ESCAPE.sub("", shown))
    assert shown.endswith("\x1b[?25h")  # the cursor is shown again
    assert "left" in on_terminal([sys.executable, "-c", STAGES], columns=100)


def test_dumb_terminals_get_lines_and_no_control_characters() -> None:
    shown = on_terminal([sys.executable, "-c", STAGES], TERM="dumb")
    assert "\x1b" not in shown
    assert shown.count("done in") == 3
    assert "\x1b" not in on_terminal([*MAIN, "--help"], TERM="dumb")


@pytest.mark.parametrize("command", [[*MAIN, "--help"], [*MAIN, "mate"], [sys.executable, "-c", STAGES]])
def test_no_color_means_none(command: list[str]) -> None:
    assert not COLOUR.search(on_terminal(command, columns=100, NO_COLOR="1"))


def test_terminals_have_colours_otherwise() -> None:
    assert COLOUR.search(on_terminal([sys.executable, "-c", STAGES], columns=100))


@pytest.mark.parametrize("command", [[], ["enhance"], ["weights", "fetch"]])
def test_help_fits_40_columns(command: list[str]) -> None:
    shown = on_terminal([*MAIN, *command, "--help"])
    text = " ".join(shown.split())
    assert "…" not in text
    assert "--help" in text
    if command == ["enhance"]:
        assert all(f"--{word}" in text for word in ("adversarial-weight", "max-pixels", "skip-existing"))
    long = [line for line in shown.split("\n") if len(line) > 40]
    assert all("<" in line for line in long)  # an option and its choices are one word
    assert "the genera" not in shown.split()  # words stay whole


def test_errors_of_usage_fit_too() -> None:
    assert "No such option: --modle" in on_terminal([*MAIN, "matte", "--modle", "x"])


# --- shells


@pytest.mark.parametrize(("shell", "word"), [("bash", "COMPREPLY"), ("zsh", "#compdef sgmatte"), ("fish", "complete")])
def test_shells_can_be_taught(shell: str, word: str) -> None:
    done = piped([*MAIN[:1], "-c", TYPED, "--show-completion", shell], _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert word in done.stdout
    assert f"_SGMATTE_COMPLETE=complete_{shell}" in done.stdout


TYPED = "import sys; sys.argv[0] = 'sgmatte'; from sgmatte.cli.app import main; main()"


@pytest.mark.parametrize(
    ("shell", "typed", "found"),
    [
        ("bash", "sgmatte matte --model ", ["gca", "closed-form"]),
        ("bash", "sgmatte tri", ["trimap"]),
        ("zsh", "sgmatte enhance --generator ", ["stylegan2-portrait-256"]),
        ("zsh", "sgmatte weights path ", ["gca.portrait"]),
        ("fish", "sgmatte weights path ", ["gca.portrait"]),
    ],
)
def test_names_are_completed_whatever_a_config_says(shell: str, typed: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "sgmatte.toml").write_text("[broken")
    words = {
        "bash": {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
        "fish": {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-c", TYPED],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(SGMATTE_CONFIG="", _SGMATTE_COMPLETE=f"complete_{shell}", **words),
    )
    assert "error" not in done.stderr
    assert all(name in done.stdout for name in found)
