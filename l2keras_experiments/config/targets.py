"""Functions and classes that a config names by `_target_`.

Their arguments are checked in the source, without importing it: an import may take the backend's
ten seconds, and fixes the backend. `instantiate` imports and calls.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from l2keras_experiments.config import messages, schema
from l2keras_experiments.config.schema import ConfigError

TARGET = "_target_"
HYDRA_KEYS = (TARGET, "_args_", "_convert_", "_partial_", "_recursive_")
OWN = ("l2keras_experiments", "l2keras", "keras")  # packages whose versions identify them
_LAYER = "keras.src.layers.layer.Layer"
_FORMER_KEYWORDS = ("input_shape", "input_dim")  # which Layer takes, though it names them not
_MOST_IMPORTS = 20  # from where a name is imported to where it is defined
_Definition = ast.FunctionDef | ast.ClassDef | ast.Assign


class TargetError(RuntimeError):
    """The function that a config names cannot be imported, or raises."""


@dataclass(frozen=True)
class _Module:
    """A module that was found, not imported.

    Attributes:
        name: Dotted.
        path: Of its source.
        root: The folder that holds the user's modules: that of its top-level package, or the one
            where its single file lies.
    """

    name: str
    path: Path
    root: Path

    @property
    def package(self) -> str:
        """What its relative imports are relative to."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def tree(self) -> ast.Module:
        """Its source, parsed.

        Raises:
            ConfigError: it is no Python.
        """
        status = self.path.stat()
        return _parsed(self.path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, mtime: int, size: int) -> ast.Module:
    """`_Module.tree`, once for each version of a file: a sweep asks for each of its jobs."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(
            f"A module that a config names must be valid Python. Received: {path}"
            f"{f', line {line}' if line else ''}: {getattr(error, 'msg', error)}. Correct it."
        ) from None


def check(key: str, node: Mapping[str, Any], supplied: Iterable[str] = ()) -> None:
    """Raises ConfigError unless the target of `node` exists and takes the other keys.

    What cannot be read from the source, such as the arguments of a decorated function, is left to
    `instantiate`. Nodes inside of `node` that have a target are checked, too.

    Args:
        key: Of the node, dotted.
        node: With `_target_` and the arguments.
        supplied: Arguments that are passed where the target takes them.
    """
    for name, value in _nodes(key, node):
        if name != key:
            check(name, value)
    target = node.get(TARGET)
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(
            f"`{key}.{TARGET}` must be module.function. Received: {target!r}. "
            "Write the module that can be imported, a dot and the name in it."
        )
    signature = _signature_in_source(f"{key}.{TARGET}", target)
    if signature is not None and not node.get("_args_"):
        check_arguments(key, target, signature, node, supplied)


def check_not_supplied(
    key: str, node: Mapping[str, Any], supplied: Iterable[str], source: str
) -> None:
    """Raises ConfigError for an argument that `source` passes, which would replace the value."""
    for name in supplied:
        if name in node:
            raise ConfigError(
                f"`{key}.{name}` must be left out, as its value comes from {source}. "
                f"Received: {key}.{name}={node[name]}. Leave it out, or rename the argument."
            )


def check_arguments(
    key: str,
    target: str,
    signature: inspect.Signature,
    node: Mapping[str, Any],
    supplied: Iterable[str] = (),
) -> None:
    """Raises ConfigError for an argument that is unknown, missing, or of another type."""
    parameters = _named(signature)
    supplied = set(supplied)
    keywords = _layer_keywords(target) if _takes_any(signature) else set(parameters)
    for name, value in node.items():
        if name in HYDRA_KEYS:
            continue
        if name not in parameters:
            if keywords and name not in keywords:
                valid, passed = keywords - supplied, supplied & keywords
                raise unknown_argument(key, target, str(name), value, valid, passed)
            continue
        has_target = isinstance(value, Mapping) and TARGET in value  # what it returns is unknown
        word = "" if has_target else _mismatch(_annotation(target, parameters[name], value), value)
        if word:
            raise ConfigError(
                f"`{key}.{name}` must be {word}. Received: {key}.{name}={value}. "
                f"{messages.example(f'{key}.{name}', word)}"
            )
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in node and name not in supplied
    ]
    if missing and not node.get("_partial_"):
        raise ConfigError(
            f"`{key}` must have every argument that {target} needs. "
            f"Received: no {', '.join(missing)}. Set {key}.{missing[0]}=..."
        )


def unknown_argument(
    key: str, target: str, name: str, value: Any, valid: Iterable[str], supplied: Iterable[str] = ()
) -> ConfigError:
    """The answer to an argument that a target does not take.

    Args:
        key: Of the node, dotted; a group's own keys are valid, too.
        target: As in the config.
        name, value: The argument.
        valid: What the target takes, to be listed.
        supplied: What it takes, too, and gets without the config.
    """
    own = schema.own_keys(key) if key in schema.open_groups(schema.Config) else []
    known = sorted({*valid, *own})
    near = [word for word in known if f"{key}.{word}" == schema.SYNONYMS.get(name)]
    near += difflib.get_close_matches(name, [*known, *supplied], n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Valid: {', '.join(known) or 'none'}."
    return ConfigError(
        f"`{key}` must have keys that {target} takes. Received: {key}.{name}={value}. {hint}"
    )


def accepted(target: str) -> dict[str, inspect.Parameter]:
    """The named arguments of a target, read from its source; none where that cannot be.

    Raises:
        ConfigError: there is no such target.
    """
    signature = _signature_in_source(TARGET, target)
    return {} if signature is None else _named(signature)


def instantiate(
    key: str, node: Mapping[str, Any], *, through_kwargs: bool = False, **supplied: Any
) -> Any:
    """Imports the target of `node` and calls it with its arguments, by Hydra's rules.

    Args:
        key: Of the node, dotted, for errors.
        node: With `_target_` and the arguments.
        through_kwargs: Whether a target with `**kwargs` gets all that is supplied.
        supplied: Passed as they are, where the signature of the target names them.

    Raises:
        ConfigError: the target cannot be imported, does not take these arguments, or raises one.
        TargetError: it raises; with its own error as the cause.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as call

    target = str(node[TARGET])
    function = load(key, target)
    signature = _signature_of(function)
    if signature is not None:
        if not node.get("_args_"):
            check_arguments(key, target, signature, node, supplied)
        if not (through_kwargs and _takes_any(signature)):
            supplied = {k: v for k, v in supplied.items() if k in _named(signature)}
    try:
        # Hydra would turn what is supplied into a config, which holds no arrays.
        built = call({"_convert_": "all", **node, "_partial_": True})
        return built if node.get("_partial_") and not supplied else built(**supplied)
    except Exception as error:
        wrapped = isinstance(error, InstantiationException)  # of a target inside of the node
        cause = (error.__cause__ if wrapped else None) or error
        if isinstance(cause, ConfigError):
            raise cause from None
        text = " ".join(str(cause).split()) or "no message"
        raise TargetError(f"{target} raised {type(cause).__name__}: {text}") from cause


