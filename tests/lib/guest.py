"""Starts an emulator, types into it, and reads its serial line, screen and monitor, all with deadlines."""
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from . import screen

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("QEMU_WIN_SHARED", os.path.join(TOP, "..", "shared"))
SLOWNESS = float(os.environ.get("QEMU_WIN_SLOWNESS", "1"))
PROMPT = b"(qemu) "

KEY_NAMES = {
    " ": "spc",
    "\n": "ret",
    "\t": "tab",
    "\b": "backspace",
    "\x1b": "esc",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    "\\": "backslash",
    ",": "comma",
    ".": "dot",
    "/": "slash",
    "*": "asterisk",
    "\x1a": "ctrl-z",
    "\x03": "ctrl-c",
}
SHIFTED = dict(
    zip(
        '!@#$%^&()_+{}:"~|<>?',
        "1 2 3 4 5 6 7 9 0 minus equal bracket_left bracket_right semicolon "
        "apostrophe grave_accent backslash comma dot slash".split(),
    )
)


def key_name(char):
    if char in KEY_NAMES:
        return KEY_NAMES[char]
    if char in SHIFTED:
        return "shift-" + SHIFTED[char]
    return "shift-" + char.lower() if char.isupper() else char


class Failure(Exception):
    """A test can't go on."""


class LeftOut(Exception):
    """A test can't be done here; said in a line, neither passed nor failed."""


def shared_guest(name):
    """A guest that is kept beside the project and not in it."""
    path = os.path.join(SHARED, "guests", name)
    if not os.path.exists(path):
        raise LeftOut(f"{path} is not there")
    return path


