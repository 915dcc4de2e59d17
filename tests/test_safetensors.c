/* The safetensors reader against every way a file can lie, and the writer against the reader. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "models/safetensors.h"
#include "tests/support.h"

/* A file in memory: length, header, `payload` bytes that count up from 0. */
typedef struct pb_file_bytes {
    unsigned char *data;
    size_t len;
} pb_file_bytes;

static pb_file_bytes file_of(const char *header, size_t payload) {
    size_t h = strlen(header);
    pb_file_bytes f = {malloc(8 + h + payload), 8 + h + payload};
    ck_assert_ptr_nonnull(f.data);
    for (int i = 0; i < 8; i++) f.data[i] = (unsigned char)((uint64_t)h >> (8 * i));
    memcpy(f.data + 8, header, h);
    for (size_t i = 0; i < payload; i++) f.data[8 + h + i] = (unsigned char)i;
    return f;
}

static void refused(const char *header, size_t payload, const char *part) {
    pb_file_bytes f = file_of(header, payload);
    pb_safetensors *st = NULL;
    pb_assert_fails(pb_safetensors_open_bytes("x.safetensors", f.data, f.len, &st), PB_E_INPUT,
                    part);
    ck_assert_ptr_null(st);
    ck_assert_msg(strstr(pb_error_message(), "x.safetensors") != NULL, "no file name: %s",
                  pb_error_message());
    free(f.data);
}

static void accepted(const char *header, size_t payload, int count) {
    pb_file_bytes f = file_of(header, payload);
    pb_safetensors *st = NULL;
    pb_assert_ok(pb_safetensors_open_bytes("x.safetensors", f.data, f.len, &st));
    ck_assert_int_eq(pb_safetensors_count(st), count);
    pb_safetensors_close(st);
    free(f.data);
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"n\\u00e4me\":\"\\ud83d\\ude00\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
    "\"a.weight\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
    "\"none\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[28,28]},"
    "\"one\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[28,36]}}   ";

START_TEST(a_good_file_reads) {
    pb_file_bytes f = file_of(good, 36);
    pb_safetensors *st = NULL;
    pb_assert_ok(pb_safetensors_open_bytes("x.safetensors", f.data, f.len, &st));
    ck_assert_int_eq(pb_safetensors_count(st), 4);
    ck_assert_str_eq(pb_safetensors_at(st, 0)->name, "a.weight");
    const pb_stored_tensor *b = pb_safetensors_find(st, "b");
    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(b->ndim, 2);
    ck_assert_int_eq(b->dim[1], 3);
    ck_assert_uint_eq(b->bytes, 24);
    ck_assert_uint_eq(b->data[0], 4);
    ck_assert_int_eq(pb_safetensors_find(st, "one")->ndim, 0);
    ck_assert_ptr_null(pb_safetensors_find(st, "c"));
    ck_assert_ptr_null(pb_safetensors_find(st, "__metadata__"));
    ck_assert_str_eq(pb_safetensors_metadata(st, "format"), "pt");
    ck_assert_str_eq(pb_safetensors_metadata(st, "n\xc3\xa4me"), "\xf0\x9f\x98\x80");
    ck_assert_ptr_null(pb_safetensors_metadata(st, "b"));
    pb_safetensors_close(st);
    free(f.data);
}
END_TEST

START_TEST(every_truncation_is_refused) {
    pb_file_bytes f = file_of(good, 36);
    for (size_t len = 0; len < f.len; len++) {
        unsigned char *cut =
            malloc(len ? len : 1); /* exact size: a read behind it shows under a sanitizer */
        ck_assert_ptr_nonnull(cut);
        memcpy(cut, f.data, len);
        pb_safetensors *st = NULL;
        ck_assert_int_eq(pb_safetensors_open_bytes("x", cut, len, &st), PB_E_INPUT);
        ck_assert_ptr_null(st);
        free(cut);
    }
    /* also with a header length that admits the cut */
    for (size_t h = 0; h + 3 < strlen(good); h++) {
        unsigned char *cut = malloc(8 + h);
        ck_assert_ptr_nonnull(cut);
        memcpy(cut, f.data, 8 + h);
        for (int i = 0; i < 8; i++) cut[i] = (unsigned char)((uint64_t)h >> (8 * i));
        pb_safetensors *st = NULL;
        ck_assert_int_eq(pb_safetensors_open_bytes("x", cut, 8 + h, &st), PB_E_INPUT);
        free(cut);
    }
    free(f.data);
}
END_TEST

START_TEST(no_changed_byte_is_trusted) {
    static const unsigned char with[] = {0,   '"', '\\', '{', '}', '[', ']',  ',',
                                         ':', '0', '9',  '-', 'u', ' ', 0x7f, 0xff};
    pb_file_bytes f = file_of(good, 36);
    for (size_t at = 0; at < f.len; at++) {
        unsigned char old = f.data[at];
        for (size_t k = 0; k < sizeof with; k++) {
            f.data[at] = with[k];
            pb_safetensors *st = NULL;
            pb_status status = pb_safetensors_open_bytes("x", f.data, f.len, &st);
            ck_assert(status == PB_OK || status == PB_E_INPUT);
            for (int i = 0; st && i < pb_safetensors_count(st); i++) {
                const pb_stored_tensor *t = pb_safetensors_at(st, i);
                ck_assert(t->data >= f.data && t->data + t->bytes <= f.data + f.len);
            }
            pb_safetensors_close(st);
        }
        f.data[at] = old;
    }
    free(f.data);
}
END_TEST

#define T(name, dtype, shape, from, to)                                                            \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]" \
    "}"

START_TEST(layout_faults_are_refused) {
    refused("{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[4]", "2", "6") "}", 6, "overlap");
    refused("{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[4]", "6", "10") "}", 10, "hole");
    refused("{" T("a", "U8", "[4]", "1", "5") "}", 5, "hole");
    refused("{" T("a", "U8", "[4]", "0", "4") "}", 5, "data has 5 bytes");
    refused("{" T("a", "U8", "[4]", "0", "4") "}", 3, "truncated");
    refused("{" T("a", "U8", "[4]", "4", "0") "}", 4, "data_offsets");
    refused("{" T("a", "F32", "[4]", "0", "4") "}", 4, "need 16");
    refused("{" T("a", "U8", "[4]", "0", "4") "," T("a", "U8", "[4]", "4", "8") "}", 8,
            "tensor a twice");
    accepted("{" T("a", "U8", "[0]", "0", "0") "," T("b", "U8", "[2]", "0",
                                                     "2") "," T("c", "F32", "[0,9]", "2", "2") "}",
             2, 3);
    accepted("{}", 0, 0);
}
END_TEST

