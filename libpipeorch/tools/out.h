/* "key": value of the msgpack maps that become the tools' JSON. */
#ifndef PO__TOOLS_OUT_H
#define PO__TOOLS_OUT_H

#include "../codec/mp.h"
#include "../consensus/conf.h"

static inline void po__out_uint(struct po__buf *b, const char *key, uint64_t v)
{
    po__mpw_cstr(b, key);
    po__mpw_uint(b, v);
}

static inline void po__out_bool(struct po__buf *b, const char *key, bool v)
{
    po__mpw_cstr(b, key);
    po__mpw_bool(b, v);
}

static inline void po__out_text(struct po__buf *b, const char *key, struct po__slice s)
{
    po__mpw_cstr(b, key);
    po__mpw_str(b, s);
}

static inline void po__out_cstr(struct po__buf *b, const char *key, const char *s)
{
    po__out_text(b, key, po__str(s));
}

/* Becomes lower-case hexadecimal. */
static inline void po__out_bin(struct po__buf *b, const char *key, const void *data, size_t len)
{
    po__mpw_cstr(b, key);
    po__mpw_bin(b, po__slice(data, len));
}

static inline const char *po__role_word(int role)
{
    return role == PO__VOTER ? "voter" : role == PO__STANDBY ? "standby" : "spare";
}

/* The map in mp as JSON text with a final NUL, appended to json. mp is released. */
int po__out_json(struct po__buf *json, struct po__buf *mp);

/* describe_more.c, as maps: what a task asks for beside the essentials, and amounts. */
struct po__resource;
void po__describe_extra(struct po__buf *b, struct po__slice encoded);
void po__describe_resources(struct po__buf *b, const struct po__resource *r, uint32_t count);
/* describe_graph.c: the five fields of a definition. */
struct po__graph;
void po__describe_graph(struct po__buf *b, const struct po__graph *g);
/* describe.c: the fields of a configuration and of a command, as maps. */
void po__describe_conf(struct po__buf *b, const struct po__conf *conf);
struct po__cmd;
void po__describe_command(struct po__buf *b, const struct po__cmd *cmd);

#endif
