/* A query's answer as CSV, for spreadsheets and statistics programs. */
#include "config.h"
#include "node/cli/table.h"

#include <stdlib.h>
#include <string.h>

/* Quoted where a comma, a quote or the end of a line would be misread, and where a spreadsheet would run it as a formula. */
static void put_text(FILE *to, const char *text)
{
    bool formula = *text && strchr("=+-@\t\r", *text);
    if (!formula && !strpbrk(text, ",\"\r\n")) {
        fputs(text, to);
        return;
    }
    fputs(formula ? "\"'" : "\"", to);
    for (; *text; text++) {
        fputs(*text == '"' ? "\"\"" : (char[]){*text, 0}, to);
    }
    fputc('"', to);
}

static void put_value(FILE *to, const json_t *value)
{
    if (json_is_string(value)) {
        put_text(to, json_string_value(value));
    } else if (json_is_integer(value)) {
        fprintf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_number(value)) {
        char text[32]; /* the shortest that reads back as the same number */
        snprintf(text, sizeof text, "%.15g", json_number_value(value));
        if (strtod(text, NULL) != json_number_value(value)) {
            snprintf(text, sizeof text, "%.17g", json_number_value(value));
        }
        fputs(text, to);
    }
}

static bool has_margins(const json_t *margins, size_t column)
{
    for (size_t r = 0; r < json_array_size(margins); r++) {
        if (json_is_number(json_array_get(json_array_get(margins, r), column))) {
            return true;
        }
    }
    return false;
}

void cli_csv_print(const json_t *answer, FILE *to)
{
    const json_t *columns = json_object_get(answer, "columns");
    const json_t *rows = json_object_get(answer, "rows");
    const json_t *margins = json_object_get(answer, "margin95");
    size_t count = json_array_size(columns);
    for (size_t c = 0; c < count; c++) {
        const char *name = json_string_value(json_array_get(columns, c));
        char margin[128];
        fputs(c ? "," : "", to);
        put_text(to, name ? name : "");
        if (has_margins(margins, c)) {
            snprintf(margin, sizeof margin, "%s_margin95", name ? name : "");
            fputc(',', to);
            put_text(to, margin);
        }
    }
    for (size_t r = 0; r < json_array_size(rows); r++) {
        for (size_t c = 0; c < count; c++) {
            fputs(c ? "," : "\r\n", to);
            put_value(to, json_array_get(json_array_get(rows, r), c));
            if (has_margins(margins, c)) {
                fputc(',', to);
                put_value(to, json_array_get(json_array_get(margins, r), c));
            }
        }
    }
    fputs("\r\n", to);
}
