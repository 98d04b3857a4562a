/*
 * How the program speaks to the person who started it. It is a console program, so that pipes, exit codes and
 * batch files work; started by a double click it gets a console of its own, which nobody wants beside a
 * window: that one is given up.
 */
#include "win.h"

#include <shellapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static UINT old_output_page;
static HANDLE finished; /* the program has put everything away */

/* Windows ends the program when its caller returns. */
void console_end_session(void)
{
    enum { PATIENCE_MS = 4500 }; /* Windows itself waits for 5 seconds */
    loop_request_quit();
    WaitForSingleObject(finished, PATIENCE_MS);
}

static BOOL WINAPI on_control(DWORD event)
{
    if (event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT)
        loop_request_quit();
    else
        console_end_session();
    return TRUE;
}

void console_init(void)
{
    finished = CreateEventW(NULL, TRUE, FALSE, NULL);
    old_output_page = GetConsoleOutputCP();
    if (old_output_page)
        SetConsoleOutputCP(CP_UTF8);
    SetConsoleCtrlHandler(on_control, TRUE);
}

static void (*interrupt_fn)(void);

static BOOL WINAPI on_interrupt(DWORD event)
{
    static volatile LONG times;
    (void)event;
    if (InterlockedIncrement(&times) > 1)
        return FALSE; /* Windows ends the program */
    interrupt_fn();
    return TRUE;
}

void host_on_interrupt(void (*fn)(void))
{
    interrupt_fn = fn;
    SetConsoleCtrlHandler(on_interrupt, TRUE);
}

static bool console_is_ours_alone(void)
{
    DWORD process[2];
    return GetConsoleProcessList(process, ARRAY_LEN(process)) == 1;
}

/* Started where there is neither a console nor a pipe, the program makes a console for what the guest says. */
void console_attach(void)
{
    if (GetStdHandle(STD_OUTPUT_HANDLE) || GetConsoleWindow())
        return;
    if (AttachConsole(ATTACH_PARENT_PROCESS) || AllocConsole())
        SetConsoleOutputCP(CP_UTF8);
}

void console_detach(void)
{
    if (console_is_ours_alone())
        FreeConsole();
}

void console_restore(void)
{
    if (old_output_page)
        SetConsoleOutputCP(old_output_page);
    SetEvent(finished);
}

/* Whether what is written to stderr can be read by somebody after the program has ended. */
static bool stderr_is_read(void)
{
    HANDLE h = GetStdHandle(STD_ERROR_HANDLE);
    if (!h || h == INVALID_HANDLE_VALUE)
        return false;
    switch (GetFileType(h)) {
    case FILE_TYPE_DISK:
    case FILE_TYPE_PIPE:
        return true;
    case FILE_TYPE_CHAR:
        return !console_is_ours_alone();
    default:
        return false;
    }
}

void console_fail(const Error *err)
{
    if (stderr_is_read()) {
        fprintf(stderr, "qemu: %s\n", err->text);
        fflush(stderr);
        return;
    }
    wchar_t *text = wide_from_utf8(err->text);
    MessageBoxW(NULL, text, L"QEMU", MB_OK | MB_ICONERROR | MB_SETFOREGROUND);
    free(text);
}

char **console_arguments(int *argc)
{
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), argc);
    char **argv = wide ? calloc((size_t)*argc + 1, sizeof *argv) : NULL;
    if (!argv)
        abort();
    for (int i = 0; i < *argc; i++)
        argv[i] = utf8_from_wide(wide[i]);
    LocalFree(wide);
    return argv;
}
