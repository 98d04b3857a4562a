/* What making an image of any format needs beside image_option(). Implemented by img_options.c. */
#ifndef BLOCK_IMG_OPTIONS_H
#define BLOCK_IMG_OPTIONS_H

#include "driver.h"

/* name=on or name=off; *value stays where it is not given. */
bool img_switch(const char *list, const char *name, bool *value, Error *err);
/* One of the words, which end with NULL: its number in *which, which stays where it is not given. */
bool img_choice(const char *list, const char *name, const char *const *words, int *which, Error *err);
/* 16 random bytes, marked as a UUID of version 4. */
void img_uuid(u8 *out);

#endif
