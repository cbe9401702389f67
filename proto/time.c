#include "config.h"
#include "proto/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Days of the 400-year cycle are counted from 1 March, so that the leap day comes last. */
int32_t proto_time_days(int32_t year, int32_t month, int32_t day)
{
    year -= month <= 2;
    int32_t era = (year >= 0 ? year : year - 399) / 400;
    int32_t year_of_era = year - era * 400;
    int32_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int32_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void proto_time_civil(int32_t days, int32_t *ret_year, int32_t *ret_month, int32_t *ret_day)
{
    days += 719468;
    int32_t era = (days >= 0 ? days : days - 146096) / 146097;
    int32_t doe = days - era * 146097;
    int32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int32_t mp = (5 * doy + 2) / 153;
    *ret_day = doy - (153 * mp + 2) / 5 + 1;
    *ret_month = mp < 10 ? mp + 3 : mp - 9;
    *ret_year = yoe + era * 400 + (*ret_month <= 2);
}

static bool digits(const char *text, int n, int32_t *ret)
{
    int32_t value = 0;
    for (int i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (text[i] - '0');
    }
    *ret = value;
    return true;
}

static bool parse_date(const char *text, size_t len, int32_t *ret_days)
{
    int32_t year, month, day, y, m, d;
    if (len != 10 || text[4] != '-' || text[7] != '-' || !digits(text, 4, &year) ||
        !digits(text + 5, 2, &month) || !digits(text + 8, 2, &day) || year < 1 || month < 1 ||
        month > 12 || day < 1 || day > 31) {
        return false;
    }
    int32_t days = proto_time_days(year, month, day);
    proto_time_civil(days, &y, &m, &d);
    if (m != month || d != day) {
        return false;
    }
    *ret_days = days;
    return true;
}

bool proto_time_parse_date(const char *text, int32_t *ret_days)
{
    return parse_date(text, strlen(text), ret_days);
}

bool proto_time_parse(const char *text, int64_t *ret_unix_s)
{
    int32_t days, hour, minute, second;
    size_t len = strlen(text);
    if (parse_date(text, len, &days)) {
        *ret_unix_s = ((int64_t)days + 1) * 86400;
        return true;
    }
    if (len != 20 || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[19] != 'Z' ||
        !parse_date(text, 10, &days) || !digits(text + 11, 2, &hour) ||
        !digits(text + 14, 2, &minute) || !digits(text + 17, 2, &second) || hour > 23 ||
        minute > 59 || second > 59) {
        return false;
    }
    *ret_unix_s = (int64_t)days * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

bool proto_time_parse_since(const char *text, int64_t *ret_unix_s)
{
    int32_t days;
    char whole[PROTO_TIME_SIZE] = "";
    if (proto_time_parse_date(text, &days)) {
        *ret_unix_s = (int64_t)days * 86400;
        return true;
    }
    if (strlen(text) < 20) {
        return false;
    }
    const char *rest = text + 19;
    if (*rest == '.') {
        size_t len = strspn(rest + 1, "0123456789");
        rest += len ? len + 1 : 0;
    }
    if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0) {
        return false;
    }
    memcpy(whole, text, 19);
    whole[19] = 'Z';
    return proto_time_parse(whole, ret_unix_s);
}

const char *proto_time_format(int64_t unix_s, char text[PROTO_TIME_SIZE])
{
    int64_t days = unix_s >= 0 ? unix_s / 86400 : (unix_s - 86399) / 86400;
    int64_t rest = unix_s - days * 86400;
    int32_t year, month, day;
    if (days < -719162 || days > 2932896) { /* years 0001 to 9999 */
        return memcpy(text, "0000-00-00T00:00:00Z", PROTO_TIME_SIZE);
    }
    proto_time_civil((int32_t)days, &year, &month, &day);
    snprintf(text, PROTO_TIME_SIZE, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)year % 10000u,
             (unsigned)month % 100u, (unsigned)day % 100u, (unsigned)(rest / 3600) % 100u,
             (unsigned)(rest / 60 % 60), (unsigned)(rest % 60));
    return text;
}

bool proto_time_parse_months(const char *text, int32_t *ret_months)
{
    size_t len = strlen(text);
    if (len < 1 || len > 3 || strspn(text, "0123456789") != len) {
        return false;
    }
    *ret_months = (int32_t)strtol(text, NULL, 10);
    return true;
}

int64_t proto_time_add_months(int64_t unix_s, int32_t months)
{
    int32_t year, month, day, y, m, d;
    int32_t days = (int32_t)(unix_s / 86400);
    proto_time_civil(days, &year, &month, &day);
    int32_t total = year * 12 + month - 1 + months;
    int32_t target = proto_time_days(total / 12, total % 12 + 1, day);
    proto_time_civil(target, &y, &m, &d);
    if (m != total % 12 + 1) { /* it ran over into the next month by d days */
        target -= d;
    }
    return (int64_t)target * 86400 + unix_s % 86400;
}
