#!/usr/bin/env python3
"""The CPU benchmark: the same work in this emulator, in the packaged one and on the bare machine.

    run.py --qemu PROGRAM [--build FOLDER] [--repeat N] [--disk]

Prints nanoseconds an operation and ratios. What each row does stands in tests/bench/*.c, the last figures and
what they mean in docs/performance.md. Nothing here passes or fails; a row whose checksum differs is named.
"""
import argparse
import math
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.dirname(HERE))
from lib.guest import Host  # noqa: E402

DEADLINE = 60
MACHINE = "-m 128 -display none -monitor none -serial stdio".split()
MACHINE += "-device isa-debug-exit,iobase=0x501,iosize=2".split()
GROUPS = {
    "integer": "integer and memory",
    "string": "string instructions",
    "code": "code that changes",
    "float": "x87, SSE2, MMX",
    "event": "system events",
}


def parse(text):
    """{(group, name): (nanoseconds, checksum)}; what a program that died has printed counts."""
    khz, rows = 0, {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "khz":
            khz = int(words[1])
        elif len(words) == 5 and words[0] == "row" and khz:
            rows[words[1], words[2]] = float(words[3]) * 1e6 / khz, words[4]
    return rows, "end" in text.split()


def run(command, environment):
    """The rows of one run. The program's last word is told when it did not reach its end."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        text, error = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        text, error = late.stdout or b"", b"took too long"
    rows, complete = parse(text.decode("latin1"))
    if not complete:
        last = (error.decode("utf-8", "replace").strip() or text.decode("latin1").strip()).splitlines()
        print(f"{os.path.basename(command[0])}: did not reach its end: {last[-1] if last else 'no output'}")
    return rows


def best(into, rows):
    for key, (ns, check) in rows.items():
        if key not in into or ns < into[key][0]:
            into[key] = ns, check


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def cell(value, width, digits=2):
    return f"{value:{width}.{digits}f}" if value is not None else " " * (width - 1) + "-"


def quotient(a, b):
    return a / b if a and b else None


def table(group, columns):
    """The rows of a group, and of each ratio what the group's geometric mean is made of."""
    keys = [key for key in columns["ours"] or columns["tcg"] if key[0] == group]
    if not keys:
        return [], []
    ratios = [[], [], []]
    heads = "ours ns", "TCG ns", "native ns", "ours/nat", "TCG/nat", "TCG/ours"
    print(f"\n{GROUPS[group]:22}" + "".join(f" {head:>10}" for head in heads))
    for key in keys:
        ours, tcg, native = (columns[name].get(key, (None, ""))[0] for name in ("ours", "tcg", "native"))
        three = quotient(ours, native), quotient(tcg, native), quotient(tcg, ours)
        for kept, value in zip(ratios, three):
            if value:
                kept.append(value)
        checks = {columns[name][key][1] for name in columns if key in columns[name]}
        print(
            f"  {key[1]:20}"
            + "".join(" " + cell(value, 10) for value in (ours, tcg, native) + three)
            + ("   checksums differ" if len(checks) > 1 else "")
        )
    print(f"  {'geometric mean':53}" + "".join(" " + cell(mean(each), 10) for each in ratios))
    return ratios


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qemu", required=True)
    parser.add_argument("--build", default=os.path.join(TOP, "build", "bench"))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--disk", action="store_true", help="start from a raw disk, not by multiboot")
    options = parser.parse_args()
    if os.name == "nt":
        print("cpu: is measured on Debian, whose gcc makes 32-bit code for no system")
        return 0
    subprocess.run(["sh", os.path.join(HERE, "build.sh"), options.build], check=True)
    guest = ["-kernel", os.path.join(options.build, "cpu.bin")]
    if options.disk:
        guest = ["-hda", os.path.join(options.build, "cpu.img")]
    host = Host(options.qemu)
    theirs = shutil.which("qemu-system-i386")
    raw = ["-drive", f"file={guest[1]},format=raw"] if options.disk else guest
    host.prepare()
    columns = {"ours": {}, "tcg": {}, "native": {}}
    try:
        for _ in range(options.repeat):  # in turn, so that a disturbance meets all of them
            best(columns["ours"], run(host.command + MACHINE + guest, host.environment))
            if theirs:
                best(columns["tcg"], run([theirs] + MACHINE + raw, None))
            best(columns["native"], run([os.path.join(options.build, "cpu-native")], None))
    finally:
        host.finish()
    if not theirs:
        print("qemu-system-i386 is not installed: its columns stay empty")
    work = [[], [], []]
    for group in GROUPS:
        ratios = table(group, columns)
        if group != "event":
            for kept, values in zip(work, ratios):
                kept += values
    print(f"\n{'all work':55}" + "".join(" " + cell(mean(each), 10) for each in work))
    return 0


sys.exit(main())
