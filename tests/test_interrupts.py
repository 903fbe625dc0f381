"""Signals end a command by an exception, and what was ignored before stays so."""

import os
import signal

import pytest

from stylegan2_pipeline.conversion.interrupts import Interrupted, interrupts


@pytest.fixture
def hangup():
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_exceptions_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interrupts():
        os.kill(os.getpid(), number)
    assert caught.value.number == number and signal.getsignal(number) is before


def test_a_terminal_that_closes_does_not_end_what_nohup_started(hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_second_signal_does_not_break_off_what_the_first_one_began():
    with pytest.raises(Interrupted) as caught, interrupts():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.number == signal.SIGINT
