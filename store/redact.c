#include "config.h"
#include "store/redact.h"

#include <strings.h>

/* What stands at a place of the text: its length and its kind; length 0: nothing. */
struct match {
    size_t len;
    const char *label;
};

static bool digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static bool word(uint8_t c)
{
    return digit(c) || letter(c);
}

static uint8_t at(struct span text, size_t i)
{
    return i < text.len ? text.ptr[i] : 0;
}

static struct span from(struct span text, size_t i)
{
    return i < text.len ? span_of(text.ptr + i, text.len - i) : SPAN_NONE;
}

static size_t digits(struct span text, size_t i)
{
    size_t n = 0;
    while (digit(at(text, i + n))) {
        n++;
    }
    return n;
}

static unsigned value(struct span text, size_t i, size_t len)
{
    unsigned v = 0;
    for (size_t k = 0; k < len && k < 6; k++) {
        v = v * 10 + at(text, i + k) - '0';
    }
    return v;
}

static bool ends(struct span text, size_t i)
{
    return !word(at(text, i));
}

/* Whether TEXT has WORD (lower case) at I, whatever its case. */
static bool says(struct span text, size_t i, const char *what)
{
    size_t len = strlen(what);
    return i <= text.len && text.len - i >= len &&
           strncasecmp((const char *)text.ptr + i, what, len) == 0;
}

/* --- each kind: the length of what begins at the text's start, or 0 --------------------------- */

static size_t url(struct span t)
{
    size_t i = says(t, 0, "https://")  ? 8
               : says(t, 0, "http://") ? 7
               : says(t, 0, "ftp://")  ? 6
               : says(t, 0, "www.")    ? 4
                                       : 0;
    size_t start = i;
    while (i && at(t, i) > ' ' && !strchr("<>\"'", at(t, i))) {
        i++;
    }
    while (i > start && strchr(".,;:)!?", at(t, i - 1))) {
        i--;
    }
    return i > start ? i : 0;
}

static size_t email(struct span t)
{
    size_t i = 0;
    while (i < 64 && (word(at(t, i)) || (at(t, i) && strchr("._%+-", at(t, i))))) {
        i++;
    }
    if (i == 0 || at(t, i) != '@') {
        return 0;
    }
    size_t dot = 0, start = ++i;
    while (word(at(t, i)) || at(t, i) == '-' || (at(t, i) == '.' && word(at(t, i + 1)))) {
        dot = at(t, i) == '.' ? i : dot;
        i++;
    }
    return dot > start && i - dot > 2 ? i : 0;
}

static size_t ip4(struct span t)
{
    size_t i = 0;
    for (unsigned group = 0; group < 4; group++) {
        size_t n = digits(t, i);
        if (n < 1 || n > 3 || value(t, i, n) > 255 || (group < 3 && at(t, i + n) != '.')) {
            return 0;
        }
        i += n + (group < 3);
    }
    return ends(t, i) && !(at(t, i) == '.' && digit(at(t, i + 1))) ? i : 0;
}

static size_t ip6(struct span t)
{
    size_t i = 0, colons = 0, run = 0;
    bool doubled = false;
    for (; i < 45; i++) {
        uint8_t c = at(t, i);
        if (c == ':') {
            colons++;
            doubled = doubled || (i && at(t, i - 1) == ':');
            run = 0;
        } else if (digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
            if (++run > 4) {
                return 0;
            }
        } else {
            break;
        }
    }
    return ends(t, i) && colons >= 2 && (colons == 7 || (doubled && i > 4)) ? i : 0;
}

static size_t ssn(struct span t)
{
    char sep = (char)at(t, 3);
    if (digits(t, 0) != 3 || (sep != '-' && sep != ' ') || digits(t, 4) != 2 ||
        at(t, 6) != (uint8_t)sep || digits(t, 7) != 4) {
        return 0;
    }
    unsigned area = value(t, 0, 3);
    return area && area != 666 && area < 900 && ends(t, 11) ? 11 : 0;
}

