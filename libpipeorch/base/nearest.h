/* What was probably meant. */
#ifndef PO__NEAREST_H
#define PO__NEAREST_H

/* The nearest of names to a misspelt one, NULL if none is near. For flags, environment variables,
 * keys. */
const char *po__nearest(const char *wrong, const char *const *names, unsigned count);

#endif
