/* JSON over cJSON, with its traps closed: duplicate keys, NaN, deep nesting, invalid UTF-8 and trailing text are refused;
 * keys are case-sensitive; doubles are written so that they read back bit for bit; 64-bit integers and hashes travel as
 * strings. `where` names the file (and place) for messages: "suites/quick.json: methods[2].rank". */
#ifndef PB_BASE_JSON_H
#define PB_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef cJSON pb_json;

/* Parses exactly one value, strictly after RFC 8259. PB_E_INPUT with file, line and column on any fault. Refused beyond
 * the grammar: duplicate keys, \u0000 (it would cut the C string), more than 256 levels, numbers that overflow a double or
 * are longer than 63 characters. Free with pb_json_free. */
pb_status pb_json_parse(const char *where, const char *text, size_t len, pb_json **out);
/* The same for line `number` of JSON Lines: messages say where:number:column. */
pb_status pb_json_parse_line(const char *where, size_t number, const char *text, size_t len, pb_json **out);
pb_status pb_json_load(const char *path, size_t max_bytes, pb_json **out);
void pb_json_free(pb_json *json);

/* Printed with (pretty) or without line breaks; malloc'ed, NULL when memory ran out. Numbers read back bit for bit, also
 * those of a parsed tree (cJSON's own printer rounds them); bytes that are not UTF-8 become U+FFFD. */
char *pb_json_print(const pb_json *json, bool pretty);
/* Pretty into a file, atomically (base/file.h). PB_E_OOM also for NULL, which is what a failed build of a tree leaves. */
pb_status pb_json_save(const pb_json *json, const char *path);

/* Member of an object, NULL when absent. */
const pb_json *pb_json_get(const pb_json *object, const char *key);
/* The number of that member, NaN when it is absent or no number. */
double pb_json_number(const pb_json *object, const char *key);
/* The text of that member, "" when it is absent or no text; points into the tree. */
const char *pb_json_text(const pb_json *object, const char *key);

/* Typed reads with a default. A NULL object reads as an empty one, a value that is no object is PB_E_INPUT. Absent key = *out keeps its value; present with another type
 * (null too), not finite, outside [lo, hi] or unknown choice = PB_E_INPUT that names where, key, value and what was
 * expected. Integers: whole numbers below 2^53 in magnitude; from there on a decimal string, as pb_json_add_i64 writes. */
pb_status pb_json_read_f64(const pb_json *o, const char *where, const char *key, double lo, double hi, double *out);
pb_status pb_json_read_i64(const pb_json *o, const char *where, const char *key, int64_t lo, int64_t hi, int64_t *out);
pb_status pb_json_read_bool(const pb_json *o, const char *where, const char *key, bool *out);
/* *out points into the tree. */
pb_status pb_json_read_str(const pb_json *o, const char *where, const char *key, const char **out);
/* choices[0..n-1]; *out is the index. */
pb_status pb_json_read_choice(const pb_json *o, const char *where, const char *key, const char *const *choices, size_t n,
                              int *out);
/* PB_E_INPUT that names the nearest allowed key when the object has a key outside keys[0..n-1]. */
pb_status pb_json_only_keys(const pb_json *o, const char *where, const char *const *keys, size_t n);

/* Builders; NULL-safe in the way of cJSON: they return false when memory ran out or `o` is NULL. A key must be new to its
 * object (not checked). When `o` is an array the key must be NULL and the value is appended. A NULL string becomes null. */
bool pb_json_add_f64(pb_json *o, const char *key, double v); /* NaN and infinities become null */
bool pb_json_add_i64(pb_json *o, const char *key, int64_t v); /* a number when |v| < 2^53, else a string */
bool pb_json_add_str(pb_json *o, const char *key, const char *v);
bool pb_json_add_bool(pb_json *o, const char *key, bool v);
/* New empty object/array under key; NULL when memory ran out. */
pb_json *pb_json_add_object(pb_json *o, const char *key);
pb_json *pb_json_add_array(pb_json *o, const char *key);

#endif
