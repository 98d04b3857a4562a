#!/usr/bin/env python3
"""Runs the tests and ends with one line: N passed, N failed.

    run_tests.py --qemu PROGRAM [--only PART]... [--unit FILE]... [--wine-unit FILE]...

--qemu: build/dist/qemu.exe, build/native/qemu-native, or the packaged qemu-system-i386,
on which the tests themselves are tried.
--only: only tests whose name contains PART; names are printed as "unit/test_pit", "guests/linux/serial", ...
"""
import argparse
import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.guest import SLOWNESS, TOP, Host, indent, run_parallel  # noqa: E402

# Run only when asked for by --only: net takes minutes.
ASKED_MODULES = ("net",)
GUEST_MODULES = (
    "errors",
    "images",
    "disk_errors",
    "folders",
    "kill",
    "power",
    "ports",
    "qmp",
    "gdb",
    "hostile",
    "linux",
    "snapshots",
    "user",
    "memtest",
    "grub",
    "freedos",
    "mikeos",
    "bootos",
    "floppinux",
    "window",
    "installer",
)
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)


def program_test(command, environment, seconds):
    """A test that is a program of its own and ends with its own summary."""

    def run(t):
        with tempfile.TemporaryFile() as output:  # a file: nobody waits for whom inherited a pipe
            try:
                done = subprocess.run(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=TOP,
                    timeout=seconds * SLOWNESS,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = None
            output.seek(0)
            text = output.read().decode("utf-8", "replace").replace("\r", "")
        if code is None:
            t.fail(f"did not end within {seconds} s\n{indent(text[-2000:])}")
            return
        counts = SUMMARY.findall(text)
        if not counts:
            t.fail(f"exit code {code} and no summary\n{indent(text[-3000:])}")
            return
        t.passed += int(counts[-1][0])
        t.failed += int(counts[-1][1])
        if t.failed or code:
            t.lines.append(indent(text[-4000:]))
            if not t.failed:
                t.fail(f"all its checks passed, but its exit code is {code}")

    return run


def guest_tests(host, only):
    asked = tuple(name for name in ASKED_MODULES if any(part.startswith("guests/" + name) for part in only))
    for name in GUEST_MODULES + asked:
        module = importlib.import_module("guests." + name)
        for attribute in dir(module):
            if attribute.startswith("test_"):
                function = getattr(module, attribute)
                title = attribute[5:].removeprefix(name + "_")
                yield f"guests/{name}/{title}", lambda t, function=function: function(t, host)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qemu")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--unit", nargs="*", default=[])
    parser.add_argument("--wine-unit", nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    start = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that finish() ends what was started

    sanitizers = dict(os.environ, ASAN_OPTIONS="detect_leaks=1", UBSAN_OPTIONS="print_stacktrace=1")
    host = Host(options.qemu or "qemu-system-i386")
    tests = [("includes", program_test([os.path.join(TOP, "tests", "check_includes.sh")], None, 30))]
    for name in options.unit:
        tests.append(
            ("unit/" + os.path.basename(name), program_test([os.path.abspath(name)], sanitizers, 120))
        )
    wine = ["wine"] if host.wine else []
    for name in options.wine_unit:
        tests.append(
            (
                "windows/" + os.path.basename(name),
                program_test(wine + [os.path.abspath(name)], host.environment, 120),
            )
        )
    if options.qemu:
        tests += guest_tests(host, options.only)
    tests = [
        (name, run) for name, run in tests if not options.only or any(part in name for part in options.only)
    ]

    passed = failed = 0
    try:
        if any(not name.startswith(("unit/", "includes")) for name, _ in tests):
            host.prepare()
        passed, failed = run_parallel(tests, options.workers)
    finally:
        host.finish()
    print(f"all of it took {time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
