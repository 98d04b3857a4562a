/*
 * qemu-img.exe: the command line as UTF-8, and the parts of the host that files need. What Ctrl-C does is the
 * command's own matter (block/img_util.c); the second one ends the program at once.
 */
#include "win.h"

#include "../block/img.h"

#include <stdio.h>
#include <stdlib.h>

int _dowildcard = 0; /* MinGW's start-up code expands no wildcards: file names are what they are */

int main(void)
{
    UINT page = GetConsoleOutputCP();
    int argc, code;
    char **argv = console_arguments(&argc);

    loop_init();
    if (page)
        SetConsoleOutputCP(CP_UTF8);
    code = img_main(argc, argv);
    fflush(NULL);
    if (page)
        SetConsoleOutputCP(page);
    ExitProcess((UINT)code); /* the flush thread may still wait */
}
