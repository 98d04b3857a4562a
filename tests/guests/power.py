"""Reset in every way a PC knows, -no-reboot, stop and cont, quit, exit codes. Uses tests/guests/actions.S."""
import os
import re
import time

from lib.guest import TOP, Failure, Guest

ACTIONS = os.path.join(TOP, "build", "guests", "actions.img")
RESETS = {"k": "the keyboard controller", "p": "port 92h", "c": "port CF9h", "t": "a triple fault"}


def start(host, *more, serial=True):
    return Guest(
        host, ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot", *more], serial=serial
    )


def test_reset(t, host):
    with start(host) as guest:
        guest.wait_serial("ready\n", 60)
        for key, what in {**RESETS, "j": "a jump to the BIOS"}.items():
            guest.send(key)
            try:
                guest.wait_serial("ready\n", 30)
                t.check(True, f"{what} resets the machine")
            except Failure as why:
                t.fail(f"{what} resets the machine: {why}")
                return
        guest.monitor("system_reset")
        guest.wait_serial("ready\n", 30)
        t.check(True, "system_reset resets the machine")
        t.check(guest.quit() == 0, "quit ends with exit code 0")


def test_no_reboot(t, host):
    for key, what in RESETS.items():
        with start(host, "-no-reboot") as guest:
            guest.wait_serial("ready\n", 60)
            guest.send(key)
            t.check(guest.wait_end(20) == 0, f"with -no-reboot {what} ends the emulator with exit code 0")
    with start(host, "-no-reboot") as guest:
        guest.wait_serial("ready\n", 60)
        guest.monitor("info status")
        guest.raw(b"system_reset\n")
        t.check(guest.wait_end(20) == 0, "with -no-reboot system_reset ends the emulator with exit code 0")


def test_triple_fault_story(t, host):
    with start(host, "-no-reboot", "-d", "cpu_reset", "-D", "log.txt") as guest:
        guest.wait_serial("ready\n", 60)
        guest.send("t")
        t.check(guest.wait_end(20) == 0, "with -no-reboot a triple fault ends the emulator")
        with open(os.path.join(guest.folder, "log.txt"), encoding="utf-8") as f:
            text = f.read()
        t.check(len(re.findall(r"#GP error .* at 07c0:", text)) == 3, "-d cpu_reset tells the three faults", text)
        t.check("EIP=" in text and "IDT at 00000000, limit 0000" in text, "registers and tables", text)
        last = text.rpartition("block at")[2]
        t.check(re.search(r"lidt.*\n.*int3", last), "and the block that ended it, disassembled", text)


def test_dead_guest(t, host):
    with start(host) as guest:
        guest.wait_serial("ready\n", 60)
        guest.send("h")
        time.sleep(0.5)
        t.check(
            "running" in guest.monitor("info status"),
            "the monitor answers while the guest is halted for good",
        )
        guest.monitor("system_reset")
        guest.wait_serial("ready\n", 30)
        t.check(True, "a halted guest can be reset")
        guest.quit()


def test_stop_and_cont(t, host):
    with start(host, "-S") as guest:
        t.check("paused" in guest.monitor("info status"), "-S starts paused")
        guest.monitor("cont")
        guest.send("")
        guest.wait_serial("ready\n", 60)
        t.check(True, "cont lets it boot")
        guest.send("?")
        guest.wait_serial("yes\n", 10)
        guest.monitor("stop")
        t.check("paused" in guest.monitor("info status"), "stop pauses")
        before = guest.monitor("info registers")
        time.sleep(0.3)
        t.check(before and before == guest.monitor("info registers"), "nothing moves while paused")
        guest.monitor("cont")
        guest.send("?")
        guest.wait_serial("yes\n", 10)
        t.check(True, "cont goes on")
        guest.quit()


def test_exit_code(t, host):
    with start(host, "-device", "isa-debug-exit,iobase=0x501,iosize=2") as guest:
        guest.wait_serial("ready\n", 60)
        guest.send("x")
        t.check(guest.wait_end(20) == 0x21 * 2 + 1, "isa-debug-exit ends with twice the value plus one")


def test_debug_console(t, host):
    with start(host, "-debugcon", "file:debug.txt", "-pidfile", "pid.txt") as guest:
        guest.wait_serial("ready\n", 60)
        guest.send("d?")
        guest.wait_serial("yes\n", 20)
        with open(os.path.join(guest.folder, "pid.txt"), encoding="ascii") as f:
            t.check(int(f.read()) > 0, "-pidfile holds a process number")
        t.check(guest.quit() == 0, "quit ends with exit code 0")
        with open(os.path.join(guest.folder, "debug.txt"), "rb") as f:
            t.check(f.read() == b"debug console\n", "-debugcon gets what the guest wrote to port E9h")


def test_two_disks(t, host):
    """Which of two media is booted follows -boot; a non-bootable floppy falls through to the next."""
    with Guest(
        host,
        ["-m", "16", "-fda", "empty.img", "-hda", host.path(ACTIONS), "-boot", "ac", "-snapshot"],
        copies=[],
        serial=True,
        files={"empty.img": bytes(1474560)},
    ) as guest:
        guest.wait_serial("ready\n", 60)
        t.check(True, "an unbootable floppy is passed over for the hard disk")
        guest.quit()
