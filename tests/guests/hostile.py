"""Guests that mean no good (hostile.S): whatever they do, the monitor answers and a reset brings them back.

Within a second on a machine that is free; the bound here is that of a hang."""
import os
import time

from lib.guest import SLOWNESS, TOP, Guest

STORMS = {
    "h": "CLI and HLT",
    "u": "a storm of undefined instructions",
    "s": "code that changes itself all the time",
    "i": "a timer interrupt every 838 ns",
    "t": "single-stepping",
    "r": "string instructions over the end of a segment",
    "p": "all ports, read without end",
    "c": "a stack that writes over all memory",
    "v": "changing the picture's mode all the time",
    "d": "VBE registers all ones",
}
QUESTIONS = (
    "info status",
    "info registers",
    "x/4i $pc",
    "info pic",
    "info jit",
    "info mem",
    "screendump screen.ppm",
    "stop",
    "cont",
)


def answers(t, guest, what):
    slowest, its = 0.0, ""
    for question in QUESTIONS:
        start = time.monotonic()
        guest.monitor(question, 20)
        took = time.monotonic() - start
        if took > slowest:
            slowest, its = took, question
    t.check(
        slowest < 10 * SLOWNESS, f"the monitor is not held up: {what}", f"{its}: {slowest:.2f} s"
    )
    state = guest.monitor("info status")
    t.check("running" in state, f"the machine goes on: {what}", state)


def test_hostile_storms(t, host):
    image = os.path.join(TOP, "build", "guests", "hostile.img")
    with Guest(host, ["-m", "16", "-fda", host.path(image), "-boot", "a", "-snapshot"]) as guest:
        guest.wait_serial("ready\n", 60)
        for letter, what in STORMS.items():
            guest.send(letter)
            guest.wait_serial(letter, 10, f"the start of {what}")
            time.sleep(0.3)
            answers(t, guest, what)
            guest.monitor("system_reset")
            guest.send("")
            guest.wait_serial("ready\n", 60, f"a reset after {what}")
        guest.send("x")
        guest.wait_serial("ready\n", 60, "the reset that a triple fault is")
        t.check(True, "page tables in no memory and an empty IDT reset the machine")
        t.check(guest.quit() == 0, "and it can still be left")
