/*
 * The user network's TFTP server: RFC 1350, options of RFC 2347 to 2349 (blksize, tsize, timeout). It reads
 * files of the folder that tftp= names and of those below it; nothing is ever written.
 *
 *      1 read: name 0 mode 0 (option 0 value 0)*   3 data: block, bytes   4 ack: block   5 error: code, text 0
 *      6 accepted options
 *
 * Each block is read when the one before it was acknowledged; a client that misses one acknowledges again.
 *
 * Not modelled: writing, the modes netascii and mail, windows of several blocks.
 */
#include "user_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/host.h"

enum { OP_READ = 1, OP_WRITE, OP_DATA, OP_ACK, OP_ERROR, OP_OPTIONS };
enum { ERR_OTHER = 0, ERR_NOT_FOUND = 1, ERR_ACCESS = 2, ERR_ILLEGAL = 4 };
enum { SESSIONS = 16, HEADER = 4, BLOCK = 512, BLOCK_MIN = 8, BLOCK_MAX = IP_MTU - IP_HEADER - UDP_HEADER - HEADER,
       FIRST_PORT = 49152 };

struct TftpSession {
    User *user;                     /* NULL: it is over, and only waits for its read */
    TftpSession *next;
    u32 ip;
    u16 port, own_port;
    HostFile *file;
    HostIo io;
    bool busy, over;
    u64 size;
    u32 block, block_bytes;         /* the block that is being sent, counted from 1; 0: the options are */
    u8 buf[BLOCK_MAX];
};

/* ---- messages ---- */

static void send(User *u, u16 own_port, u32 ip, u16 port, u32 len)
{
    udp_output(u, u->cfg.host, own_port, ip, port, len);
}

static void send_error(User *u, u16 own_port, u32 ip, u16 port, u16 code, const char *text)
{
    u8 *p = user_payload(u) + UDP_HEADER;

    put16(p, OP_ERROR);
    put16(p + 2, code);
    send(u, own_port, ip, port, HEADER + 1u + (u32)snprintf((char *)p + HEADER, 100, "%s", text));
}

/* ---- a transfer ---- */

static void session_free(TftpSession *s)
{
    host_file_close(s->file);
    free(s);
}

static void session_end(TftpSession *s)
{
    TftpSession **at = &s->user->tftp;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->user->tftp_count--;
    s->user = NULL;
    if (!s->busy)
        session_free(s);
}

static void block_read(HostIo *io)
{
    TftpSession *s = io->opaque;

    s->busy = false;
    if (!s->user) {
        session_free(s);
        return;
    }
    if (!io->ok) {
        send_error(s->user, s->own_port, s->ip, s->port, ERR_OTHER, "the file can't be read");
        session_end(s);
        return;
    }
    u8 *p = user_payload(s->user) + UDP_HEADER;
    put16(p, OP_DATA);
    put16(p + 2, s->block);
    memcpy(p + HEADER, s->buf, io->transferred);
    send(s->user, s->own_port, s->ip, s->port, HEADER + io->transferred);
}

static void send_block(TftpSession *s)
{
    u64 at = (u64)(s->block - 1) * s->block_bytes;

    if (s->busy)
        return;
    s->busy = true;
    s->io = (HostIo){ .kind = HOST_IO_READ, .file = s->file, .offset = at, .buf = s->buf, .done = block_read,
                      .bytes = s->size - at < s->block_bytes ? (u32)(s->size - at) : s->block_bytes,
                      .opaque = s };
    if (s->io.bytes) {
        host_io_submit(&s->io);
        return;
    }
    s->io.ok = true;                /* the last block is empty */
    block_read(&s->io);
}

static void acknowledged(TftpSession *s, u16 block)
{
    if (block == (u16)s->block) {
        if (s->block && (u64)s->block * s->block_bytes > s->size) {
            session_end(s);
            return;
        }
        s->block++;
        send_block(s);
    } else if (block == (u16)(s->block - 1) && s->block) {
        send_block(s);              /* it has not got this one */
    }
}

bool tftp_answer(User *u, u32 src, u16 sport, u16 dport, const u8 *data, u32 len)
{
    TftpSession *s = u->tftp;

    while (s && (s->ip != src || s->port != sport || s->own_port != dport))
        s = s->next;
    if (!s)
        return false;
    if (len >= HEADER && get16(data) == OP_ACK)
        acknowledged(s, get16(data + 2));
    else
        session_end(s);             /* an error, or nonsense */
    return true;
}

/* ---- its beginning ---- */