/* The length of a month's name at I, a full stop included. */
static size_t month(struct span t, size_t i)
{
    static const char *const names[] = {"january",   "february", "march",    "april",
                                        "may",       "june",     "july",     "august",
                                        "september", "october",  "november", "december"};
    for (size_t m = 0; m < 12; m++) {
        size_t len = strlen(names[m]);
        if (says(t, i, names[m]) && ends(t, i + len)) {
            return len;
        }
        char brief[4] = {names[m][0], names[m][1], names[m][2], 0};
        if (says(t, i, brief)) {
            size_t extra = m == 8 && (at(t, i + 3) | 0x20) == 't';
            if (ends(t, i + 3 + extra)) {
                return 3 + extra + (at(t, i + 3 + extra) == '.');
            }
        }
    }
    return 0;
}

static size_t blanks(struct span t, size_t i)
{
    size_t n = 0;
    while (at(t, i + n) == ' ' || at(t, i + n) == ',') {
        n++;
    }
    return n <= 3 ? n : 0;
}

static size_t year(struct span t, size_t i)
{
    return digits(t, i) == 4 && value(t, i, 4) >= 1800 && value(t, i, 4) < 2200 && ends(t, i + 4)
               ? 4
               : 0;
}

static size_t numeric_date(struct span t)
{
    size_t a = digits(t, 0);
    uint8_t sep = at(t, a);
    if (a == 0 || !sep || !strchr("-/.", sep)) {
        return 0;
    }
    size_t b = digits(t, a + 1);
    size_t c = digits(t, a + b + 2);
    if (b < 1 || b > 2 || at(t, a + b + 1) != sep || !ends(t, a + b + c + 2)) {
        return 0;
    }
    unsigned first = value(t, 0, a), second = value(t, a + 1, b), third = value(t, a + b + 2, c);
    bool year_first = a == 4 && first >= 1800 && first < 2200 && second >= 1 && second <= 12 &&
                      (c == 1 || c == 2) && third >= 1 && third <= 31;
    bool year_last = a <= 2 && (c == 4 || c == 2) && first >= 1 && second >= 1 && first <= 31 &&
                     second <= 31 && (first <= 12 || second <= 12) &&
                     (c == 2 || (third >= 1800 && third < 2200));
    return year_first || year_last ? a + b + c + 2 : 0;
}

static size_t named_date(struct span t)
{
    size_t day = digits(t, 0);
    if (day == 1 || day == 2) { /* 1 March 2024, 1st of March */
        size_t i = day + (says(t, day, "st") || says(t, day, "nd") || says(t, day, "rd") ||
                                  says(t, day, "th")
                              ? 2
                              : 0);
        i += at(t, i) == '.';
        i += blanks(t, i);
        i += says(t, i, "of ") ? 3 : 0;
        size_t name = i > day ? month(t, i) : 0;
        if (!name) {
            return 0;
        }
        size_t end = i + name, gap = blanks(t, end);
        return gap && year(t, end + gap) ? end + gap + 4 : end;
    }
    size_t name = day ? 0 : month(t, 0);
    if (!name) {
        return 0;
    }
    size_t i = name + blanks(t, name); /* March 1, 2024 and March 2024 */
    size_t n = digits(t, i);
    if (i == name || n == 0) {
        return 0;
    }
    if (year(t, i)) {
        return i + 4;
    }
    if (n > 2 || value(t, i, n) > 31) {
        return 0;
    }
    i += n + (says(t, i + n, "st") || says(t, i + n, "nd") || says(t, i + n, "rd") ||
                      says(t, i + n, "th")
                  ? 2
                  : 0);
    size_t gap = blanks(t, i);
    return gap && year(t, i + gap) ? i + gap + 4 : ends(t, i) ? i : 0;
}

static size_t card(struct span t)
{
    unsigned sum[2] = {0, 0}, count = 0;
    size_t i = 0, last = 0;
    for (; count < 20 && (digit(at(t, i)) ||
                          ((at(t, i) == ' ' || at(t, i) == '-') && digit(at(t, i + 1)) && count));
         i++) {
        if (digit(at(t, i))) {
            unsigned d = at(t, i) - '0', twice = d * 2 > 9 ? d * 2 - 9 : d * 2;
            /* sum[0]: as if this were the last digit; each step swaps the parts that are doubled. */
            unsigned next = sum[1] + d, other = sum[0] + twice;
            sum[0] = next;
            sum[1] = other;
            count++;
            last = i + 1;
        }
    }
    return count >= 13 && count <= 19 && sum[0] % 10 == 0 && ends(t, last) ? last : 0;
}

