"""heating: how much heating an hourly temperature record asks for.

Heating degree days are summed over hours: each hour below the base temperature adds its distance to the base, divided by 24.
This counts a cold night of a mild day, which the usual daily mean hides.

input:  the result of trend
config: {"base_celsius": NUMBER}
result: {"heating_degree_days": {"base_celsius", "total", "by_month": {"2010-01": ..., ...}}}, and the input's other members
        without the hourly record
"""

import math

import step


def degree_days(temperatures, base):
    return math.fsum(max(0.0, base - temperature) for temperature in temperatures) / 24


def work(_params, config, data):
    base = step.field(config, "base_celsius", (int, float), "config")
    record = step.field(data, "temperature", dict, "input")
    months = {month: degree_days(hours, base) for month, hours in sorted(record.items())}
    return {
        "heating_degree_days": {
            "base_celsius": base,
            "total": round(math.fsum(months.values()), 3),
            "by_month": {month: round(value, 3) for month, value in months.items()},
        },
        **{name: value for name, value in data.items() if name != "temperature"},
    }


if __name__ == "__main__":
    step.main(work)
