"""Options of plugins: fields with a type, a range and a description, given as NAME=VALUE or in the plugin's own name."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from iddmbench.errors import UserError, did_you_mean

PAIR = re.compile("[A-Za-z_][A-Za-z0-9_-]*=")

M = TypeVar("M", bound=BaseModel)


def split_list(value: object) -> object:
    """ "jpeg-75,blur-1" -> ("jpeg-75", "blur-1"); a comma before an option ("soft:radius=2,passes=3") does not split."""
    return parts(value) if isinstance(value, str) else value


def parts(text: str) -> tuple[str, ...]:
    """See `split_list`."""
    return tuple(part for part in re.split(rf",(?!{PAIR.pattern})", text) if part)


Names = Annotated[tuple[str, ...], BeforeValidator(split_list)]
"""Several names in one option: `surrogate=sface,dlib`."""
Numbers = Annotated[tuple[float, ...], BeforeValidator(split_list)]


class Options(BaseModel):
    """Base class of a plugin's options: one field each, with a default and a description, which is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_options(model: type[M], given: Mapping[str, Any], plugin: str) -> M:
    """`given` as an instance of `model`. Raises UserError that names the plugin and the wrong option or value."""
    for key in given:
        if key not in model.model_fields:
            raise UserError(f"{plugin} has no option '{key}': {did_you_mean(key, model.model_fields)}")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{plugin}: {key}={first['input']!r}: {message[0].lower()}{message[1:]}") from error


def changed_settings(settings: M, changes: Mapping[str, Any], option: str) -> M:
    """`settings` with some changed. Raises UserError that names `option` and the wrong key or value."""
    fields = type(settings).model_fields
    given = {}
    for key, value in changes.items():
        if key not in fields:
            raise UserError(f"{option} has no setting '{key}': {did_you_mean(key, fields)}")
        several = isinstance(getattr(settings, key), tuple)
        split = several and isinstance(value, str)
        given[key] = tuple(part.strip() for part in value.split(",") if part.strip()) if split else value
        if several and not given[key]:
            raise UserError(f"{option} {key} is empty: give at least one, several with commas")
    try:
        return type(settings).model_validate({**settings.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{option} {first['loc'][0]}={first['input']!r}: {first['msg'].lower()}") from error


def is_options(text: str) -> bool:
    """Whether a part of a name holds options ("radius=2,passes=3")."""
    return PAIR.match(text) is not None


def split_options(text: str) -> dict[str, str]:
    """ "radius=2,passes=3" -> {"radius": "2", "passes": "3"}; a comma within a value stays. `is_options` holds of the text."""
    pairs = [part.partition("=") for part in re.split(rf",(?={PAIR.pattern})", text)]
    return {key.replace("-", "_"): value for key, _, value in pairs}


def changed_options(options: BaseModel) -> dict[str, Any]:
    """Fields that are not at their default, as JSON has them; without those that JSON leaves out."""
    fields = type(options).model_fields
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    dumped = options.model_dump(mode="json")
    return {name: dumped[name] for name in dumped if getattr(options, name) != defaults[name]}


def write_options(options: BaseModel) -> str:
    """What `split_options` reads: the changed ones, in the order in which they are declared."""
    return ",".join(f"{key}={written(value)}" for key, value in changed_options(options).items())


def written(value: Any) -> str:
    """A value as it stands in a name: 75, 0.05, true, "jpeg-75,blur-1"."""
    if isinstance(value, list | tuple):
        return ",".join(map(written, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return str(value)
