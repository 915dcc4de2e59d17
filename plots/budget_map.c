/* The budget map as a figure: a table of cells, coloured by method. */
#include <string.h>

#include "plots/figure.h"

/* White text on all but the pale cell of nothing. */
#define NOTHING 0xECEEF0
#define INK 0x33383D
#define WHITE 0xFFFFFF

pb_status pb_build_budget_map(const pb_budget_map *map, figure *f) {
    f->made = true;
    f->template = "budget_map";
    f->width = 150 + 105 * map->n_columns;
    f->height = 150 + 52 * map->n_rows;
    pb_text_add(&f->vars, "NROWS = %d\nNCOLUMNS = %d\n", map->n_rows, map->n_columns);
    pb_gp_array(&f->vars, "ROW", map->n_rows);
    for (int i = 0; i < map->n_rows; i++) pb_gp_item(&f->vars, "ROW", i, map->rows[i]);
    pb_gp_array(&f->vars, "COLUMN", map->n_columns);
    for (int i = 0; i < map->n_columns; i++) pb_gp_item(&f->vars, "COLUMN", i, map->columns[i]);
    for (int i = 0; i < map->n_rows; i++) {
        for (int k = 0; k < map->n_columns; k++) {
            const pb_map_cell *c = &map->cells[i * map->n_columns + k];
            bool none = !c->method[0];
            pb_text_add(&f->data, "%d\t%d\t%u\t%u\t%s\t%s\t%d\n", k + 1, i + 1,
                        none ? NOTHING : pb_method_colour(c->method), none ? INK : WHITE,
                        none ? "nothing fits" : c->title, c->note[0] ? c->note : " ",
                        c->note[0] != 0);
        }
    }
    pb_figure_legend(f, NULL, NULL, NULL, 0);
    pb_figure_caption(f, "budget_map", map->title,
                      "The method that peftbench advise recommends at each GPU memory and model size, "
                      "and what has to change for it to fit.");
    return pb_text_status(&f->data);
}