def load(key: str, target: str) -> Any:
    """The function or class that `target` names, imported.

    Raises:
        ConfigError: it cannot be imported, with the error that the import raised.
    """
    module, attributes = _split(f"{key}.{TARGET}", target)
    try:
        found = importlib.import_module(module)
        return functools.reduce(getattr, attributes, found)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            f"`{key}.{TARGET}` must be what can be imported. Received: {target}, which raised "
            f"{type(error).__name__}: {text}. Correct the module."
        ) from error


def source_hash(node: Any) -> str:
    """Hex digits that change with the source of every target in `node`; "" if all are our own.

    Covers the modules of the targets and what they import from beside them; of an installed
    package its version.
    """
    targets = tuple(sorted({t for t in _targets(node) if t.partition(".")[0] not in OWN}))
    if not targets:
        return ""
    key = targets, tuple(sys.path)
    known = _hashes.get(key)
    if known is not None and known[0] == _stamps(known[0]):
        return known[1]
    paths: set[Path] = set()
    digest = hashlib.sha256()
    for target in targets:
        name, _ = _split(TARGET, target)
        module = _find(name)
        version = "" if module is None else _installed_version(module)
        digest.update(version.encode())
        if module is not None and not version:
            _collect(module, module.root, paths)
    stamps = _stamps(paths)
    for path in sorted(paths):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    _hashes[key] = stamps, digest.hexdigest()[:16]
    return _hashes[key][1]


