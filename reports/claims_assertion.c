/* Assertions: from a claim file's words to settings and an operator. Grammar: reports/claims/README.md. */
#include <math.h>
#include <string.h>

#include "reports/claims_op.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

const char *cl_finding_name(cl_finding f) {
    static const char *const names[] = {"holds", "fails", "unclear", "too few seeds", "missing",
                                        "not comparable"};
    return names[f];
}

static const struct {
    const char *name;
    unsigned keys;
} key_names[] = {
    {"left", K_LEFT_RIGHT},  {"right", K_LEFT_RIGHT},   {"of", K_OF | K_LIST},
    {"margin", K_MARGIN | K_MAY_MARGIN}, {"relative", K_RELATIVE}, {"low", K_RANGE},
    {"high", K_RANGE},       {"above", K_THRESHOLD},    {"below", K_THRESHOLD},
    {"direction", K_DIRECTION}, {"x", K_X},             {"better", K_BETTER},
    {"digits", K_PRECISION}, {"tolerance", K_PRECISION},
};

static const cl_operator *operation_of(const char *name) {
    for (int i = 0; i < CL_OPERATORS; i++)
        if (strcmp(cl_operators[i].name, name) == 0) return &cl_operators[i];
    return NULL;
}

static pb_status find_operation(const pb_json *a, const char *where, const cl_operator **out) {
    const char *names[CL_OPERATORS];
    const pb_json *op = pb_json_get(a, "op");
    for (int i = 0; i < CL_OPERATORS; i++) names[i] = cl_operators[i].name;
    if (!cJSON_IsString(op)) return PB_ERROR(PB_E_INPUT, "%s: op: expected a text", where);
    *out = operation_of(op->valuestring);
    if (*out) return PB_OK;
    return cl_known(where, "operator", op->valuestring, names, CL_OPERATORS);
}

static pb_status only_keys(const pb_json *a, const char *where, unsigned keys) {
    const char *names[COUNT(key_names) + 5] = {"says", "op", "decides", "seeds", "optional"};
    size_t n = 5;
    for (size_t i = 0; i < COUNT(key_names); i++)
        if (key_names[i].keys & keys) names[n++] = key_names[i].name;
    return pb_json_only_keys(a, where, names, n);
}

static pb_status need_key(const pb_json *a, const char *where, const char *key) {
    if (pb_json_get(a, key)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: %s: missing", where, key);
}

static pb_status read_list(const pb_json *a, const char *where, cl_settings *s) {
    const pb_json *list = pb_json_get(a, "of"), *e = NULL;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n < 2 || n > CL_TERMS)
        return PB_ERROR(PB_E_INPUT, "%s: of: expected an array of 2 to %d terms", where, CL_TERMS);
    cJSON_ArrayForEach (e, list) s->list[s->n_list++] = e;
    return PB_OK;
}

static pb_status read_x(const pb_json *a, const char *where, cl_settings *s) {
    const pb_json *list = pb_json_get(a, "x"), *e = NULL;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != s->n_list)
        return PB_ERROR(PB_E_INPUT, "%s: x: expected an array of %d numbers, one for each of \"of\"",
                        where, s->n_list);
    cJSON_ArrayForEach (e, list) {
        if (!cJSON_IsNumber(e) || !(e->valuedouble > 0))
            return PB_ERROR(PB_E_INPUT, "%s: x[%d]: expected a number above 0", where, s->n_x);
        s->x[s->n_x++] = e->valuedouble;
    }
    for (int i = 1; i < s->n_x; i++)
        if (s->x[i] == s->x[0])
            return PB_ERROR(PB_E_INPUT, "%s: x[%d]: as x[0]", where, i);
    return PB_OK;
}

