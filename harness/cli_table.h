/* A table of text cells, aligned by columns of a terminal: first column to the left, the others to
 * the right. */
#ifndef PB_HARNESS_CLI_TABLE_H
#define PB_HARNESS_CLI_TABLE_H

#include <stdio.h>

#include "base/status.h"

#define PB_TABLE_COLUMNS 16
#define PB_TABLE_CELL 72

typedef struct pb_table {
    int n_columns, n_rows, cap;
    unsigned left;                                 /* bit i: column i to the left */
    char (*rows)[PB_TABLE_COLUMNS][PB_TABLE_CELL]; /* rows[0] is the head */
    pb_status status;                              /* of all additions so far */
} pb_table;

/* names: the head, NULL-terminated. */
void pb_table_start(pb_table *t, const char *const *names, unsigned left);
/* Begins a row of empty cells. */
void pb_table_row(pb_table *t);
/* Column `column` of the last row; cut when it is too long. */
void pb_table_cell(pb_table *t, int column, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints (unless an addition failed) and frees. */
pb_status pb_table_end(pb_table *t, FILE *out);

#endif
