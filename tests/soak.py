#!/usr/bin/env python3
"""The tests that take long. Ends with one line: N passed, N failed.

    soak.py --qemu PROGRAM [--minutes N] [--unit FILE]...

- Linux computes checksums, forks and writes its disk over and over; every result must be the same, and the
  emulator's memory and open handles must not grow after the first rounds.
- memtest86+ makes a full pass without an error.
- The machine is reset hundreds of times.
- A billion instructions are compared with the host's processor.
- 1,000 rounds of savevm, loadvm and delvm while Linux writes files: each load shows those of its moment.
- The unit tests run again and again.
"""
import argparse
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guests import kill  # noqa: E402
from guests.linux import GUESTS, kernel, shell  # noqa: E402
from guests.power import ACTIONS  # noqa: E402
from guests.snapshots import rounds as snapshot_rounds  # noqa: E402
from lib.guest import SLOWNESS, Guest, Host, run_parallel  # noqa: E402
from run_tests import program_test  # noqa: E402


def memory_and_handles(pid):
    """KiB of resident memory and open descriptors, where /proc tells."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            memory = int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
        return memory, len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, TypeError):
        return 0, 0


def linux_rounds(t, host, seconds):
    with Guest(
        host, kernel(host, "console=ttyS0 quiet") + ["-hda", "disk.img"], files={"disk.img": bytes(64 << 20)}
    ) as guest:
        guest.wait_serial("guest:/root#", 120)
        shell(guest, "modprobe -a ata_piix sd_mod; sleep 2", 60)
        end = time.monotonic() + seconds
        rounds, sums, first = 0, set(), None
        while time.monotonic() < end:
            text = shell(
                guest,
                "seq 200000 >/tmp/a; cat /tmp/a >/dev/sda; sync; echo 3 >/proc/sys/vm/drop_caches;"
                " head -c 1288895 /dev/sda | md5sum; for i in $(seq 200); do (exit 0); done",
                300,
            )
            sums.add(re.search("[0-9a-f]{32}", text)[0])
            rounds += 1
            if rounds == 5:
                first = memory_and_handles(guest.process.pid)
        last = memory_and_handles(guest.process.pid)
        t.note(f"{rounds} rounds; KiB and handles after 5 rounds: {first}, at the end: {last}")
        t.check(len(sums) == 1, "every round reads back what it wrote", sums)
        t.check(first and last[0] < first[0] * 1.25 + 16384, "memory stays flat", (first, last))
        t.check(first and last[1] <= first[1] + 4, "handles stay flat", (first, last))
        guest.send("poweroff\n")
        t.check(guest.wait_end(60) == 0, "poweroff ends with exit code 0")


def memtest_pass(t, host, seconds):
    arguments = ["-m", "32", "-kernel", host.path(os.path.join(GUESTS, "memtest86+.bin"))]
    with Guest(host, arguments, serial=False) as guest:
        shown = guest.wait_screen(r"Pass: +[1-9]|Errors: *[1-9]", seconds)
        t.check(
            re.search(r"Pass: +[1-9]", shown) and re.search(r"Errors: 0\b", shown),
            "a full pass without an error",
            shown,
        )
        guest.quit()


def many_resets(t, host, count):
    with Guest(host, ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot"]) as guest:
        guest.wait_serial("ready\n", 60)
        for turn in range(count):
            guest.send("kpctj"[turn % 5])
            guest.wait_serial("ready\n", 30)
        t.check(True, f"{count} resets")
        t.check(guest.quit() == 0, "and a clean end")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qemu", required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--unit", nargs="*", default=[])
    options = parser.parse_args()
    host = Host(options.qemu)
    host.prepare()
    tests = [
        ("soak/linux", lambda t: linux_rounds(t, host, options.minutes * 60)),
        ("soak/memtest", lambda t: memtest_pass(t, host, 1800)),
        ("soak/resets", lambda t: many_resets(t, host, 300)),
        ("soak/snapshots", lambda t: snapshot_rounds(t, host, 1000, int(time.time()))),
        ("soak/kill", lambda t: kill.in_folder(lambda t, tool, folder: kill.rounds(t, tool, folder, 20))(t, host)),
    ]
    for name in options.unit:
        if os.path.basename(name) == "test_translate":
            billion = dict(os.environ, QEMU_WIN_CASES=str(10**9))
            tests.append(("soak/conformance", program_test([os.path.abspath(name)], billion, 6 * 3600)))
    for turn in range(5):
        tests += [
            (
                f"soak/{os.path.basename(name)}/{turn + 1}",
                program_test([os.path.abspath(name)], None, 120 * SLOWNESS),
            )
            for name in options.unit
        ]
    try:
        passed, failed = run_parallel(tests, 2)
    finally:
        host.finish()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