_Stamps = dict[Path, tuple[int, int]]  # of a file: time and size
_Names = tuple[str, ...]
_hashes: dict[tuple[_Names, _Names], tuple[_Stamps, str]] = {}  # by targets and sys.path


def _stamps(paths: Iterable[Path]) -> _Stamps:
    stats = {path: path.stat() for path in paths if path.exists()}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def _installed_version(module: _Module) -> str:
    """Of the package that a module was installed with; "" for modules of the user's own."""
    places = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    if not any(module.path.is_relative_to(Path(place).resolve()) for place in places):
        return ""
    top = module.name.partition(".")[0]
    for name in importlib.metadata.packages_distributions().get(top, [top]):
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{name}=={importlib.metadata.version(name)}"
    return ""


def _targets(node: Any) -> Iterator[str]:
    """Every target in a config, flattened or not."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, value in items:
        if isinstance(value, str) and str(key).rpartition(".")[2] == TARGET:
            yield value
        elif isinstance(value, Mapping | list | tuple):
            yield from _targets(value)


def make_importable(folders: Iterable[Path]) -> None:
    """Puts folders first among those that Python imports from."""
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def _nodes(key: str, node: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping in `node` that has a target, `node` included, with its dotted key."""
    if isinstance(node, Mapping):
        if TARGET in node:
            yield key, node
        for name, value in node.items():
            yield from _nodes(f"{key}.{name}" if key else str(name), value)
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _nodes(f"{key}.{number}", value)


def _split(key: str, target: str) -> tuple[str, list[str]]:
    """The longest module at the beginning of `target`, and the attributes behind it.

    Raises:
        ConfigError: no module of that name can be found.
    """
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"`{key}` must be module.function. Received: {target}. "
            "Write the module that can be imported, a dot and the name in it."
        )
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        if name in sys.modules or _spec(name) is not None:
            return name, parts[length:]
    raise ConfigError(
        f"`{key}` must be in a module that can be imported. Received: {target}, and no module "
        f"{parts[0]}. Pass --config-dir with the folder that holds {parts[0]}.py, or install it."
    )


