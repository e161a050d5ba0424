"""Existing generations as input: texts or token ids that some model wrote earlier, to be scored by a pair.

Each format is a module with one function from a file to rows (`jsonl`, `parquet`, `lm_eval`, `inspect_log`). A row has the
fields of `TextFields`, under these names or under those that the user's map gives, and `fields` turns it into `GivenText`
records. `complaints` collects everything that is wrong with a file, so that it is reported at once.
"""

from rrti_sgl.given_texts.complaints import Complaints
from rrti_sgl.given_texts.fields import TextFields
from rrti_sgl.given_texts.given import GivenText
from rrti_sgl.given_texts.reading import FORMATS, read_texts

__all__ = ["FORMATS", "Complaints", "GivenText", "TextFields", "read_texts"]
