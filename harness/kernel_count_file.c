/* Instruction counts as files: harness/kernel_count.h. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/kernel_count.h"

#define SCHEMA "peftbench-kernel-instructions-1"
#define MOST_BYTES ((size_t)16 << 20)
#define MOST_COUNT 1e15

typedef struct field {
    const char *key;
    char *value;
    size_t cap;
} field;
enum { FIELDS = 7 };

static const char *const dtypes[] = {"f32", "bf16", "both"};

static void list_fields(pb_count_setup *s, field out[FIELDS]) {
    const field all[FIELDS] = {{"gauge", s->gauge, sizeof s->gauge},
                               {"isa", s->isa, sizeof s->isa},
                               {"compiler", s->compiler, sizeof s->compiler},
                               {"flags", s->flags, sizeof s->flags},
                               {"libc", s->libc, sizeof s->libc},
                               {"library", s->library, sizeof s->library},
                               {"library_isa", s->library_isa, sizeof s->library_isa}};
    memcpy(out, all, sizeof all);
}

pb_status pb_counts_write(const char *path, const pb_counts *counts) {
    pb_status status;
    pb_count_setup setup = counts->setup;
    field fields[FIELDS];
    pb_json *root = cJSON_CreateObject();
    const pb_count_table *table = &counts->table;
    const char *dtype = dtypes[!table->f32 ? 1 : !table->bf16 ? 0 : 2];
    bool ok = pb_json_add_str(root, "schema", SCHEMA) &&
              pb_json_add_str(root, "model", table->model) &&
              pb_json_add_i64(root, "rows", table->rows) && pb_json_add_str(root, "dtype", dtype);
    list_fields(&setup, fields);
    for (int i = 0; i < FIELDS; i++)
        ok = ok && pb_json_add_str(root, fields[i].key, fields[i].value);
    pb_json *all = pb_json_add_object(root, "instructions");
    for (int i = 0; i < counts->n && ok; i++) {
        const pb_count *c = &counts->items[i];
        pb_json *o = (pb_json *)(uintptr_t)pb_json_get(all, c->variant);
        if (!o) o = pb_json_add_object(all, c->variant);
        ok = pb_json_add_i64(o, c->name, (int64_t)c->instructions);
    }
    status = pb_json_save(ok ? root : NULL, path);
    pb_json_free(root);
    return status;
}

/* *out keeps what it holds when the text is too long for it. */
static pb_status read_text(const pb_json *o, const char *path, const char *key, char *out,
                           size_t cap) {
    const char *value = NULL;
    PB_RETURN(pb_json_read_str(o, path, key, &value));
    if (!value || !*value || !pb_copy(out, cap, value))
        return PB_ERROR(PB_E_INPUT, "%s: %s is %s; expected 1 to %zu characters", path, key,
                        value ? value : "missing", cap - 1);
    return PB_OK;
}

static pb_status read_table(const pb_json *root, const char *path, pb_count_table *out) {
    int dtype = -1;
    PB_RETURN(read_text(root, path, "model", out->model, sizeof out->model));
    PB_RETURN(pb_json_read_i64(root, path, "rows", 1, INT64_C(1) << 20, &out->rows));
    PB_RETURN(pb_json_read_choice(root, path, "dtype", dtypes, 3, &dtype));
    if (out->rows < 1 || dtype < 0)
        return PB_ERROR(PB_E_INPUT, "%s: rows or dtype is missing", path);
    out->f32 = dtype != 1;
    out->bf16 = dtype != 0;
    return PB_OK;
}

/* {name: count, ...} of the kernels of one variant. */
static pb_status read_variant(const pb_json *object, const char *path, pb_counts *out) {
    const pb_json *o = NULL;
    int n = cJSON_GetArraySize(object);
    pb_count *items = realloc(out->items, (size_t)(out->n + n + 1) * sizeof *items);
    if (!items) return PB_ERROR(PB_E_OOM, "no memory for %d counts", out->n + n);
    out->items = items;
    cJSON_ArrayForEach(o, object) {
        pb_count *c = &items[out->n];
        *c = (pb_count){.instructions = 0};
        PB_RETURN(pb_json_read_f64(object, path, o->string, 1, MOST_COUNT, &c->instructions));
        if (!pb_copy(c->name, sizeof c->name, o->string) ||
            !pb_copy(c->variant, sizeof c->variant, object->string))
            return PB_ERROR(PB_E_INPUT, "%s: the name %s is too long", path, o->string);
        out->n++;
    }
    return PB_OK;
}

pb_status pb_counts_read(const char *path, pb_counts *out) {
    pb_status status = PB_OK;
    pb_json *root = NULL;
    const pb_json *o = NULL;
    char schema[64] = "";
    field fields[FIELDS];
    *out = (pb_counts){.n = 0};
    PB_TRY(pb_json_load(path, MOST_BYTES, &root));
    PB_TRY(read_text(root, path, "schema", schema, sizeof schema));
    if (strcmp(schema, SCHEMA) != 0)
        PB_FAIL(PB_E_INPUT, "%s: schema is %s; expected %s, as peftbench kernels baseline writes",
                path, schema, SCHEMA);
    PB_TRY(read_table(root, path, &out->table));
    list_fields(&out->setup, fields);
    for (int i = 0; i < FIELDS; i++)
        PB_TRY(read_text(root, path, fields[i].key, fields[i].value, fields[i].cap));
    cJSON_ArrayForEach(o, pb_json_get(root, "instructions")) PB_TRY(read_variant(o, path, out));
    if (out->n == 0) PB_FAIL(PB_E_INPUT, "%s: no count under \"instructions\"", path);
done:
    pb_json_free(root);
    if (status != PB_OK) pb_counts_free(out);
    return status;
}
