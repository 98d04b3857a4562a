/*
 * The Windows host's own header: the only one that includes <windows.h>, and what the files of this folder
 * offer each other. Contracts towards the machine are in core/vm/host.h.
 */
#ifndef WIN32_WIN_H
#define WIN32_WIN_H

#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0a00
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "../core/vm/config.h"
#include "../core/vm/error.h"
#include "../core/vm/host.h"
#include "../core/vm/types.h"

typedef struct Machine Machine;

/* ---- text.c: UTF-8 outside, UTF-16 towards Windows ---- */
wchar_t *wide_from_utf8(const char *s); /* malloc'ed; what is no UTF-8 becomes U+FFFD */
char *utf8_from_wide(const wchar_t *s); /* malloc'ed */
wchar_t *wide_path(const char *path);   /* malloc'ed; long ones get the prefix that lifts MAX_PATH */
/* The reason of a Windows error code, in English, without a full stop. Returns buf. */
const char *win_reason(DWORD code, char *buf, size_t size);

/* ---- waitset.c: any number of handles to wait for ----
 * All calls on one thread (the main thread, machine lock held, except wait). An item's function runs when its
 * handle is signalled; auto-reset events lose their signal by that, other handles are looked at again after
 * the function returned. */
typedef struct WaitSet WaitSet;
typedef struct WaitItem WaitItem;
typedef void WaitFn(void *opaque);
WaitSet *waitset_new(void);
void waitset_free(WaitSet *ws); /* items that are left are forgotten; their handles stay the caller's */
WaitItem *waitset_add(WaitSet *ws, HANDLE handle, WaitFn *fn, void *opaque);
void waitset_remove(WaitSet *ws,
                    WaitItem *item); /* afterwards the handle may be closed; also from inside a WaitFn */
/* Waits until a handle is signalled; false: the time is over. Calls no function. */
bool waitset_wait(WaitSet *ws, DWORD timeout_ms);
void waitset_dispatch(WaitSet *ws); /* runs the functions of what the last wait found */

/* ---- loop.c ---- */
void loop_init(void); /* once, on the main thread, before anything below */
WaitItem *loop_add(HANDLE handle, WaitFn *fn, void *opaque);
void loop_remove(WaitItem *item);
void loop_run(Machine *m);    /* until the machine says to end */
void loop_request_quit(void); /* any thread: as the monitor's quit */

/* ---- time.c ---- */
void time_init(void);
HANDLE time_waitable_timer(void); /* the most exact one this Windows has */

/* ---- file_io.c ---- */
void file_io_init(void);
/* In file.c, for file_io.c */
HANDLE file_handle(HostFile *f);

/* ---- resource.c ---- */
void resource_dirs(const Config *cfg); /* -L */

/* ---- console.c: how the program speaks to the person who started it ---- */
void console_init(void);
void console_attach(void);      /* the guest talks on standard output: where there is none, a console is made */
void console_detach(void);      /* a window of our own: the console that was made for us alone goes away */
void console_end_session(void); /* Windows shuts down: returns when nothing can be lost any more */
void console_restore(void);     /* at the end: modes and code pages as they were */
void console_fail(const Error *err); /* one line on stderr, or a message box when nobody could read that */
char **console_arguments(int *argc); /* the command line as UTF-8; never freed */

/* ---- power.c ---- */
void power_init(Machine *m); /* the machine is paused while the computer sleeps */
/* What Windows calls, on any thread: type is one of PBT_APM*. */
ULONG CALLBACK power_event(void *opaque, ULONG type, void *setting);

/* ---- pipe.c, com.c: what stdio.c's host_chardev_open() passes on ---- */
struct Chardev *pipe_chr_open(Machine *m, const char *label, const char *spec, Error *err);
struct Chardev *com_chr_open(Machine *m, const char *label, const char *spec, Error *err);

/* ---- stdio.c ---- */
void stdio_finish(void); /* at the end: what was written goes out, if somebody takes it */

/* ---- fault.c ---- */
void fault_init(void); /* our own bugs are reported in one line */

#endif
