/* The command line, in both dialects. */
#include "../core/vm/config.h"
#include "../core/vm/log.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static Config cfg;
static Error err;

/* Parses a line cut at blanks; '~' stands for a blank inside a word. */
static OptionsResult parse(const char *line)
{
    static char buf[4096];
    char *argv[64] = {"qemu"};
    int argc = 1;
    config_free(&cfg);
    err.text[0] = 0;
    snprintf(buf, sizeof buf, "%s", line);
    for (char *w = strtok(buf, " "); w; w = strtok(NULL, " ")) {
        for (char *s = w; *s; s++)
            *s = *s == '~' ? ' ' : *s;
        argv[argc++] = w;
    }
    return options_parse(argc, argv, &cfg, &err);
}

static const DriveConfig *drive(DriveIf iface, int index)
{
    for (int i = 0; i < CFG_DRIVES; i++) {
        if (cfg.drive[i].used && cfg.drive[i].iface == iface && cfg.drive[i].index == index)
            return &cfg.drive[i];
    }
    return NULL;
}

static bool same(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

static bool refuses(const char *line, const char *words)
{
    return parse(line) == OPTIONS_ERROR && strstr(err.text, words) && !strchr(err.text, '\n');
}

static void test_defaults(void)
{
    CHECK_MSG(parse("") == OPTIONS_RUN, "an empty line is a machine");
    CHECK_MSG(cfg.ram_bytes == 128 << 20, "memory is 128 MiB by default");
    CHECK_MSG(cfg.acpi && cfg.fd_bootchk && !cfg.isapc && cfg.rtc_base == -1, "the board's defaults");
    CHECK_MSG(same(cfg.serial[0], "vc") && !cfg.serial[1],
              "the first serial port is a console of the window");
    CHECK_MSG(same(cfg.monitor, "vc") && same(cfg.parallel[0], "vc"), "so are monitor and printer port");
    CHECK_MSG(!config_has_boot_medium(&cfg), "nothing to boot was named");
    CHECK_MSG(drive(IF_FLOPPY, 0) && !drive(IF_FLOPPY, 0)->file, "drive A: is there and empty");
    CHECK_MSG(drive(IF_IDE, 2) && drive(IF_IDE, 2)->cdrom && !drive(IF_IDE, 2)->file,
              "so is the CD-ROM drive");
    CHECK_MSG(parse("-nodefaults") == OPTIONS_RUN && !drive(IF_FLOPPY, 0) && !cfg.serial[0],
              "-nodefaults takes them away");
}

static void test_networks(void)
{
    CHECK_MSG(parse("-m 32") == OPTIONS_RUN && same(cfg.net[0].spec, "nic") && same(cfg.net[1].spec, "user"),
              "without an option there are a card and the user network");
    CHECK_MSG(parse("-net none") == OPTIONS_RUN && same(cfg.net[0].spec, "none") && !cfg.net[1].spec,
              "-net none: there is nothing");
    CHECK_MSG(parse("-nodefaults") == OPTIONS_RUN && !cfg.net[0].spec, "nor with -nodefaults");
    CHECK_MSG(parse("-redir tcp:8080::80") == OPTIONS_RUN && cfg.net[0].option == NET_REDIR &&
                  same(cfg.net[1].spec, "nic"),
              "-redir alone leaves the default as it is");
}

static void test_dialect_2006(void)
{
    CHECK_MSG(parse("-L . -m 32 -localtime -std-vga -fda fdimage0.bin") == OPTIONS_RUN,
              "the hobby OS line: %s", err.text);
    CHECK(cfg.ram_bytes == 32 << 20 && cfg.rtc_local && cfg.vga == VGA_STD);
    CHECK(same(cfg.firmware_dir[0], ".") && same(drive(IF_FLOPPY, 0)->file, "fdimage0.bin"));
    CHECK_MSG(config_has_boot_medium(&cfg), "a floppy is something to boot");
    CHECK_MSG(parse("-hda c.img -hdb d.img -hdd e.img -cdrom f.iso -boot d -snapshot -no-reboot -S -no-acpi "
                    "-win2k-hack "
                    "-no-fd-bootchk -full-screen -pidfile p.pid") == OPTIONS_RUN,
              "disks and switches: %s", err.text);
    CHECK(same(drive(IF_IDE, 0)->file, "c.img") && same(drive(IF_IDE, 3)->file, "e.img"));
    CHECK_MSG(drive(IF_IDE, 2)->cdrom && drive(IF_IDE, 2)->readonly,
              "a CD-ROM is read-only and in the place of hdc");
    CHECK_MSG(drive(IF_IDE, 0)->snapshot && !drive(IF_IDE, 2)->snapshot, "-snapshot goes for every disk");
    CHECK(same(cfg.boot, "d") && cfg.no_reboot && cfg.start_stopped && !cfg.acpi && cfg.win2k_hack &&
          !cfg.fd_bootchk);
    CHECK(cfg.full_screen && same(cfg.pidfile, "p.pid"));
    CHECK_MSG(parse("-m 64 linux.img") == OPTIONS_RUN && same(drive(IF_IDE, 0)->file, "linux.img"),
              "a bare file name is the first disk");
    CHECK_MSG(parse("a.img b.img") == OPTIONS_ERROR, "only one bare file name");
    CHECK_MSG(parse("-M isapc --m 16 --no-acpi") == OPTIONS_RUN && cfg.isapc && !cfg.acpi,
              "two dashes are as good as one");
    CHECK_MSG(parse("-no-kqemu -kernel-kqemu -k de -soundhw sb16 -net nic -net user -usb -cirrusvga x") ==
                  OPTIONS_RUN,
              "options of other builds are accepted");
    CHECK_MSG(parse("-hda ä~b.img") == OPTIONS_RUN && same(drive(IF_IDE, 0)->file, "ä b.img"),
              "file names are UTF-8");
}

static void test_dialect_of_today(void)
{
    CHECK(parse("-machine pc,accel=tcg,acpi=off -accel tcg -cpu pentium3 -smp 1 -display none -vga std -name "
                "box") == OPTIONS_RUN);
    CHECK(!cfg.acpi && same(cfg.cpu_model, "pentium3") && cfg.display == DISPLAY_NONE &&
          same(cfg.name, "box"));
    CHECK_MSG(same(cfg.serial[0], "null") && same(cfg.monitor, "null"),
              "without a window nothing is a console of it");
    CHECK(parse("-drive file=a,,b.img,format=raw,if=ide,index=1,readonly=on -drive file=c.iso,media=cdrom "
                "-drive if=floppy,file=f.img,snapshot=on -drive file=x.img,id=one,cache=none") ==
          OPTIONS_RUN);
    CHECK_MSG(same(drive(IF_IDE, 1)->file, "a,b.img") && drive(IF_IDE, 1)->readonly,
              "two commas are one in the name");
    CHECK(same(drive(IF_IDE, 1)->format, "raw") && same(drive(IF_FLOPPY, 0)->file, "f.img"));
    CHECK(drive(IF_FLOPPY, 0)->snapshot && !drive(IF_IDE, 1)->snapshot);
    CHECK_MSG(same(drive(IF_IDE, 0)->file, "c.iso") && same(drive(IF_IDE, 2)->file, "x.img"),
              "free places are given in order");
    CHECK_MSG(parse("-drive file=x.img -hda y.img") == OPTIONS_RUN && same(drive(IF_IDE, 1)->file, "x.img"),
              "a drive without a place makes room for one with");
    CHECK_MSG(parse("-drive if=none,id=cd,file=x.iso -device ide-cd,drive=cd,bus=ide.1,unit=1") ==
                      OPTIONS_RUN &&
                  drive(IF_IDE, 3)->cdrom && drive(IF_IDE, 3)->readonly,
              "-device puts a drive in its place: %s", err.text);
    CHECK_MSG(parse("-drive if=none,id=cd,file=x.iso") == OPTIONS_RUN && !config_has_boot_medium(&cfg),
              "a drive in no place boots nothing");
    CHECK(parse("-device isa-debug-exit,iobase=0xf4,iosize=4 -device e1000 -debugcon file:x") == OPTIONS_RUN);
    CHECK(cfg.device[0].used && same(cfg.device[0].spec, "isa-debug-exit,iobase=0xf4,iosize=4") &&
          !cfg.device[1].used);
    CHECK(same(cfg.debugcon, "file:x"));
    CHECK(parse("-boot order=c,once=d") == OPTIONS_RUN && same(cfg.boot, "c") && same(cfg.boot_once, "d"));
    CHECK(parse("-boot order=dc,menu=on") == OPTIONS_RUN && same(cfg.boot, "dc") && cfg.boot_menu);
    CHECK(parse("-kernel k -initrd i -append console=ttyS0~quiet") == OPTIONS_RUN &&
          config_has_boot_medium(&cfg));
    CHECK(same(cfg.kernel, "k") && same(cfg.initrd, "i") && same(cfg.append, "console=ttyS0 quiet"));
    CHECK(parse("-d guest_errors,int -D log.txt") == OPTIONS_RUN && cfg.log_mask == (LOG_GUEST | LOG_INT));
    CHECK(same(cfg.log_file, "log.txt"));
    CHECK_MSG(parse("-hda x -- ") == OPTIONS_ERROR, "two dashes alone are no option");
}

static void test_memory(void)
{
    CHECK(parse("-m 1G") == OPTIONS_RUN && cfg.ram_bytes == 1ull << 30);
    CHECK(parse("-m 512m") == OPTIONS_RUN && cfg.ram_bytes == 512ull << 20);
    CHECK(parse("-m size=64,slots=2") == OPTIONS_RUN && cfg.ram_bytes == 64ull << 20);
    CHECK(parse("-m 3584") == OPTIONS_RUN && cfg.ram_bytes == 3584ull << 20);
    CHECK_MSG(refuses("-m 12q", "-m 12q: "), "a bad size names option and value: %s", err.text);
    CHECK_MSG(refuses("-m 0", "1 to 3584") && refuses("-m 3585", "1 to 3584"), "and the limits: %s",
              err.text);
    CHECK(refuses("-m -5", "not a size") && refuses("-m 99999999999999999999G", "not a size") &&
          refuses("-m G", "not a size"));
    CHECK_MSG(refuses("-m", "-m: SIZE is missing"), "a missing argument: %s", err.text);
}

static void test_clock(void)
{
    CHECK(parse("-rtc base=localtime") == OPTIONS_RUN && cfg.rtc_local);
    CHECK(parse("-localtime -rtc base=utc,clock=host") == OPTIONS_RUN && !cfg.rtc_local && !cfg.rtc_stands);
    CHECK(parse("-rtc clock=vm") == OPTIONS_RUN && cfg.rtc_stands);
    CHECK(parse("-rtc clock=sun") == OPTIONS_ERROR);
    CHECK(parse("-rtc base=2006-06-17T16:01:21") == OPTIONS_RUN && cfg.rtc_base == 1150560081);
    CHECK(parse("-startdate 2000-02-29") == OPTIONS_RUN && cfg.rtc_base == 951782400);
    CHECK(parse("-startdate 1970-01-01") == OPTIONS_RUN && cfg.rtc_base == 0);
    CHECK(parse("-startdate 2099-12-31T23:59:59") == OPTIONS_RUN && cfg.rtc_base == 4102444799);
    CHECK(refuses("-rtc base=2001-02-29", "expected utc") && refuses("-rtc base=1969-12-31", "expected utc"));
    CHECK(refuses("-rtc base=2006-06-17T25:00:00", "expected utc") &&
          refuses("-rtc base=2006-06-17x", "expected utc"));
}

static void test_ports(void)
{
    CHECK(parse("-nographic") == OPTIONS_RUN && cfg.display == DISPLAY_NONE);
    CHECK_MSG(same(cfg.serial[0], "mon:stdio") && same(cfg.monitor, "mon:stdio"),
              "-nographic: serial port and monitor share stdio");
    CHECK_MSG(parse("-nographic -monitor null") == OPTIONS_RUN && same(cfg.serial[0], "stdio") &&
                  same(cfg.monitor, "null"),
              "-nographic with a monitor elsewhere: stdio is the serial port's");
    CHECK_MSG(parse("-serial null -nographic") == OPTIONS_RUN && same(cfg.monitor, "stdio"),
              "and the reverse");
    CHECK_MSG(parse("-nographic -serial stdio") == OPTIONS_RUN && same(cfg.serial[0], "mon:stdio"),
              "-serial stdio beside -nographic shares too");
    CHECK_MSG(parse("-serial mon:stdio") == OPTIONS_RUN && same(cfg.monitor, "mon:stdio"),
              "mon: brings its own monitor");
    CHECK_MSG(parse("-serial none") == OPTIONS_RUN && !cfg.serial[0] && same(cfg.monitor, "vc"),
              "none is no port");
    CHECK_MSG(parse("-serial none -serial file:x") == OPTIONS_RUN && !cfg.serial[0] &&
                  same(cfg.serial[1], "file:x"),
              "the second -serial is COM2");
    CHECK(refuses("-serial null -serial null -serial null -serial null -serial null", "4 serial ports"));
}

static void test_refusals(void)
{
    CHECK_MSG(refuses("-hdda x", "did you mean -hd"), "a slip names the nearest option: %s", err.text);
    CHECK_MSG(refuses("-hdd4 x", "-hdd4: unknown option, did you mean -hdd?"), "as here: %s", err.text);
    CHECK_MSG(refuses("-nograhpic", "did you mean -nographic?"), "and here: %s", err.text);
    CHECK_MSG(refuses("-frobnicate", "-h lists all"), "what is like nothing is only unknown: %s", err.text);
    CHECK(refuses("-hda a -hda b", "hda is taken by a") && refuses("-hdc a -cdrom b", "taken"));
    CHECK(refuses("-smp 2", "one CPU") && refuses("-smp cpus=4", "one CPU") &&
          refuses("-smp cores=2,threads=2", "one CPU"));
    CHECK(parse("-smp cpus=1,maxcpus=4") == OPTIONS_RUN && refuses("-smp x", "number of CPUs"));
    CHECK(refuses("-M q35", "pc and isapc") && refuses("-vga ega", "std and none") &&
          refuses("-display tv", "sdl and none"));
    CHECK(refuses("-boot x", "'x'") && refuses("-boot cc", "twice") &&
          refuses("-boot menu=maybe", "on or off"));
    CHECK(refuses("-drive file=x,if=scsi", "if=scsi") && refuses("-drive file=x,foo=1", "foo"));
    CHECK(refuses("-drive index=4", "0 to 3") && refuses("-drive if=floppy,index=2", "0 to 1"));
    CHECK(refuses("-drive index=1x", "number") && refuses("-drive media=tape", "disk or cdrom"));
    CHECK(refuses("-device frob", "unknown device") && refuses("-device ide-hd,drive=no", "id=no"));
    CHECK(refuses("-append x", "-kernel") && refuses("-initrd x", "-kernel"));
    CHECK(refuses("-incoming tcp:0:1", "-incoming") && refuses("-d frob", "unknown category"));
    CHECK_MSG(refuses("-hda a -hdb b -hdc c -hdd d -drive file=e", "e: all 4 IDE"), "a fifth disk: %s",
              err.text);
    char many[400] = "";
    for (int i = 0; i < 17; i++)
        strcat(many, "-drive if=none ");
    CHECK(refuses(many, "more than 16"));
}

static void test_spec(void)
{
    char out[8];
    CHECK(spec_get("isa-debug-exit,iobase=0xf4,x", "iobase", out, sizeof out) && !strcmp(out, "0xf4"));
    CHECK(spec_get("a,b=1,,2", "b", out, sizeof out) && !strcmp(out, "1,2"));
    CHECK_MSG(spec_get("a,readonly", "readonly", out, sizeof out) && !strcmp(out, "on"),
              "a word alone is on");
    CHECK_MSG(!spec_get("a,b=1", "a", out, sizeof out), "the driver's name is no key");
    CHECK(!spec_get("", "a", out, sizeof out) && !spec_get("a", "b", out, sizeof out) &&
          !spec_get("a,,", "b", out, 8));
    CHECK_MSG(spec_get("a,b=123456789", "b", out, sizeof out) && !strcmp(out, "1234567"),
              "long values are cut");
}

static void test_lists(void)
{
    CHECK(parse("-h") == OPTIONS_EXIT_OK && parse("--help") == OPTIONS_EXIT_OK &&
          parse("-version") == OPTIONS_EXIT_OK);
    CHECK(parse("-M ?") == OPTIONS_EXIT_OK && parse("-cpu help") == OPTIONS_EXIT_OK &&
          parse("-d ?") == OPTIONS_EXIT_OK);
}

static void test_chardevs(void)
{
    static const struct { const char *line, *spec; } rows[] = {
        { "-chardev socket,id=a,host=127.0.0.1,port=4444,server=on,wait=off", "tcp:127.0.0.1:4444,server,nowait" },
        { "-chardev socket,id=a,port=4444,telnet=on,server", "telnet::4444,server" },
        { "-chardev socket,id=a,port=4,reconnect=5", "tcp::4,reconnect=5" },
        { "-chardev socket,id=a,port=4,reconnect=0", "tcp::4" },
        { "-chardev udp,id=a,host=h,port=1,localport=2", "udp:h:1@:2" },
        { "-chardev udp,id=a,port=1", "udp::1" },
        { "-chardev file,id=a,path=x.txt,mux=on", "mon:file:x.txt" },
        { "-chardev pipe,id=a,path=com_1", "pipe:com_1" },
        { "-chardev serial,id=a,path=COM3", "COM3" },
        { "-chardev vc,id=a,cols=100,rows=30", "vc:100Cx30C" },
        { "-chardev vc,id=a", "vc" },
        { "-chardev stdio,mux=on,id=a,signal=off", "mon:stdio" },
        { "-chardev null,id=a", "null" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_MSG(parse(rows[i].line) == OPTIONS_RUN && same(cfg.chardev[0].id, "a") &&
                  same(cfg.chardev[0].spec, rows[i].spec), "%s is %s", rows[i].line, cfg.chardev[0].spec);
    CHECK(parse("-chardev stdio,id=a -mon chardev=a,mode=control,pretty=on -qmp tcp::5,server") == OPTIONS_RUN &&
          same(cfg.mon[0].spec, "chardev:a") && cfg.mon[0].control && cfg.mon[0].pretty && config_uses_stdio(&cfg) &&
          same(cfg.mon[1].spec, "tcp::5,server") && cfg.mon[1].control && !cfg.mon[1].pretty);
    CHECK(parse("-mon a") == OPTIONS_RUN && same(cfg.mon[0].spec, "chardev:a") && same(cfg.monitor, "none"));
    CHECK(parse("-s") == OPTIONS_RUN && same(cfg.gdb, "tcp::1234,server,nowait"));
    CHECK(parse("-gdb tcp:127.0.0.1:9") == OPTIONS_RUN && same(cfg.gdb, "tcp:127.0.0.1:9,server,nowait"));
    CHECK(parse("-gdb stdio -nographic") == OPTIONS_RUN && same(cfg.gdb, "stdio") && same(cfg.monitor, "none") &&
          same(cfg.serial[0], "null"));
    CHECK(!config_uses_stdio(&cfg) == false && parse("") == OPTIONS_RUN && !config_uses_stdio(&cfg));
    CHECK(refuses("-chardev null", "id=") && refuses("-chardev null,id=a -chardev vc,id=a", "twice"));
    CHECK(refuses("-chardev socket,id=a", "port=") && refuses("-chardev socket,id=a,path=/x", "path="));
    CHECK(refuses("-chardev pty,id=a", "there are") && refuses("-mon chardev=a,mode=x", "mode="));
}

static void test_copy(void)
{
    parse("-hda a.img -name n -serial null -device isa-debug-exit -L x -kernel k");
    Config copy;
    config_copy(&copy, &cfg);
    config_free(&cfg);
    CHECK_MSG(same(copy.name, "n") && same(copy.kernel, "k") && same(copy.device[0].spec, "isa-debug-exit"),
              "a copy stands alone");
    cfg = copy;
    CHECK(same(drive(IF_IDE, 0)->file, "a.img") && same(cfg.firmware_dir[0], "x") &&
          same(cfg.serial[0], "null"));
}

/* Random words must give a result, never a crash; with sanitizers this also finds leaks and overruns. */
static void test_junk(void)
{
    static const char *const words[] = {
        "-drive", "file=a",  "if=,,=",        ",,,",   "=",    "-m",       "-boot",      "-rtc", "base=",
        "-smp",   "-device", "ide-hd,drive=", "-",     "--",   "-serial",  "-nographic", "-hda", "",
        "-M",     "type=",   "-display",      "sdl,,", "-cpu", "-monitor", "-name",      "x",
        "-chardev", "socket,id=", "-mon",     "-gdb",
    };
    u32 seed = 1;
    int results = 0;
    for (int i = 0; i < 3000; i++) {
        char line[512] = "";
        for (int n = 0; n < 6; n++) {
            seed = seed * 1664525 + 1013904223;
            strcat(strcat(line, words[(seed >> 16) % ARRAY_LEN(words)]), " ");
        }
        OptionsResult r = parse(line);
        results += r == OPTIONS_ERROR ? err.text[0] != 0 : 1;
    }
    CHECK_MSG(results == 3000, "every line of junk has a result, every refusal a reason");
}

int main(void)
{
    log_to_file("/dev/null"); /* the notes on accepted options */
    test_defaults();
    test_networks();
    test_dialect_2006();
    test_dialect_of_today();
    test_memory();
    test_clock();
    test_ports();
    test_refusals();
    test_spec();
    test_lists();
    test_chardevs();
    test_copy();
    test_junk();
    config_free(&cfg);
    return test_end();
}
