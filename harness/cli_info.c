/* peftbench info: the machine as records describe it, the backends, the programs beside it. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "harness/cli.h"
#include "harness/environment.h"
#include "harness/suite.h"
#include "kernels/core/device.h"
#include "plots/plots.h"

static pb_status add_backend(pb_json *list, const char *name) {
    pb_device_facts facts;
    pb_json *o = pb_json_add_object(list, name);
    pb_status found = pb_device_probe(name, NULL, &facts);
    if (found == PB_E_OOM) return found;
    bool ok = o && pb_json_add_bool(o, "available", found == PB_OK);
    if (found == PB_OK) {
        ok = ok && pb_json_add_i64(o, "threads", facts.threads) &&
             pb_json_add_bool(o, "fast_bf16", facts.fast_bf16) &&
             (facts.text[0] == 0 || pb_json_add_str(o, "hardware", facts.text));
    } else {
        ok = ok && pb_json_add_str(o, "why_not", pb_error_message());
    }
    pb_error_clear();
    return pb_cli_built(ok);
}

static pb_status collect(pb_json *root) {
    static const char *const backends[] = {"cpu", "ref", "cuda"};
    pb_json *list = pb_json_add_object(root, "backends");
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        PB_RETURN(add_backend(list, backends[i]));
    pb_json *plots = pb_json_add_object(root, "gnuplot");
    pb_status found = pb_plots_available();
    bool ok = pb_json_add_bool(plots, "available", found == PB_OK) &&
              (found == PB_OK || pb_json_add_str(plots, "why_not", pb_error_message()));
    pb_error_clear();
    return pb_cli_built(ok && pb_json_add_str(root, "home", pb_home()));
}

static void print_value(const pb_json *v) {
    if (cJSON_IsString(v)) {
        printf("%s", v->valuestring);
    } else if (cJSON_IsBool(v)) {
        printf("%s", cJSON_IsTrue(v) ? "yes" : "no");
    } else {
        char *text = pb_json_print(v, false);
        printf("%s", text ? text : "");
        free(text);
    }
}

static bool is_leaf_list(const pb_json *v) {
    for (const pb_json *e = v->child; e; e = e->next) {
        if (e->child) return false;
    }
    return cJSON_IsArray(v);
}

static void print_tree(const pb_json *o, int depth) {
    const pb_json *v = NULL;
    cJSON_ArrayForEach (v, o) {
        printf("%*s%s:", 2 * depth, "", v->string ? v->string : "-");
        if (is_leaf_list(v)) {
            for (const pb_json *e = v->child; e; e = e->next) {
                putchar(' ');
                print_value(e);
            }
            putchar('\n');
        } else if (cJSON_IsObject(v) || cJSON_IsArray(v)) {
            putchar('\n');
            print_tree(v, depth + 1);
        } else {
            putchar(' ');
            print_value(v);
            putchar('\n');
        }
    }
}

static pb_status run_info(pb_cli *cli, int argc, char **argv) {
    pb_status status = PB_OK;
    int format = 0;
    pb_command_line line;
    pb_json *root = NULL;
    const pb_option options[] = {PB_OPTION_FORMAT(&format)};
    PB_RETURN(pb_cli_parse(cli, options, 1, argc, argv, &line));
    if (line.help) return PB_OK;
    PB_TRY(pb_environment_json("cpu", 0, &root));
    cJSON_DeleteItemFromObjectCaseSensitive(root, "argv");
    cJSON_DeleteItemFromObjectCaseSensitive(root, "device");
    PB_TRY(collect(root));
    if (format == 0) {
        print_tree(root, 0);
    } else {
        status = pb_cli_print_json(root);
        root = NULL;
    }
done:
    pb_json_free(root);
    return status;
}

const pb_command pb_command_info = {
    .name = "info",
    .args = "",
    .summary = "the machine, the backends, the libraries",
    .details = "Prints what records say about this machine and build, which backends can run here "
               "and why the others\n"
               "cannot, and whether plots can be drawn.\n",
    .run = run_info,
};
