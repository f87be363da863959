"""Claims about compilers' chatter: it is kept from stderr and handed on, unless something fails."""

import os

import pytest

from gptjax.plan.devices import overheard

LINE = (
    b"W1121 01:47:40.352984    5504 spmd_partitioner.cc:656] [SPMD] Full rematerialization of %x. As a last resort.\n"
)


def test_warnings_of_a_compiler_are_told_once_and_not_printed(capfd):
    with overheard() as warned:
        os.write(2, b"chatter\n" + LINE + LINE)
    assert warned == ["[SPMD] Full rematerialization of %x"]
    assert capfd.readouterr().err == ""


def test_all_that_a_failing_compiler_said_is_printed(capfd):
    def fail():
        with overheard():
            os.write(2, b"chatter\n" + LINE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr().err == "chatter\n" + LINE.decode()
