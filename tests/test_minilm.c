/* The real base model on real text: ids and embeddings against transformers (tests/goldens/make_minilm.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "datasets/tokenizer.h"
#include "models/model.h"
#include "tests/support.h"

#define C 384

typedef struct lab {
    pb_device *dev;
    pb_tokenizer *tok;
    pb_model *model;
    pb_safetensors *weights;
    pb_json *golden;
    const pb_json *rows;
    int n;
    pb_dtype dtype;
} lab;

static void open_lab(lab *l, pb_dtype dtype) {
    memset(l, 0, sizeof *l);
    l->dtype = dtype;
    char dir[512], path[512];
    snprintf(dir, sizeof dir, "%s/.cache/models/all-MiniLM-L6-v2", pb_test_root());
    snprintf(path, sizeof path, "%s/tests/goldens/minilm.json", pb_test_root());
    pb_assert_ok(pb_json_load(path, 1 << 22, &l->golden));
    l->rows = pb_json_get(l->golden, "rows");
    l->n = cJSON_GetArraySize(l->rows);
    ck_assert_int_ge(l->n, 8);
    pb_assert_ok(pb_device_open("cpu", NULL, &l->dev));
    pb_assert_ok(pb_tokenizer_open(dir, &l->tok));
    pb_assert_ok(pb_safetensors_open(dir, &l->weights));
    pb_model_config config;
    pb_assert_ok(pb_model_config_load(dir, &config));
    pb_model_options options = {.dtype = dtype, .classes = 2, .max_rows = 512, .max_sequences = 16, .max_len = 128};
    pb_assert_ok(pb_model_new(l->dev, &config, &options, l->weights, &l->model));
}

static void close_lab(lab *l) {
    pb_model_free(l->model);
    pb_safetensors_close(l->weights);
    pb_tokenizer_free(l->tok);
    pb_json_free(l->golden);
    pb_device_close(l->dev);
}

/* All texts of the golden file packed into one batch; ids come from our tokenizer and must equal the golden's. */
static void pack(lab *l, pb_batch *b) {
    int32_t ids[512] = {0}, pos[512] = {0}, cu[17] = {0};
    int64_t at = 0;
    for (int s = 0; s < l->n; s++) {
        const pb_json *row = cJSON_GetArrayItem(l->rows, s);
        const char *text = pb_json_get(row, "text")->valuestring;
        const pb_json *want = pb_json_get(row, "ids");
        pb_ids got = {0};
        pb_assert_ok(pb_tokenizer_encode(l->tok, text, strlen(text), true, &got));
        ck_assert_int_eq(got.n, cJSON_GetArraySize(want));
        for (int64_t i = 0; i < got.n; i++) {
            ck_assert_int_eq(got.ids[i], cJSON_GetArrayItem(want, (int)i)->valueint);
            ids[at + i] = got.ids[i];
            pos[at + i] = (int32_t)i;
        }
        if (got.n > b->max_len) b->max_len = got.n;
        at += got.n;
        cu[s + 1] = (int32_t)at;
        free(got.ids);
    }
    b->sequences = l->n;
    b->tokens = at;
    b->rows = (at + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    pb_assert_ok(pb_alloc1(l->dev, PB_MEM_DATA, PB_I32, b->rows, &b->ids));
    pb_assert_ok(pb_alloc1(l->dev, PB_MEM_DATA, PB_I32, b->rows, &b->positions));
    pb_assert_ok(pb_alloc1(l->dev, PB_MEM_DATA, PB_I32, l->n + 1, &b->cu));
    pb_assert_ok(pb_device_put(l->dev, b->ids, ids, (size_t)b->rows * 4));
    pb_assert_ok(pb_device_put(l->dev, b->positions, pos, (size_t)b->rows * 4));
    pb_assert_ok(pb_device_put(l->dev, b->cu, cu, (size_t)(l->n + 1) * 4));
}

static void embed(lab *l, double *out) {
    pb_batch batch = {0};
    pack(l, &batch);
    pb_pass pass = {.dev = l->dev, .dtype = l->dtype};
    pb_tensor features;
    pb_assert_ok(pb_alloc2(l->dev, PB_MEM_DATA, l->dtype, l->n, C, &features));
    pb_assert_ok(pb_model_features(l->model, &pass, &batch, features));
    pb_assert_ok(pb_device_get_f64(l->dev, out, features));
}

static void golden_row(lab *l, int s, double *want) {
    const pb_json *v = pb_json_get(cJSON_GetArrayItem(l->rows, s), "embedding");
    ck_assert_int_eq(cJSON_GetArraySize(v), C);
    int i = 0;
    for (const pb_json *x = v->child; x; x = x->next) want[i++] = x->valuedouble;
}

/* f32: 6 layers of sums of up to 1536 terms, normalised after each: eps * 1536 of entries of size about 1, halved by the
 * pairwise way a product adds up; measured use is far below. */
START_TEST(embeddings_equal_transformers_in_f32) {
    lab l;
    open_lab(&l, PB_F32);
    double *got = calloc((size_t)l.n * C, sizeof *got), want[C];
    embed(&l, got);
    for (int s = 0; s < l.n; s++) {
        golden_row(&l, s, want);
        pb_assert_close(got + s * C, want, C, 1536 * 1.2e-7 / 2, 0, "embedding");
    }
    free(got);
    close_lab(&l);
}
END_TEST

/* bf16 keeps 8 bits: directions agree to a cosine of 1 - (12 roundings of 2^-9 each)^2. */
START_TEST(embeddings_point_the_same_way_in_bf16) {
    lab l;
    open_lab(&l, PB_BF16);
    double *got = calloc((size_t)l.n * C, sizeof *got), want[C];
    embed(&l, got);
    for (int s = 0; s < l.n; s++) {
        golden_row(&l, s, want);
        double dot = 0, a = 0, b = 0;
        for (int i = 0; i < C; i++) {
            dot += got[s * C + i] * want[i];
            a += got[s * C + i] * got[s * C + i];
            b += want[i] * want[i];
        }
        double cosine = dot / sqrt(a * b), bound = 1 - pow(12.0 / 512.0, 2);
        ck_assert_msg(cosine >= bound, "text %d: cosine %.6f, expected at least %.6f", s, cosine, bound);
    }
    free(got);
    close_lab(&l);
}
END_TEST

int main(void) {
    Suite *s = suite_create("minilm");
    TCase *t = pb_test_case(s, "embeddings");
    tcase_add_test(t, embeddings_equal_transformers_in_f32);
    tcase_add_test(t, embeddings_point_the_same_way_in_bf16);
    return pb_run_suite(s);
}
