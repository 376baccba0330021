"""The first signal asks for a stop; the second does not wait for it."""

import signal
import subprocess
import sys
import threading

import pytest

from agegender_jax.run.host.signals import StopFlag

# Shows that it has begun, then waits as a long compilation does; says what the flag came to hold.
PROGRAM = """
import time
from agegender_jax.run.host.signals import StopFlag
with StopFlag() as stop:
    print("ready", flush=True)
    while stop.code is None:
        time.sleep(0.01)
    print(stop.code, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_the_second_signal_leaves_at_once(number, code):
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{code}\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == code
        assert "a second signal leaves at once" in process.stderr.read()


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopFlag() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.code == 75
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_outside_the_main_thread_nothing_changes():
    codes = []

    def body():
        with StopFlag() as stop:
            codes.append(stop.code)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert codes == [None]