struct groups {
    unsigned digits[8];
    unsigned count;
    unsigned total;
    size_t len;
};

/* Groups of digits with single separators, brackets around one of them. */
static struct groups take_groups(struct span t, size_t i)
{
    struct groups g = {.len = 0};
    while (g.count < 8) {
        size_t open = at(t, i) == '(';
        size_t n = digits(t, i + open);
        if (n == 0 || n > 15) {
            break;
        }
        i += open + n;
        size_t close = open && at(t, i) == ')';
        i += close;
        g.digits[g.count++] = (unsigned)n;
        g.total += (unsigned)n;
        g.len = i;
        size_t gap = at(t, i) && strchr(" -./", at(t, i)) != NULL;
        if (!gap && !close && at(t, i) != '(') {
            break;
        }
        i += gap;
    }
    return g;
}

static bool shaped(const struct groups *g, const char *shape)
{
    for (unsigned i = 0; i < g->count; i++) {
        if (shape[i] != (char)('0' + g->digits[i])) {
            return false;
        }
    }
    return shape[g->count] == 0;
}

static size_t phone(struct span t)
{
    bool plus = at(t, 0) == '+';
    struct groups g = take_groups(t, plus);
    if (g.count == 0 || !ends(t, g.len)) {
        return 0;
    }
    bool national =
        at(t, 0) == '0' && g.count >= 2 && g.total >= 8 && g.total <= 13 && g.digits[0] >= 2;
    bool american = shaped(&g, "334") || (shaped(&g, "1334") && at(t, 0) == '1') ||
                    (shaped(&g, "34") && at(t, 3) == '-');
    bool bracket = at(t, 0) == '(' && g.total >= 7 && g.total <= 13;
    return (plus && g.total >= 8 && g.total <= 15) || national || american || bracket ? g.len : 0;
}

static size_t mrn(struct span t)
{
    static const char *const labels[] = {"medical record number", "medical record no",
                                         "medical record", "patient id", "mrn"};
    size_t i = 0;
    for (size_t k = 0; k < 5 && !i; k++) {
        i = says(t, 0, labels[k]) && ends(t, strlen(labels[k])) ? strlen(labels[k]) : 0;
    }
    if (!i) {
        return 0;
    }
    for (unsigned n = 0; n < 4 && at(t, i) && strchr(" :#.=", at(t, i)); n++) {
        i++;
    }
    size_t start = i, count = 0;
    while (word(at(t, i)) || (at(t, i) == '-' && word(at(t, i + 1)))) {
        count += digit(at(t, i));
        i++;
    }
    return i > start && count >= 3 ? i : 0;
}

static size_t vin(struct span t)
{
    unsigned letters = 0, count = 0;
    size_t i = 0;
    for (; i < 17; i++) {
        uint8_t c = at(t, i);
        bool fits = digit(c) || (c >= 'A' && c <= 'Z' && c != 'I' && c != 'O' && c != 'Q');
        if (!fits) {
            return 0;
        }
        letters += !digit(c);
        count += digit(c);
    }
    return ends(t, 17) && letters && count >= 3 ? 17 : 0;
}

/* WHOLE is the text, I where the five digits begin: what stands before them decides. */
static size_t zip(struct span whole, size_t i)
{
    if (digits(whole, i) != 5 || !ends(whole, i + 5)) {
        return 0;
    }
    if (at(whole, i + 5) == '-' && digits(whole, i + 6) == 4 && ends(whole, i + 10)) {
        return 10;
    }
    bool state = i >= 3 && whole.ptr[i - 1] == ' ' && whole.ptr[i - 2] >= 'A' &&
                 whole.ptr[i - 2] <= 'Z' && whole.ptr[i - 3] >= 'A' && whole.ptr[i - 3] <= 'Z' &&
                 (i == 3 || !word(whole.ptr[i - 4]));
    bool label = (i >= 4 && says(whole, i - 4, "zip ")) ||
                 (i >= 5 && (says(whole, i - 5, "zip: ") || says(whole, i - 5, "code ")));
    return state || label ? 5 : 0;
}

