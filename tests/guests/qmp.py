"""QMP: a client as the published protocol describes one, and one that sends junk. Uses tests/guests/actions.S."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from lib.guest import SLOWNESS, TOP, Guest, LeftOut

ACTIONS = os.path.join(TOP, "build", "guests", "actions.img")


class Client:
    """One connection; events are kept in the order they came."""

    def __init__(self, port):
        end = time.monotonic() + 30 * SLOWNESS
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), 20 * SLOWNESS)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.buffer = b""
        self.events = []

    def message(self):
        """The next object; None at the end of the connection."""
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                if line.strip():
                    return json.loads(line)
                continue
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.buffer += data

    def answer(self):
        while True:
            found = self.message()
            if found is None or "event" not in found:
                return found
            self.events.append(found)

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else json.dumps(data).encode())

    def run(self, command, ident=None, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        if ident is not None:
            request["id"] = ident
        self.send(request)
        return self.answer()

    def wait_event(self, name):
        while True:
            for number, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[: number + 1]
                    return event
            found = self.message()
            if found is None:
                return None
            self.events.append(found)

    def close(self):
        self.socket.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def boot(host, port, *more):
    arguments = ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot", "-name", "fred"]
    return Guest(host, arguments + ["-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off", *more])


def negotiated(port):
    client = Client(port)
    client.message()
    client.run("qmp_capabilities")
    return client


def test_negotiation(t, host):
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        client = Client(port)
        greeting = client.message()
        t.check("major" in greeting["QMP"]["version"]["qemu"] and "capabilities" in greeting["QMP"], "it greets", greeting)
        error = client.run("query-status", ident=7)
        t.check(error["error"]["class"] == "CommandNotFound" and error["id"] == 7, "first come capabilities", error)
        t.check(client.run("qmp_capabilities") == {"return": {}}, "capabilities are negotiated")
        t.check(client.run("qmp_capabilities")["error"]["class"] == "CommandNotFound", "but once")
        t.check(client.run("query-status", ident={"a": [1, "x"]})["id"] == {"a": [1, "x"]}, "an id comes back whole")
        t.check(client.run("no-such")["error"]["class"] == "CommandNotFound", "an unknown command is an error")
        error = client.run("stop", now=True)
        t.check("'now' is unexpected" in error["error"]["desc"], "so is an argument that is not known", error)
        error = client.run("screendump", filename=5)
        t.check("expected: string" in error["error"]["desc"], "or of the wrong type", error)
        names = {row["name"] for row in client.run("query-commands")["return"]}
        t.check({"query-block", "send-key", "quit", "human-monitor-command"} <= names, "it lists its commands", names)
        client.close()
        client = Client(port)
        t.check("QMP" in client.message(), "the next client is greeted, too")
        client.close()
        guest.quit()


def test_commands(t, host):
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        client = negotiated(port)
        t.check(client.run("query-name") == {"return": {"name": "fred"}}, "query-name")
        status = client.run("query-status")["return"]
        t.check(status["running"] and status["status"] == "running", "query-status", status)
        t.check(client.run("stop") == {"return": {}} and client.wait_event("STOP"), "stop stops, and says so")
        t.check(not client.run("query-status")["return"]["running"], "it is paused")
        t.check(client.run("cont") == {"return": {}} and client.wait_event("RESUME"), "cont goes on, and says so")
        t.check(len(client.run("query-cpus-fast")["return"]) == 1, "query-cpus-fast")
        drives = {row["device"]: row for row in client.run("query-block")["return"]}
        floppy = drives.get("floppy0", {})
        t.check(floppy.get("inserted", {}).get("drv") == "raw" and floppy["removable"], "query-block", drives)
        t.check(client.run("eject", device="nix")["error"]["class"] == "DeviceNotFound", "eject: an unknown drive")
        t.check(client.run("eject", device="floppy0") == {"return": {}}, "eject")
        drives = {row["device"]: row for row in client.run("query-block")["return"]}
        t.check("inserted" not in drives["floppy0"], "the floppy is out", drives)
        put = client.run("blockdev-change-medium", device="floppy0", filename=host.path(ACTIONS))
        t.check(put == {"return": {}}, "blockdev-change-medium", put)
        put = client.run("blockdev-change-medium", id="floppy0", filename="/no/such/file")
        t.check("error" in put, "a medium that is not there is an error")
        text = client.run("human-monitor-command", command_line="info status")["return"]
        t.check(text == "VM status: running\n", "human-monitor-command", repr(text))
        dump = os.path.join(guest.folder, "q.ppm")
        t.check(client.run("screendump", filename=host.path(dump)) == {"return": {}}, "screendump")
        with open(dump, "rb") as f:
            t.check(f.read(2) == b"P6", "the picture is there")
        t.check("error" in client.run("device_add", driver="e1000"), "device_add says that it can't")
        t.check(client.run("system_reset") == {"return": {}}, "system_reset")
        event = client.wait_event("RESET")
        t.check(event and event["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, "RESET is told", event)
        guest.wait_serial("ready\n", 60)
        guest.send("k")
        event = client.wait_event("RESET")
        t.check(event and event["data"]["guest"], "RESET by the guest is told", event)
        guest.wait_serial("ready\n", 60)
        t.check(client.run("quit") == {"return": {}}, "quit")
        event = client.wait_event("SHUTDOWN")
        t.check(event and not event["data"]["guest"], "SHUTDOWN is told", event)
        t.check(guest.wait_end(20) == 0, "and the program ends")


def test_input(t, host):
    """Keys and mouse, seen by the keyboard controller: the guest is halted, its registers are read."""
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        client = negotiated(port)
        keys = [{"type": "qcode", "data": "ctrl"}, {"type": "number", "data": 0x1E}]
        t.check(client.run("send-key", keys=keys, hold_time=50) == {"return": {}}, "send-key")
        t.check("error" in client.run("send-key", keys=[{"type": "qcode", "data": "nix"}]), "an unknown key")
        t.check("error" in client.run("send-key", keys=[]), "no key")
        events = [
            {"type": "key", "data": {"down": True, "key": {"type": "qcode", "data": "a"}}},
            {"type": "key", "data": {"down": False, "key": {"type": "qcode", "data": "a"}}},
            {"type": "rel", "data": {"axis": "x", "value": 5}},
            {"type": "btn", "data": {"down": True, "button": "left"}},
            {"type": "btn", "data": {"down": False, "button": "left"}},
        ]
        t.check(client.run("input-send-event", events=events) == {"return": {}}, "input-send-event")
        for wrong in ({"type": "abs", "data": {"axis": "x", "value": 5}}, {"type": "x", "data": {}}, 5, {"type": "key"}):
            t.check("error" in client.run("input-send-event", events=[wrong]), f"{wrong} is refused")
        guest.quit()


def job(client, command, ident, **arguments):
    """Runs a job to its end; returns the states it went through."""
    states = []
    answer = client.run(command, job_id=ident, **arguments)
    while "return" in answer and not {"null", "concluded"} & set(states[-1:]) or states[-2:] == ["pending", "concluded"]:
        data = client.wait_event("JOB_STATUS_CHANGE")["data"]
        if data["id"] == ident:
            states.append(data["status"])
    return states


def test_snapshot_jobs(t, host):
    port = free_port()
    name = os.path.join(tempfile.mkdtemp(prefix="qemu-win-test-"), "disk.qcow2")
    folder, program = os.path.split(host.program)
    tool = os.path.join(folder, program.replace("qemu", "qemu-img", 1))
    if not os.path.exists(tool):
        raise LeftOut("qemu-img is not beside the program")
    made = subprocess.run(
        host.command[:-1] + [tool, "create", "-f", "qcow2", host.path(name), "64M"],
        env=host.environment, stdout=subprocess.DEVNULL, timeout=60 * SLOWNESS, check=False,
    )  # fmt: skip
    t.check(made.returncode == 0, "a disk is made")
    arguments = ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-hda", host.path(name)]
    with Guest(host, arguments + ["-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off"]) as guest:
        guest.wait_serial("ready\n", 60)
        client = negotiated(port)
        good = ["created", "running", "waiting", "pending", "concluded", "null"]
        for command in ("snapshot-save", "snapshot-load", "snapshot-delete"):
            states = job(client, command, "job-" + command, tag="one")
            t.check(states == good, f"{command} goes its way", states)
        t.check(client.run("query-jobs") == {"return": []}, "jobs that went well are gone")
        states = job(client, "snapshot-load", "j4", tag="one")
        t.check(states[-2:] == ["aborting", "concluded"], "a snapshot that is not there", states)
        jobs = client.run("query-jobs")["return"]
        t.check(len(jobs) == 1 and jobs[0]["error"], "query-jobs has its error", jobs)
        t.check("error" in client.run("snapshot-save", job_id="j4", tag="x"), "a name of a job that is there is refused")
        t.check(client.run("job-dismiss", id="j4") == {"return": {}}, "it is dismissed")
        guest.send("?")
        guest.wait_serial("yes\n", 20)
        t.check(guest.quit() == 0, "it ends")
    shutil.rmtree(os.path.dirname(name))


def test_junk(t, host):
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        client = Client(port)
        client.message()
        for junk in (b"hello\n", b"{'a': 1}\n", b"[1, 2\n]\n", b"\0\n", b'"x"\n', b"{}\n", b'{"execute": 5}\n', b"\xff\xfe\n"):
            client.send(junk)
            answer = client.answer()
            t.check(answer and "error" in answer, f"{junk} is answered by an error", answer)
        t.check(client.run("qmp_capabilities") == {"return": {}}, "and the connection is still good")
        client.send(b'{"execute": "query-sta')
        time.sleep(0.1)
        client.send(b'tus"}{"execute": "query-name"}')
        t.check("running" in client.answer()["return"] and "name" in client.answer()["return"], "pieces are put together")
        try:
            for _ in range(16):
                client.send(b"[" * 65536)
        except OSError:
            pass  # it was sent away in the middle
        while True:
            answer = client.message()
            if answer is None or "error" not in answer:
                break
        t.check(answer is None, "a line of 1 MB is sent away")
        client = Client(port)
        client.message()
        client.send(b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-commands"}' * 20000)
        time.sleep(1)
        t.check("running" in guest.monitor("info status"), "who asks and never reads harms nobody")
        client.close()
        client = negotiated(port)
        t.check("return" in client.run("query-status"), "the next client is served")
        t.check(guest.quit() == 0, "it ends")
