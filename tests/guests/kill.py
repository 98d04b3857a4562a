"""The emulator is killed while Linux writes to ext4 on qcow2 with two images below it."""
import os
import random
import shutil
import subprocess
import time

from guests.images import in_folder
from guests.linux import kernel, shell
from lib.guest import Guest, LeftOut

SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
LOAD = (
    "load() { while :; do for i in 1 2 3 4 5 6; do head -c $((i*9000+$1*777)) /dev/urandom >/d/w$1.$i; done;"
    " mv /d/w$1.1 /d/m$1; rm /d/w$1.2; done; }; for n in 1 2 3 4; do load $n & done; echo"
)


def run(*command):
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def rounds(t, tool, folder, count, seed=1):
    """Each round goes on with the disk that the one before has left."""
    host = tool.host
    tools = {name: shutil.which(name, path=SBIN) for name in ("mkfs.ext4", "e2fsck", "debugfs")}
    if not all(tools.values()):
        raise LeftOut("e2fsprogs is not installed")
    base, flat = os.path.join(folder, "base.raw"), os.path.join(folder, "flat.raw")
    with open(base, "wb") as f:
        f.truncate(64 << 20)
    code, text = run(tools["mkfs.ext4"], "-q", "-F", base)
    t.check(code == 0, "mkfs.ext4", text)
    tool.ends(0, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "middle.qcow2")
    tool.ends(0, "create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", "top.qcow2")
    arguments = kernel(host, "console=ttyS0 quiet") + ["-hda", host.path(os.path.join(folder, "top.qcow2"))]
    source = random.Random(seed)
    for turn in range(count):
        with Guest(host, arguments) as guest:
            guest.wait_serial("guest:/root#", 90)
            shell(guest, "modprobe -a ata_piix sd_mod crc32c_generic ext4; sleep 2; mkdir /d", 60)
            read = shell(guest, "mount -t ext4 /dev/sda /d && echo is mounted", 60)
            t.check("\nis mounted" in read, f"round {turn}: ext4 is mounted", read)
            shell(guest, LOAD, 30)
            time.sleep(source.uniform(0.5, 2))
            shell(guest, f"seq 5000 | sed s/^/{turn}-/ >/d/synced; sync", 90)
            time.sleep(source.uniform(0, 1.5))
            guest.process.kill()
            guest.process.wait()
        code = tool.run("check", "top.qcow2")
        t.check(code in (0, 3), f"round {turn}: the image is sound, with leaks at most", tool.text)
        tool.ends(0, "convert", "-O", "raw", "top.qcow2", "flat.raw")
        code, text = run(tools["e2fsck"], "-p", flat)
        t.check(code in (0, 1), f"round {turn}: the journal is replayed", text)
        code, text = run(tools["e2fsck"], "-f", "-n", flat)
        t.check(code == 0, f"round {turn}: the file system is clean", text)
        code, text = run(tools["debugfs"], "-R", "cat /synced", flat)
        want = "".join(f"{turn}-{i}\n" for i in range(1, 5001))
        t.check(want in text, f"round {turn}: what was synced is there", text[:300])


@in_folder
def test_kill_ext4(t, tool, folder):
    rounds(t, tool, folder, 1 if tool.host.windows else 2)
