/*
 * qemu-img.exe: the command line as UTF-8, and the parts of the host that files need. Ctrl-C ends the program
 * at once: a qcow2 image is sound after any write, but a target that was being written stays, unfinished.
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