static pb_status read_numbers(const pb_json *a, const char *where, unsigned keys, cl_settings *s) {
    static const char *const directions[] = {"rising", "falling"}, *const betters[] = {"lower",
                                                                                      "higher"};
    int choice = 0;
    if (keys & K_MARGIN) PB_RETURN(need_key(a, where, "margin"));
    PB_RETURN(pb_json_read_f64(a, where, "margin", 0, 1e18, &s->margin));
    PB_RETURN(pb_json_read_bool(a, where, "relative", &s->relative));
    PB_RETURN(pb_json_read_f64(a, where, "low", -1e300, 1e300, &s->low));
    PB_RETURN(pb_json_read_f64(a, where, "high", -1e300, 1e300, &s->high));
    PB_RETURN(pb_json_read_f64(a, where, "above", -1e300, 1e300, &s->above));
    PB_RETURN(pb_json_read_f64(a, where, "below", -1e300, 1e300, &s->below));
    PB_RETURN(pb_json_read_f64(a, where, "tolerance", 0, 1, &s->tolerance));
    PB_RETURN(pb_json_read_i64(a, where, "digits", 1, 15, &s->digits));
    if (keys & K_DIRECTION) {
        PB_RETURN(need_key(a, where, "direction"));
        PB_RETURN(pb_json_read_choice(a, where, "direction", directions, 2, &choice));
        s->falling = choice == 1;
    }
    if (keys & K_BETTER) {
        PB_RETURN(need_key(a, where, "better"));
        PB_RETURN(pb_json_read_choice(a, where, "better", betters, 2, &choice));
        s->better = choice == 1 ? 1 : -1;
    }
    if ((keys & K_RANGE) && ((!isfinite(s->low) && !isfinite(s->high)) || s->low > s->high))
        return PB_ERROR(PB_E_INPUT, "%s: expected low, high or both, low not above high", where);
    if ((keys & K_THRESHOLD) && isfinite(s->above) == isfinite(s->below))
        return PB_ERROR(PB_E_INPUT, "%s: expected one of above and below", where);
    return PB_OK;
}

static pb_status read_settings(const pb_json *a, const char *where, const cl_operator **op,
                               cl_settings *s) {
    *s = (cl_settings){.low = -INFINITY, .high = INFINITY, .above = INFINITY, .below = -INFINITY};
    PB_RETURN(find_operation(a, where, op));
    unsigned keys = (*op)->keys;
    PB_RETURN(only_keys(a, where, keys));
    if (keys & K_LEFT_RIGHT) {
        PB_RETURN(need_key(a, where, "left"));
        PB_RETURN(need_key(a, where, "right"));
        s->left = pb_json_get(a, "left");
        s->right = pb_json_get(a, "right");
    }
    if (keys & K_OF) {
        PB_RETURN(need_key(a, where, "of"));
        s->of = pb_json_get(a, "of");
    }
    if (keys & K_LIST) PB_RETURN(read_list(a, where, s));
    if (keys & K_X) PB_RETURN(read_x(a, where, s));
    return read_numbers(a, where, keys, s);
}

/* true, false, "in part" or "condition" */
static pb_status check_role(const pb_json *a, const char *where) {
    const pb_json *v = pb_json_get(a, "decides");
    bool named = cJSON_IsString(v) && (strcmp(v->valuestring, cl_in_part) == 0 || strcmp(v->valuestring, cl_condition) == 0);
    if (!v || cJSON_IsBool(v) || named) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: decides: expected true, false, \"%s\" or \"%s\"", where, cl_in_part, cl_condition);
}

static bool is_quality(const pb_json *term) {
    const pb_json *metric = pb_json_get(term, "metric");
    return cJSON_IsString(metric) && strncmp(metric->valuestring, "quality/", 8) == 0;
}

/* The interval of a term stands over the seeds' means; of a difference of qualities it would forget that
 * the test examples are a sample, too. */
