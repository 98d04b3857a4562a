/*
 * QMP: snapshots as jobs. snapshot-save, -load and -delete answer at once; JOB_STATUS_CHANGE tells how the
 * job goes on, query-jobs lists what has not been dismissed, and a job that went well dismisses itself. The
 * disks are those of savevm: `vmstate` and `devices` may name them, but choose nothing.
 */
#include "qmp_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"

enum { JOBS_MAX = 16 };

typedef struct {
    char id[64];
    const char *type, *status;      /* NULL type: free */
    char error[256];
    Machine *m;
} Job;

static Job jobs[JOBS_MAX];

static void status(Job *job, const char *what)
{
    JsonOut o = { 0 };
    job->status = what;
    json_open(&o, NULL, '{');
    json_string(&o, "status", what);
    json_string(&o, "id", job->id);
    json_close(&o, '}');
    qmp_event(job->m, "JOB_STATUS_CHANGE", o.text);
    json_free_out(&o);
}

static Job *find(const char *id)
{
    for (int i = 0; i < JOBS_MAX; i++) {
        if (jobs[i].type && !strcmp(jobs[i].id, id))
            return &jobs[i];
    }
    return NULL;
}

static Job *begin(QmpCall *c, const char *type)
{
    const char *id = qmp_text(c, "job-id");
    Job *job = NULL;
    if (!*id || strlen(id) >= sizeof job->id || find(id)) {
        error_set(c->err, "Job ID '%.60s' is %s", id, *id && find(id) ? "already in use" : "no good name");
        return NULL;
    }
    for (int i = 0; i < JOBS_MAX && !job; i++)
        job = jobs[i].type ? NULL : &jobs[i];
    if (!job) {
        error_set(c->err, "too many jobs; job-dismiss drops those that failed");
        return NULL;
    }
    *job = (Job){ .type = type, .m = c->m };
    snprintf(job->id, sizeof job->id, "%s", id);
    status(job, "created");
    status(job, "running");
    return job;
}

/* A job that failed stays until it is dismissed, so that its error can be asked for. */
static void finish(void *opaque, const char *error)
{
    Job *job = opaque;
    if (error) {
        snprintf(job->error, sizeof job->error, "%s", error);
        status(job, "aborting");
        status(job, "concluded");
        return;
    }
    status(job, "waiting");
    status(job, "pending");
    status(job, "concluded");
    status(job, "null");
    job->type = NULL;
}

bool qmp_snapshot_save(QmpCall *c)
{
    char note[512];
    Error err;
    Job *job = begin(c, "snapshot-save");
    if (job && !snapshot_save(c->m, qmp_text(c, "tag"), note, finish, job, &err))
        finish(job, err.text);
    return job;
}

bool qmp_snapshot_load(QmpCall *c)
{
    char note[512];
    Error err;
    Job *job = begin(c, "snapshot-load");
    if (job)
        finish(job, snapshot_load(c->m, qmp_text(c, "tag"), note, &err) ? NULL : err.text);
    return job;
}

bool qmp_snapshot_delete(QmpCall *c)
{
    Error err;
    Job *job = begin(c, "snapshot-delete");
    if (job)
        finish(job, snapshot_remove(c->m, qmp_text(c, "tag"), &err) ? NULL : err.text);
    return job;
}

bool qmp_query_jobs(QmpCall *c)
{
    json_open(c->out, NULL, '[');
    for (int i = 0; i < JOBS_MAX; i++) {
        const Job *job = &jobs[i];
        if (!job->type || job->m != c->m)
            continue;
        bool over = !strcmp(job->status, "concluded");
        json_open(c->out, NULL, '{');
        json_string(c->out, "id", job->id);
        json_string(c->out, "type", job->type);
        json_string(c->out, "status", job->status);
        json_int(c->out, "current-progress", over);
        json_int(c->out, "total-progress", 1);
        if (job->error[0])
            json_string(c->out, "error", job->error);
        json_close(c->out, '}');
    }
    json_close(c->out, ']');
    return true;
}

bool qmp_job_dismiss(QmpCall *c)
{
    Job *job = find(qmp_text(c, "id"));
    if (!job || strcmp(job->status, "concluded"))
        return error_set(c->err, job ? "the job is still at work" : "Job not found");
    status(job, "null");
    job->type = NULL;
    return true;
}
