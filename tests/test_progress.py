from __future__ import annotations

import io
import sys

from torchgenaug import progress
from torchgenaug.progress import counted, duration, minute_lines


def test_one_line_a_minute_with_the_time_left(capsys):
    now = [0.0]
    show = minute_lines("trained", "steps", clock=lambda: now[0])
    for done in range(1, 121):
        now[0] = done * 2.0
        show(done, 120)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "trained 30 of 120 steps, about 3 min left"
    assert [line.split(" of ")[0] for line in lines] == ["trained 30", "trained 60", "trained 90"]


def test_a_resumed_run_counts_from_where_it_began(capsys):
    now = [0.0]
    show = minute_lines("rendered", "samples", clock=lambda: now[0])
    show(900, 1000)
    now[0] = 100.0
    show(950, 1000)
    assert capsys.readouterr().err == "rendered 950 of 1,000 samples, about 100 s left\n"


def test_durations_are_in_the_unit_that_people_use():
    assert [duration(seconds) for seconds in (59, 600, 9000)] == ["59 s", "10 min", "2.5 h"]


def test_counted_numbers_are_lines_in_a_log_and_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    assert list(counted(3, "read digits:", "images")) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["read digits: 1 of 3 images", "read digits: 2 of 3 images, about 0 s left"]
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(counted(3, "read", "images")) == [0, 1, 2]
    assert " of " not in terminal.getvalue()