class Host:
    """How the emulator is started here: natively, under Wine, or on Windows itself."""

    def __init__(self, program, firmware=None):
        self.program = os.path.abspath(program) if os.path.dirname(program) else program
        self.windows = program.endswith(".exe")
        self.wine = self.windows and os.name != "nt"
        self.environment = dict(os.environ)
        self.environment.update(
            SDL_AUDIODRIVER="dummy", LC_ALL="C.UTF-8", QEMU_WIN_BIOS=os.path.join(TOP, "build", "pc-bios")
        )
        self.prefix = os.environ.get("WINEPREFIX", os.path.join(TOP, "build", "wine"))
        if self.wine:
            self.environment.update(
                WINEPREFIX=self.prefix,
                WINEDEBUG="-all",
                WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe=",
            )
            self.command = ["wine", self.program]
        else:
            self.command = [self.program]
        self.font = screen.Font(
            screen.find_vgabios(os.path.join(TOP, "build", "pc-bios"), "/usr/share/seabios")
        )
        self.started = []
        self.x_server = None
        self.lock = threading.Lock()

    def prepare(self):
        """
        Under Wine: one server and one X display for all tests, because Wine's desktop process keeps to the display it
        found first. The prefix was made by setup/wine.sh.
        """
        if self.wine:
            read, write = os.pipe()
            command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            self.x_server = subprocess.Popen(command, pass_fds=[write], **quiet)
            os.close(write)
            with os.fdopen(read) as number:
                self.environment["DISPLAY"] = ":" + number.readline().strip()
            subprocess.run(["wineserver", "-p"], env=self.environment, check=False, timeout=30)
            # Wine's services start with the first program and inherit its pipes: let it be one that stays.
            keeper = subprocess.Popen(["wine", "cmd"], env=self.environment, stdin=subprocess.PIPE, **quiet)
            self.started.append(keeper)
            time.sleep(3)

    def finish(self):
        with self.lock:
            for process in self.started:
                if process.poll() is None:
                    process.kill()
        if self.wine:
            subprocess.run(["wineserver", "-k"], env=self.environment, check=False, timeout=30)
            if self.x_server:
                self.x_server.kill()
                self.x_server.wait()

    def path(self, name):
        """A file's name as the emulator wants it."""
        name = os.path.abspath(name)
        return "Z:" + name.replace("/", "\\") if self.wine else name

    def start(self, arguments, folder, **more):
        process = subprocess.Popen(
            self.command + arguments,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=more.pop("environment", self.environment),
            **more,
        )
        with self.lock:
            self.started.append(process)
        return process

    def run(self, arguments, folder=None, seconds=60):
        """Runs to the end; returns (exit code, stdout, stderr). What does not end is killed: code None."""
        try:
            done = subprocess.run(
                self.command + arguments,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self.environment,
                timeout=seconds * SLOWNESS,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return (
                None,
                (late.stdout or b"").decode("utf-8", "replace"),
                (late.stderr or b"").decode("utf-8", "replace"),
            )
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


class BatchHost(Host):
    """Starts a .bat file through cmd, as a double-click does: in its folder, or else in the guest's own."""

    def __init__(self, host, batch, folder=None):
        vars(self).update(vars(host))
        self.folder = folder
        self.command = (["wine"] if host.wine else []) + ["cmd", "/c", batch]

    def start(self, arguments, folder, **more):
        return super().start(arguments, self.folder or folder, **more)


class Guest:
    """
    A running emulator. Its serial line and its monitor share stdio (mon:stdio, switched by Ctrl-a c);
    serial=False leaves stdio to the monitor alone, for guests that are used by screen and keyboard;
    serial="file" writes to serial.txt.
    """

    def __init__(
        self,
        host,
        arguments,
        serial=True,
        display="none",
        copies=(),
        files=None,
        environment=None,
        mux=None,
        dump=None,
    ):
        self.host = host
        self.folder = tempfile.mkdtemp(prefix="qemu-win-test-")
        for source in copies:
            shutil.copyfile(source, os.path.join(self.folder, os.path.basename(source)))
            os.chmod(os.path.join(self.folder, os.path.basename(source)), 0o644)
        for name, content in (files or {}).items():
            with open(os.path.join(self.folder, name), "wb") as f:
                f.write(content)
        self.muxed = serial is True
        self.dump = dump or os.path.join(self.folder, "screen.ppm")
        stdio = mux if mux is not None else ["-display", display, "-serial", "mon:stdio"]
        if not self.muxed:
            stdio = [
                "-display",
                display,
                "-serial",
                "file:serial.txt" if serial else "null",
                "-monitor",
                "stdio",
            ]
        self.in_monitor = not self.muxed
        self.output = bytearray()
        self.read_to = 0
        self.changed = threading.Condition()
        self.ended = False
        self.errors = tempfile.TemporaryFile()
        more = {"environment": environment} if environment else {}
        self.process = host.start(list(stdio) + arguments, self.folder, stderr=self.errors, **more)
        self.keys_busy_until = 0.0
        threading.Thread(target=self.reader, daemon=True).start()
        if not self.muxed:
            self.wait_output(re.escape(PROMPT), 60, "the monitor's prompt")

    def reader(self):
        descriptor = self.process.stdout.fileno()
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                data = b""
            with self.changed:
                if data:
                    self.output += data.replace(b"\r", b"")
                else:
                    self.ended = True
                self.changed.notify_all()
            if not data:
                return

    # ---- output ----
    def wait_output(self, pattern, seconds, what=None):
        """Waits for pattern (a bytes regex) in what was not read yet; returns the text up to its end."""
        end = time.monotonic() + seconds * SLOWNESS
        regex = re.compile(pattern, re.S)
        with self.changed:
            while True:
                found = regex.search(self.output, self.read_to)
                if found:
                    text = bytes(self.output[self.read_to : found.end()])
                    self.read_to = found.end()
                    return plain(text)
                left = end - time.monotonic()
                if self.ended or left <= 0:
                    tail = plain(bytes(self.output[-1500:]))
                    why = "the emulator ended" if self.ended else f"{seconds} s passed"
                    raise Failure(
                        f"waiting for {what or pattern!r}: {why}; last output:\n{indent(tail)}"
                        f"{indent(self.stderr())}"
                    )
                self.changed.wait(left)

    def wait_serial(self, pattern, seconds, what=None):
        return self.wait_output(pattern.encode() if isinstance(pattern, str) else pattern, seconds, what)

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def send(self, text):
        """To the serial line."""
        if self.in_monitor and self.muxed:
            self.raw(b"\x01c")
            self.in_monitor = False
        self.raw(text.encode())

    def raw(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError as why:
            raise Failure(f"the emulator takes no more input: {why}\n{indent(self.stderr())}") from None

    # ---- monitor ----
    def monitor(self, line, seconds=20):
        """Runs a monitor command and returns what it printed."""
        if not self.in_monitor:
            self.raw(b"\x01c\n")
            self.in_monitor = True
            self.wait_output(re.escape(PROMPT), seconds, "the monitor's prompt")
            time.sleep(0.05)
            with self.changed:
                self.read_to = len(self.output)
        self.raw(line.encode() + b"\n")
        text = self.wait_output(rb"\n" + re.escape(PROMPT), seconds, f"the monitor's answer to {line!r}")
        text = text[: -len(PROMPT)]
        return text.partition("\n")[2].strip("\n")

    def quit(self, seconds=20):
        """Ends it by the monitor and returns the exit code."""
        if not self.in_monitor:
            self.raw(b"\x01c\n")
            self.in_monitor = True
        self.raw(b"quit\n")
        return self.wait_end(seconds)

    def wait_end(self, seconds):
        try:
            return self.process.wait(seconds * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise Failure(
                f"the emulator did not end within {seconds} s; last output:\n"
                f"{indent(plain(bytes(self.output[-800:])))}"
            ) from None

    # ---- screen and keyboard ----
    def picture(self, tries=3):
        name = self.dump
        while True:
            if os.path.exists(name):
                os.unlink(name)
            answer = self.monitor("screendump screen.ppm")
            try:
                with open(name, "rb") as f:
                    return screen.Picture(f.read())
            except (OSError, ValueError) as why:
                tries -= 1
                if not tries:
                    raise Failure(f"screendump: {why}; the monitor said: {answer}") from None
                time.sleep(0.2)

    def screen(self):
        """The text on the screen, as one string of lines."""
        return "\n".join(screen.text_of(self.picture(), self.host.font))

    def wait_screen(self, pattern, seconds, what=None):
        """Waits until the regex appears on the (text) screen; returns the screen."""
        end = time.monotonic() + seconds * SLOWNESS
        regex = re.compile(pattern)
        while True:
            text = self.screen()
            if regex.search(text):
                return text
            if time.monotonic() > end:
                raise Failure(
                    f"waiting for {what or pattern!r} on the screen: {seconds} s passed; it shows:\n"
                    f"{indent(text.rstrip())}"
                )
            time.sleep(0.3)

    def keys(self, *names, hold=30):
        """Keys by their monitor names, one after another."""
        for name in names:
            self.monitor(f"sendkey {name} {hold}")
            time.sleep(hold * 2 / 1000)

    def type(self, text):
        self.keys(*(key_name(char) for char in text))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def plain(data):
    """Bytes to text without terminal escapes; what a line editor echoed and took back is gone."""
    text = data.decode("utf-8", "replace")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def indent(text):
    return "".join(f"    | {line}\n" for line in text.splitlines())


class Checks:
    """Counts, and prints what failed. One a test."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = 0
        self.lines = []

    def check(self, good, behaviour, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            self.lines.append(
                f"{self.name}: failed: {behaviour}" + (f"\n{indent(str(detail))}" if detail else "")
            )
        return good

    def fail(self, text):
        self.check(False, text)

    def note(self, text):
        self.lines.append(f"{self.name}: {text}")


def run_parallel(tests, workers):
    """Runs (name, function(checks)) pairs and prints each one's result. Returns (passed, failed)."""
    waiting = queue.SimpleQueue()
    for pair in tests:
        waiting.put(pair)
    total = [0, 0]
    lock = threading.Lock()

    def work():
        while True:
            try:
                name, function = waiting.get_nowait()
            except queue.Empty:
                return
            checks = Checks(name)
            start = time.monotonic()
            try:
                function(checks)
            except LeftOut as why:
                checks.note(f"left out: {why}")
            except Failure as why:
                checks.fail(str(why))
            except Exception as why:  # a defect of the test itself counts as a failed test
                place = why.__traceback__.tb_next or why.__traceback__
                checks.fail(f"{type(why).__name__}: {why} (line {place.tb_lineno})")
            seconds = time.monotonic() - start
            with lock:
                for line in checks.lines:
                    print(line.rstrip("\n"))
                print(f"{name}: {checks.passed} passed, {checks.failed} failed, {seconds:.1f} s")
                sys.stdout.flush()
                total[0] += checks.passed
                total[1] += checks.failed

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total
