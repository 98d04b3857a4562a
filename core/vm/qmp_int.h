/*
 * QMP's inside.
 *
 *   qmp.c         the protocol on a character device: greeting, messages in and out, events
 *   qmp_cmds.c    the table of commands: status, drives, networks, ends     qmp_input.c   keys and mouse
 *   qmp_job.c     commands that go on as jobs: snapshots
 */
#ifndef VM_QMP_INT_H
#define VM_QMP_INT_H

#include "json.h"
#include "machine.h"
#include "qmp.h"

typedef struct {
    Machine *m;
    Qmp *qmp;
    const Json *args;               /* an object that fits the row, or NULL */
    JsonOut *out;                   /* the answer's value is written here; nothing written: {} */
    Error *err;
    const char *error_class;        /* of err; NULL: GenericError */
} QmpCall;

typedef struct {
    const char *name;
    /* the arguments it takes: "name=type ..." with s string, i integer, b bool, l list, * anything; a '?'
     * behind the type: may be missing */
    const char *args;
    bool (*run)(QmpCall *c);
} QmpCommand;

extern const QmpCommand qmp_commands[];         /* ends with a NULL name */
bool qmp_check_args(const QmpCommand *cmd, const Json *args, Error *err);
const char *qmp_text(const QmpCall *c, const char *name);              /* NULL: not there */
s64 qmp_int(const QmpCall *c, const char *name, s64 otherwise);
bool qmp_flag(const QmpCall *c, const char *name, bool otherwise);

/* Sends an event to everybody who negotiated; data: an object's text or NULL. */
void qmp_event(Machine *m, const char *name, const char *data);

bool qmp_send_key(QmpCall *c);
bool qmp_input_send_event(QmpCall *c);
bool qmp_snapshot_save(QmpCall *c), qmp_snapshot_load(QmpCall *c), qmp_snapshot_delete(QmpCall *c);
bool qmp_query_jobs(QmpCall *c), qmp_job_dismiss(QmpCall *c);

#endif