def _spec(name: str) -> ModuleSpec | None:
    """Of a module, without importing what it is in."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for i in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        inside = list(spec.submodule_search_locations)
        full = ".".join([top, *rest[: i + 1]])
        try:
            spec = PathFinder.find_spec(full, inside)
        except KeyError:  # a folder without __init__.py, in a package that is not imported
            spec = ModuleSpec(full, None, is_package=True)
            folders = [Path(place, rest[i]) for place in inside]
            spec.submodule_search_locations = [str(path) for path in folders if path.is_dir()]
    return spec


def tree_of(name: str) -> ast.Module | None:
    """The source of a module, parsed; None without one in Python."""
    module = _find(name)
    return None if module is None else module.tree


def _find(name: str) -> _Module | None:
    """A module with Python source; None for any other, and for namespace packages."""
    spec = _spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    depth = name.count(".") + (path.name == "__init__.py")
    return _Module(name, path, path.parents[max(depth - 1, 0)])


def _signature_in_source(key: str, target: str) -> inspect.Signature | None:
    """Of a function or class, as its source says; None where that takes an import to tell.

    Raises:
        ConfigError: there is no such module, or no such name in it.
    """
    name, attributes = _split(key, target)
    module = _find(name)
    if module is None or len(attributes) != 1:
        return None
    known, definition, _ = _definition(module, attributes[0])
    if definition is None:
        if known is None:
            return None
        near = difflib.get_close_matches(attributes[0], known, n=1, cutoff=0.5)
        hint = f"Did you mean {name}.{near[0]}?" if near else "Correct the name."
        raise ConfigError(
            f"`{key}` must be in its module. Received: {target}, and {module.path.name} has no "
            f"{attributes[0]}. {hint}"
        )
    return _signature(definition)


def _layer_keywords(target: str) -> set[str]:
    """The keywords of a layer of Keras and its bases; none where the source does not tell."""
    if not target.startswith("keras.layers."):
        return set()
    found, (place, [name]) = {*_FORMER_KEYWORDS}, _split(TARGET, target)
    module = _find(place)
    while module is not None:
        _, definition, module = _definition(module, name)
        if module is None or not isinstance(definition, ast.ClassDef):
            break
        signature = _signature(definition)
        found |= set() if signature is None else set(_named(signature))
        if f"{module.name}.{definition.name}" == _LAYER:
            return found
        base = definition.bases[0] if definition.bases else None
        if not isinstance(base, ast.Name):
            break
        name = base.id
    return set()


def _definition(
    module: _Module, name: str
) -> tuple[list[str] | None, _Definition | None, _Module | None]:
    """Follows imports to a definition.

    Returns:
        The names of the last module looked into, None if not all are known; the definition; its
        module.
    """
    for _ in range(_MOST_IMPORTS):
        names = _top_level(module.tree)
        if name not in names:
            is_open = "*" in names or "__getattr__" in names
            return None if is_open else sorted(names), None, None
        statement = names[name]
        if not isinstance(statement, ast.ImportFrom):
            defined = isinstance(statement, _Definition)
            return None, statement if defined else None, module  # type: ignore[return-value]
        base = "." * statement.level + (statement.module or "")
        source = importlib.util.resolve_name(base, module.package) if statement.level else base
        original = next(a.name for a in statement.names if (a.asname or a.name) == name)
        if _find(f"{source}.{original}") is not None:
            return None, None, None  # a module
        found = _find(source)
        if found is None:
            return None, None, None
        module, name = found, original
    return None, None, None


@functools.lru_cache(maxsize=256)
def _top_level(tree: ast.Module) -> Mapping[str, ast.stmt]:
    """What a module binds, also under `if` and `try`; a star import is called "*"."""
    names: dict[str, ast.stmt] = {}
    waiting = list(tree.body)
    while waiting:
        statement = waiting.pop(0)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                bound = alias.asname or alias.name
                names[bound if isinstance(statement, ast.ImportFrom) else bound.split(".")[0]] = (
                    statement
                )
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for one in targets:
                names |= {n.id: statement for n in _stored(one)}
        else:
            waiting = [s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)] + [
                inner
                for handler in getattr(statement, "handlers", [])
                for inner in handler.body
            ] + waiting  # fmt: skip
    return names


def _stored(target: ast.expr) -> Iterator[ast.Name]:
    """The names that an assignment binds; not the `Class` of `Class.attribute = value`."""
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node


def _signature(definition: _Definition) -> inspect.Signature | None:
    """Of a plain function, or of a class by its __init__; None for anything else."""
    if isinstance(definition, ast.ClassDef):
        inits = [s for s in definition.body if isinstance(s, ast.FunctionDef)]
        init = next((s for s in inits if s.name == "__init__"), None)
        # Without one it is that of a base, or of a decorator such as dataclass.
        return None if init is None else _of_arguments(init.args, skip=1)
    if isinstance(definition, ast.FunctionDef):
        exported = all(ast.unparse(d).startswith("keras_export") for d in definition.decorator_list)
        return _of_arguments(definition.args) if exported else None
    return None


def _of_arguments(arguments: ast.arguments, skip: int = 0) -> inspect.Signature:
    parameters: list[inspect.Parameter] = []
    kinds = inspect.Parameter

    def add(argument: ast.arg, kind: Any, default: ast.expr | None) -> None:
        annotation = kinds.empty if argument.annotation is None else argument.annotation
        given = kinds.empty if default is None else ast.unparse(default)
        parameters.append(
            inspect.Parameter(argument.arg, kind, default=given, annotation=annotation)
        )

    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for argument, default in list(zip(positional, defaults, strict=True))[skip:]:
        only = argument in arguments.posonlyargs
        add(argument, kinds.POSITIONAL_ONLY if only else kinds.POSITIONAL_OR_KEYWORD, default)
    if arguments.vararg is not None:
        add(arguments.vararg, kinds.VAR_POSITIONAL, None)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        add(argument, kinds.KEYWORD_ONLY, default)
    if arguments.kwarg is not None:
        add(arguments.kwarg, kinds.VAR_KEYWORD, None)
    return inspect.Signature(parameters)


def _signature_of(function: Any) -> inspect.Signature | None:
    try:
        signature = inspect.signature(function)
        if inspect.isclass(function) and _takes_any(signature) and not _named(signature):
            # Python 3.11.2 shows the `__new__` of a base in the place of an inherited `__init__`.
            _, *own = inspect.signature(function.__init__).parameters.values()
            return signature.replace(parameters=own)
        return signature
    except (TypeError, ValueError):
        return None


def _named(signature: inspect.Signature) -> dict[str, inspect.Parameter]:
    """The parameters that can be passed by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in signature.parameters.items() if p.kind in by_name}


