/* qemu-img: the command line. Options are QEMU's; those that change nothing here are taken and ignored. */
#include "img.h"

#include <stdio.h>
#include <string.h>

#include "../core/vm/version.h"

static const struct {
    const char *name, *options;     /* letters; a colon: with a value */
    int (*run)(const ImgArgs *a);
    int bad_usage;                  /* exit code */
    const char *usage;
} commands[] = {
    {"create", "f:b:F:o:qu6", img_create, 1,
     "[-q] [-f fmt] [-b base [-F fmt]] [-u] [-o options] file [size]"},
    {"convert", "f:O:B:F:o:l:S:t:T:m:r:cpqnWUC", img_convert, 1,
     "[-c] [-p] [-q] [-n] [-f fmt] [-O fmt] [-B base [-F fmt]] [-o options] [-l snapshot] [-S size] file... "
     "target"},
    {"dd", "f:O:U", img_dd, 1, "[-f fmt] [-O fmt] [bs=size] [count=n] [skip=n] if=file of=file"},
    {"info", "f:U", img_info, 1, "[-f fmt] [--output=human|json] [--backing-chain] file"},
    {"check", "f:r:T:qU", img_check, 1, "[-q] [-f fmt] [--output=human|json] [-r leaks|all] file"},
    {"compare", "f:F:T:pqsU", img_compare, 2, "[-f fmt] [-F fmt] [-p] [-q] [-s] file1 file2"},
    {"snapshot", "lc:a:d:f:qU", img_snapshot, 1, "[-q] [-l | -a name | -c name | -d name] file"},
    {"resize", "f:q", img_resize, 1, "[-q] [-f fmt] [--shrink] file [+|-]size"},
    {"map", "f:U", img_map, 1, "[-f fmt] [--output=human|json] file"},
    {"commit", "f:t:b:r:dpq", img_commit, 1, "[-q] [-f fmt] [-d] [-p] file"},
    {"rebase", "f:b:F:t:T:upqU", img_rebase, 1, "[-q] [-p] [-u] [-f fmt] -b base [-F fmt] file"},
    {"bench", "c:d:f:i:o:qs:S:t:wnU", img_bench, 1,
     "[-c count] [-d depth] [-f fmt] [-o offset] [-q] [-s size] [-S step] [-w] [--flush-interval=n] "
     "[--pattern=byte] file"},
    {"measure", "f:O:o:l:U", img_measure, 1,
     "[-f fmt] [-O fmt] [-o options] [--output=human|json] [--size size | file]"},
};

static const char *const not_here[] = { "amend", "bitmap" };

static int help(void)
{
    printf("qemu-img of qemu-win, version " PROGRAM_VERSION "\nusage: qemu-img command [options]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %s %s\n", commands[i].name, commands[i].usage);
    printf("\nSupported formats:");
    for (int i = 0; image_driver_number(i); i++)
        printf(" %s", image_driver_number(i)->name);
    printf("\nSizes: a number, with k, M, G, T, P or E behind it.\n");
    return 0;
}

static bool long_option(ImgArgs *a, int argc, char **argv, int *i, Error *err)
{
    const char *s = argv[*i] + 2, *value = NULL;
    const struct { const char *name, **to; } texts[] = {
        { "flush-interval", &a->flush_interval }, { "pattern", &a->pattern }, { "size", &a->size },
    };

    for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
        size_t n = strlen(texts[k].name);

        if (strncmp(s, texts[k].name, n) || (s[n] && s[n] != '='))
            continue;
        *texts[k].to = s[n] ? s + n + 1 : *i + 1 < argc ? argv[++*i] : "";
        return true;
    }
    if (!strncmp(s, "output", 6) && (!s[6] || s[6] == '=')) {
        value = s[6] ? s + 7 : *i + 1 < argc ? argv[++*i] : "";
        if (strcmp(value, "json") && strcmp(value, "human"))
            return error_set(err, "--output must be used with human or json as argument.");
        a->json = !strcmp(value, "json");
    } else if (!strcmp(s, "backing-chain")) {
        a->chain = true;
    } else if (!strcmp(s, "no-drain")) {
        a->no_drain = true;
    } else if (!strcmp(s, "shrink")) {
        a->shrink = true;
    } else if (!strcmp(s, "force-share")) {
        a->opt['U'] = "";
    } else {
        return error_set(err, "option '--%.60s' is not supported by this build", s);
    }
    return true;
}

/* Letters may be put together, a value may be in the same word: -pf raw, -fraw. */
static bool short_options(ImgArgs *a, const char *known, int argc, char **argv, int *i, Error *err)
{
    for (const char *s = argv[*i] + 1; *s; s++) {
        const char *k = *s == ':' ? NULL : strchr(known, *s);

        if (!k)
            return error_set(err, "unknown option '-%c'", *s);
        if (k[1] != ':') {
            a->opt[(int)*s] = "";
            continue;
        }
        if (!s[1] && *i + 1 >= argc)
            return error_set(err, "option '-%c' needs a value", *s);
        a->opt[(int)*s] = s[1] ? s + 1 : argv[++*i];
        return true;
    }
    return true;
}

static bool parse(ImgArgs *a, const char *known, int argc, char **argv, Error *err)
{
    bool only_files = false;

    for (int i = 2; i < argc; i++) {
        const char *s = argv[i];
        /* resize image -1G: a size, not an option */
        bool is_size = s[0] == '-' && s[1] >= '0' && s[1] <= '9' && a->files == 1;

        if (!only_files && !strcmp(s, "--")) {
            only_files = true;
        } else if (!only_files && s[0] == '-' && s[1] == '-') {
            if (!long_option(a, argc, argv, &i, err))
                return false;
        } else if (!only_files && s[0] == '-' && s[1] && !is_size) {
            if (!short_options(a, known, argc, argv, &i, err))
                return false;
        } else if (a->files < (int)ARRAY_LEN(a->file)) {
            a->file[a->files++] = s;
        } else {
            return error_set(err, "too many file names");
        }
    }
    return true;
}

int img_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    ImgArgs a = { 0 };
    Error err;

    if (argc < 2)
        return img_fail("a command is needed; 'qemu-img --help' lists them");
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help") ||
        (argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))))
        return help();
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        printf("qemu-img of qemu-win, version " PROGRAM_VERSION "\n");
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(not_here); i++) {
        if (!strcmp(name, not_here[i]))
            return img_fail("command '%s' is not supported by this build", name);
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(name, commands[i].name))
            continue;
        if (!parse(&a, commands[i].options, argc, argv, &err)) {
            img_fail("%s\nusage: qemu-img %s %s", err.text, name, commands[i].usage);
            return commands[i].bad_usage;
        }
        return commands[i].run(&a);
    }
    return img_fail("there is no command '%s'; 'qemu-img --help' lists them", name);
}