/* A path below the folder: no "..", nothing that Windows takes for a drive, a device or a stream. */
static bool name_safe(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((u8)*p < ' ' || strchr("\\:*?\"<>|", *p))
            return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        if (n && (part[0] == '.' || part[n - 1] == '.' || part[n - 1] == ' '))
            return false;           /* "." and "..", and names that Windows would read as others */
    }
    return name[0];
}

/* The text that begins at *at, which goes on behind its end; NULL: there is no whole one. */
static const char *next_text(const u8 *data, u32 len, u32 *at)
{
    const u8 *begin = data + *at, *end = *at < len ? memchr(begin, 0, len - *at) : NULL;

    if (!end)
        return NULL;
    *at = (u32)(end - data) + 1;
    return (const char *)begin;
}

static bool same_word(const char *a, const char *b)
{
    while (*a && (*a | 0x20) == (*b | 0x20))
        a++, b++;
    return !*a && !*b;
}

/* Reads the options; what is accepted is written behind the header of an answer. Returns its length. */
static u32 read_options(TftpSession *s, const u8 *data, u32 len, u32 at, char *answer, u32 room)
{
    const char *key, *value;
    u32 used = 0;

    while ((key = next_text(data, len, &at)) && (value = next_text(data, len, &at)) && room - used > 40) {
        u64 n = strtoul(value, NULL, 10);
        const char *name = NULL;
        if (same_word(key, "blksize") && n >= BLOCK_MIN) {
            name = "blksize";
            n = s->block_bytes = n < BLOCK_MAX ? (u32)n : BLOCK_MAX;
        } else if (same_word(key, "tsize")) {
            name = "tsize";
            n = s->size;
        } else if (same_word(key, "timeout") && n >= 1 && n <= 255) {
            name = "timeout";
        }
        if (name)
            used += (u32)snprintf(answer + used, room - used, "%s%c%llu", name, 0, (unsigned long long)n) + 1;
    }
    return used;
}

static u16 free_port(const User *u)
{
    u16 port = FIRST_PORT;

    for (const TftpSession *s = u->tftp; s;) {
        if (s->own_port == port) {
            port++;
            s = u->tftp;
        } else {
            s = s->next;
        }
    }
    return port;
}

static TftpSession *session_new(User *u, u32 ip, u16 port, HostFile *file)
{
    TftpSession *s = calloc(1, sizeof(*s)), *last = u->tftp;

    if (!s)
        abort();
    for (TftpSession *i = u->tftp, *after; i; i = after) {
        after = i->next;
        if (i->ip == ip && i->port == port)
            session_end(i);         /* it asks again */
        else
            last = i;
    }
    if (u->tftp_count >= SESSIONS)
        session_end(last);
    s->user = u;
    s->ip = ip;
    s->port = port;
    s->own_port = free_port(u);
    s->file = file;
    s->size = host_file_size(file);
    s->block_bytes = BLOCK;
    s->next = u->tftp;
    u->tftp = s;
    u->tftp_count++;
    return s;
}

void tftp_input(User *u, u32 src, u16 sport, const u8 *data, u32 len)
{
    char path[600];
    u32 at = 2;
    Error err;
    const char *name = len > 2 ? next_text(data, len, &at) : NULL, *mode = name ? next_text(data, len, &at) : NULL;

    if (!mode || (get16(data) != OP_READ && get16(data) != OP_WRITE)) {
        u->bad_packets++;
        return;
    }
    while (*name == '/')
        name++;
    if (get16(data) == OP_WRITE || !same_word(mode, "octet") || !name_safe(name)) {
        send_error(u, PORT_TFTP, src, sport, name_safe(name) ? ERR_ILLEGAL : ERR_ACCESS,
                   name_safe(name) ? "files are only read here, in octet mode" : "not a name of a file here");
        return;
    }
    HostFile *file = snprintf(path, sizeof(path), "%s/%s", u->cfg.tftp, name) < (int)sizeof(path) ?
                     host_file_open(path, HOST_READ, &err) : NULL;
    if (!file) {
        send_error(u, PORT_TFTP, src, sport, ERR_NOT_FOUND, "there is no such file");
        return;
    }
    TftpSession *s = session_new(u, src, sport, file);
    u8 *p = user_payload(u) + UDP_HEADER;
    u32 options = read_options(s, data, len, at, (char *)p + 2, 400);
    if (options) {
        put16(p, OP_OPTIONS);
        send(u, s->own_port, src, sport, 2 + options);
    } else {
        s->block = 1;
        send_block(s);
    }
}

void tftp_close(User *u)
{
    while (u->tftp)
        session_end(u->tftp);
}
