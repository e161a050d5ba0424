"""Whether two answers mean the same mathematics: `math-verify` takes them apart, values are compared here.

`math-verify` reads LaTeX and knows sets, lists, tuples, intervals, matrices, equations and inequalities. Where it comes to
two values, its own comparison rounds differences to fifteen places, so that 3^-60 equals 3^-61, and leaves identities to
`simplify`, which does not find that of 1/sqrt(n) and sqrt(1/n). So these two of its functions are replaced, wherever it
calls them:

- Two numbers are equal if their difference is, exactly where both are rational, or else to a hundred digits. Where one is
  written with decimals: to six places, and to four significant digits at least.
- Two expressions are equal if they are at sixteen points of their variables: real ones of both signs, or whole ones where
  floors, factorials and the like say that whole ones are meant. A point at which either has no real value does not count.
  Where fewer than four points are left, `simplify` decides.

Parsing and algebra may not end: this runs in the process of `rrti_sgl.grading.judging`.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import grader as structure
from math_verify.parser import get_last_eq

from rrti_sgl.grading.notation import based, is_prose, normalized

_DIGITS = 120
_NOISE = sympy.Float(10, _DIGITS) ** -100  # what is left of a difference that is zero
_PLACES, _SIGNIFICANT = 5e-7, 5e-5  # half a unit of the sixth place; of the fourth significant digit
_WRITTEN = 1e-12  # relative error of a decimal that is read into a float
_POINTS, _ENOUGH = 16, 4
_UNIT_TEXT = re.compile(r"(\\(?:text|mbox)\s*\{[^}]*\})(\^\d|\^\{\d\})?$")
_APPROXIMATELY = re.compile(r"\\approx|\\simeq|\u2248")
_WHOLE = (sympy.floor, sympy.ceiling, sympy.factorial, sympy.binomial, sympy.Sum, sympy.Product)
_CURVE = frozenset("xy")


def equal(gold: str, answer: str) -> bool:
    """Whether an answer means what the gold answer means; both as they are written."""
    one, other = based(gold), based(answer)
    if one and other:
        return one == other
    gold, answer = normalized(one[0] if one else gold), normalized(other[0] if other else answer)
    return any(_equal(*pair) for pair in itertools.product(_APPROXIMATELY.split(gold), _APPROXIMATELY.split(answer)))


def _equal(gold: str, answer: str) -> bool:
    letters = _letters(gold)
    case = any(letter.swapcase() in both for both in (letters, _letters(answer)) for letter in both)
    # A letter behind the number is a unit where the gold answer has no letters, and a variable where it has.
    known, found = _parsed(gold, not letters, case), _parsed(answer, not letters, case)
    if known is None or found is None:
        return False
    if structure.is_equation(found) and not structure.is_equation(known) and _is_no_name(found):
        return False
    if _name(known).partition("_")[0] == _name(found) != "":  # m_{max} = ... and m = ...
        known = known.rhs
    return bool(structure.verify([known], [found], timeout_seconds=None))


def readable(gold: str) -> bool:
    """Whether a gold answer can be read as mathematics."""
    form = normalized(gold)
    return not is_prose(form) and _parsed(form, True, False) is not None


@functools.lru_cache(maxsize=4096)
def _parsed(text: str, units: bool, case: bool) -> Any:
    """The expression that an answer is read as; None where it is no mathematics."""
    if not units and (bare := _UNIT_TEXT.sub("", text).strip()):
        text = bare
    form = NormalizationConfig(units=units, malformed_operators=True, nits=True, boxed="none")
    latex = normalize_latex(text, form)
    for candidate in dict.fromkeys((latex, get_last_eq(latex))):
        real = not structure.should_treat_as_complex(candidate)
        try:
            found = latex2sympy(candidate, None, real, False, None, ConversionConfig(lowercase_symbols=not case))
            return found.xreplace({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"})
        except (MemoryError, RecursionError):
            raise
        except Exception:  # the parser and what it calls raise many kinds for one cause
            continue
    return None


def _letters(text: str) -> set[str]:
    """The letters of a normalised answer that stand for variables."""
    return set(re.sub(r"\\(?:text\w*|mbox|mathrm)\s*\{[^}]*\}|\\[A-Za-z]+|[^A-Za-z]", "", text))


def _name(equation: Any) -> str:
    """The symbol on the left of an equation; empty where there is none."""
    return equation.lhs.name if isinstance(equation, sympy.Eq) and isinstance(equation.lhs, sympy.Symbol) else ""


def _is_no_name(equation: Any) -> bool:
    """Whether the left side is no name of what is asked for, but belongs to an equation to be solved, or of a curve."""
    left = structure.take_first_relation(equation).lhs
    if not isinstance(left, sympy.Expr):
        return False
    calls = [call for call in left.atoms(sympy.Function) if not isinstance(call, sympy.Symbol)]
    bare = left.xreplace({call: sympy.Dummy() for call in calls})
    symbols = {symbol for symbol in bare.free_symbols if not isinstance(symbol, sympy.Dummy)}
    numbers = bare.atoms(sympy.Number) - {sympy.S.One, sympy.S.NegativeOne}
    return bool(numbers and (len(symbols) == 1 or {symbol.name for symbol in symbols} >= _CURVE))


# -- values ---------------------------------------------------------------------------------------------------------


def same_value(gold: Any, answer: Any) -> bool | None:
    """Whether two expressions have the same value; None where that is not decided here: for sets, say."""
    return _same_value(gold, answer) if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr) else None


@functools.lru_cache(maxsize=1024)
def _same_value(gold: Any, answer: Any) -> bool | None:
    one, other = structure.get_pct_val(gold), structure.get_pct_val(answer)
    if (one is None) != (other is None):  # 50 % is 0.5, and is 50
        return any(_same(a, b) for a, b in itertools.product(_readings(gold, one), _readings(answer, other)))
    return _same(gold if one is None else one, answer if other is None else other)


def _readings(value: Any, percentage: Any) -> tuple[Any, ...]:
    return (value,) if percentage is None else (percentage, percentage / 100)


def _same(gold: Any, answer: Any) -> bool | None:
    try:
        if gold.free_symbols | answer.free_symbols:
            return _same_function(gold, answer)
        return _same_number(gold.doit(), answer.doit())
    except (MemoryError, RecursionError):
        raise
    except Exception:  # sympy raises many kinds for what it cannot evaluate
        return None


def _same_number(gold: Any, answer: Any) -> bool | None:
    if gold.is_Rational and answer.is_Rational:
        return bool(gold == answer)
    if gold.is_infinite or answer.is_infinite:
        return bool(gold == answer)
    size, difference = _size(gold), _size(gold - answer)
    if size is None or difference is None:
        return None
    if gold.has(sympy.Float) or answer.has(sympy.Float):
        return bool(difference <= max(min(_PLACES, _SIGNIFICANT * size), _WRITTEN * size))
    return bool(difference <= _NOISE * max(size, _NOISE))


def _size(value: Any) -> Any:
    """The larger of the real and the imaginary part, each without its sign; None where sympy finds no number."""
    parts = [abs(part) for part in value.evalf(_DIGITS, maxn=4 * _DIGITS).as_real_imag()]
    return max(parts) if all(part.is_Float or part.is_Rational for part in parts) else None


def _same_function(gold: Any, answer: Any) -> bool | None:
    tolerance = 2 * _PLACES if gold.has(sympy.Float) or answer.has(sympy.Float) else _NOISE
    compared = 0
    for point in _points(gold, answer):
        one, other = _at(gold, point), _at(answer, point)
        if one is None or other is None:
            continue
        compared += 1
        if sympy.Abs(one - other) > tolerance * max(sympy.Abs(one), sympy.Abs(other), _NOISE):
            return False
    return True if compared >= _ENOUGH else None


def _at(expression: Any, point: dict[str, Any]) -> Any:
    """The value at a point, None where there is no real one; complex values count where the imaginary unit is written."""
    by_symbol = {symbol: point[symbol.name] for symbol in expression.free_symbols}
    value = expression.evalf(_DIGITS, subs=by_symbol) if by_symbol else expression.doit().evalf(_DIGITS)
    if not value.is_number or value.is_finite is False:
        return None
    real, imaginary = value.as_real_imag()
    if expression.has(sympy.I):
        return value
    return real if abs(imaginary) <= _NOISE * max(abs(real), _NOISE) else None


def _points(gold: Any, answer: Any) -> Iterator[dict[str, Any]]:
    """Points of the variables of both, by name; the same ones for the same variables."""
    names = sorted({symbol.name for symbol in gold.free_symbols | answer.free_symbols})
    whole = _is_whole(gold) or _is_whole(answer)
    for number in range(_POINTS):
        values = [_coordinate(number, place, whole=whole) for place in range(len(names))]
        yield dict(zip(names, values, strict=True))


def _is_whole(expression: Any) -> bool:
    """Whether the variables are whole numbers: nobody rounds, or takes -1 to the power of, anything else."""
    alternates = any(power.base.is_negative and power.exp.free_symbols for power in expression.atoms(sympy.Pow))
    return alternates or bool(expression.has(*_WHOLE))


def _coordinate(number: int, place: int, *, whole: bool) -> Any:
    """A value without structure: three of four points are positive, because most variables stand for sizes."""
    drawn = (number * 7919 + place * 104729 + 12345) * 48271 % 2147483647
    if whole:
        return sympy.Integer(1 + drawn % (12 + number))
    return sympy.Rational((-1 if number % 4 == 3 else 1) * (1 + drawn % 40009), 1009 + 40 * number)


_numeric_eq, _symbolic_eq = structure.sympy_numeric_eq, structure.sympy_symbolic_eq


def _numeric(gold: Any, answer: Any, rounding: int, precision: int) -> bool:
    if isinstance(gold, sympy.MatrixBase):  # its entries come here again
        return bool(_numeric_eq(gold, answer, rounding, precision))
    return same_value(gold, answer) is True


def _symbolic(gold: Any, answer: Any) -> bool:
    verdict = same_value(gold, answer)
    return bool(_symbolic_eq(gold, answer)) if verdict is None else verdict


structure.sympy_numeric_eq, structure.sympy_symbolic_eq = _numeric, _symbolic
