"""attach, detach: a regularizer on a model that is built, loaded or compiled already."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import keras

from l2keras import _calls, _validation, masks
from l2keras._attach.changes import Attachment, Change, Setting, describe, inherited
from l2keras._attach.serialized import slots_for
from l2keras._keras.retrace import retrace
from l2keras._keras.variables import has_variables, model_variables

# Kept outside the models, so that saving, cloning and pickling one never meets it.
_CONVENTION = "A bare number has no convention."
_WRITE = f"{_CONVENTION} Write attach(model, HalfL2(lam=1e-4))."
_ATTACHED: weakref.WeakKeyDictionary[Any, list[Attachment]] = weakref.WeakKeyDictionary()


@_calls.explained("attach", dict.fromkeys(("lam", "l2", "weight_decay"), _WRITE))
def attach(
    model: Any,
    regularizer: Any,
    *,
    include: masks.Patterns = None,
    exclude: masks.Patterns = None,
) -> Attachment:
    """Puts a regularizer on the weights of a model that exists already.

    Convention: the regularizer's own. With `HalfL2(lam)`, lam is the coefficient of W in the
    gradient; `keras.regularizers.L2(c)` has the gradient 2 * c * W.

    It counts from the next step on, also after an earlier `fit` or `evaluate` and in the middle
    of one: the steps of every compiled model that holds one of the variables are traced anew (on
    JAX all that is compiled; a `tf.function` of your own stays as it was traced). A regularizer
    that a variable had is replaced.

    It is saved with the model, and copied by `keras.models.clone_model`, wherever the layer's
    config can say it. To find where, layers are rebuilt from their configs, without arrays
    wherever Keras can build them so. Where no config says it (some of the kernels of a
    MultiHeadAttention, a weight of a custom layer, a subclassed model that rebuilds its layers)
    the penalty still counts, the model would be saved without it, and a UserWarning names the
    variables: to train is what most callers want, and after loading they can attach again.

    Args:
        model: A built, loaded or compiled `keras.Model`; `keras.applications` included.
        regularizer: A `keras.regularizers.Regularizer`, or what `keras.regularizers.get` makes
            one of: a name, a config.
        include: Glob pattern(s) on `variable.path`, or a predicate on the variable. By default
            kernels and embeddings, as `WeightDecay`.
        exclude: The same, taken away from what is included.

    Returns:
        An `Attachment`: what was changed, a line for each variable when printed.

    Raises:
        TypeError: no regularizer, or one that cannot be saved.
        ValueError: a model without variables, or a pattern that matches none.

    Example:

    >>> import l2keras
    >>> layer = keras.layers.Dense(1, kernel_initializer="ones", name="head")
    >>> model = keras.Sequential([keras.Input((3,)), layer], name="loaded")
    >>> print(l2keras.attach(model, l2keras.HalfL2(0.5)))
    loaded/head/kernel: None -> HalfL2(lam=0.5)
    >>> print(keras.ops.convert_to_numpy(model.losses[0]))  # 0.5 / 2 * 3
    0.75
    >>> print(l2keras.detach(model)[0])
    loaded/head/kernel: HalfL2(lam=0.5) -> None
    """
    _check_model(model)
    regularizer = _check_regularizer(regularizer)
    masks.check_patterns(include, "include")
    masks.check_patterns(exclude, "exclude")
    chosen = masks.select(model, include, exclude)
    attachment = _make(model, regularizer, chosen)
    for setting in attachment.settings:
        setting.do()
    _ATTACHED.setdefault(model, []).append(attachment)
    retrace(chosen)
    if not attachment.persistent:
        warnings.warn(_not_persistent(attachment), stacklevel=3)
    return attachment


@_calls.explained("detach")
def detach(attached: Any) -> tuple[Change, ...]:
    """Takes off what `attach` put on, and restores exactly what was there.

    It comes off a variable too that a layer has made since and given it, such as the pair of
    `enable_lora`: that has then what the layer would give it now.

    Convention: none is needed; regularizers come back as the objects that they were.

    Args:
        attached: A model, for all its attachments, the latest first; or one `Attachment`.

    Returns:
        A tuple of changes, one for each variable of each attachment: what was taken off
        (`previous`) and what the variable has now (`regularizer`).

    Raises:
        ValueError: nothing is attached, or a regularizer was set since by somebody else,
            a later `attach` included. Nothing is changed then.

    Example:

    >>> import l2keras
    >>> layer = keras.layers.Dense(1, kernel_regularizer=l2keras.HalfL2(0.5), name="head")
    >>> model = keras.Sequential([keras.Input((3,)), layer], name="loaded")
    >>> attachment = l2keras.attach(model, "l1")
    >>> print(l2keras.detach(attachment)[0])
    loaded/head/kernel: L1(l1=0.01) -> HalfL2(lam=0.5)
    >>> layer.kernel_regularizer
    HalfL2(lam=0.5)
    """
    model = attached.model() if isinstance(attached, Attachment) else attached
    known = _ATTACHED.get(model, []) if isinstance(model, keras.Model) else []
    undone = [one for one in reversed(known) if attached is model or attached is one]
    if not undone:
        raise ValueError(_nothing_attached(attached))
    _check_untouched([setting for one in undone for setting in one.settings])
    changes: list[Change] = []
    targets: list[Any] = []
    for one in undone:
        new = inherited(one.settings)
        settings = [*one.settings, *(setting for _, setting in new)]
        targets += [target for setting in settings if (target := setting.undo()) is not None]
        changes += [change.reversed() for change in (*one.changes, *(change for change, _ in new))]
    _ATTACHED[model] = [one for one in known if one not in undone]
    retrace(targets)
    return tuple(changes)


def _make(model: Any, regularizer: Any, chosen: Sequence[Any]) -> Attachment:
    """What `attach` will do; changes nothing yet."""
    used, saved = slots_for(model, chosen)
    layers = {id(entry.variable): entry.owner.name for entry in model_variables(model)}
    changes = tuple(
        Change(str(v.path), layers[id(v)], v.regularizer, regularizer, id(v) in saved)
        for v in chosen
    )
    places = [(variable, "regularizer") for variable in chosen]
    places += [(slot.layer, slot.name) for slot in used]
    settings = tuple(
        Setting(weakref.ref(target), name, getattr(target, name), regularizer)
        for target, name in places
    )
    return Attachment(changes, settings, weakref.ref(model))


def _check_model(model: Any) -> None:
    expected = "`attach` needs a built keras.Model."
    if not isinstance(model, keras.Model):
        raise TypeError(
            _validation.error(
                expected, _validation.shown(model), "For one layer pass include= patterns."
            )
        )
    if not has_variables(model):
        raise ValueError(
            _validation.error(
                expected, "a model without variables", "Call model.build, or fit it, first."
            )
        )


def _check_regularizer(regularizer: Any) -> Any:
    expected = "`regularizer` must be a keras.regularizers.Regularizer, or a name or config of one."
    received = f"regularizer={_validation.shown(regularizer)}"
    if regularizer is None:
        raise TypeError(_validation.error(expected, received, "To remove one call l2keras.detach."))
    if hasattr(type(regularizer), "__float__"):
        remedy = f"{_CONVENTION[:-1]}: write HalfL2(lam={_validation.shown(regularizer)})."
        raise TypeError(_validation.error(expected, received, remedy))
    try:
        found = keras.regularizers.get(regularizer)
    except Exception as error:  # Keras raises several, and whatever a class's own code does
        remedy = "Pass one regularizer, made: l2keras.HalfL2(lam=...)."
        raise TypeError(_validation.error(expected, received, remedy)) from error
    if not isinstance(found, keras.regularizers.Regularizer):
        remedy = "Subclass keras.regularizers.Regularizer."
        raise TypeError(_validation.error(expected, received, remedy))
    try:
        found.get_config()
    except Exception as error:  # NotImplementedError of Keras where there is none; its own
        remedy = "Give it a get_config, or the model cannot be saved."
        raise TypeError(_validation.error(expected, received, remedy)) from error
    return found


def _check_untouched(settings: Sequence[Setting]) -> None:
    """Raises where an attribute is not what `attach` made it, before anything is changed."""
    undone: dict[tuple[int, str], Any] = {}
    for setting in settings:
        target = setting.target()
        if target is None:
            continue
        key = id(target), setting.name
        current = undone.get(key, getattr(target, setting.name))
        if current is not setting.after:
            place = f"{getattr(target, 'path', target)}: {setting.name}={describe(current)}"
            raise ValueError(
                _validation.error(
                    f"`detach` needs the {describe(setting.after)} that `attach` put there.",
                    place,
                    "Set that back first; a later attachment is detached first.",
                )
            )
        undone[key] = setting.before


def _not_persistent(attachment: Attachment) -> str:
    paths = ", ".join(change.path for change in attachment.changes if not change.persistent)
    return (
        f"The penalty counts now, but is lost when the model is saved, cloned or turned into "
        f"JSON, on {paths}: the config of no layer says it for exactly these variables. "
        f"Call `attach` again on the copy."
    )


def _nothing_attached(attached: Any) -> str:
    return _validation.error(
        "`detach` needs a model, or an Attachment, that `attach` has changed in this process.",
        f"{_validation.shown(attached)}, which has none left",
        "A regularizer that was loaded with a model is the model's own: "
        "set it with `attach`, or on the layers.",
    )