static size_t age(struct span whole, size_t i)
{
    size_t n = digits(whole, i);
    if (n < 2 || n > 3 || value(whole, i, n) < 90 || value(whole, i, n) > 130) {
        return 0;
    }
    size_t next = i + n + (at(whole, i + n) == ' ' || at(whole, i + n) == '-');
    bool after = says(whole, next, "year") || says(whole, next, "yr") || says(whole, next, "y/o") ||
                 (says(whole, next, "yo") && ends(whole, next + 2));
    bool before = (i >= 5 && says(whole, i - 5, "aged ")) ||
                  (i >= 4 && says(whole, i - 4, "age ")) || (i >= 5 && says(whole, i - 5, "age: "));
    return ends(whole, i + n) && (after || before) ? n : 0;
}

/* --- names --------------------------------------------------------------------------------- */

/* Whether the word of LEN bytes is one of NAMES' words. */
static bool is_name(struct span the_word, const struct span *names, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        for (size_t i = 0; i < names[k].len;) {
            size_t n = 0;
            while (word(at(names[k], i + n))) {
                n++;
            }
            if (n >= 3 && n == the_word.len &&
                strncasecmp((const char *)names[k].ptr + i, (const char *)the_word.ptr, n) == 0) {
                return true;
            }
            i += n + 1;
        }
    }
    return false;
}

static size_t name_at(struct span t, const struct span *names, size_t count)
{
    size_t n = 0;
    while (word(at(t, n))) {
        n++;
    }
    return n >= 3 && is_name(span_of(t.ptr, n), names, count) ? n : 0;
}

/* --- all of it ----------------------------------------------------------------------------- */

static bool fax_before(struct span whole, size_t i)
{
    for (size_t back = 3; back <= 8 && back <= i; back++) {
        if (says(whole, i - back, "fax")) {
            return true;
        }
    }
    return false;
}

static struct match find(struct span whole, size_t i, const struct span *names, size_t count)
{
    static const struct {
        size_t (*matches)(struct span);
        const char *label;
    } kinds[] = {
        {url, "[URL]"}, {email, "[EMAIL]"},       {ip6, "[IP]"},          {ip4, "[IP]"},
        {ssn, "[SSN]"}, {numeric_date, "[DATE]"}, {named_date, "[DATE]"}, {card, "[CARD]"},
        {mrn, "[MRN]"}, {vin, "[VIN]"},
    };
    struct span t = from(whole, i);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t len = kinds[k].matches(t);
        if (len) {
            return (struct match){len, kinds[k].label};
        }
    }
    size_t len = phone(t);
    if (len) {
        return (struct match){len, fax_before(whole, i) ? "[FAX]" : "[PHONE]"};
    }
    if ((len = zip(whole, i)) != 0) {
        return (struct match){len, "[ZIP]"};
    }
    if ((len = age(whole, i)) != 0) {
        return (struct match){len, "[AGE]"};
    }
    if ((len = digits(t, 0)) >= 8) {
        return (struct match){len, "[NUMBER]"};
    }
    return (struct match){name_at(t, names, count), "[NAME]"};
}

enum err store_redact(struct span text, const struct span *names, size_t name_count,
                      struct buf *out, uint64_t *inout_count)
{
    enum err err = E_OK;
    for (size_t i = 0; i < text.len && !err;) {
        /* Nothing begins inside a word, so that each word is looked at once. */
        bool begins = i == 0 || !word(text.ptr[i - 1]);
        struct match match = begins ? find(text, i, names, name_count) : (struct match){0, NULL};
        if (match.len) {
            err = buf_put(out, span_str(match.label));
            i += match.len;
            ++*inout_count;
        } else {
            err = buf_put(out, span_of(text.ptr + i, 1));
            i++;
        }
    }
    return err;
}