static pb_status check_difference(const pb_json *term, const char *where) {
    const pb_json *e = NULL, *d = pb_json_get(term, "difference");
    if (cJSON_IsArray(d) && is_quality(cJSON_GetArrayItem(d, 0)) &&
        is_quality(cJSON_GetArrayItem(d, 1)))
        return PB_ERROR(PB_E_INPUT,
                        "%s: \"within\" over a difference of qualities does not pair their examples: "
                        "use less, greater, equivalent or non_inferior with a margin",
                        where);
    cJSON_ArrayForEach (e, term) {
        if (cJSON_IsObject(e) || cJSON_IsArray(e)) PB_RETURN(check_difference(e, where));
    }
    return PB_OK;
}

/* What no seed moves has an interval over examples or none: over seeds it would have no width. */
static pb_status check_before(const pb_json *o, const char *where, const cl_operator *op,
                              const cl_settings *s) {
    const pb_json *e = NULL;
    bool pairs = (op->keys & (K_LEFT_RIGHT | K_LIST)) && !s->relative && !(op->keys & K_X) &&
                 (op->keys & (K_MARGIN | K_MAY_MARGIN));
    if (!pairs && cl_is_before(o))
        return PB_ERROR(PB_E_INPUT,
                        "%s: %s is the same for every seed: only less, greater, equivalent, "
                        "non_inferior and ordered without \"relative\" compare it, over examples",
                        where, pb_json_get(o, "metric")->valuestring);
    cJSON_ArrayForEach (e, o) {
        if (cJSON_IsObject(e) || cJSON_IsArray(e)) PB_RETURN(check_before(e, where, op, s));
    }
    return PB_OK;
}

pb_status cl_check_assertion(const pb_claim_file *claim, const char *where, const pb_json *a) {
    const cl_operator *op = NULL;
    cl_settings s;
    char place[CL_WHERE];
    int64_t seeds = 1;
    bool optional = false;
    if (!cJSON_IsObject(a)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(read_settings(a, where, &op, &s));
    const pb_json *says = pb_json_get(a, "says");
    if (!cJSON_IsString(says) || !*says->valuestring)
        return PB_ERROR(PB_E_INPUT, "%s: says: expected a text", where);
    PB_RETURN(check_role(a, where));
    PB_RETURN(pb_json_read_bool(a, where, "optional", &optional));
    PB_RETURN(check_before(a, where, op, &s));
    PB_RETURN(pb_json_read_i64(a, where, "seeds", 1, 1000, &seeds));
    const pb_json *const parts[] = {s.left, s.right, s.of};
    static const char *const names[] = {"left", "right", "of"};
    for (size_t i = 0; i < COUNT(parts); i++) {
        if (!parts[i]) continue;
        snprintf(place, sizeof place, "%.600s.%s", where, names[i]);
        PB_RETURN(cl_check_term(claim, place, parts[i]));
        if (strcmp(op->name, "within") == 0) PB_RETURN(check_difference(parts[i], where));
    }
    for (int i = 0; i < s.n_list; i++) {
        snprintf(place, sizeof place, "%.600s.of[%d]", where, i);
        PB_RETURN(cl_check_term(claim, place, s.list[i]));
    }
    return PB_OK;
}

pb_status cl_assert(cl_context *x, const pb_json *a, int64_t need, cl_outcome *out) {
    const cl_operator *op = NULL;
    cl_settings s;
    *out = (cl_outcome){.finding = CL_MISSING, .value = NAN, .low = NAN, .high = NAN};
    PB_RETURN(read_settings(a, x->claim->file, &op, &s));
    return op->run(x, &s, need, out);
}

pb_status cl_assertion_rows(const pb_json *a, pb_claim_visit visit, void *user) {
    static const char *const names[] = {"left", "right", "of"};
    const pb_json *e = NULL;
    for (size_t i = 0; i < COUNT(names); i++) {
        const pb_json *part = pb_json_get(a, names[i]);
        if (cJSON_IsObject(part)) PB_RETURN(cl_term_rows(part, visit, user));
        if (cJSON_IsArray(part))
            cJSON_ArrayForEach (e, part) PB_RETURN(cl_term_rows(e, visit, user));
    }
    return PB_OK;
}
