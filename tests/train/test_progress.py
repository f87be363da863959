import io

import pytest
from rich.console import Console

from gptjax.train import progress
from gptjax.train.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def row(loss_nats=2.0):
    return {"loss_nats": loss_nats, "tokens": 500.0, "step_seconds": 0.5}


def test_a_log_file_gets_a_plain_line_every_ten_seconds_and_the_last_one(clock):
    out = console(terminal=False)
    with Progress(100, console=out) as shown:
        shown.resumed(0)
        for step in range(1, 101):
            clock[0] = 0.5 * step
            shown.tick(step, row())
    lines = out.file.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [f"step {n}/100" for n in (1, 21, 41, 61, 81, 100)]
    assert lines[1] == "step 21/100 · loss 2.0000 · 1k tokens/s · 0:00:40 left"
    assert "\x1b" not in out.file.getvalue()


def test_time_left_counts_only_what_this_process_did(clock):
    out = console(terminal=False)
    with Progress(1000, console=out) as shown:
        shown.resumed(900)
        for step in (901, 951):
            clock[0] = 2.0 * step
            shown.tick(step, row())
    assert out.file.getvalue().splitlines()[-1].endswith("0:01:38 left")


def test_the_speed_is_of_what_an_update_processes_where_it_is_told(clock):
    out = console(terminal=False)
    with Progress(10, tokens_per_step=2000, console=out) as shown:
        shown.tick(1, row())
    assert "4k tokens/s" in out.file.getvalue()


def test_a_terminal_gets_one_live_line_and_keeps_its_cursor(clock):
    out = console(terminal=True)
    with Progress(100, console=out) as shown:
        for step in range(1, 101):
            clock[0] = 0.01 * step
            shown.tick(step, row())
        shown.say("saved [bold]as it is[/]")
    text = out.file.getvalue()
    assert "step 100/100" in text
    assert text.count("step ") < 12
    assert "saved [bold]as it is[/]" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.index("\x1b[?25h") < text.index("step ")


def test_an_evaluation_is_said_and_a_row_of_training_is_not(clock):
    out = console(terminal=False)
    with Progress(100, console=out) as shown:
        shown.row({"step": 50, "split": "validation", "nats_per_token": 1.51234, "tokens": 1000})
        shown.row({"step": 50, "loss_nats": 1.5})
    assert out.file.getvalue() == "step 50: validation: nats_per_token 1.5123\n"


def test_a_loss_that_is_not_finite_is_shown_as_such(clock):
    out = console(terminal=False)
    with Progress(100, console=out) as shown:
        shown.tick(1, row(float("nan")))
    assert "loss nan" in out.file.getvalue()