def _takes_any(signature: inspect.Signature) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())


_WORDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text",
    "None": "null",
}  # fmt: skip
_FITS = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
}


def _annotation(target: str, parameter: inspect.Parameter, value: Any) -> Any:
    """Of a parameter; where Keras has none for a text, that of its default."""
    is_keras = target.startswith(("keras.layers.", "keras.optimizers."))
    if parameter.annotation is not parameter.empty or not is_keras or not isinstance(value, str):
        return parameter.annotation
    default = parameter.default
    with suppress(ValueError, SyntaxError):
        default = ast.literal_eval(default) if isinstance(default, str) else default
    if isinstance(default, bool):
        return "bool"
    return "float" if isinstance(default, int | float) else parameter.empty


def _mismatch(annotation: Any, value: Any) -> str:
    """What an argument must be, if `value` is not; "" where the annotation is not a plain one."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = ast.unparse(annotation) if isinstance(annotation, ast.AST) else annotation
    if isinstance(text, type):
        text = text.__name__
    names = str(text).replace("typing.", "").replace(" ", "").split("|")
    if not all(name in _FITS for name in names) or any(_FITS[name](value) for name in names):
        return ""
    return " or ".join(_WORDS[name] for name in names)


def _collect(module: _Module, root: Path, paths: set[Path]) -> None:
    """Adds the sources of a module, and of what it imports, that lie under `root`."""
    if module.path in paths or not module.path.is_relative_to(root):
        return
    paths.add(module.path)
    for statement in ast.walk(module.tree):
        for name in _imported(statement, module):
            found = _find(name)
            if found is not None:
                _collect(found, root, paths)


def _imported(statement: ast.AST, module: _Module) -> Iterator[str]:
    """The modules that a statement may import."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        base = "." * statement.level + (statement.module or "")
        try:
            source = importlib.util.resolve_name(base, module.package) if statement.level else base
        except ImportError:
            return
        yield source
        yield from (f"{source}.{alias.name}" for alias in statement.names)
