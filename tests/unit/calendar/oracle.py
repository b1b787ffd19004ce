#!/usr/bin/env python3
"""Writes ticks.inc and zones.inc: what Python's zoneinfo says about cron expressions in time zones.

    tests/unit/calendar/oracle.py [DIRECTORY OF ZONES]

A second implementation, and a slow one: it looks at every minute, and knows nothing of spans, rules or files. The zones' files are
written out with the ticks, so that the test does not change when a country changes its clocks.
"""

import datetime
import itertools
import pathlib
import sys
import zoneinfo

HERE = pathlib.Path(__file__).parent
UTC = datetime.timezone.utc
MINUTE = datetime.timedelta(minutes=1)

# Zone -> days around which ticks are looked for, as UTC dates and a number of days.
WINDOWS = {
    "Europe/Berlin": [("2025-03-29", 3), ("2025-10-25", 3), ("2045-03-25", 3), ("2045-10-28", 3), ("2024-02-27", 4)],
    "America/New_York": [("2025-03-08", 3), ("2025-11-01", 3), ("2099-03-07", 3), ("2007-03-10", 3)],
    "Asia/Kolkata": [("2025-03-29", 2)],
    "Australia/Lord_Howe": [("2025-04-05", 2), ("2025-10-04", 2), ("2050-04-02", 2), ("1985-10-26", 2)],
    "Pacific/Apia": [("2011-12-28", 5), ("2011-04-01", 3), ("2012-03-31", 3)],
    "Europe/Dublin": [("2025-03-29", 3), ("2025-10-25", 3), ("2060-10-30", 3)],
    "America/Nuuk": [("2023-03-25", 3), ("2024-03-30", 3)],
    "UTC": [("2025-03-29", 3), ("2024-02-28", 3)],
}

EXPRESSIONS = [
    "*/15 * * * *", "0 * * * *", "*/30 0-23 * * *", "30 2 * * *", "0 2 * * *", "0 3 * * *", "*/20 2 * * *", "0 */2 * * *",
    "15 1,2,3 * * *", "0 6 30 12 *", "0 0 * * *", "59 23 * * *", "0 12 29 FEB *", "0 0 30 * SUN", "45 1 * * 6,7",
]


def field(text, low, high, names=()):
    for i, name in enumerate(names):
        text = text.replace(name, str(low + i))
    values = set()
    for part in text.split(","):
        part, _, step = part.partition("/")
        first, _, last = ("%d-%d" % (low, high) if part == "*" else part).partition("-")
        values |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return values


def matcher(expression):
    minute, hour, day, month, weekday = expression.split()
    minutes, hours = field(minute, 0, 59), field(hour, 0, 23)
    days, months = field(day, 1, 31), field(month, 1, 12, "JAN FEB MAR".split())
    weekdays = {v % 7 for v in field(weekday, 0, 7 if "*" not in weekday else 6, "SUN MON TUE WED THU FRI SAT".split())}
    either = not day.startswith("*") and not weekday.startswith("*")

    def matches(t):
        a, b = t.day in days, t.isoweekday() % 7 in weekdays
        return t.minute in minutes and t.hour in hours and t.month in months and ((a or b) if either else (a and b))
    return matches, hours == set(range(24))


def jump_behind(local, zone):
    """The instant of the jump that skips this local time: bisection over instants, comparing what the wall shows."""
    low = (local - datetime.timedelta(days=2)).replace(tzinfo=UTC)
    high = (local + datetime.timedelta(days=2)).replace(tzinfo=UTC)
    while high - low > datetime.timedelta(seconds=1):
        middle = low + datetime.timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone).replace(tzinfo=None) > local:
            high = middle
        else:
            low = middle
    return high


def instant_of(local, zone):
    t = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    return t if t.astimezone(zone).replace(tzinfo=None) == local else jump_behind(local, zone)


def ticks(expression, zone, start, end):
    matches, by_real_time = matcher(expression)
    found = set()
    if by_real_time:
        t = start
        while t < end:
            local = t.astimezone(zone)
            if local.second == 0 and matches(local):
                found.add(t)
            t += MINUTE
    else:
        local = (start - datetime.timedelta(days=3)).replace(tzinfo=None)
        while local < (end + datetime.timedelta(days=3)).replace(tzinfo=None):
            if matches(local):
                found.add(instant_of(local, zone))
            local += MINUTE
    return sorted(t for t in found if start < t < end)


def bytes_of(name, data):
    lines = (", ".join(f"0x{b:02x}" for b in data[i:i + 16]) for i in range(0, len(data), 16))
    return f"static const unsigned char {name}[] = {{\n    " + ",\n    ".join(lines) + "};\n"


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/zoneinfo")
    note = "/* Written by oracle.py; do not edit. */\n"
    zones, table, rows = note, "static const struct zone_file zone_files[] = {\n", note
    for number, (name, windows) in enumerate(WINDOWS.items()):
        data = (source / name).read_bytes()
        zone = zoneinfo.ZoneInfo.from_file((source / name).open("rb"), key=name)
        zones += bytes_of(f"zone_{number}", data)
        table += f'    {{"{name}", zone_{number}, sizeof zone_{number}}},\n'
        for (first, days), expression in itertools.product(windows, EXPRESSIONS):
            start = datetime.datetime.fromisoformat(first).replace(tzinfo=UTC)
            end = start + datetime.timedelta(days=days)
            found = [int(t.timestamp()) for t in ticks(expression, zone, start, end)]
            if found:
                base = int(start.timestamp())
                rows += f'{{"{name}", "{expression}", {base}, {days}, {len(found)}, "'
                gaps = [b - a for a, b in zip([base] + found, found)]
                packed = (f"{gap}x{len(list(same))}" for gap, same in itertools.groupby(gaps))
                rows += " ".join(packed) + '"},\n'
    (HERE / "zones.inc").write_text(zones + table + "};\n")
    (HERE / "ticks.inc").write_text(rows)


if __name__ == "__main__":
    main()
