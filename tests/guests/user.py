"""The user network with a Linux guest: DHCP, ping, a name, HTTP in both directions, TFTP, many connections at once."""
import hashlib
import http.server
import os
import socketserver
import threading
import time
import urllib.request

from guests.net import GUESTS, free_port, shell
from lib.guest import Guest

MODULE = {"ne2k_pci": "ne2k-pci", "rtl8139": "8139cp", "pcnet": "pcnet32", "e1000": "e1000", "virtio": "virtio_net"}
# busybox's udhcpc runs this with what it was told.
SCRIPT = (
    "printf '#!/bin/sh\\n[ \"$1\" = bound ] && ifconfig $interface $ip netmask $subnet && "
    "route add default gw $router && echo nameserver $dns >/etc/resolv.conf && echo named=$hostname\\nexit 0\\n'"
    " >/tmp/dhcp; chmod +x /tmp/dhcp"
)


class Pages(http.server.BaseHTTPRequestHandler):
    """/N: N megabytes that belong to N. POST: the MD5 sum of what came."""

    protocol_version = "HTTP/1.1"

    @staticmethod
    def content(size):
        return bytes(range(256)) * (size << 12)

    def do_GET(self):
        data = self.content(int(self.path.strip("/") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.md5()
        while left:
            data = self.rfile.read(min(left, 1 << 16))
            if not data:
                return
            digest.update(data)
            left -= len(data)
        answer = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Sink(socketserver.BaseRequestHandler):
    """Reads to the end and answers with the MD5 sum."""

    def handle(self):
        digest = hashlib.md5()
        while data := self.request.recv(1 << 16):
            digest.update(data)
        self.request.sendall(digest.hexdigest().encode() + b"\n")


class Server:
    """A server on a free port of the loopback address, in threads of its own."""

    def __init__(self, kind, handler):
        self.server = kind(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self.port

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def http_server():
    return Server(http.server.ThreadingHTTPServer, Pages)


def sink_server():
    return Server(socketserver.ThreadingTCPServer, Sink)


def start(host, option, model="ne2k_pci", more=(), **files):
    """A guest with this user network, which has asked for its address."""
    kernel, initrd = (host.path(os.path.join(GUESTS, name)) for name in ("vmlinuz", "initrd.gz"))
    arguments = ["-m", "96", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet"]
    guest = Guest(host, arguments + ["-net", f"nic,model={model}", "-net", option, *more], **files)
    guest.wait_serial("guest:/root#", 120)
    shell(guest, SCRIPT, 30)
    guest.leased = shell(guest, f"modprobe {MODULE[model]}; ifconfig eth0 up; udhcpc -i eth0 -n -q -s /tmp/dhcp", 60)
    return guest


def download(t, guest, port, size, seconds=120):
    begin = time.monotonic()
    said = shell(guest, f"wget -q -O - http://10.0.2.2:{port}/{size} | md5sum", seconds)
    t.check(hashlib.md5(Pages.content(size)).hexdigest() in said, f"{size} MB come in whole", said)
    t.note(f"{size} MB in: {time.monotonic() - begin:.1f} s")


def upload(t, guest, port, size, seconds=120):
    shell(guest, f"dd if=/dev/urandom of=/tmp/up bs=1M count={size} 2>/dev/null", seconds)
    begin = time.monotonic()
    said = shell(guest, f"md5sum </tmp/up; nc 10.0.2.2 {port} </tmp/up; rm /tmp/up", seconds)
    sums = [word for word in said.split() if len(word) == 32 and word.isalnum()]
    t.check(len(sums) == 2 and sums[0] == sums[1], f"{size} MB go out whole", said)
    t.note(f"{size} MB out: {time.monotonic() - begin:.1f} s")


def quiet(t, guest):
    said = guest.monitor("info iostats")
    t.check("safety sweep: 0" in said, "no event had to be rescued by the safety sweep", said)
    said = guest.monitor("info network")
    t.check(" 0 segments sent again, 0 bad packets" in said, "nothing was lost on the way to the guest", said)


def test_user(t, host):
    """Address, ping, name server, files in and out, a forwarded port, many short connections."""
    size = 8 if host.windows else 64
    inside = free_port()
    option = f"user,hostname=box,tftp=.,hostfwd=tcp:127.0.0.1:{inside}-:80"
    boot = bytes(range(256)) * 200 + b"end"
    with start(host, option, files={"boot.bin": boot}) as guest, http_server() as port, sink_server() as sink:
        t.check("10.0.2.15" in guest.leased and "named=box" in guest.leased, "DHCP gives an address and a name",
                guest.leased)
        said = shell(guest, "ping -c 5 -A 10.0.2.2; route -n", 30)
        t.check(" 5 packets received" in said and "10.0.2.2" in said, "the gateway answers pings", said)
        download(t, guest, port, size)
        upload(t, guest, sink, size // 2)
        said = shell(guest, "tftp -g -r boot.bin -l /tmp/b 10.0.2.2; md5sum /tmp/b; tftp -g -r ../x -l /tmp/c 10.0.2.2",
                     60)
        t.check(hashlib.md5(boot).hexdigest() in said and "server error" in said,
                "TFTP reads from its folder and not from beside it", said)
        guest.send("mkdir /tmp/w; echo it works >/tmp/w/index.html; httpd -p 80 -h /tmp/w\n")
        shell(guest, "true", 30)
        with urllib.request.urlopen(f"http://127.0.0.1:{inside}/", timeout=60) as page:
            t.check(page.read() == b"it works\n", "a forwarded port reaches a server in the guest")
        quiet(t, guest)
        said = shell(guest, f"for i in $(seq 40); do wget -q -O - http://10.0.2.2:{port}/1 | md5sum & done; wait", 120)
        t.check(said.count(hashlib.md5(Pages.content(1)).hexdigest()) == 40, "40 downloads at once", said[-300:])
        said = shell(guest, "wget -O - http://10.0.2.2:1/", 60)
        t.check("refused" in said, "a closed port of the host refuses", said)


def test_user_restricted(t, host):
    with http_server() as port, start(host, "user,restrict=on") as guest:
        said = shell(guest, f"ifconfig eth0 10.0.2.15; wget -O - http://10.0.2.2:{port}/1 | md5sum", 60)
        t.check("refused" in said, "restrict=on: the host is not reached", said)
        said = shell(guest, "ping -c 2 -A 10.0.2.2", 30)
        t.check(" 2 packets received" in said, "restrict=on: the gateway itself is", said)


def test_user_slow(t, host):
    """One connection whose server does not read, one byte a second in another, a third is not disturbed."""
    stop = threading.Event()

    class Deaf(socketserver.BaseRequestHandler):
        def handle(self):
            stop.wait(120)

    class Drip(socketserver.BaseRequestHandler):
        def handle(self):
            while not stop.wait(1):
                self.request.sendall(b".")

    deaf, drip = Server(socketserver.ThreadingTCPServer, Deaf), Server(socketserver.ThreadingTCPServer, Drip)
    with start(host, "user") as guest, http_server() as port, deaf as deaf_port, drip as drip_port:
        shell(guest, f"cat /dev/zero | nc 10.0.2.2 {deaf_port} >/dev/null & nc 10.0.2.2 {drip_port} >/tmp/d & true", 30)
        download(t, guest, port, 4 if host.windows else 16)
        said = guest.monitor("info network")
        t.check("2 TCP connections" in said, "both slow ones are still there", said)
        stop.set()
