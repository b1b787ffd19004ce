#include "verdict.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "codec/utf8.h"

/* Standard error may hold anything; an error text is UTF-8 without control characters except line
 * breaks and tabs. */
static void clean(char *text)
{
    bool valid = po__utf8_ok(po__str(text));
    for (char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || (!valid && c >= 0x80))
            *p = '?';
    }
}

/* A tail begins at the start of a line if there is one, else of a character. */
static const char *tail_of(const char *text, size_t len, size_t room, bool cut)
{
    const char *start = text;
    if (len > room) {
        start = text + (len - room);
        cut = true;
    }
    if (!cut)
        return start;
    const char *line = strchr(start, '\n');
    if (line && line[1])
        return line + 1;
    while (((unsigned char)*start & 0xc0) == 0x80)
        start++;
    return start;
}

static void append_stderr(char *error, const struct runner_result *r)
{
    char text[RUNNER_STDERR_MAX_BYTES + 1];
    size_t used = strlen(error), len = r->err_len;
    memcpy(text, r->err, len);
    text[len] = '\0';
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\0')
            text[i] = '?';
    while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        text[--len] = '\0';
    if (!len)
        return;
    static const char whole[] = "; standard error:\n", end[] = "; standard error ends with:\n";
    size_t room = PO_ERROR_TEXT_MAX_BYTES - used - sizeof end;
    const char *tail = tail_of(text, len, room, r->err_cut);
    snprintf(error + used, PO_ERROR_TEXT_MAX_BYTES + 1 - used, "%s%s",
             tail == text && !r->err_cut ? whole : end, tail);
}

static enum verdict judge_output(const struct runner_result *r, char *error)
{
    const char *data = (const char *)r->output.data;
    if (po__spec_json_ok(data, r->output.len))
        return VERDICT_SUCCEEDED;
    if (r->output.len == 0) {
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES,
                 "the command wrote no result to standard output; it must write one JSON text, "
                 "\"null\" if there is nothing to say");
        return VERDICT_FINAL;
    }
    int shown = (int)(r->output.len < 120 ? r->output.len : 120);
    snprintf(error, PO_ERROR_TEXT_MAX_BYTES,
             "the command's standard output (%zu bytes) is not one JSON text; it begins with: %.*s",
             r->output.len, shown, data);
    return VERDICT_FINAL;
}

enum verdict verdict_of(const struct runner_result *r, const struct command *command,
                        uint64_t limit_ms, char error[PO_ERROR_TEXT_MAX_BYTES + 1])
{
    enum verdict verdict = VERDICT_RETRY;
    error[0] = '\0';
    switch (r->end) {
    case RUNNER_EXITED:
        if (r->code == 0) {
            verdict = judge_output(r, error);
            break;
        }
        if (command->final_codes[r->code & 255])
            verdict = VERDICT_FINAL;
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES, "exit code %d", r->code);
        break;
    case RUNNER_SIGNALLED:
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES, "killed by signal %d (%s)", r->code,
                 sigabbrev_np(r->code) ? sigabbrev_np(r->code) : "?");
        break;
    case RUNNER_TIMED_OUT:
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES,
                 "took longer than its limit of %llu ms and was killed",
                 (unsigned long long)limit_ms);
        break;
    case RUNNER_STOPPED:
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES, "cancelled"); /* of a shutdown nobody is told */
        break;
    case RUNNER_TOO_BIG:
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES,
                 "the command wrote more than %d bytes to standard output; keep what is larger as "
                 "an artifact: write it to "
                 "a file and return its place",
                 PO_PAYLOAD_MAX_BYTES);
        verdict = VERDICT_FINAL;
        break;
    case RUNNER_NOT_STARTED:
        snprintf(error, PO_ERROR_TEXT_MAX_BYTES, "the command \"%.256s\" could not run: %s: %s",
                 command->argv[0], r->what, strerror(r->code));
        break;
    }
    if (verdict != VERDICT_SUCCEEDED) {
        append_stderr(error, r);
        clean(error);
    }
    return verdict;
}
