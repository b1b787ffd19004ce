/* Checks that stay on in release builds.
 *
 * PO_PRE states what a caller inside the library must guarantee; PO_INVARIANT what the code itself
 * guarantees. Both abort: a broken invariant is a bug of ours and continuing would risk data.
 * Faults of the world (disk, network, memory, input) are never asserted, they are error codes. */
#ifndef PO__ASSERT_H
#define PO__ASSERT_H

/* Aborts the process after leaving "file:line: kind: expr" where a debugger and a core dump show
 * it. */
_Noreturn void po__assert_fail(const char *kind, const char *expr, const char *file, int line);

#define PO_PRE(expr) ((expr) ? (void)0 : po__assert_fail("precondition", #expr, __FILE__, __LINE__))
#define PO_INVARIANT(expr)                                                                         \
    ((expr) ? (void)0 : po__assert_fail("invariant", #expr, __FILE__, __LINE__))

#define po__container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
