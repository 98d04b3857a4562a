"""Two Linux guests on a VLAN of sockets: ping, data with checksums, loss of one end; also with the packaged emulator at the other."""
import os
import shutil
import socket
import struct
import threading
import time

from lib.guest import TOP, Guest, Host

GUESTS = os.path.join(TOP, "build", "guests")
MEGABYTES = 16
PACKAGED = shutil.which("qemu-system-i386")


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(host, number, net, model="ne2k_pci"):
    """A guest 10.0.5.number; wait for it with up()."""
    card = f"nic,macaddr=52:54:00:12:35:{number:02x},model={model}"
    return Guest(
        host,
        [
            "-m",
            "64",
            "-kernel",
            host.path(os.path.join(GUESTS, "vmlinuz")),
            "-initrd",
            host.path(os.path.join(GUESTS, "initrd.gz")),
            "-append",
            "console=ttyS0 quiet",
            "-net",
            card,
        ]
        + net,
    )


def up(guest, number):
    guest.wait_serial("guest:/root#", 120)
    shell(guest, f"modprobe ne2k-pci; ifconfig eth0 10.0.5.{number} netmask 255.255.255.0 up", 30)


def shell(guest, command, seconds):
    guest.send(f"{command}; echo =$((3+4))=\n")
    return guest.wait_serial("=7=\n", seconds, f"the end of {command!r}")


def pings(guest, number, seconds=60):
    """Pings until one is answered, then 20 more; how many of these were answered."""
    shell(guest, f"for i in $(seq 30); do ping -c 1 -W 1 10.0.5.{number} >/dev/null && break; done", seconds)
    said = shell(guest, f"ping -c 20 -A -W 2 10.0.5.{number} | grep received", 60)
    return said.partition(" packets received")[0].rpartition(", ")[2].strip()


def move(t, sender, receiver, number, what):
    """Pseudo-random megabytes over TCP; both ends print their checksum."""
    receiver.send("nc -l -p 5000 | md5sum; echo =$((3+4))=\n")
    time.sleep(0.5)
    make = (
        "dd if=/dev/urandom of=/tmp/d bs=64k count=16 2>/dev/null; "
        + "cat "
        + "/tmp/d " * MEGABYTES
        + ">/tmp/e"
    )
    shell(sender, make, 60)
    begin = time.monotonic()
    said = shell(sender, f"md5sum </tmp/e; nc 10.0.5.{number} 5000 </tmp/e; rm /tmp/d /tmp/e", 120)
    got = receiver.wait_serial("=7=\n", 60, "the end of nc -l")
    seconds = time.monotonic() - begin
    sums = [[word for word in text.split() if len(word) == 32] for text in (said, got)]
    t.check(
        sums[0] and sums[0] == sums[1],
        f"{MEGABYTES} MiB {what} have the same checksum at both ends",
        f"{said}\n{got}",
    )
    t.note(f"{MEGABYTES} MiB {what}: {seconds:.1f} s")


def nothing_rescued(t, *guests):
    for guest in guests:
        said = guest.monitor("info iostats")
        t.check("safety sweep: 0" in said, "no event had to be rescued by the safety sweep", said)


def pair(t, host_a, net_a, host_b, net_b, names):
    with start(host_a, 1, net_a) as a, start(host_b, 2, net_b) as b:
        up(a, 1)
        up(b, 2)
        t.check(pings(a, 2) == "20", f"{names}: 20 pings are answered")
        move(t, a, b, 2, f"from {names}")
        move(t, b, a, 1, f"back, {names}")
        nothing_rescued(t, *(g for g in (a, b) if "qemu-system" not in g.host.program))
        if "qemu-system" not in host_a.program:
            said = a.monitor("info network")
            t.check(
                "VLAN 0:" in said and "ne2k_pci" in said and "socket" in said,
                "info network shows the VLAN",
                said,
            )


def test_net_tcp(t, host):
    port = free_port()
    pair(
        t,
        host,
        ["-net", f"socket,listen=127.0.0.1:{port}"],
        host,
        ["-net", f"socket,connect=127.0.0.1:{port}"],
        "listen to connect",
    )


def test_net_multicast(t, host):
    group = f"230.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    net = ["-net", f"socket,mcast={group},localaddr=127.0.0.1"]
    pair(t, host, net, host, net, "multicast")


def test_net_udp(t, host):
    ports = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    nets = [["-net", f"socket,udp=127.0.0.1:{ports[1 - i]},localaddr=127.0.0.1:{ports[i]}"] for i in (0, 1)]
    pair(t, host, nets[0], host, nets[1], "udp")


