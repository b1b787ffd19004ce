/* Backups: whatever the file holds, reading it ends with a code and a sentence; what is accepted is
 * a state, has the size and the digest that the reader says, and reads the same a second time.
 *
 * An input is a whole file. The reader takes paths: it gets one in memory (memfd). */
#include "fuzz.h"

#include <openssl/evp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pipeorch/error.h>
#include "../unit/model/samples.h"
#include "base/crc32c.h"
#include "consensus/conf.h"
#include "tools/backup_format.h"
#include "tools/content.h"
#include "tools/tools.h"

static char path[64];
static int fd = -1;

static void put_file(const uint8_t *data, size_t len)
{
    if (fd < 0) {
        fd = memfd_create("backup", MFD_CLOEXEC);
        FUZZ_CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    FUZZ_CHECK(ftruncate(fd, 0) == 0);
    FUZZ_CHECK(pwrite(fd, data, len, 0) == (ssize_t)len);
}

static int count(void *arg, const void *data, size_t len)
{
    (void)data;
    *(uint64_t *)arg += len;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct po__backup_info info;
    uint64_t content = 0;
    char error[512] = "";
    struct po__buf json = {0}, again = {0};
    put_file(data, len);
    int rv = po__backup_read(path, &info, count, &content, error, sizeof error);
    FUZZ_CHECK(rv == 0 || rv == PO_ECORRUPT || rv == PO_EVERSION);
    FUZZ_CHECK(rv == 0 || error[0]);
    FUZZ_CHECK(content <= len);
    int whole = po__tool_inspect(path, &json, error, sizeof error);
    if (rv) {
        FUZZ_CHECK(whole); /* nothing is made of a file that cannot be read to its end */
    } else {
        FUZZ_CHECK(info.file_bytes == len && info.snapshot.size_bytes == content);
        FUZZ_CHECK(info.snapshot.conf_len <= sizeof info.snapshot.conf);
    }
    if (whole == 0) {
        FUZZ_CHECK(po__tool_inspect(path, &again, error, sizeof error) == 0);
        FUZZ_CHECK(json.len == again.len && memcmp(json.data, again.data, json.len) == 0);
    } else {
        FUZZ_CHECK(error[0]);
    }
    po__buf_fini(&json);
    po__buf_fini(&again);
    return 0;
}

static void mend_frames(uint8_t *data, size_t from, size_t to)
{
    while (to - from > sizeof(struct po__fmt_frame)) {
        struct po__fmt_frame h;
        size_t left = to - from - sizeof h;
        memcpy(&h, data + from, sizeof h);
        size_t n = h.len < left ? h.len : left;
        uint32_t crc = po__crc32c(0, &h.number, sizeof h - offsetof(struct po__fmt_frame, number));
        h.crc = po__crc32c(crc, data + from + sizeof h, n);
        memcpy(data + from, &h, sizeof h);
        from += sizeof h + n;
    }
}

void fuzz_mend(uint8_t *data, size_t len)
{
    struct po__fmt_backup_end end;
    struct po__fmt_head head;
    static struct po__fmt_backup header;
    if (len < sizeof header + sizeof end)
        return;
    memcpy(&header, data, sizeof header);
    head = header.head;
    po__fmt_seal(&header, sizeof header, head.magic);
    memcpy(data, &header, sizeof header);
    mend_frames(data, sizeof header, len - sizeof end);
    memcpy(&end, data + len - sizeof end, sizeof end);
    FUZZ_CHECK(EVP_Digest(data, len - sizeof end, end.digest, NULL, EVP_sha256(), NULL) == 1);
    po__fmt_seal(&end, sizeof end, PO__MAGIC_BACKUP_END);
    memcpy(data + len - sizeof end, &end, sizeof end);
}

/* ---- seeds: backups of a state that grows ---- */

static void seed_of(struct po__content *c, uint64_t index)
{
    static struct po__backup_info info;
    static uint8_t bytes[FUZZ_INPUT_MAX_BYTES];
    char name[64], error[512];
    struct po__backup_writer *w;
    struct po__conf conf = {0};
    uint8_t buf[4096];
    snprintf(name, sizeof name, "/tmp/po-fuzz-backup-%ld", (long)getpid());
    memset(&info, 0, sizeof info);
    info.source = PO__BACKUP_ONLINE;
    strcpy(info.node_name, "cp1");
    info.committed_index = info.snapshot.index = index;
    info.snapshot.term = 3;
    FUZZ_CHECK(po__conf_add(&conf, 1, "127.0.0.1:1", PO__VOTER) == 0);
    info.snapshot.conf_index = 1;
    info.snapshot.conf_len = (uint32_t)po__conf_encode(&conf, info.snapshot.conf);
    FUZZ_CHECK(po__backup_create(&w, name, true, &info, error, sizeof error) == 0);
    FUZZ_CHECK(po__content_begin(c) == 0);
    for (size_t n = 1; n;) {
        n = sizeof buf;
        FUZZ_CHECK(po__content_read(c, buf, &n) == 0 && po__backup_write(w, buf, n) == 0);
    }
    FUZZ_CHECK(po__backup_finish(w) == 0);
    FILE *f = fopen(name, "rb");
    FUZZ_CHECK(f && unlink(name) == 0);
    size_t len = fread(bytes, 1, sizeof bytes, f);
    FUZZ_CHECK(feof(f));
    fclose(f);
    fuzz_seed(bytes, len);
}

void fuzz_seeds(void)
{
    static struct po__cmd cmd;
    static const unsigned order[] = {1, 2, 5, 5, 10, 5, 3};
    static struct po__content c;
    struct po__buf steps = {0};
    FUZZ_CHECK(po__content_init(&c, NULL) == 0);
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        struct po__cmd_result result;
        char key[16];
        sample(&cmd, order[i], &steps);
        if (cmd.type == PO__CMD_TASK_SUBMIT)
            cmd.submit.key = po__slice(key, (size_t)snprintf(key, sizeof key, "key-%u", i));
        FUZZ_CHECK(po__model_apply(c.model, i + 1, 1700000000000 + i, &cmd, &result, NULL) == 0);
        seed_of(&c, i + 1);
    }
    po__content_fini(&c);
    po__buf_fini(&steps);
}
