"""Serial line and monitor on sockets: who comes, leaves and comes again. Uses tests/guests/actions.S."""
import os
import socket
import time

from lib.guest import SLOWNESS, TOP, Guest, LeftOut

ACTIONS = os.path.join(TOP, "build", "guests", "actions.img")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Line:
    """The other end of a socket."""

    def __init__(self, port, seconds=20):
        end = time.monotonic() + seconds * SLOWNESS
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), seconds * SLOWNESS)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.got = b""

    def send(self, data):
        self.socket.sendall(data)

    def wait(self, what, seconds=20):
        """True if what arrives in time; what came before it is forgotten."""
        end = time.monotonic() + seconds * SLOWNESS
        while what not in self.got:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                return False
            self.got += data
        self.got = self.got.partition(what)[2]
        return True

    def close(self):
        self.socket.close()


def boot(host, *more):
    return Guest(host, ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot", *more], serial=False)


def test_serial_on_tcp(t, host):
    port = free_port()
    options = ["-display", "none", "-monitor", "stdio", "-serial", f"tcp:127.0.0.1:{port},server"]
    arguments = ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot"]
    with Guest(host, arguments, serial=True, mux=options) as guest:
        guest.muxed, guest.in_monitor = False, True
        guest.wait_output(rb"\(qemu\) ", 60, "the monitor's prompt")
        line = Line(port)
        t.check(line.wait(b"ready", 60), "the guest waits for the first peer, who misses nothing")
        t.check("connected to 127.0.0.1" in guest.monitor("info chardev"), "info chardev names the peer")
        line.close()
        line = Line(port)
        for _ in range(20):  # until the emulator has taken the new peer, what it sends goes nowhere
            line.send(b"?")
            if line.wait(b"yes", 1):
                break
        else:
            t.fail("the next peer talks to the guest")
        line.close()
        t.check(guest.quit() == 0, "it ends")


def test_monitor_on_telnet(t, host):
    port = free_port()
    options = [
        "-chardev", f"socket,id=m,host=127.0.0.1,port={port},server=on,wait=off,telnet=on", "-mon", "chardev=m",
    ]  # fmt: skip
    with boot(host, *options) as guest:
        for turn in ("first", "second"):
            line = Line(port)
            t.check(line.wait(b"(qemu) "), f"the {turn} peer sees a prompt")
            line.send(b"info status\r\0")
            t.check(line.wait(b"VM status: running\r\n(qemu) "), f"the monitor answers the {turn} peer")
            line.send(b"info sta")
            line.close()
        t.check(guest.quit() == 0, "it ends")


def test_client(t, host):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(30 * SLOWNESS)
        port = listener.getsockname()[1]
        with boot(host, "-serial", f"tcp:127.0.0.1:{port},reconnect=1") as guest:
            for turn in range(2):
                listener.accept()[0].close()
                t.check(True, f"connects, time {turn + 1}")
            t.check(guest.quit() == 0, "it ends")


def test_pipe(t, host):
    """Two machines on one pipe: the first makes it; what one sends the other reads from its port."""
    if not host.windows:
        raise LeftOut("named pipes are Windows'")
    spec = f"pipe:qemu-win-test-{os.getpid()}"
    mux = ["-display", "none", "-monitor", "stdio", "-serial", spec]
    arguments = ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot"]
    with Guest(host, arguments, mux=mux) as first, Guest(host, ["-m", "16", "-S"], mux=mux) as second:
        for guest in (first, second):
            guest.muxed, guest.in_monitor = False, True
            guest.wait_output(rb"\(qemu\) ", 60, "the monitor's prompt")
        read = ""
        end = time.monotonic() + 60 * SLOWNESS
        while "yes" not in read and time.monotonic() < end:
            second.monitor("o /b 0x3f8 0x3f")  # '?'
            time.sleep(0.3)
            for _ in range(8):
                read += chr(int(second.monitor("i /b 0x3f8").split("= ")[1], 16))
        t.check("yes" in read, "one guest's question reaches the other, and its answer comes back", repr(read))
        t.check("connected" in first.monitor("info chardev"), "both are connected")
        second.quit()
        time.sleep(1)
        state = first.monitor("info chardev")
        t.check(spec + ", waits for a peer" in state, "one that leaves makes room for the next", state)
        t.check(first.quit() == 0, "it ends")


def test_wrong(t, host):
    for options, says in (
        (["-serial", "tcp:127.0.0.1"], "HOST:PORT"),
        (["-serial", "tcp::4444,sever"], "sever"),
        (["-serial", "chardev:nix"], "nix"),
        (["-chardev", "socket,id=a,path=/tmp/x"], "path="),
        (["-chardev", "pty,id=a"], "there are socket"),
        (["-chardev", "null,id=a", "-chardev", "null,id=a"], "twice"),
        (["-chardev", "null"], "id="),
        (["-mon", "chardev=a,mode=x"], "mode="),
    ):
        code, _, errors = host.run(["-display", "none", "-S", *options], seconds=20)
        t.check(code == 1 and says in errors, f"{' '.join(options)} is refused", errors)
