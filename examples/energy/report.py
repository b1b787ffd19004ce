"""report: what the run found, in the shape that its readers use.

input:  the result of heating
result: {"renewables_share_YEAR", "forecast_YEAR": {SOURCE: thousand MWh}, "forecast_YEAR_range": {SOURCE: [low, high]},
         "heating_degree_days": {"base_celsius", "total", "by_month"}, "missing_hours", "inputs": {FILE: SHA-256}}
"""

import step


def work(_params, _config, data):
    forecast = step.field(data, "forecast", dict, "input")
    last = step.field(data, "last_year", int, "input")
    year = step.field(data, "forecast_year", int, "input")
    return {
        f"renewables_share_{last}": step.field(data, "renewables_share", float, "input"),
        f"forecast_{year}": {source: found["value"] for source, found in forecast.items()},
        f"forecast_{year}_range": {source: [found["low"], found["high"]] for source, found in forecast.items()},
        "heating_degree_days": step.field(data, "heating_degree_days", dict, "input"),
        "missing_hours": step.field(data, "missing_hours", int, "input"),
        "inputs": step.field(data, "inputs", dict, "input"),
    }


if __name__ == "__main__":
    step.main(work)