START_TEST(huge_numbers_are_refused) {
    refused("{" T("a", "U8", "[9223372036854775808]", "0", "4") "}", 4, "2^63");
    refused("{" T("a", "F32", "[9223372036854775807]", "0", "4") "}", 4, "2^63");
    refused("{" T("a", "F32", "[4294967296,4294967296]", "0", "4") "}", 4, "2^63");
    refused("{" T("a", "U8", "[4]", "0", "18446744073709551620") "}", 4, "2^63");
    refused("{" T("a", "U8", "[4]", "9223372036854775803", "9223372036854775807") "}", 4,
            "leave the 4 bytes");
    refused("{" T("a", "U8", "[-4]", "0", "4") "}", 4, "non-negative integer");
    refused("{" T("a", "U8", "[4.0]", "0", "4") "}", 4, "']'");
    refused("{" T("a", "U8", "[04]", "0", "4") "}", 4, "leading zero");
    refused("{" T("a", "U8", "[1,1,1,1,1,1,1,1,4]", "0", "4") "}", 4, "more than 8");
    pb_file_bytes f = file_of(good, 36);
    pb_safetensors *st = NULL;
    memset(f.data, 0xff, 8);
    pb_assert_fails(pb_safetensors_open_bytes("x", f.data, f.len, &st), PB_E_INPUT,
                    "18446744073709551615");
    memset(f.data, 0, 8);
    f.data[3] = 6; /* 100 663 296 */
    pb_assert_fails(pb_safetensors_open_bytes("x", f.data, f.len, &st), PB_E_INPUT,
                    "at most 100000000");
    free(f.data);
}
END_TEST

