"""trend: how generation by source develops, and where a straight line leads.

Fits a least-squares line to each source and extends it to the forecast year. How far to trust it is shown by a bootstrap of
the residuals: the fit is repeated on `resamples` resampled histories, and the middle 90 % of their forecasts (each with a residual
drawn for the year itself) are the range. The generator is seeded, so that a repeated attempt gives the same bytes.

input:  the result of clean
config: {"forecast_year": YEAR, "renewables": [SOURCE...], "resamples": N, "seed": N}
result: {"last_year", "renewables_share", "forecast_year", "forecast": {SOURCE: {"value", "low", "high", "per_year"}}},
        and the input's other members for the steps to come
"""

import random

import step

RESAMPLES_MAX = 200000


class Line:
    """The least-squares line through (x, y) for fixed x; fitting other y to the same x is cheap."""

    def __init__(self, xs):
        self.mean = sum(xs) / len(xs)
        self.offsets = [x - self.mean for x in xs]
        self.spread = sum(offset * offset for offset in self.offsets)

    def fit(self, ys):
        """(height at the mean of x, slope)"""
        return sum(ys) / len(ys), sum(map(float.__mul__, self.offsets, ys)) / self.spread

    def at(self, fitted, x):
        height, slope = fitted
        return height + slope * (x - self.mean)


def forecast(values, year, resamples, rng):
    xs = [float(x) for x in sorted(values, key=int)]
    ys = [float(values[str(int(x))]) for x in xs]
    if len(xs) < 3:
        raise step.DataError(f"input/generation: {len(xs)} years; a trend needs at least 3")
    line = Line(xs)
    fitted = line.fit(ys)
    expected = [line.at(fitted, x) for x in xs]
    residuals = [y - e for y, e in zip(ys, expected)]
    outcomes = []
    for _ in range(resamples):
        drawn = rng.choices(residuals, k=len(xs) + 1)
        outcomes.append(line.at(line.fit(list(map(float.__add__, expected, drawn))), year) + drawn[-1])
    outcomes.sort()
    return {
        "value": round(line.at(fitted, year), 3),
        "low": round(outcomes[resamples // 20], 3),
        "high": round(outcomes[resamples - 1 - resamples // 20], 3),
        "per_year": round(fitted[1], 3),
    }


def work(_params, config, data):
    generation = step.field(data, "generation", dict, "input")
    year = step.field(config, "forecast_year", int, "config")
    renewables = step.field(config, "renewables", list, "config")
    resamples = step.field(config, "resamples", int, "config")
    if not 100 <= resamples <= RESAMPLES_MAX:
        raise step.DataError(f"config: 'resamples' is {resamples}; expected 100 to {RESAMPLES_MAX}")
    unknown = sorted(set(renewables) - set(generation))
    if unknown:
        raise step.DataError(f"config: 'renewables' names {unknown[0]!r}; the input has {', '.join(generation)}")
    rng = random.Random(step.field(config, "seed", int, "config"))
    last = max((year for values in generation.values() for year in values), key=int)
    total = sum(values[last] for values in generation.values())
    if total <= 0:
        raise step.DataError(f"input/generation: nothing was generated in {last}; a share of it means nothing")
    return {
        "last_year": int(last),
        "renewables_share": round(sum(generation[source][last] for source in renewables) / total, 4),
        "forecast_year": year,
        "forecast": {source: forecast(values, year, resamples, rng) for source, values in generation.items()},
        **{name: value for name, value in data.items() if name != "generation"},
    }


if __name__ == "__main__":
    step.main(work)
