/* qemu-img for the build machine: tests and development. Not shipped. */
#include "../block/img.h"
#include "host_posix.h"

int main(int argc, char **argv)
{
    host_posix_init();
    return img_main(argc, argv);
}
