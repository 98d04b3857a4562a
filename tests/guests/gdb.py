"""The debugger's server, tried by the real GDB: on a boot sector and on a Linux kernel; and by junk."""
import os
import re
import shutil
import subprocess
import threading
import time

from guests.linux import kernel, shell
from guests.ports import Line, free_port
from lib.guest import SLOWNESS, TOP, Guest, LeftOut

ACTIONS = os.path.join(TOP, "build", "guests", "actions.img")


def gdb(folder, port, script, seconds=60):
    """Runs GDB with these commands after it has connected; returns what it printed."""
    if not shutil.which("gdb"):
        raise LeftOut("gdb is not installed")
    name = os.path.join(folder, "script.gdb")
    with open(name, "w", encoding="ascii") as f:
        f.write("set pagination off\nset confirm off\nset remotetimeout 30\n")
        f.write(f"target remote 127.0.0.1:{port}\n{script}\n")
    try:
        done = subprocess.run(
            ["gdb", "-nx", "-batch", "-x", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds * SLOWNESS,
            check=False,
        )
        return done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode("utf-8", "replace") + "\n[gdb did not end]"


def boot(host, port, *more):
    arguments = ["-m", "16", "-fda", host.path(ACTIONS), "-boot", "a", "-snapshot"]
    return Guest(host, arguments + ["-gdb", f"tcp:127.0.0.1:{port}", *more])


def test_boot_sector(t, host):
    port = free_port()
    with boot(host, port, "-S") as guest:
        guest.monitor("info status", 60)  # it listens: GDB does not wait for long
        text = gdb(
            guest.folder,
            port,
            """
print/x $eip
break *0x7c00
continue
print/x $eip
stepi
stepi
printf "after two steps %x cs %x base %x\\n", $eip, $cs, $cs_base
hbreak *0x7c33
continue
printf "at the loop %x\\n", $eip
delete
watch *(unsigned short *)0x8000
maintenance packet Qqemu.PhyMemMode:1
x/2xb 0x7dfe
maintenance packet Qqemu.PhyMemMode:0
set var *(unsigned short *)0x9000 = 0x1234
x/xh 0x9000
set var $edx = 0x3fb
printf "edx %x\\n", $edx
delete
print $xmm3.uint128
print $fctrl
monitor info status
detach
""",
        )
        t.check("0xfffffff0" in text, "it starts before the first instruction", text)
        t.check("Breakpoint 1, 0x00007c00" in text, "a software breakpoint stops at the boot sector")
        t.check("after two steps 7c06 cs 7c0 base 7c00" in text, "steps follow a far jump in 16-bit code", text)
        t.check("at the loop 7c33" in text, "a hardware breakpoint in 16-bit code counts the CS base", text)
        t.check("0x55\t0xaa" in text, "physical memory is read", text)
        t.check("0x1234" in text and "edx 3fb" in text, "memory and registers are written", text)
        t.check("VM status: paused" in text, "monitor commands run", text)
        guest.wait_serial("ready\n", 30)
        t.check(True, "the guest goes on when the debugger has left")
        text = gdb(guest.folder, port, "x/3i 0x7c2f\ndetach")
        t.check(re.search(r"0x7c2f.*mov +\$0x3fd,%dx", text), "16-bit code is disassembled as such", text)
        guest.send("?")
        guest.wait_serial("yes\n", 10)
        t.check(guest.quit() == 0, "it ends")


def test_data_stops(t, host):
    """The answer to '?' is read from the boot sector byte by byte."""
    with open(ACTIONS, "rb") as f:
        at = 0x7C00 + f.read(512).index(b"yes")
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        guest.send("")
        ready = os.path.join(guest.folder, "ready")

        def ask():
            while not os.path.exists(ready):
                time.sleep(0.1)
            time.sleep(0.5 * SLOWNESS)
            guest.send("?")

        asks = threading.Thread(target=ask, daemon=True)
        asks.start()
        script = f"rwatch *(char *){at + 1}\nawatch *(char *){at + 2}\nshell touch {ready}\ncontinue\nx/2i $pc\ncontinue\ndetach"
        text = gdb(guest.folder, port, script)
        asks.join(60)
        found = re.findall(r"Value = (\d+) '(.)'", text)
        t.check(found == [("101", "e"), ("115", "s")], "reads of two bytes stop the guest, one after the other", text)
        guest.wait_serial("yes\n", 20)
        guest.quit()


def test_linux(t, host):
    port = free_port()
    with Guest(host, kernel(host, "console=ttyS0 nokaslr") + ["-gdb", f"tcp:127.0.0.1:{port}"]) as guest:
        guest.wait_serial("guest:/root#", 90)
        symbols = shell(guest, "grep -E ' (__ia32_sys_sethostname|__do_sys_sethostname)$' /proc/kallsyms", 30)
        found = dict(reversed(line.split()[::2]) for line in symbols.splitlines() if len(line.split()) == 3)
        call = next((found[name] for name in found if "sethostname" in name), None)
        if not t.check(call and int(call, 16), "the kernel tells its symbols", symbols):
            return
        # the guest's command runs while GDB waits: typed first, it sleeps a moment
        guest.send("sleep 3; hostname fred; echo named\n")
        text = gdb(
            guest.folder,
            port,
            f"""
break *0x{call}
continue
printf "pc %x cr0 %x\\n", $eip, $cr0
x/2i $pc
stepi
stepi
printf "cpl %d\\n", $cs & 3
set $a = (int)$esp - 4
awatch *(int *)$a
continue
detach
""",
            90,
        )
        t.check(f"pc {call}" in text, "a breakpoint at a kernel address stops there", text)
        t.check("cpl 0" in text, "it can be stepped", text)
        t.check("Hardware access (read/write) watchpoint 2" in text and "alue = " in text, "its stack is watched", text)
        guest.wait_serial("named\n", 30)
        t.check("49" in shell(guest, "expr 7 \\* 7", 30), "and the guest goes on")
        guest.quit()


def packet(text):
    return b"$" + text + b"#%02x" % (sum(text) % 256)


def test_interrupt(t, host):
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        line = Line(port)
        line.send(b"+" + packet(b"?"))
        t.check(line.wait(b"$T05"), "a debugger that comes in stops the guest")
        t.check("paused" in guest.monitor("info status"), "it is paused")
        line.send(packet(b"c"))
        time.sleep(0.3)
        t.check("running" in guest.monitor("info status"), "it goes on")
        line.send(b"\x03")
        t.check(line.wait(b"$T02"), "Ctrl-C stops it")
        line.send(packet(b"vCont;s:1"))
        t.check(line.wait(b"$T05thread:1;"), "a step ends")
        line.close()
        time.sleep(0.5)
        t.check("running" in guest.monitor("info status"), "a debugger that vanishes leaves the guest running")
        guest.quit()


def test_junk(t, host):
    port = free_port()
    with boot(host, port) as guest:
        guest.wait_serial("ready\n", 60)
        line = Line(port)
        junk = [b"", b"m", b"mffffffffffffffffffffff,1", b"m0", b"m0,", b"Mzz", b"M0,5:00", b"X0,1:", b"Z", b"Z0", b"Z9,0,1",
                b"Z0,0,1;x", b"Z2,0,fffff", b"z0,1,1", b"p", b"pff", b"P0", b"P0=1", b"P99=00000000", b"Gxx", b"vCont", b"vCont;",
                b"vCont;x", b"qXfer:features:read:target.xml:", b"qXfer:features:read:target.xml:ffffffff,ffff", b"qRcmd,0",
                b"qRcmd,ff", b"H", b"nonsense", b"\0\xff\0"]  # fmt: skip
        for text in junk:
            line.send(packet(text))
            t.check(line.wait(b"$") and line.wait(b"#"), f"{text} is answered")
        line.send(b"$m0,4#00")
        t.check(line.wait(b"-"), "a wrong sum is refused")
        line.send(b"$" + b"a" * (1 << 20) + b"#00")
        t.check(line.wait(b"-"), "a packet of 1 MB is refused")
        line.send(packet(b"m7dfe,2"))
        t.check(line.wait(b"$55aa#"), "and the next one is served")
        line.close()
        guest.send("?")
        guest.wait_serial("yes\n", 20)
        t.check(guest.quit() == 0, "it ends")
