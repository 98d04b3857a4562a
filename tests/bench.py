#!/usr/bin/env python3
"""Measures and prints figures; nothing here passes or fails. What was measured stands in docs/performance.md.

    bench.py --qemu PROGRAM [boot] [work] [idle] [clock] [images] [disk]        all of them if none is named

boot   Linux to its first userspace line, beside the packaged qemu-system-i386 where that is installed
work   what a shell does in that Linux, up to its power-off, beside the packaged one; in brackets CPU seconds
idle   CPU time of an idle guest at its shell prompt
clock  how far the guest's clocks are from the host's after a minute in which the guest computes
images qemu-img: convert and bench, beside the packaged one
disk   a Linux guest reads and writes an IDE disk by DMA, beside the packaged qemu-system-i386 on the same image
"""
import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guests.linux import kernel, shell  # noqa: E402
from lib.guest import Failure, Guest, Host  # noqa: E402

FIRST_LINE = "qemu-win guest: userspace is up"
# What is done in Linux, and how often within one measurement.
WORK = (
    ("shell loop of 40,000", "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done", 1),
    ("gzip + md5 of 8 MB", "dd if=/dev/zero bs=64k count=128 2>/dev/null | tr '\\000' a | gzip | md5sum", 1),
    ("sha256 of 16 MB", "dd if=/dev/zero bs=64k count=256 2>/dev/null | sha256sum", 1),
    ("awk, 300,000 rounds", "awk 'BEGIN { for (i = 0; i < 300000; i++) s += i * i % 7; print s }'", 1),
    ("sort of 30,000 lines", "seq 30000 | awk '{ print $1 * 7919 % 30011 }' | sort -n | md5sum", 1),
    ("fork + exec", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); /bin/busybox true; done", 200),
)


def boot(hosts, runs):
    times = {host.program: [] for host in hosts}
    for _ in range(runs):  # in turn, so that a disturbance meets all of them
        for host in hosts:
            start = time.monotonic()
            with Guest(host, kernel(host, "console=ttyS0")) as guest:
                guest.wait_serial(FIRST_LINE, 120)
                times[host.program].append(time.monotonic() - start)
    for name, seconds in times.items():
        print(
            f"boot: {os.path.basename(name)}: {min(seconds):.2f} s at best,"
            f" {statistics.median(seconds):.2f} s the median"
        )
    if len(hosts) == 2:
        ours, theirs = (min(times[host.program]) for host in hosts)
        print(f"boot: {ours / theirs:.2f} of the time of {os.path.basename(hosts[1].program)}")


def cpu_seconds(pid):
    """User and system time of a process with all its threads, from /proc."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work_on(host, taken):
    """{what: (wall seconds, CPU seconds)}, the best of what is there already and this run."""

    def note(what, wall, cpu):
        taken[what] = min(taken.get(what, (wall, cpu)), (wall, cpu))

    began, spent = time.monotonic(), 0
    with Guest(host, kernel(host, "console=ttyS0 quiet")) as guest:
        guest.wait_serial("guest:/root#", 120)
        for what, command, times in WORK:
            start, cpu = time.monotonic(), cpu_seconds(guest.process.pid)
            shell(guest, command, 120)
            wall = time.monotonic() - start
            note(what, wall / times, (cpu_seconds(guest.process.pid) - cpu) / times)
            spent += wall
        guest.send("poweroff\n")
        guest.wait_end(30)
    note("start to power-off, without the above", time.monotonic() - began - spent, 0)


def work(hosts, runs):
    if not os.path.exists("/proc/self/stat"):
        print("work: is measured on Linux only")
        return
    taken = [{} for _ in hosts]
    for _ in range(runs):  # in turn, so that a disturbance meets all of them
        for host, into in zip(hosts, taken):
            work_on(host, into)
    print(f"work: {'seconds':40}" + "".join(f"{os.path.basename(host.program):>26}" for host in hosts))
    for what in taken[0]:
        cells = "".join(f"{each[what][0]:16.4f} ({each[what][1]:.4f})" for each in taken)
        ratio = f"{taken[0][what][0] / taken[1][what][0]:8.2f} of the time" if len(hosts) == 2 else ""
        print(f"  {what:40}{cells}{ratio}")


def idle(host, seconds):
    if not os.path.exists("/proc/self/stat"):
        print("idle: is measured on Linux only; on Windows look at the Task Manager")
        return
    with Guest(host, kernel(host, "console=ttyS0 quiet")) as guest:
        guest.wait_serial("guest:/root#", 120)
        time.sleep(5)
        before, start = cpu_seconds(guest.process.pid), time.monotonic()
        time.sleep(seconds)
        used = (cpu_seconds(guest.process.pid) - before) / (time.monotonic() - start)
        name = os.path.basename(host.program)
        print(f"idle: {name}: {100 * used:.2f} % of one core at the shell prompt, over {seconds} s")
        guest.quit()


def clock(host, seconds):
    for source in ("tsc", "acpi_pm", "jiffies"):  # jiffies: the PIT's interrupts, counted
        append = f"console=ttyS0 quiet clocksource={source} tsc=reliable"
        if source == "jiffies":
            append += " nolapic highres=off nohz=off"
        with Guest(host, kernel(host, append)) as guest:
            guest.wait_serial("guest:/root#", 120)
            used = shell(guest, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource", 20)
            shell(guest, "while :; do :; done & sleep 2", 20)
            marks = []
            for wait in (0, seconds):
                time.sleep(wait)
                text = shell(guest, "cat /proc/uptime", 20)
                now = time.monotonic()
                marks.append(
                    (now, float(next(line for line in text.splitlines() if line[:1].isdigit()).split()[0]))
                )
            host_time, guest_time = marks[1][0] - marks[0][0], marks[1][1] - marks[0][1]
            name = next(
                (
                    line
                    for line in used.splitlines()
                    if line in ("tsc", "acpi_pm", "jiffies", "refined-jiffies")
                ),
                "?",
            )
            print(f"clock: {name}: {100 * (guest_time / host_time - 1):+.3f} % in {host_time:.0f} s")
            if source == "tsc":
                rtc(guest, seconds)
            guest.quit()


def rtc(guest, seconds):
    """From one change of the RTC's second to another."""
    read = "$(cat /sys/class/rtc/rtc0/since_epoch)"
    edge = f"a={read}; while b={read}; [ $a = $b ]; do :; done; echo at $b"
    marks = []
    for wait in (0, seconds):
        time.sleep(wait)
        text = shell(guest, edge, 30)
        marks.append((time.monotonic(), int(text.rpartition("at ")[2].split()[0])))
    host_time, guest_time = marks[1][0] - marks[0][0], marks[1][1] - marks[0][1]
    print(f"clock: RTC: {100 * (guest_time / host_time - 1):+.3f} % after {host_time:.0f} s of computing")


