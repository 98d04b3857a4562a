"""Folders of the host as disks: mtools and fsck.vfat read them, FreeDOS and Linux use and change them."""
import hashlib
import os
import random
import re
import shutil
import subprocess
import tempfile

from guests.freedos import dos_command
from guests.images import in_folder
from guests.linux import kernel, shell
from lib.guest import Guest, shared_guest


def fill(folder):
    """Names of all kinds, and files of odd sizes."""
    source = random.Random(4)
    os.makedirs(os.path.join(folder, "Deep", "er", "still deeper"))
    files = {
        "README.TXT": b"Hello from the host\r\n",
        "a file with a long name.text": b"long",
        "lower.txt": b"lower",
        "two.dots.in.name": b"dots",
        "empty.dat": b"",
        "\u00e4\u00f6\u00fc \u65e5\u672c.txt": b"unicode",
        "Deep/er/still deeper/leaf.bin": source.randbytes(70001),
        "Deep/BIG.BIN": source.randbytes(1200000),
    }
    for i in range(30):
        files[f"Deep/er/number {i}.txt"] = b"%d" % i
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)
    return files


def tree(folder):
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            with open(full, "rb") as f:
                found[os.path.relpath(full, folder).replace(os.sep, "/")] = f.read()
    return found


@in_folder
def test_folders_oracle(t, tool, folder):
    os.mkdir(os.path.join(folder, "dir"))
    files = fill(os.path.join(folder, "dir"))
    for words, offset in (("", 63 * 512), ("32:", 63 * 512), ("12:", 63 * 512), ("floppy:", 0)):
        tool.ends(0, "convert", "-O", "raw", f"fat:{words}dir", "disk.raw")
        disk = os.path.join(folder, "disk.raw")
        for check in ("fsck.vfat", "/usr/sbin/fsck.vfat"):
            if shutil.which(check):
                with open(disk, "rb") as f, open(os.path.join(folder, "volume.raw"), "wb") as out:
                    f.seek(offset)
                    shutil.copyfileobj(f, out)
                done = subprocess.run(
                    [check, "-n", os.path.join(folder, "volume.raw")], capture_output=True, check=False
                )
                t.check(done.returncode == 0, f"fsck.vfat finds nothing on fat:{words}", done.stdout.decode())
                break
        else:
            t.note("fsck.vfat is not installed")
        if not shutil.which("mcopy"):
            t.note("mtools are not installed")
            continue
        out = tempfile.mkdtemp(dir=folder)
        subprocess.run(
            ["mcopy", "-s", "-n", "-i", f"{disk}@@{offset}", "::/*", out],
            env={**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            check=False,
        )
        got = tree(out)
        t.check(got == files, f"mtools reads all files of fat:{words}", set(got) ^ set(files))
        shutil.rmtree(out)
        os.unlink(disk)


@in_folder
def test_folders_linux(t, tool, folder):
    host = tool.host
    os.mkdir(os.path.join(folder, "dir"))
    files = fill(os.path.join(folder, "dir"))
    path = host.path(os.path.join(folder, "dir"))
    arguments = kernel(host, "console=ttyS0 quiet") + ["-hda", f"fat:{path}", "-hdb", f"fat:rw:{path}"]
    with Guest(host, arguments) as guest:
        guest.wait_serial("guest:/root#", 90)
        shell(guest, "modprobe -a ata_piix sd_mod vfat nls_cp437 nls_utf8 nls_iso8859-1; sleep 2; mkdir /a /b", 60)
        # Linux names disks in the order in which they answer: the master's address is 0:0:0:0, the slave's 0:0:1:0
        names = shell(guest, "for d in /sys/block/sd?; do echo $(readlink $d/device) ${d##*/}; done", 20)
        first, second = (re.search(rf"0:0:{n}:0 (sd.)", names)[1] for n in (0, 1))
        mount = f"mount -t vfat /dev/{first}1 /a && mount -t vfat /dev/{second}1 /b"
        read = shell(guest, f"{mount} && md5sum /a/Deep/BIG.BIN", 60)
        t.check(hashlib.md5(files["Deep/BIG.BIN"]).hexdigest() in read, "Linux reads a file", read)
        shell(guest, "echo lost >/a/lost.txt; sync", 30)
        shell(
            guest,
            "cd /b; echo changed >README.TXT; mkdir 'new folder'; seq 30000 >'new folder/numbers of the guest';"
            " rm lower.txt; mv empty.dat Deep/moved.dat; rm -r Deep/er/still*; cd /; umount /b; sync; sleep 1",
            60,
        )
        guest.quit()
    want = dict(files)
    want["README.TXT"] = b"changed\n"
    want["new folder/numbers of the guest"] = b"".join(b"%d\n" % i for i in range(1, 30001))
    want["Deep/moved.dat"] = want.pop("empty.dat")
    for gone in ("lower.txt", "Deep/er/still deeper/leaf.bin"):
        del want[gone]
    got = tree(os.path.join(folder, "dir"))
    different = [name for name in set(got) | set(want) if got.get(name) != want.get(name)]
    t.check(not different, "the folder is as Linux left it", different)
    t.check(not os.path.exists(os.path.join(folder, "dir", "Deep", "er", "still deeper")), "folders go, too")


@in_folder
def test_folders_freedos(t, tool, folder):
    host = tool.host
    floppy = "freedos-1440k.img"
    source = shared_guest(floppy)
    os.mkdir(os.path.join(folder, "dir"))
    with open(os.path.join(folder, "dir", "HOST.TXT"), "wb") as f:
        f.write(b"Hello from the host\r\n")
    path = host.path(os.path.join(folder, "dir"))
    arguments = ["-m", "16", "-fda", floppy, "-boot", "a", "-hda", f"fat:rw:{path}"]
    with Guest(host, arguments, serial=False, copies=[source]) as guest:
        guest.wait_screen(r"A:\\>", 60)
        shown = dos_command(guest, "type c:host.txt", r"from the host(.*\n)*\s*A:\\>")
        t.check("Hello from the host" in shown, "FreeDOS reads a file of the folder", shown)
        dos_command(guest, "copy c:host.txt c:dos.txt", r"(?s)copy c.*A:\\>")
        dos_command(guest, "md c:\\sub", r"(?s)md c.*A:\\>")
        dos_command(guest, "copy c:host.txt c:\\sub\\in.txt", r"(?s)copy c.*A:\\>")
        t.check(guest.quit() == 0, "quit ends with exit code 0")
    got = tree(os.path.join(folder, "dir"))
    want = {name: b"Hello from the host\r\n" for name in ("HOST.TXT", "DOS.TXT", "SUB/IN.TXT")}
    t.check(got == want, "the folder has what DOS wrote", got)
