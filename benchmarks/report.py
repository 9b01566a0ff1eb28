"""Tables, JSON and plots; nothing here measures anything but the machine."""

import json
import os
import platform
import statistics
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import joblib

PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "keras",
    "jax",
    "tensorflow-cpu",
    "tensorflow",
    "skorch",
    "joblib",
)
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
LIBRARY_COLOUR, PEER_COLOUR, FLOOR_COLOUR = "#0b6e99", "#b8bec4", "#d95f02"


def environment():
    """Return what the timings depend on, without names of machines or folders."""
    import skcae

    cpu, features = platform.processor() or platform.machine(), []
    try:
        with open("/proc/cpuinfo") as lines:
            fields = dict(
                (part.strip() for part in line.split(":", 1))
                for line in lines
                if ":" in line
            )
        cpu = fields.get("model name", cpu)
        features = [f for f in CPU_FEATURES if f in fields.get("flags", "").split()]
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cpu_features": features,
        "cores": joblib.cpu_count(only_physical_cores=True),
        "logical_cores": joblib.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "thread_variables": {
            name: value
            for name, value in os.environ.items()
            if name.endswith("_NUM_THREADS")
        },
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"skcae": skcae.__version__, **_installed()},
    }


def _installed():
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def summary(values):
    """Return median, min and max of a list of numbers, and the list."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def write_json(output, name, content):
    """Write ``name``.json into the folder ``output``."""
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def number(value, digits=3):
    """Return a number as text, without an exponent; "–" for None."""
    if value is None:
        return "–"
    rounded = float(f"{value:.{digits}g}")
    if rounded == int(rounded) and abs(rounded) >= 10 ** (digits - 1):
        return f"{int(rounded):,}"
    decimals = max(0, digits - 1 - _exponent(rounded))
    return f"{rounded:.{decimals}f}"


def _exponent(value):
    return int(f"{value:e}".partition("e")[2])


def table(header, rows):
    """Return a Markdown table whose columns are aligned in plain text too."""
    rows = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(f"| {line} |" for line in lines)


# Of run.py


def _median(result):
    return result.get("seconds_per_epoch", {}).get("median")


def add_ratios(results):
    """Add to each result how many times the floor's and the library's epoch it took."""
    # A case has one kind of contenders: classifiers, or the others.
    medians = {
        result["contender"].removesuffix("-classifier"): _median(result)
        for result in results
    }
    for result in results:
        for of in ("floor", "skcae"):
            mine, other = _median(result), medians.get(of)
            result[f"ratio_to_{of}"] = mine / other if mine and other else None


def case_table(results):
    """Return the table of one case."""
    header = (
        "contender",
        "s / epoch",
        "min–max",
        "× floor",
        "× skcae",
        "objective",
        "transform rows/s",
        "peak MiB",
        "note",
    )
    rows = []
    for result in results:
        name = result["contender"]
        if "error" in result:
            rows.append((name, *["–"] * (len(header) - 2), result["error"]))
            continue
        seconds, rate = result["seconds_per_epoch"], result["transform_rows_per_second"]
        rows.append(
            (
                name,
                number(seconds["median"]),
                f"{number(seconds['min'])}–{number(seconds['max'])}",
                number(result["ratio_to_floor"]),
                number(result["ratio_to_skcae"]),
                number(result["objective"], 4),
                number(rate and rate["median"], 2),
                number(result["peak_memory_mib"]),
                result["note"],
            )
        )
    return table(header, rows)


def plot_cases(cases, path):
    """Draw one panel of horizontal bars for each case: seconds per epoch."""
    import matplotlib.pyplot as plt

    n_columns = min(2, len(cases))
    n_rows = -(-len(cases) // n_columns)
    n_bars = max(len(case["results"]) for case in cases)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(6.5 * n_columns, n_rows * (1 + 0.3 * n_bars)),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(cases) :]:
        ax.set_axis_off()
    for ax, case in zip(axes.flat, cases, strict=False):
        results = [r for r in case["results"] if "seconds_per_epoch" in r]
        results.sort(key=lambda r: -r["seconds_per_epoch"]["median"])
        names = [r["contender"] for r in results]
        seconds = [r["seconds_per_epoch"]["median"] for r in results]
        bars = ax.barh(names, seconds, color=[_colour(name) for name in names])
        labels = [
            f"{number(s)} s" + (f" ({number(ratio, 2)}×)" if ratio else "")
            for s, ratio in zip(
                seconds, (r["ratio_to_floor"] for r in results), strict=True
            )
        ]
        ax.bar_label(bars, labels, padding=3, fontsize=8)
        ax.set_xscale("log")
        ax.set_xlim(min(seconds, default=1) / 2, max(seconds, default=1) * 8)
        ax.set_title(title(case), fontsize=10)
        ax.set_xlabel("seconds per epoch, median (× floor)", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_growth(cases, path):
    """Draw seconds per epoch against the size that grows, one panel for each."""
    import matplotlib.pyplot as plt

    grown = list(dict.fromkeys(case["grows"] for case in cases))
    figure, axes = plt.subplots(
        1,
        len(grown),
        figsize=(4.5 * len(grown), 4),
        layout="constrained",
        squeeze=False,
    )
    markers = dict(zip(("floor", "skcae"), "s^", strict=True))
    for ax, size in zip(axes.flat, grown, strict=True):
        curves = {}
        for case in cases:
            if case["grows"] == size:
                for r in case["results"]:
                    if "seconds_per_epoch" in r:
                        grown_size = case[size.partition(",")[0]]
                        point = grown_size, r["seconds_per_epoch"]["median"]
                        curves.setdefault(r["contender"], []).append(point)
        for name, points in curves.items():
            ax.plot(
                *zip(*sorted(points), strict=True),
                marker=markers.get(name, "o"),
                color=_colour(name),
                label=name,
            )
        ax.set(xscale="log", yscale="log", xlabel=size, ylabel="seconds per epoch")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_parts(content, parts, path):
    """Draw one bar for each training: the shares of the parts of a step."""
    import matplotlib.pyplot as plt

    shares = {
        name: values["shares"] for name, values in content.items() if "shares" in values
    }
    figure, ax = plt.subplots(figsize=(8, 0.4 * len(shares) + 1), layout="constrained")
    left = [0.0] * len(shares)
    for i, part in enumerate(parts):
        widths = [values[i] for values in shares.values()]
        ax.barh(list(shares), widths, left=left, label=part, color=f"C{i}")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ax.set(xlim=(0, 1), xlabel="share of the time of an epoch")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def title(case):
    return (
        f"{case['name']}: {case['n_samples']:,} × {case['n_features']:,}, "
        f"n_hidden {case['n_hidden']:,}, batch {case['batch_size']}"
    )


def _colour(name):
    if name.startswith("floor"):
        return FLOOR_COLOUR
    return LIBRARY_COLOUR if name.startswith("skcae") else PEER_COLOUR