def sample(path, megabytes):
    """A disk as they are: programs and texts, noise, and a third of it empty."""
    source = random.Random(1)
    with open(sys.executable, "rb") as f:
        program = f.read()
    words = b"".join(b"line %d of some text\n" % i for i in range(50000))
    with open(path, "wb") as f:
        f.truncate(megabytes << 20)
        for at in range(megabytes):
            f.seek(at << 20)
            kind = at % 6
            if kind < 2:
                start = source.randrange(max(1, len(program) - (1 << 20)))
                f.write(program[start : start + (1 << 20)])
            elif kind == 2:
                f.write(words[: 1 << 20])
            elif kind == 3:
                f.write(source.randbytes(1 << 20))


def images(host, runs):
    ours = os.path.join(os.path.dirname(host.program), os.path.basename(host.program).replace("qemu", "qemu-img", 1))
    tools = [(["wine"] if host.wine else []) + [ours]]
    if shutil.which("qemu-img"):
        tools.append([shutil.which("qemu-img")])
    with tempfile.TemporaryDirectory(prefix="qemu-win-bench-") as folder:
        sample(os.path.join(folder, "a.raw"), 240)
        small = ["bench", "-c", "20000", "-d", "32", "-S", "4100096", "-s", "4096", "-f", "qcow2", "a.qcow2"]
        work = [
            ("convert raw to qcow2", ["convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2"]),
            ("convert qcow2 to raw", ["convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "b.raw"]),
            ("convert -c raw to qcow2", ["convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "c.qcow2"]),
            ("bench 4 KiB, scattered", small),
            ("bench 1 MiB in a row", ["bench", "-c", "240", "-d", "8", "-s", "1M", "-f", "qcow2", "a.qcow2"]),
        ]
        for name, arguments in work:
            best = [None] * len(tools)
            for _ in range(runs):
                for i, tool in enumerate(tools):
                    before, start = os.times(), time.monotonic()
                    subprocess.run(
                        tool + arguments, cwd=folder, env=host.environment, check=True, stdout=subprocess.DEVNULL
                    )
                    now = os.times()
                    cpu = now.children_user + now.children_system - before.children_user - before.children_system
                    best[i] = min(best[i] or (1e9, 0), (time.monotonic() - start, cpu))
            text = ", ".join(
                f"{who} {seconds:.2f} s ({cpu:.2f} s of CPU)" for who, (seconds, cpu) in zip(("ours", "packaged"), best)
            )
            print(f"images: {name}: {text}")


def disk(hosts):
    work = [
        ("1 MiB reads in a row", "dd if=/dev/sda of=/dev/null bs=1M count=200 iflag=direct"),
        ("4 KiB reads in a row", "dd if=/dev/sda of=/dev/null bs=4k count=4000 iflag=direct"),
        ("1 MiB writes in a row", "dd if=/dev/zero of=/dev/sda bs=1M count=100 oflag=direct"),
        ("4 KiB writes in a row", "dd if=/dev/zero of=/dev/sda bs=4k count=4000 oflag=direct"),
    ]
    for host in hosts:
        with tempfile.TemporaryDirectory(prefix="qemu-win-bench-") as folder:
            image = os.path.join(folder, "disk.raw")
            sample(image, 240)
            drive = ["-drive", f"file={host.path(image)},format=raw"]
            with Guest(host, kernel(host, "console=ttyS0 quiet") + drive) as guest:
                guest.wait_serial("guest:/root#", 120)
                shell(guest, "modprobe -a ata_piix sd_mod; sleep 2", 60)
                for name, command in work:
                    start = time.monotonic()
                    text = shell(guest, command, 300)
                    good = "" if "error" not in text and "invalid" not in text else f": {text}"
                    print(f"disk: {os.path.basename(host.program)}: {name}: {time.monotonic() - start:.2f} s{good}")
                guest.quit()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qemu", required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("what", nargs="*", default=["boot", "work", "idle", "clock", "images", "disk"])
    options = parser.parse_args()
    host = Host(options.qemu)
    packaged = shutil.which("qemu-system-i386")
    hosts = [host] + ([Host(packaged)] if packaged else [])  # where it is installed: for comparison
    host.prepare()
    try:
        if "boot" in options.what:
            boot(hosts, options.runs)
        if "work" in options.what:
            work(hosts, min(options.runs, 2))
        if "idle" in options.what:
            for each in hosts:
                idle(each, options.seconds)
        if "clock" in options.what:
            clock(host, options.seconds)
        if "images" in options.what:
            images(host, options.runs)
        if "disk" in options.what:
            disk(hosts)
    except Failure as why:
        print(why)
        return 1
    finally:
        host.finish()
    return 0


sys.exit(main())