def test_net_packaged(t, host):
    """The packaged emulator at the other end: in both roles, and by multicast."""
    if not PACKAGED or host.program == PACKAGED:
        return
    other = Host(PACKAGED)
    port = free_port()
    listen, connect = ["-net", f"socket,listen=127.0.0.1:{port}"], [
        "-net",
        f"socket,connect=127.0.0.1:{port}",
    ]
    try:
        pair(t, other, listen, host, connect, "packaged listener")
        port = free_port()
        listen, connect = ["-net", f"socket,listen=127.0.0.1:{port}"], [
            "-net",
            f"socket,connect=127.0.0.1:{port}",
        ]
        with start(host, 1, listen) as a:  # the packaged one wants a listener when it starts
            up(a, 1)
            with start(other, 2, connect) as b:
                up(b, 2)
                t.check(pings(a, 2) == "20", "packaged connects: 20 pings are answered")
                move(t, b, a, 1, "from packaged, which connects")
        net = ["-net", f"socket,mcast=230.0.0.1:{free_port(socket.SOCK_DGRAM)},localaddr=127.0.0.1"]
        pair(t, other, net, host, net, "multicast with packaged")
    finally:
        other.finish()


def test_net_restart(t, host):
    """The end that connects starts first; the listener comes, is killed, and comes again."""
    port = free_port()
    listen = ["-net", f"socket,listen=127.0.0.1:{port}"]
    with start(host, 2, ["-net", f"socket,connect=127.0.0.1:{port}"]) as b:
        up(b, 2)
        for time_ in ("first", "second"):
            with start(host, 1, listen) as a:
                up(a, 1)
                t.check(
                    pings(a, 2) == "20", f"the {time_} listener is found by the end that was there before"
                )
        t.check("running" in b.monitor("info status"), "the other end goes on when the listener is gone")
        said = b.monitor("info network")
        t.check("trying" in said, "info network says that it is trying", said)
        b.monitor("set_link socket.0 off")
        t.check("link is down" in b.monitor("info network"), "set_link takes the link away")
        b.monitor("set_link socket.0 on")
        t.check("link is down" not in b.monitor("info network"), "set_link brings it back")


def test_net_bad_peer(t, host):
    """A stranger at the listener: byte by byte, a flood it does not read, a bad length; the others are unharmed."""
    port = free_port()
    with start(host, 1, ["-net", f"socket,listen=127.0.0.1:{port}"]) as a, start(
        host, 2, ["-net", f"socket,connect=127.0.0.1:{port}"]
    ) as b:
        up(a, 1)
        up(b, 2)
        stop = threading.Event()

        def deaf():
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stop.wait(300)

        thread = threading.Thread(target=deaf, daemon=True)
        thread.start()
        with socket.create_connection(("127.0.0.1", port)) as peer:
            for byte in struct.pack(">I", 60) + b"\xff" * 6 + b"\x02" * 54:
                peer.send(bytes([byte]))
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.settimeout(10)
            peer.send(struct.pack(">I", 69633) + bytes(100))
            try:
                ended = peer.recv(1) == b""
            except ConnectionError:
                ended = True
            except TimeoutError:
                ended = False
            t.check(ended, "a peer that sends a length of 69,633 is disconnected")
        t.check(pings(a, 2) == "20", "two guests ping while a third peer does not read")
        move(t, a, b, 2, "beside a peer that does not read")
        for _ in range(200):
            socket.create_connection(("127.0.0.1", port)).close()
        t.check(pings(a, 2) == "20", "200 strangers have come and gone")
        stop.set()
        nothing_rescued(t, a, b)


def test_net_dump(t, host):
    with start(host, 1, ["-net", "dump,file=vlan.pcap"]) as a:
        up(a, 1)
        shell(a, "ping -c 2 -W 1 10.0.5.9 >/dev/null", 30)
        a.quit()
        with open(os.path.join(a.folder, "vlan.pcap"), "rb") as f:
            data = f.read()
        magic, major, minor, _, _, _, link = struct.unpack_from("<IHHIIII", data)
        t.check(
            (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 1),
            "the dump begins as a pcap file of Ethernet frames",
        )
        at, arps = 24, 0
        while at + 16 <= len(data):
            _, _, stored, length = struct.unpack_from("<IIII", data, at)
            arps += data[at + 28 : at + 30] == b"\x08\x06" and length >= 42
            at += 16 + stored
        t.check(
            at == len(data) and arps,
            "it is whole, and the guest's ARP requests are in it",
            f"{at} {len(data)} {arps}",
        )
