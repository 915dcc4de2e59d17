/* Data and run configurations for the trainer's tests, as a user would give them: folders with
 * files. */
#ifndef PB_TESTS_LAB_DATA_H
#define PB_TESTS_LAB_DATA_H

#include "harness/trainer.h"
#include "tests/lab.h"

enum { PB_LAB_TRAIN = 48, PB_LAB_VALID = 12, PB_LAB_TEST = 18 };

/* Two model folders (with vocabulary), and two data sets: texts with one of three labels that one
 * of their words gives away, prompts whose completion repeats the first word. */
typedef struct pb_lab_world {
    char *model[PB_LAB_MODELS], *data[PB_LAB_MODELS];
    pb_assets assets[PB_LAB_MODELS];
} pb_lab_world;
void pb_lab_world_new(pb_lab_world *w);
void pb_lab_world_free(pb_lab_world *w);

/* A small run of the method on the model with its data. */
pb_run_config pb_lab_run(const pb_lab_world *w, pb_lab_model model, const char *method);
/* Executes it with two threads; the record is the caller's. */
void pb_lab_execute(const pb_lab_world *w, const pb_run_config *run, pb_record *record);

#endif