START_TEST(schema_faults_are_refused) {
    refused("{" T("a", "Q7", "[4]", "0", "4") "}", 4, "unknown dtype \"Q7\"");
    refused("{" T("a", "FLOAT32_LONG", "[4]", "0", "4") "}", 4, "unknown dtype");
    refused("{" T("a", "U8", "[4]", "0", "4,4") "}", 4, "more than 2");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4]}}", 4, "two numbers");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "needs dtype, shape and data_offsets");
    refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
            "\"dtype\" twice");
    refused("{\"a\":{\"dtype\":\"U8\",\"sha\":[4],\"data_offsets\":[0,4]}}", 4,
            "unknown key \"sha\"");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ twice");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "a string");
    refused("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "a string");
    refused("[]", 0, "'{'");
    refused("{} x", 0, "nothing behind");
    refused("{\"a\\q\":{}}", 0, "an escape");
    refused("{\"\\ud800\":{}}", 0, "surrogate");
    refused("{\"\\udc00\":{}}", 0, "surrogate");
    refused("{\"\\u0000\":{}}", 0, "no NUL");
    refused("{\"\xc0\xaf\":{}}", 0, "UTF-8");
    refused("{\"a\nb\":{}}", 0, "control character");
}
END_TEST

START_TEST(misaligned_data_reads_right) {
    float want[2] = {1.5f, -2.25f}, got[2];
    double wide[2];
    pb_file_bytes f =
        file_of("{" T("a", "U8", "[3]", "0", "3") "," T("b", "F32", "[2]", "3", "11") "}", 11);
    memcpy(f.data + f.len - 8, want, 8);
    pb_safetensors *st = NULL;
    pb_assert_ok(pb_safetensors_open_bytes("x", f.data, f.len, &st));
    const pb_stored_tensor *b = pb_safetensors_find(st, "b");
    pb_assert_ok(pb_stored_tensor_f32(b, 0, 2, got));
    pb_assert_ok(pb_stored_tensor_f64(b, 0, 2, wide));
    ck_assert(!memcmp(got, want, 8));
    ck_assert(wide[0] == 1.5 && wide[1] == -2.25);
    pb_assert_ok(pb_stored_tensor_f32(b, 1, 1, got));
    ck_assert(got[0] == -2.25f);
    pb_assert_fails(pb_stored_tensor_f32(b, 1, 2, got), PB_E_BUG, "[1, +2)");
    pb_assert_fails(pb_stored_tensor_f32(pb_safetensors_find(st, "a"), 0, 1, got), PB_E_INPUT,
                    "dtype U8");
    pb_safetensors_close(st);
    free(f.data);
}
END_TEST

/* What a half means, from its definition. */
static float half_value(unsigned h) {
    unsigned e = (h >> 10) & 31, m = h & 1023;
    double sign = h & 0x8000 ? -1.0 : 1.0;
    if (e == 31) return m ? NAN : (float)(sign * INFINITY);
    return (float)(sign * (e ? ldexp(1024.0 + m, (int)e - 25) : ldexp(m, -24)));
}

START_TEST(every_half_converts) {
    uint16_t bits[65536];
    static float got[65536];
    for (unsigned h = 0; h < 65536; h++) bits[h] = (uint16_t)h;
    pb_stored_tensor t = {.name = "h",
                          .dtype = "F16",
                          .ndim = 1,
                          .dim = {65536},
                          .data = (unsigned char *)bits,
                          .bytes = sizeof bits,
                          .file = "x"};
    pb_assert_ok(pb_stored_tensor_f32(&t, 0, 65536, got));
    for (unsigned h = 0; h < 65536; h++) {
        float want = half_value(h);
        if (isnan(want)) ck_assert(isnan(got[h]));
        else
            ck_assert_msg(!memcmp(&want, &got[h], 4), "half %04x: %a, expected %a", h,
                          (double)got[h], (double)want);
    }
}
END_TEST

/* --- files ----------------------------------------------------------------------------------- */

