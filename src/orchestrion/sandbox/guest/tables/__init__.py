"""Tables in five moves, for code that runs in the sandbox.

    import tables

    df = tables.load("uploads/sales.csv")          # any table file; df.attrs["notes"] says how it was read
    print(tables.to_json(tables.profile(df)))      # roles, missing values, figures that agree with pandas
    df, done = tables.clean(df)                    # mends only what is surely wrong; `done` says what
    print(tables.to_json(tables.statistics(df)))   # groups, correlations, trends, outliers
    print(tables.to_json(tables.charts(df)))       # PNG files in charts/, with captions and findings

`tables.sheets(path)` names a workbook's sheets. What can't be done raises `tables.TableError`, one sentence.
"""

from __future__ import annotations

from .charts import charts
from .cleaning import clean
from .errors import TableError
from .jsonable import to_json
from .profiling import profile
from .reading import load, sheets
from .roles import roles
from .statistics import statistics

__all__ = ["TableError", "charts", "clean", "load", "profile", "roles", "sheets", "statistics", "to_json"]
