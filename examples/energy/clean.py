"""clean: from lines of text to checked numbers.

Every field of every row is checked, and the first that is wrong ends the step: its error names file, row, column and the
offending text, and its exit code says that another attempt is useless.

input:  the result of ingest
config: {"sources": [NAME...], "generation_range": [MIN, MAX], "temperature_range": [MIN, MAX]}
result: {"generation": {SOURCE: {"2001": thousand MWh, ...}}, "temperature": {"2010-01": [degrees Celsius, ...], ...},
         "inputs": {FILE: SHA-256}, "missing_hours": N}
"""

import csv
import datetime
import math

import step

ELECTRICITY = ("year", "source", "net_generation")
WEATHER = ("date", "pressure", "temperature", "wind")
HOUR = datetime.timedelta(hours=1)


class Row:
    """One row of a table, which knows its place. Rows are counted from 1, and the header is row 1."""

    def __init__(self, file, number, columns, fields):
        self.file, self.number, self.columns, self.fields = file, number, columns, fields

    def text(self, column):
        return self.fields[self.columns.index(column)]

    def wrong(self, column, expected):
        place = f"{self.file}: row {self.number}, column {self.columns.index(column) + 1} ({column})"
        return step.DataError(f"{place}: {self.text(column)[:80]!r}; expected {expected}")

    def number_in(self, column, low, high):
        """The column's value as a finite number between low and high."""
        expected = f"a number from {low} to {high}"
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(column, expected) from None
        # float() also takes "1_000", " 7 " and "nan": no data set means them
        if text.strip() != text or "_" in text or not math.isfinite(value) or not low <= value <= high:
            raise self.wrong(column, expected)
        return value

    def time(self, column, form, expected):
        try:
            return datetime.datetime.strptime(self.text(column), form)
        except ValueError:
            raise self.wrong(column, expected) from None


def rows(table, columns, where):
    """The table's rows in order. A row must have one field for each column."""
    file = step.field(table, "file", str, where)
    lines = step.field(table, "lines", list, where)
    if not lines:
        raise step.DataError(f"{file}: no rows; expected at least one below the header")
    for number, line in enumerate(lines, start=2):
        try:
            fields = next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            raise step.DataError(f"{file}: row {number}: {line[:80]!r}: {error}") from None
        if len(fields) < len(columns):
            raise step.DataError(
                f"{file}: row {number}, column {len(fields) + 1} ({columns[len(fields)]}): the row ends before it: "
                f"{line[:80]!r}; expected {len(columns)} columns")
        if len(fields) > len(columns):
            raise step.DataError(
                f"{file}: row {number}, column {len(columns) + 1}: {fields[len(columns)][:80]!r}; "
                f"expected {len(columns)} columns ({','.join(columns)})")
        yield Row(file, number, columns, fields)


def clean_generation(table, sources, low, high):
    """{source: {year: value}}: each source once for each year, the years without a gap and the same for all."""
    years = {source: {} for source in sources}
    for row in rows(table, ELECTRICITY, "input/electricity"):
        source = row.text("source")
        if source not in years:
            raise row.wrong("source", "one of " + ", ".join(sources))
        year = row.time("year", "%Y-%m-%d", "the first day of a year, as 2017-01-01")
        if (year.month, year.day) != (1, 1):
            raise row.wrong("year", "the first day of a year, as 2017-01-01")
        if str(year.year) in years[source]:
            raise row.wrong("year", f"no second value of {source} for {year.year}")
        years[source][str(year.year)] = row.number_in("net_generation", low, high)
    every = sorted({int(year) for values in years.values() for year in values})
    for source, values in years.items():
        missing = [year for year in range(every[0], every[-1] + 1) if str(year) not in values]
        if missing:
            raise step.DataError(f"{table['file']}: {source} has no value for {missing[0]}; expected every year "
                                 f"from {every[0]} to {every[-1]}")
    return years


def clean_temperature(table, low, high):
    """({month: [temperature of each hour]}, hours missing between the first day and the last)."""
    months, before, missing = {}, None, 0
    for row in rows(table, WEATHER, "input/weather"):
        time = row.time("date", "%Y-%m-%dT%H:%M:%S", "a full hour, as 2010-01-01T01:00:00")
        if time.minute or time.second or (before and time <= before):
            raise row.wrong("date", "a full hour" + (f" after {before.isoformat()}" if before else ""))
        missing += time.hour if before is None else round((time - before) / HOUR) - 1
        before = time
        row.number_in("pressure", 800, 1100)
        row.number_in("wind", 0, 120)
        months.setdefault(time.strftime("%Y-%m"), []).append(row.number_in("temperature", low, high))
    return months, missing + 23 - before.hour


def bounds(config, name):
    pair = step.field(config, name, list, "config")
    if len(pair) != 2 or not all(type(value) in (int, float) for value in pair) or pair[0] > pair[1]:
        raise step.DataError(f"config: {name!r} is {pair}; expected two numbers [min, max]")
    return pair


def work(_params, config, tables):
    sources = step.field(config, "sources", list, "config")
    electricity = step.field(tables, "electricity", dict, "input")
    weather = step.field(tables, "weather", dict, "input")
    generation = clean_generation(electricity, sources, *bounds(config, "generation_range"))
    temperature, missing_hours = clean_temperature(weather, *bounds(config, "temperature_range"))
    return {
        "generation": generation,
        "temperature": temperature,
        "missing_hours": missing_hours,
        "inputs": {table["file"]: step.field(table, "sha256", str, "input") for table in (electricity, weather)},
    }


if __name__ == "__main__":
    step.main(work)
