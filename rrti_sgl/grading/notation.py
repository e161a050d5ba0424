r"""Answers in one notation: what people and models write, as LaTeX that can be read.

Words go into `\text{}`, letters that are multiplied stay letters. What has no reading as LaTeX gets one here: mixed numbers,
thousands, repeating decimals, ratios of three, an interval behind its variable (`t(0,4]`), a name with a word as its index
(`m_{\max}`).
"""

from __future__ import annotations

import re

from rrti_sgl.grading.extraction import explicit

_ENDS = " \n\t*`\"'"
_WORDS = re.compile(
    r"(?<![\\A-Za-z{])(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi)\b)[A-Za-z]{2,}(?:[ '-]+[A-Za-z]{2,})*"
)
_TEXT = re.compile(r"\\(?:text\w*|mbox)\s*\{([^}]*)\}")
_BRACED_COMMAND = re.compile(r"(\\(?:text\w*|mathrm|mathbf|mathbb|mbox|begin|end|operatorname)\s*\{[^}]*\})")
# Letters that belong together although they stand in a formula; all others of two or three are factors: 2ab.
_UNITS = frozenset(
    re.findall(r"\w+", "km cm mm dm nm kg mg ml lb lbs oz ft in yd mi min sec hr hrs mph rad deg sq cu am pm Hz")
)
_FORMULA_BEFORE = re.compile(r"[-+*/^_=({\[|,<>]\s*$|\d$|^$")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\;|\\!|,\\!|\u202f|\u00a0)(?=\d{3}(?!\d))")
_MIXED_NUMBER = re.compile(r"(?<![\d/.])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])")
_SCIENTIFIC = re.compile(r"(?<=\d)[eE]\+?(-?\d+)(?!\w)")
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?")
_RATIO = re.compile(r"\d+(?:\s*:\s*\d+){2,}")
_NAMED_INTERVAL = re.compile(r"[A-Za-z]\s*(?=\([^()\[\]]*\]$|\[[^()\[\]]*\)$)")
_WORD_INDEX = re.compile(r"_\s*\{\s*\\(max|min|sup|inf|text\s*\{\s*(\w+)\s*\})\s*\}|_\\(max|min|sup|inf)\b")
_IMAGINARY = re.compile(r"(?<=\d)i(?![A-Za-z])")  # without a space the two are read as one name
_SIGNS = str.maketrans({"\u2212": "-", "\u00d7": "*", "\u00b7": "*", "\u03c0": "\\pi ", "\u221e": "\\infty "})
_BASE = re.compile(r"(-?[0-9a-z]*\d[0-9a-z]*)(?:_base|base|_)(\w+)")
_BASES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_BASES.split(), 2)}


def gold_answer(text: str) -> str:
    r"""The answer in a gold text: in its last `\boxed{}` or after its last `####`, or else the whole text."""
    found = explicit(text) if "\\boxed" in text or "####" in text else None
    return found.answer if found else text.strip()


def normalized(text: str) -> str:
    r"""An answer in a form that LaTeX can be read from: no dollar signs and Markdown, words in `\text{}`."""
    text = text.strip(_ENDS).translate(_SIGNS).replace("\\$", "").replace("$", "")
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text.strip(_ENDS)).rstrip(".").strip(_ENDS)
    text = _THOUSANDS.sub("", text)
    text = _MIXED_NUMBER.sub(r"\1\\frac{\2}{\3}", text)
    text = _SCIENTIFIC.sub(r" \\times 10^{\1}", text)
    text = _REPEATING.sub(_as_fraction, text)
    text = _RATIO.sub(_as_shares, text)
    text = _WORD_INDEX.sub(lambda found: f"_{{{found[3] or found[2] or found[1]}}}", text)
    text = _NAMED_INTERVAL.sub("", text, count=1) if _NAMED_INTERVAL.match(text) else text
    text = _IMAGINARY.sub(" i", text)
    pieces = _BRACED_COMMAND.split(text)  # what is in \text{} already stays as it is
    pieces[::2] = [_WORDS.sub(_as_text, piece) for piece in pieces[::2]]
    return "".join(pieces)


def is_prose(form: str) -> bool:
    """Whether a normalised answer is a sentence about formulas and no formula: it goes on behind several words."""
    for item in form.split(","):
        words = list(_TEXT.finditer(item))
        for found in words:
            beyond = re.sub(r"^\^\{?\d\}?", "", item[found.end() :]).strip(" .")
            if beyond and (len(words) > 1 or len(found[1].split()) > 2):
                return True
    return False


def plain(text: str) -> str:
    r"""An answer as text: in one case, without spaces, dollars, `\text` and the commands that set brackets and distances."""
    text = re.sub(r"\\(?:text\w*|mathrm|mathbf|mbox)\s*\{([^}]*)\}", r"\1", text)
    text = re.sub(r"\\(?:left|right|quad|qquad|displaystyle)(?![A-Za-z])|\\[,;!: ]|[$\s]", "", text)
    return text.strip("{}*.").casefold()


def based(text: str) -> tuple[str, int] | None:
    """(digits, base) of a number whose base is written with it, such as `4210_{5}`; None for all other text."""
    bare = re.sub(r"\\text\w*|\\ |[\s{}()]", "", text).lower()
    found = _BASE.fullmatch(bare)
    if found is None:
        return None
    digits, base = found[1], _NUMBER_WORDS.get(found[2], found[2])
    try:
        int(digits, int(base))
    except ValueError:  # an index, not a base
        return None
    return digits, int(base)


def _as_text(match: re.Match[str]) -> str:
    words = match.group()
    if words.lower() in ("and", "or"):
        return ","
    factors = len(words) <= 3 and words not in _UNITS and _FORMULA_BEFORE.search(match.string[: match.start()])
    return words if factors else f"\\text{{ {words}}}"


def _as_fraction(match: re.Match[str]) -> str:
    """`0.1\\overline{6}` as (16 - 1) / 90."""
    whole, fixed, repeated = match.groups()
    value = int(whole + fixed + repeated) - int(whole + fixed or "0")
    return f"\\frac{{{value}}}{{{'9' * len(repeated)}{'0' * len(fixed)}}}"


def _as_shares(match: re.Match[str]) -> str:
    """`9:6:4` as the tuple of each part over the first, so that equal ratios are equal."""
    first, *others = (int(part) for part in match.group().split(":"))
    shares = ", ".join(rf"\frac{{{other}}}{{{first}}}" for other in others)
    return match.group() if first == 0 else f"(1, {shares})"