START_TEST(what_is_written_reads_back) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "w.safetensors");
    float a[6] = {1, 2, 3, 4, 5, 6};
    uint16_t h[3] = {0x3f80, 0x4000, 0xc000};
    double d[1] = {0.1};
    pb_write_tensor tensors[] = {
        {"z \"quoted\"\n", "BF16", 1, {3}, h, 6},
        {"b", "F32", 2, {2, 3}, a, 24},
        {"a", "F64", 0, {0}, d, 8},
        {"empty", "F32", 2, {0, 3}, NULL, 0},
    };
    pb_json *meta = cJSON_CreateObject();
    ck_assert(pb_json_add_str(meta, "method", "lora \"x\"\t"));
    pb_assert_ok(pb_safetensors_write(path, tensors, 4, meta));
    pb_safetensors *st = NULL;
    pb_assert_ok(pb_safetensors_open(path, &st));
    ck_assert_int_eq(pb_safetensors_count(st), 4);
    ck_assert_str_eq(pb_safetensors_metadata(st, "method"), "lora \"x\"\t");
    ck_assert_str_eq(pb_safetensors_path(st), path);
    const pb_stored_tensor *b = pb_safetensors_find(st, "b"),
                           *z = pb_safetensors_find(st, "z \"quoted\"\n");
    ck_assert(b && z);
    ck_assert(!memcmp(b->data, a, 24));
    ck_assert(!memcmp(z->data, h, 6));
    ck_assert_uint_eq((uintptr_t)b->data % 8, 0);
    double back = 0;
    pb_assert_ok(pb_stored_tensor_f64(pb_safetensors_find(st, "a"), 0, 1, &back));
    ck_assert(back == 0.1);
    pb_safetensors_close(st);
    cJSON_Delete(meta);
    tensors[1].bytes = 20;
    pb_assert_fails(pb_safetensors_write(path, tensors, 4, NULL), PB_E_BUG, "tensor b");
    tensors[1] = tensors[0];
    pb_assert_fails(pb_safetensors_write(path, tensors, 4, NULL), PB_E_BUG, "twice");
    free(path);
    free(dir);
}
END_TEST

static void write_shard(const char *dir, const char *file, const char *name) {
    float v[2] = {1, 2};
    char *path = pb_path_join(dir, file);
    pb_assert_ok(
        pb_safetensors_write(path, &(pb_write_tensor){name, "F32", 1, {2}, v, 8}, 1, NULL));
    free(path);
}

static void write_text(const char *dir, const char *file, const char *text) {
    char *path = pb_path_join(dir, file);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    free(path);
}

static void index_refused(const char *dir, const char *text, const char *part) {
    pb_safetensors *st = NULL;
    write_text(dir, "model.safetensors.index.json", text);
    pb_assert_fails(pb_safetensors_open(dir, &st), PB_E_INPUT, part);
    ck_assert_ptr_null(st);
}

START_TEST(shards_are_one_file_or_none) {
    char *dir = pb_test_dir();
    pb_safetensors *st = NULL;
    pb_assert_fails(pb_safetensors_open(dir, &st), PB_E_INPUT, "neither");
    write_shard(dir, "s1.safetensors", "a");
    write_shard(dir, "s2.safetensors", "b");
    write_text(dir, "model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":"
               "\"s2.safetensors\"}}");
    pb_assert_ok(pb_safetensors_open(dir, &st));
    ck_assert_int_eq(pb_safetensors_count(st), 2);
    ck_assert_msg(strstr(pb_safetensors_find(st, "b")->file, "s2.safetensors") != NULL,
                  "b is not in its shard");
    pb_safetensors_close(st);
    index_refused(dir, "{\"weight_map\":{\"a\":\"s1.safetensors\",\"c\":\"s3.safetensors\"}}",
                  "s3.safetensors is missing");
    index_refused(dir, "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\"}}",
                  "tensor b: not in its shard");
    index_refused(dir, "{\"weight_map\":{\"a\":\"../s1.safetensors\"}}", "not a file name");
    index_refused(dir, "{\"weight_map\":{\"a\":7}}", "expected a file name");
    index_refused(dir, "{\"weight_map\":{}}", "empty");
    index_refused(dir, "{}", "weight_map");
    write_shard(dir, "s3.safetensors", "a");
    index_refused(dir, "{\"weight_map\":{\"a\":\"s1.safetensors\",\"x\":\"s3.safetensors\"}}",
                  "tensor a twice");
    free(dir);
}
END_TEST

int main(void) {
    Suite *s = suite_create("safetensors");
    TCase *t = pb_test_case(s, "reader");
    tcase_add_test(t, a_good_file_reads);
    tcase_add_test(t, every_truncation_is_refused);
    tcase_add_test(t, no_changed_byte_is_trusted);
    tcase_add_test(t, layout_faults_are_refused);
    tcase_add_test(t, huge_numbers_are_refused);
    tcase_add_test(t, schema_faults_are_refused);
    tcase_add_test(t, misaligned_data_reads_right);
    tcase_add_test(t, every_half_converts);
    t = pb_test_case(s, "files");
    tcase_add_test(t, what_is_written_reads_back);
    tcase_add_test(t, shards_are_one_file_or_none);
    return pb_run_suite(s);
}
