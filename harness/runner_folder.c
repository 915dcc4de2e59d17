/* The results folder of a suite: what is finished, what must not be mixed. Test:
 * tests/test_runner.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/runner_impl.h"

char *pb_runner_path(const pb_runner *r, const pb_job *job, const char *file) {
    char *folder = pb_path_join(r->folder, job->id);
    if (!file || !folder) return folder;
    char *path = pb_path_join(folder, file);
    free(folder);
    return path;
}

pb_found pb_runner_look(const pb_runner *r, const pb_job *job, pb_run_status *status,
                        char note[256]) {
    pb_record record = {0};
    pb_found found = PB_FOUND_NOTHING;
    char *path = pb_runner_path(r, job, "record.json"), *folder = pb_runner_path(r, job, NULL);
    note[0] = 0;
    if (path && folder && pb_is_dir(folder)) found = PB_FOUND_UNFINISHED;
    if (path && pb_file_exists(path)) {
        if (pb_record_read(path, false, &record) == PB_OK) {
            *status = record.status;
            if (record.status == PB_RUN_OK || record.status == PB_RUN_DIVERGED)
                found = PB_FOUND_FINISHED;
        } else {
            snprintf(note, 256, "%.250s", pb_error_message());
            pb_error_clear();
        }
        pb_record_free(&record);
    }
    free(folder);
    free(path);
    return found;
}

/* Equal but for the keys named. */
static bool same_but(const pb_json *a, const pb_json *b, const char *key) {
    cJSON *x = cJSON_Duplicate(a, true), *y = cJSON_Duplicate(b, true);
    cJSON_DeleteItemFromObjectCaseSensitive(x, key);
    cJSON_DeleteItemFromObjectCaseSensitive(y, key);
    bool same = x && y && cJSON_Compare(x, y, true);
    cJSON_Delete(x);
    cJSON_Delete(y);
    return same;
}

/* May a report show this record beside the suite's runs? Its own runs: yes. A label of the suite:
 * only when nothing but the seed differs. Another label (a row left out by --methods): when model
 * and data are the same (rows may differ in the number of training examples). */
static bool fits(const pb_runner *r, const pb_record *record) {
    bool label_known = false;
    for (int i = 0; i < r->n_jobs; i++) {
        const pb_job *job = &r->jobs[i];
        if (strcmp(job->id, record->run_id) == 0) return true;
        if (strcmp(job->run->label, record->label) != 0) continue;
        label_known = true;
        if (same_but(job->config, record->config, "seed")) return true;
    }
    if (label_known || r->n_jobs == 0) return !label_known;
    const pb_json *mine = r->jobs[0].config, *its = record->config;
    return same_but(pb_json_get(mine, "model"), pb_json_get(its, "model"), "") &&
           same_but(pb_json_get(mine, "data"), pb_json_get(its, "data"), "train");
}

static pb_status mixed(const pb_runner *r, const pb_record *record, int n) {
    return PB_ERROR(PB_E_INPUT,
                    "%s holds %d record%s of other settings that a report would mix with this "
                    "suite's (%s: '%s', seed %llu);"
                    " choose another --out, or move %s away",
                    r->folder, n, n == 1 ? "" : "s", record->run_id, record->label,
                    (unsigned long long)record->seed, n == 1 ? "it" : "them");
}

pb_status pb_runner_check_folder(const pb_runner *r) {
    pb_status status = PB_OK;
    char **names = NULL;
    size_t n = 0;
    pb_record first = {0};
    int odd = 0;
    if (!pb_is_dir(r->folder)) return PB_OK;
    PB_TRY(pb_list_dir(r->folder, &names, &n));
    for (size_t i = 0; i < n; i++) {
        pb_record record = {0};
        char *folder = pb_path_join(r->folder, names[i]);
        char *path = folder ? pb_path_join(folder, "record.json") : NULL;
        bool known = false;
        for (int j = 0; j < r->n_jobs && !known; j++) known = strcmp(r->jobs[j].id, names[i]) == 0;
        /* What cannot be read is for the report and verify to name. */
        bool bad = !known && path && pb_file_exists(path) &&
                   pb_record_read(path, false, &record) == PB_OK && !fits(r, &record);
        if (bad && odd++ == 0) {
            first = record;
            record = (pb_record){0};
        }
        pb_record_free(&record);
        pb_error_clear();
        free(path);
        free(folder);
    }
    if (odd > 0) status = mixed(r, &first, odd);
done:
    pb_record_free(&first);
    pb_names_free(names, n);
    return status;
}
