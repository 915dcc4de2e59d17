#include "harness/cli_table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cli.h"

void pb_table_start(pb_table *t, const char *const *names, unsigned left) {
    *t = (pb_table){.left = left | 1u};
    while (names[t->n_columns] && t->n_columns < PB_TABLE_COLUMNS) t->n_columns++;
    pb_table_row(t);
    for (int c = 0; c < t->n_columns; c++) pb_table_cell(t, c, "%s", names[c]);
}

void pb_table_row(pb_table *t) {
    if (t->status != PB_OK) return;
    if (t->n_rows == t->cap) {
        int cap = t->cap ? 2 * t->cap : 16;
        void *rows = realloc(t->rows, (size_t)cap * sizeof *t->rows);
        if (!rows) {
            t->status = PB_ERROR(PB_E_OOM, "no memory for a table of %d rows", cap);
            return;
        }
        t->rows = rows;
        t->cap = cap;
    }
    memset(t->rows[t->n_rows++], 0, sizeof *t->rows);
}

void pb_table_cell(pb_table *t, int column, const char *fmt, ...) {
    va_list args;
    if (t->status != PB_OK) return;
    PB_ASSERT(column < t->n_columns && t->n_rows > 0);
    va_start(args, fmt);
    vsnprintf(t->rows[t->n_rows - 1][column], PB_TABLE_CELL, fmt, args);
    va_end(args);
}

static void print_row(const pb_table *t, int row, const int *width, FILE *out) {
    char line[PB_TABLE_COLUMNS * (2 * PB_TABLE_CELL + 2)];
    size_t n = 0;
    for (int c = 0; c < t->n_columns; c++) {
        const char *cell = t->rows[row][c];
        int pad = width[c] - pb_text_columns(cell);
        bool left = t->left & (1u << c);
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%*s%s%*s", c ? "  " : "",
                              left ? 0 : pad, "", cell, left ? pad : 0, "");
    }
    while (n > 0 && line[n - 1] == ' ') line[--n] = 0;
    fprintf(out, "%s\n", line);
}

pb_status pb_table_end(pb_table *t, FILE *out) {
    int width[PB_TABLE_COLUMNS] = {0};
    for (int r = 0; r < t->n_rows; r++) {
        for (int c = 0; c < t->n_columns; c++) {
            int n = pb_text_columns(t->rows[r][c]);
            if (n > width[c]) width[c] = n;
        }
    }
    for (int r = 0; r < t->n_rows && t->status == PB_OK; r++) print_row(t, r, width, out);
    free(t->rows);
    pb_status status = t->status;
    *t = (pb_table){0};
    return status;
}
