"""Existing generations as input: texts or token ids that some model wrote earlier, to be scored by a pair.

Each format is a function from a file to rows (`rrti_sgl.rows`, `lm_eval`, `inspect_log`). A row has the fields of
`TextFields`, under these names or under those that the user's map gives, and `fields` turns it into `GivenText` records.
"""

from rrti_sgl.given_texts.fields import TextFields
from rrti_sgl.given_texts.given import Conversation, GivenText
from rrti_sgl.given_texts.reading import FORMATS, read_texts

__all__ = ["FORMATS", "Conversation", "GivenText", "TextFields", "read_texts"]
