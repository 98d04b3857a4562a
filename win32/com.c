/*
 * The character device COMn: a serial port of the host. The guest's line parameters and breaks are passed on.
 * A port that goes away (a USB adapter that is pulled out) is said in one line; from then on the line is
 * open. Not passed on: modem lines, and breaks of the other side.
 */
#include "handle_chr.h"

#include "../core/vm/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void com_broken(HandleChr *hc, DWORD code)
{
    char reason[200];
    log_line("%s: %s: %s; the line is open from here on", hc->chr.label, hc->chr.spec,
             win_reason(code, reason, sizeof reason));
    snprintf(hc->chr.state, sizeof hc->chr.state, "gone");
    chardev_tell(&hc->chr, CHR_CLOSED);
    if (chr_queue_feed(&hc->out))
        chardev_writable(&hc->chr);
}

static void set_break(Chardev *chr, bool on)
{
    HandleChr *hc = CONTAINER_OF(chr, HandleChr, chr);
    if (on)
        SetCommBreak(hc->h);
    else
        ClearCommBreak(hc->h);
}

static void set_params(Chardev *chr, u32 baud, u8 data_bits, char parity, u8 stop_bits)
{
    HandleChr *hc = CONTAINER_OF(chr, HandleChr, chr);
    DCB dcb = {.DCBlength = sizeof dcb};
    if (!GetCommState(hc->h, &dcb))
        return;
    dcb.BaudRate = baud;
    dcb.ByteSize = data_bits;
    dcb.Parity = parity == 'E' ? EVENPARITY : parity == 'O' ? ODDPARITY : parity == 'M' ? MARKPARITY :
                 parity == 'S' ? SPACEPARITY : NOPARITY;
    dcb.StopBits = stop_bits == 2 ? TWOSTOPBITS : ONESTOPBIT;
    dcb.fBinary = TRUE;
    dcb.fParity = parity != 'N';
    dcb.fOutxCtsFlow = dcb.fOutxDsrFlow = dcb.fDsrSensitivity = dcb.fOutX = dcb.fInX = FALSE;
    dcb.fDtrControl = DTR_CONTROL_ENABLE;
    dcb.fRtsControl = RTS_CONTROL_ENABLE;
    dcb.fAbortOnError = FALSE;
    SetCommState(hc->h, &dcb);
}

static void com_close(Chardev *chr)
{
    hc_free(CONTAINER_OF(chr, HandleChr, chr));
}

static const ChrBackend com_backend = {
    .name = "com", .write = hc_write, .accept = hc_accept, .set_break = set_break, .set_params = set_params,
    .close = com_close,
};

Chardev *com_chr_open(Machine *m, const char *label, const char *spec, Error *err)
{
    char path[32], reason[200], *end;
    unsigned long number = strtoul(spec + 3, &end, 10);
    if (*end || number < 1 || number > 256) {
        error_set(err, "%s: a serial port is COM1 to COM256", spec);
        return NULL;
    }
    snprintf(path, sizeof path, "\\\\.\\COM%lu", number);
    wchar_t *wide = wide_from_utf8(path);
    HANDLE h =
        CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    DWORD code = GetLastError();
    free(wide);
    /* a read ends with the first byte that comes, and takes what is there */
    COMMTIMEOUTS t = {.ReadIntervalTimeout = MAXDWORD, .ReadTotalTimeoutMultiplier = MAXDWORD,
                      .ReadTotalTimeoutConstant = MAXDWORD - 1};
    if (h != INVALID_HANDLE_VALUE && !SetCommTimeouts(h, &t)) {
        code = GetLastError();
        CloseHandle(h);
        h = INVALID_HANDLE_VALUE;
    }
    HandleChr *hc = h == INVALID_HANDLE_VALUE ? NULL : calloc(1, sizeof *hc);
    if (!hc) {
        error_set(err, "%s: %s", spec, win_reason(code, reason, sizeof reason));
        if (h != INVALID_HANDLE_VALUE)
            CloseHandle(h);
        return NULL;
    }
    chardev_init(&hc->chr, &com_backend, m, label);
    hc->broken = com_broken;
    hc_init(hc);
    hc_attach(hc, h);
    set_params(&hc->chr, 9600, 8, 'N', 1);
    return &hc->chr;
}
