@echo off
rem  qemu-win.bat: starts the PC emulator with the settings below.
rem
rem  It works from its own folder, wherever that is. Change the last lines with any editor:
rem  a line that begins with "rem" is a remark and does nothing.

rem  The folder this file is in.
cd /d "%~dp0"

rem  How sound is played: waveout, directsound or wasapi. Without this line the best one is chosen.
rem  set SDL_AUDIODRIVER=directsound

rem  Examples. Take the "rem" away from one and put it before the line that is used now:
rem
rem  Making a hard disk image of 4 GB that grows as it is filled:
rem    qemu-img.exe create -f qcow2 disk.img 4G
rem
rem  A hard disk image with 256 MB of memory; the guest's clock shows local time:
rem    qemu.exe -L pc-bios -m 256 -localtime -hda disk.img %*
rem
rem  Setting up a system from a CD image onto a hard disk image:
rem    qemu.exe -L pc-bios -m 256 -hda disk.img -cdrom setup.iso -boot d %*
rem
rem  A boot floppy of your own system, as the hobby-OS tutorials start it:
rem    qemu.exe -L pc-bios -m 32 -localtime -std-vga -fda os.img %*
rem
rem  Trying something out: what the guest writes is thrown away at the end:
rem    qemu.exe -L pc-bios -m 128 -hda disk.img -snapshot %*

rem  What is started: the demo floppy that comes with the emulator.
qemu.exe -L pc-bios -m 128 -name "demo" -fda demo.img -boot a -snapshot %*
