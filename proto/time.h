/* Time as values: unix seconds UTC and civil dates. No clock is read on this floor. */
#ifndef CONCORDAT_PROTO_TIME_H
#define CONCORDAT_PROTO_TIME_H

#include <stdbool.h>
#include <stdint.h>

#define PROTO_TIME_SIZE 21 /* "2026-11-23T20:40:47Z" and a zero */

/* Days since 1970-01-01 in the proleptic Gregorian calendar. */
int32_t proto_time_days(int32_t year, int32_t month, int32_t day);
void proto_time_civil(int32_t days, int32_t *ret_year, int32_t *ret_month, int32_t *ret_day);
/* "YYYY-MM-DD", a date that exists, years 0001 to 9999; nothing before or after. */
bool proto_time_parse_date(const char *text, int32_t *ret_days);
/* RFC 3339 UTC ("...Z"). A bare date means the end of that day, 24:00 UTC. */
bool proto_time_parse(const char *text, int64_t *ret_unix_s);
/* What a person may type for the beginning of a stretch of time: a bare date means 00:00 UTC of that
 * day; a fraction of a second is passed over, and UTC may be written +00:00, as programs print it. */
bool proto_time_parse_since(const char *text, int64_t *ret_unix_s);
/* A number of months as licences write it: one to three digits, nothing else. */
bool proto_time_parse_months(const char *text, int32_t *ret_months);
/* Calendar months later: 31 January and a month is the last day of February. Of times before the year 9999 - months/12. */
int64_t proto_time_add_months(int64_t unix_s, int32_t months);
/* Writes RFC 3339 UTC into TEXT and returns it. */
const char *proto_time_format(int64_t unix_s, char text[PROTO_TIME_SIZE]);

#endif
