"""Rows of the files that other tools write: JSON Lines, JSON, CSV, Parquet, in any encoding and compression that says which.

One reader for problem files and for given texts. `opening` makes text of bytes, `files` rows of text, each with the place
that an error names, and `cells` values of rows. `complaints` collects everything that is wrong with a file, so that it is
reported at once.
"""

from rrti_sgl.rows.cells import Place, Row, fields_of, is_index, is_list, json_value, lone_surrogate, look_up, unstorable
from rrti_sgl.rows.complaints import Complaints
from rrti_sgl.rows.files import find_file, kind_of, name_of, rows_of
from rrti_sgl.rows.opening import is_file

__all__ = [
    "Complaints",
    "Place",
    "Row",
    "fields_of",
    "find_file",
    "is_file",
    "is_index",
    "is_list",
    "json_value",
    "kind_of",
    "lone_surrogate",
    "look_up",
    "name_of",
    "rows_of",
    "unstorable",
]
