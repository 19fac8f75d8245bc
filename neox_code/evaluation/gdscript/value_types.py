"""Types of the values of GDScript expressions, as far as they are known, and their rules.

is_assignable(load_api(), Value("int"), "float")                     # True
can_combine(load_api(), "+", Value("String"), Value("int"))          # False
"""

from dataclasses import dataclass

from neox_code.evaluation.gdscript.godot_api import GodotApi

NUMBERS = {"int", "float", "bool"}

TEXTS = {"String", "StringName", "NodePath"}

SCALED = ("Vector", "Color", "Quaternion", "Basis", "Transform", "Projection")
"""First words of the types that are multiplied by other types."""


@dataclass(frozen=True)
class Value:
    type: str | None = None
    """Name of its class or built-in type; None if it is unknown."""
    is_exact: bool = False
    """True: the value has no class derived from `type`."""
    is_class: bool = False
    """True: the expression is the class itself and not one of its objects."""
    is_literal: bool = False


UNKNOWN = Value()


def find_element(api: GodotApi, sequence: str | None) -> Value:
    """Return the value of an element of a sequence."""
    if sequence is not None and sequence.startswith("Array["):
        return Value(sequence[6:-1])
    return Value(api.names["elements"].get(sequence))


def is_assignable(api: GodotApi, value: Value, target: str) -> bool:
    """Return True unless the type of a value is known and a variable of type `target` cannot hold it."""
    source = value.type
    if source in (None, "void", target) or target == "Variant" or value.is_class:
        return True
    assert source is not None
    if "Array" in source and "Array" in target:
        is_untyped = source == "Array" and value.is_exact and not value.is_literal
        return not (is_untyped and target.startswith("Array["))
    if target not in api.classes:  # an enum, or an array of a type
        return source in NUMBERS and not target.startswith("Array[")
    if api.is_object(source) and api.is_object(target):
        return api.is_derived(source, target) or (not value.is_exact and api.is_derived(target, source))
    return target in api.names["conversions"].get(source, ()) or (target == "RID" and api.is_object(source))


def can_combine(api: GodotApi, operator: str, left: Value, right: Value) -> bool:
    """Return True unless both types are known and an arithmetic operator or comparison is not defined for them."""
    pair = {left.type, right.type}
    known = {kind for kind in pair if kind is not None and kind != "Variant"}
    if operator in ("==", "!=") and left.is_class != right.is_class and pair & (NUMBERS | TEXTS) and known == pair:
        return False
    if known != pair or left.is_class or right.is_class or (operator == "%" and left.type in TEXTS):
        return True
    if operator in ("==", "!="):
        return not (known & TEXTS and known & NUMBERS)
    if known <= NUMBERS or known <= TEXTS or (operator == "+" and all("Array" in kind for kind in known)):
        return True
    if len(known) == 1 or operator not in ("*", "/", "%"):
        return len(known) == 1 and not known & {"Dictionary", "Callable"} and not any(map(api.is_object, known))
    return any(kind.startswith(SCALED) for kind in known)
