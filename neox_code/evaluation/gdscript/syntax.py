"""Check the syntax of GDScript for Godot 4 without the engine: the grammar, and the names and calls that the engine rejects.

find_problems("func _ready():\n    var b = Button.new()\n    b.color = Color.RED\n")     # ["3: Button has no member color"]

Statements outside functions are accepted, and so are names that a snippet uses without declaring them. A value's type is followed
from literals, `new()`, declared types and the return types of the engine's methods; a value of unknown type is accepted wherever an
engine class accepts the call. A name of Godot 3 is a problem wherever it can only be the engine's.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from neox_code.evaluation.gdscript.godot_api import GLOBAL_SCOPES, Member, Signature, load_api
from neox_code.evaluation.gdscript.value_types import NUMBERS, UNKNOWN, Value, can_combine, find_element, is_assignable
from neox_code.syntax.grammars import parse

MAX_BYTES = 2**16
"""Size of the longest response that is checked."""

COMMENT_LINE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
"""A comment on a line of its own, with any indentation; the grammar ends a block before one that is indented less. Nor does it have
`$%Name`, another way to write `%Name`."""

Node = Any
"""A node of tree-sitter; its package is optional."""

DECLARATIONS = re.compile("variable|const|signal_st|class|enum|pattern_binding|_parameter")
INSIDE_NO_FUNCTION = ("function_definition", "signal_statement", "enum_definition", "class_definition")
BLOCKS = re.compile("class_definition|match_body|pattern_section|elif_clause|else_clause|source|body|class_body")
STATEMENTS_OF_PARTS = ("if_statement", "while_statement", "match_statement", "setget", "set_body", "get_body")
NO_EXPRESSIONS = re.compile(
    "signal_statement|enum_definition|extends_statement|class_name_statement|annotation|name|type|parameters"
)

BAD_ESCAPE = re.compile(r"^(?!r)[^\\]*(?:\\[\\'\"\nabfnrtvuU0-7x][^\\]*)*\\([^\\'\"\nabfnrtvuU])")
"""A string with a backslash before a character with which it forms no escape sequence."""
KEYWORDS = ("match", "await", "yield", "self", "super", "preload", "assert", "void", "trait", "namespace")
"""Keywords of version 4 that the grammar accepts as names."""

COMPARISONS = {"==", "!=", "<", ">", "<=", ">=", "and", "or", "&&", "||", "in", "is", "not"}
ARITHMETIC = {"+", "-", "*", "/", "%", "<", ">", "<=", ">=", "==", "!="}
CLOSED_TYPES = {"int", "float", "String", "Vector2", "Vector3", "Color"}
"""Types whose arithmetic with each other gives the same type."""


def find_problems(code: str, task: str = "") -> list[str]:
    """Return the problems of a script in the order of their lines, `LINE: description`; an empty list if there is none.

    `task` is the text of the request: names in it may be members of objects that the snippet does not declare.
    Text of more than 64 KiB, and code that nests too deeply to be followed, is a problem.
    """
    source = COMMENT_LINE.sub("", code).replace("$%", " %").encode("utf-8", "replace")
    if not source.strip():
        return ["1: there is no code"]
    if b"\0" in source:
        return [f"{source[: source.index(0)].count(10) + 1}: a NUL character"]
    tree = parse("GDScript", source) if len(source) <= MAX_BYTES else None
    if tree is None:
        return ["1: the text is too long, or too much work for the parser"]
    checker = Checker(source, task)
    try:
        checker.check(tree.root_node)
    except RecursionError:
        checker.problems.append((0, "the code nests too deeply"))
    return [f"{line + 1}: {text}" for line, text in sorted(set(checker.problems))]


def list_children(node: Node) -> list[Node]:
    return [each for each in node.named_children if each.type not in ("comment", "line_continuation")] if node is not None else []


class Checker:
    def __init__(self, source: bytes, task: str) -> None:
        self.api = load_api()
        self.names = self.api.names
        self.source = source
        self.names_of_task = set(re.findall(r"\w+", task))
        self.problems: list[tuple[int, str]] = []
        self.functions: dict[str, tuple[int, float, str | None]] = {}
        """Function of the script -> its smallest and largest number of arguments and its return type."""
        self.declared: set[str] = set()
        self.scopes: list[dict[str, Value]] = [{}]
        self.base: str | None = None
        """Engine class that the script extends; None if it is not stated."""
        self.function_name = ""
        self.return_type: str | None = None

    def report(self, node: Node, text: str) -> None:
        self.problems.append((node.start_point[0], text))

    def report_old(self, node: Node, table: str, name: str) -> bool:
        """Report a name that is in a table of names of version 3; return True if it is."""
        if name in self.names[table]:
            self.report(node, f"{name} is {self.names[table][name]} in version 4")
        return name in self.names[table]

    def text(self, node: Node, limit: int | None = None) -> str:
        """Return the first `limit` bytes of a node's text, or all of it; "" without a node."""
        return self.source[node.start_byte : node.end_byte][:limit].decode("utf-8", "replace") if node is not None else ""

    def check(self, root: Node) -> None:
        starts = {line[:1] for line in self.source.splitlines() if line[:1] in (b" ", b"\t") and line.strip()}
        if len(starts) > 1:
            self.report(root, "lines are indented with tabs and with spaces")
        self.collect(root)
        if not root.has_error:
            self.run_block(root)

    # The grammar, what it accepts although version 4 does not, and the names that the script declares

    def collect(self, root: Node) -> None:
        pending = [(root, "")]  # a node and the type of its parent: `node.parent` searches the whole tree
        while pending:
            node, parent = pending.pop()
            pending.extend((child, node.type) for child in reversed(node.children if node.has_error else node.named_children))
            if node.type == "ERROR" or node.is_missing:
                self.report(node, f"syntax error at {' '.join(self.text(node, 80).split())[:40]!r}")
            if not node.has_error:
                self.collect_node(node, parent)

    def collect_node(self, node: Node, parent: str) -> None:
        """Report what a statement alone shows to be wrong, and collect the names that it declares."""
        kind, body = node.type, node.child_by_field_name("body")
        if kind in self.names["statements"]:
            self.report(node, self.names["statements"][kind])
        elif kind == "setget" and (node.child_by_field_name("set") or node.child_by_field_name("get")) is None:
            self.report(node, "setget is replaced by set and get blocks in version 4")
        elif kind == "constructor_definition" and node.child_by_field_name("arguments") is not None:
            self.report(node, "the base class's constructor is called by super() in version 4")
        if parent == "body" and kind in INSIDE_NO_FUNCTION:
            self.report(node, f"{kind.split('_')[0]} inside a function or block")
        if kind in ("function_definition", "constructor_definition", "class_definition") and not list_children(body):
            self.report(node, f"the {kind.split('_')[0]} has no body")
        if kind in ("function_definition", "constructor_definition"):
            self.collect_function(node, parent)
        elif kind == "extends_statement" and parent == "source":
            self.base = self.read_type(node.named_children[0]) if node.named_children else None
            self.base = self.base if self.base in self.api.classes else None
        elif kind in ("parameters", "for_statement"):
            self.declared.update(self.text(each) for each in node.named_children if each.type == "identifier")
        elif kind in ("assignment", "enumerator") and node.named_children[0].type == "identifier":
            self.declared.add(self.text(node.named_children[0]))
        elif DECLARATIONS.search(kind):
            self.declared.add(self.text(node.child_by_field_name("name") or next(iter(node.named_children), None)))
        name = self.text(node.child_by_field_name("left" if kind == "for_statement" else "name")) if parent else ""
        if name in KEYWORDS:
            self.report(node, f"{name} is a keyword, not a name")

    def collect_function(self, node: Node, parent: str) -> None:
        """Collect a function's signature; report one that differs from the engine's method that it overrides."""
        name = self.text(node.child_by_field_name("name")) or "_init"
        if name in self.functions and parent == "source":
            self.report(node, f"function {name} is defined twice")
        parameters = list_children(node.child_by_field_name("parameters"))
        required = sum(each.type in ("identifier", "typed_parameter") for each in parameters)
        most = float("inf") if any(each.type == "variadic_parameter" for each in parameters) else len(parameters)
        self.functions[name] = (required, most, self.read_type(node.child_by_field_name("return_type")))
        overridden = self.api.list_signatures(name) if name.startswith("_") and name != "_init" else []
        if overridden and not any(required <= len(each.arguments) <= most for each in overridden):
            self.report(node, f"{name} takes {len(overridden[0].arguments)} arguments in the engine")

    def read_type(self, node: Node) -> str | None:
        """Return the type that an annotation names; None if it is inferred or no type of the engine."""
        text = self.text(node)
        for name in re.findall(r"\w+", text):
            if name not in self.declared:
                self.report_old(node, "classes", name)
        is_known = text in self.api.classes or text == "void" or text.startswith("Array[")
        return text if is_known and text != "Variant" else None

    # Statements

    def run_block(self, block: Node) -> None:
        self.scopes.append({})
        for statement in block.named_children:
            self.run(statement)
        self.scopes.pop()

    def run(self, node: Node) -> None:
        """Follow the values through a statement and report the problems of its expressions."""
        kind = node.type
        if kind in ("function_definition", "constructor_definition"):
            self.run_function(node)
        elif kind.endswith(("variable_statement", "const_statement")):
            self.run_declaration(node)
        elif kind == "for_statement":
            sequence, left = self.evaluate(node.child_by_field_name("right")), self.text(node.child_by_field_name("left"))
            is_count = sequence.type in NUMBERS or self.text(node.child_by_field_name("right"), 6) == "range("
            self.scopes.append({left: Value("int") if is_count else find_element(self.api, sequence.type)})
            self.run_block(node.child_by_field_name("body"))
            self.scopes.pop()
        elif kind == "return_statement":
            self.run_return(node)
        elif BLOCKS.fullmatch(kind):
            self.run_block(node)
        elif kind in STATEMENTS_OF_PARTS:
            for child in node.named_children:
                self.run(child)
        elif kind == "expression_statement":
            for child in node.named_children:
                if child.type == "identifier" and self.text(child) == "tool":
                    self.report(child, "tool is @tool in version 4")
                self.evaluate(child)
        elif not NO_EXPRESSIONS.fullmatch(kind):
            self.evaluate(node)

    def run_function(self, node: Node) -> None:
        """Follow a function, a constructor or a lambda with its parameters as a scope of their own."""
        outer = self.function_name, self.return_type
        name, returns, body = (node.child_by_field_name(each) for each in ("name", "return_type", "body"))
        self.function_name = self.text(name) or ("_init" if node.type == "constructor_definition" else "the lambda")
        self.return_type = self.read_type(returns)
        scope: dict[str, Value] = {}
        for parameter in list_children(node.child_by_field_name("parameters")):
            name = self.text(parameter if parameter.type == "identifier" else parameter.named_children[0])
            value, annotation = self.evaluate(parameter.child_by_field_name("value")), parameter.child_by_field_name("type")
            if name in scope:
                self.report(parameter, f"parameter {name} is declared twice")
            is_inferred = annotation is not None and annotation.type == "inferred_type"
            scope[name] = Value(value.type if is_inferred else self.read_type(annotation))
        self.scopes.append(scope)
        if body is not None:
            self.run_block(body)
            if returns is not None and self.text(returns) not in ("void", "Variant") and not self.returns_always(body):
                self.report(node, f"not every path of {self.function_name} returns a value")
        self.scopes.pop()
        self.function_name, self.return_type = outer

    def run_declaration(self, node: Node) -> None:
        name, value = self.text(node.child_by_field_name("name")), self.evaluate(node.child_by_field_name("value"))
        declared = self.read_type(node.child_by_field_name("type"))
        self.require_assignable(node, value, declared)
        if name in self.scopes[-1]:
            self.report(node, f"variable {name} is declared twice")
        has_own_type = declared is None or (value.is_exact and declared in self.api.classes)
        self.scopes[-1][name] = replace(value, is_literal=False) if has_own_type else Value(declared)
        if node.child_by_field_name("setget") is not None:
            self.run(node.child_by_field_name("setget"))

    def run_return(self, node: Node) -> None:
        values = [self.evaluate(each) for each in list_children(node)]
        if self.return_type is not None and (self.return_type == "void") == bool(values):
            self.report(node, f"{self.function_name} returns {self.return_type}" + (", not a value" if values else ""))
        elif values:
            self.require_assignable(
                node, replace(values[0], type=None) if values[0].type == "void" else values[0], self.return_type
            )

    def returns_always(self, block: Node) -> bool:
        """Return True if every path through a block ends in a return statement."""
        for node in list_children(block):
            parts = list_children(node)
            if node.type == "return_statement":
                return True
            if node.type == "while_statement" and self.text(node.child_by_field_name("condition")) == "true":
                return True
            branches: list[Node] = []
            if node.type == "if_statement" and any(each.type == "else_clause" for each in parts):
                branches = [node, *(each for each in parts if each.type in ("elif_clause", "else_clause"))]
            elif node.type == "match_statement":
                sections = [each for part in parts for each in list_children(part) if each.type == "pattern_section"]
                patterns = [each.named_children[0] for each in sections if each.named_children]
                is_complete = any(each.type == "pattern_binding" or self.text(each) == "_" for each in patterns)
                branches = sections if is_complete else []
            if branches and all(self.returns_always(each.child_by_field_name("body")) for each in branches):
                return True
        return False

    def assign(self, node: Node) -> Value:
        """Give a variable the type of the assigned value; check it against the type of any other target."""
        target, value = node.named_children[0], self.evaluate(node.named_children[-1])
        name = self.text(target)
        if target.type != "identifier":
            self.require_assignable(node, value, self.evaluate(target).type)
            return UNKNOWN
        self.require_assignable(node, value, None)
        self.check_name(target, name)
        scope = next((each for each in reversed(self.scopes) if name in each), self.scopes[0])
        scope[name] = replace(value, is_literal=False)
        return UNKNOWN

    def require_assignable(self, node: Node, value: Value, target: str | None) -> None:
        if value.type == "void":
            self.report(node, "the assigned call returns nothing")
        elif target not in (None, "void") and not is_assignable(self.api, value, target or ""):
            self.report(node, f"a value of type {value.type} is assigned to {target}")

    # Expressions

    def evaluate(self, node: Node) -> Value:
        """Return what is known about the value of an expression; report the problems inside it."""
        if node is None:
            return UNKNOWN
        kind = node.type
        rules = {
            "identifier": self.evaluate_name,
            "attribute": self.evaluate_chain,
            "call": self.evaluate_call,
            "binary_operator": self.evaluate_operator,
            "assignment": self.assign,
        }
        if kind in rules:
            return rules[kind](node)
        if kind == "get_node":
            return Value("Node")
        if kind == "lambda":
            self.run_function(node)
        elif kind == "string":
            if wrong := BAD_ESCAPE.search(self.text(node)):
                self.report(node, f"a backslash before {wrong[1]!r} is no escape of a string")
            for old in self.names["texts"]:
                if self.text(node, 40)[1:].startswith(old):
                    self.report_old(node, "texts", old)
        else:
            children = [each for each in list_children(node) if each.type != "type"]
            is_pair = kind == "pair" and children[0].type == "identifier"
            values = [self.evaluate(each) for each in (children[1:] if is_pair else children)]
            if kind == "parenthesized_expression" and values:
                return values[0]
            if kind == "subscript" and values:
                return find_element(self.api, values[0].type)
            if kind == "unary_operator" and values:
                return Value("bool", True) if self.text(node, 1) in ("n", "!") else values[0]
        return Value(self.names["literals"][kind], True, is_literal=True) if kind in self.names["literals"] else UNKNOWN

    def evaluate_name(self, node: Node) -> Value:
        """Return the value of a bare name: a variable, a singleton, a class or a constant."""
        name = self.text(node)
        if name == "self":
            return Value(self.base)
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        if name in self.declared or name in self.functions:
            return UNKNOWN
        if name in self.api.singletons:
            return Value(self.api.singletons[name], True)
        if name in self.api.classes:
            return Value(name, is_class=True)
        if name in self.api.global_constants:
            return Value("float" if name in ("PI", "TAU", "INF", "NAN") else "int")
        self.check_name(node, name)
        return UNKNOWN

    def check_name(self, node: Node, name: str) -> None:
        """Report a bare name that only version 3 has, or that looks like a constant of a global enum and is none."""
        for table in ("classes", "constants", "other_languages"):
            self.report_old(node, table, name)
        if name.startswith(tuple(self.names["enum_prefixes"])) and name not in self.api.global_constants | self.declared:
            self.report(node, f"there is no constant {name}")
        if name not in self.api.property_names and name not in self.names["variables"]:
            self.report_old(node, "properties", name)

    def evaluate_operator(self, node: Node) -> Value:
        """Return the value of a binary operator; report operands for which it is not defined."""
        left, right = self.evaluate(node.child_by_field_name("left")), self.evaluate(node.child_by_field_name("right"))
        operator = next((child.type for child in node.children if not child.is_named), "")
        if operator == "as":
            name = self.text(node.named_children[-1])
            return Value(name if name in self.api.classes else None)
        if self.text(node.child_by_field_name("left"), 4) in ("not ", "not(") and operator in COMPARISONS:
            return Value("bool", True)  # the grammar binds `not a == b` as `(not a) == b`
        if operator in ARITHMETIC and not can_combine(self.api, operator, left, right):
            self.report(node, f"operator {operator} does not take {left.type} and {right.type}")
        if operator in COMPARISONS:
            return Value("bool", True)
        if (operator == "%" and left.type == "String") or (left.type == right.type and left.type in CLOSED_TYPES):
            return Value(left.type, True)
        return Value("float", True) if {left.type, right.type} == {"int", "float"} else UNKNOWN

    def evaluate_call(self, node: Node) -> Value:
        """Return the value of a call without an object before it."""
        callee, name = node.named_children[0], self.text(node.named_children[0])
        arguments = self.evaluate_arguments(node)
        if callee.type != "identifier":
            self.evaluate(callee)
            return UNKNOWN
        if name in self.functions and name != "_init":
            least, most, returns = self.functions[name]
            if not least <= len(arguments) <= most:
                self.report(node, f"{name} takes {least} arguments, not {len(arguments)}")
            return Value(returns)
        if name == "super":
            if self.function_name == "_init" and arguments:
                self.report(node, "the constructor of the base class takes no arguments")
            return UNKNOWN
        if any(name in scope for scope in self.scopes) or any(
            self.report_old(node, each, name) for each in ("functions", "classes", "other_languages")
        ):
            return UNKNOWN
        for scope_name in (*GLOBAL_SCOPES, self.base):
            member = self.api.find_member(scope_name, name) if scope_name is not None else None
            if member is not None and member.signature is not None:
                return self.call(node, name, [member.signature], arguments)
        if name in self.api.classes and (constructors := self.api.list_constructors(name)):
            self.call(node, name, constructors, arguments)
            return Value(name, True)
        signatures = self.api.list_signatures(name)
        of_nodes = self.api.list_signatures(name, "Node")
        singleton = next((each for each in self.api.singletons.values() if each in self.api.owners_of_method.get(name, ())), None)
        if singleton is not None and not of_nodes and not self.api.list_signatures(name, "Resource"):
            self.report(node, f"{name} is a method of {singleton} and is called without it")
        elif signatures:
            return self.call(node, name, of_nodes or signatures, arguments)
        return UNKNOWN

    def evaluate_arguments(self, node: Node) -> list[Value]:
        return [self.evaluate(each) for each in list_children(node.child_by_field_name("arguments"))]

    def call(self, node: Node, name: str, signatures: Sequence[Signature], arguments: Sequence[Value]) -> Value:
        """Check a call against the signatures that it can have; return the value if all have one return type."""
        fitting = [each for each in signatures if each.takes(len(arguments))]
        if not fitting:
            counts = sorted({each.required for each in signatures} | {len(each.arguments) for each in signatures})
            self.report(node, f"{name} takes {' or '.join(map(str, counts))} arguments, not {len(arguments)}")
        elif not any(all(map(is_assignable, [self.api] * len(arguments), arguments, each.arguments)) for each in fitting):
            given = ", ".join(value.type or "?" for value in arguments)
            self.report(node, f"{name} takes ({', '.join(fitting[0].arguments)}), not ({given})")
        types = {each.returns for each in signatures}
        return self.make_value(types.pop()) if len(types) == 1 else UNKNOWN

    def make_value(self, name: str | None) -> Value:
        """Return a value of a type of the engine's tables; enums are unknown."""
        is_known = name is not None and (name in self.api.classes or name == "void" or name.startswith("Array["))
        return Value(name) if is_known and name != "Variant" else UNKNOWN

    def evaluate_chain(self, node: Node) -> Value:
        """Return the value of `a.b(c).d`, whose parts are the children of the node."""
        first, *parts = list_children(node)
        is_operand = first.type in ("binary_operator", "unary_operator")
        while first.type in ("binary_operator", "unary_operator"):  # the grammar binds `a < b().c` as `(a < b()).c`
            *others, first = list_children(first)
            for operand in others:
                self.evaluate(operand)
        value, receiver = self.evaluate(first), self.text(first)
        for part in parts:
            name = self.text(part if part.type == "identifier" else part.named_children[0])
            arguments = self.evaluate_arguments(part)
            value = self.access(part, value, receiver, name, arguments if part.type == "attribute_call" else None)
            value = find_element(self.api, value.type) if part.type == "attribute_subscript" else value
            receiver = name
        return UNKNOWN if is_operand else value

    def access(self, node: Node, owner: Value, receiver: str, name: str, arguments: Sequence[Value] | None) -> Value:
        """Return the value of a member of `owner`, whose expression is `receiver`; `arguments` is None if it is not called."""
        owner_type = "Array" if owner.type is not None and owner.type.startswith("Array[") else owner.type
        if owner_type == "void":
            self.report(node, f"{name} follows a call that returns nothing")
        if owner_type is None or owner_type not in self.api.classes:
            return self.access_unknown(node, receiver, name, arguments)
        if owner.is_class and name == "new" and arguments is not None:
            if not self.api.is_object(owner_type) or owner_type in self.names["abstract"]:
                self.report(node, f"{owner_type} has no constructor new")
            elif arguments:
                self.report(node, f"{owner_type}.new takes no arguments")
            return Value(owner_type, True)
        if not self.api.has_members(owner_type):
            return UNKNOWN
        member = self.api.find_member(owner_type, name)
        if member is not None:
            return self.use_member(node, owner, name, member, arguments)
        is_own = self.is_own_function(name, receiver) or (name in self.declared and self.api.is_object(owner_type))
        is_own = is_own and not owner.is_exact
        is_key = owner_type == "Dictionary" and arguments is None
        is_of_subclass = not owner.is_exact and not owner.is_class and self.api.find_in_subclass(owner_type, name)
        if not (is_own or is_key or is_of_subclass):
            self.report(node, f"{owner_type} has no member {name}")
        return UNKNOWN

    def is_own_function(self, name: str, receiver: str) -> bool:
        """Return True for a function of the script, except for the one that is being followed: an object has it seldom as well."""
        return name in self.functions and (receiver in ("self", "super") or name != self.function_name)

    def use_member(self, node: Node, owner: Value, name: str, member: Member, arguments: Sequence[Value] | None) -> Value:
        """Return the value of a member that the engine has; report a wrong call, or one that needs an object."""
        is_static = member.kind in ("constant", "enum") or (member.signature is not None and member.signature.is_static)
        if owner.is_class and not is_static and (arguments is not None or member.kind != "method"):
            self.report(node, f"{owner.type}.{name} needs an object of the class")
            return UNKNOWN
        if arguments is None:
            return Value("Callable") if member.kind == "method" else self.make_value(member.type)
        if member.signature is not None:
            return self.call(node, name, [member.signature], arguments)
        if member.type not in (None, "Callable", "Variant"):
            self.report(node, f"{name} of {owner.type} is no method")
        return UNKNOWN

    def access_unknown(self, node: Node, receiver: str, name: str, arguments: Sequence[Value] | None) -> Value:
        """Check a member of a value whose type is unknown against all classes of the engine."""
        if self.is_own_function(name, receiver) or name in self.declared or name in self.api.other_names:
            return UNKNOWN
        signatures = self.api.list_signatures(name)
        if arguments is None:
            is_known = bool(signatures) or name in self.api.property_names or name[:1].isupper() or name in self.names_of_task
            if not is_known and not self.report_old(node, "properties", name) and receiver != "self":
                self.report(node, f"no class of the engine has a property {name}")
        elif name == "new":
            if re.fullmatch(r"[A-Z]\w*[a-z]\w*", receiver) and receiver not in self.declared | self.names_of_task:
                self.report(node, f"there is no class {receiver}")
        elif signatures:
            return self.call(node, name, signatures, arguments)
        elif not self.report_old(node, "functions", name) and receiver != "self":
            self.report(node, f"no class of the engine has a method {name}")
        return UNKNOWN
