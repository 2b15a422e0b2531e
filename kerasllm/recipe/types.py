"""The types of a recipe's values: the constraint, and how an error words it."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kerasllm.addresses import take_credentials
from kerasllm.errors import RecipeError
from kerasllm.recipe.yaml_file import Written

_UNCLEAR_NUMBER = re.compile(r"[-+]?(0[0-9_]++|[0-9]++_[0-9_]*+)(\.[0-9_]*+)?([eE][-+]?[0-9_]++)?")

Text = Annotated[str, Field(min_length=1), "a text"]
Count = Annotated[int, Field(ge=1, lt=2**31), "a whole number from 1 to 2147483647"]
Layers = Annotated[int, Field(ge=1, le=1000), "a whole number from 1 to 1000"]
Width = Annotated[int, Field(ge=1, le=1 << 17), "a whole number from 1 to 131072"]
WholeNumber = Annotated[int, Field(ge=0, lt=2**31), "a whole number from 0 to 2147483647"]
Positive = Annotated[float, Field(gt=0), "a number above 0"]
NotNegative = Annotated[float, Field(ge=0), "a number, 0 or more"]
Share = Annotated[float, Field(ge=0, lt=1), "a number from 0 to below 1"]
# An address enters a recipe without the credentials that it was given with.
Location = Annotated[str, Field(min_length=1), AfterValidator(take_credentials), "a text"]
PublicKeys = Annotated[
    Text | Annotated[list[Text], Field(min_length=1)], "a file, a folder or a list of these"
]
Files = Annotated[
    Location | Annotated[list[Location], Field(min_length=1)],
    "a file, a glob, a folder, an address, starter:NAME or a list of these",
]
LabelNames = Annotated[
    Text
    | Annotated[list[Text], Field(min_length=1)]
    | Annotated[dict[Text, Text], Field(min_length=1)],
    "a mapping of labels in the data to names, a list of the names of 0, 1, 2..., or a text file "
    "with one name per line",
]
LabelWeights = Annotated[
    dict[Text, Positive], Field(min_length=1), "a mapping of labels to numbers above 0"
]


def known_encoding(name: str) -> str:
    """Returns the name of an encoding of text that Python knows.

    Raises:
        ValueError: It knows none, or no encoding of text, such as base64.
    """
    try:
        "a".encode(name)
    except (LookupError, UnicodeError, TypeError):
        raise ValueError(f"unknown encoding: {name}") from None
    return name


Encoding = Annotated[
    str, AfterValidator(known_encoding), "an encoding (utf-8, cp1252, utf-16, shift_jis...)"
]
Delimiter = Annotated[
    str,
    Field(pattern=r"^(?:[^\n\r\"]|\\t|tab|::|\^A)$"),
    "one character, tab, ^A (of Hive) or ::",
]
# Keys of the section `data` that tasks share: how the text of files is read.
ENCODING = Field(None, description="encoding of the files; null: UTF-8, otherwise an error")
DELIMITER = Field(
    None, description="field delimiter of csv and tsv files; null: detected and shown"
)


class Section(BaseModel):
    """Keys that belong together. Only the keys of the schema are taken, and none changes later.

    Attributes:
        null_words: Words that a key takes for null, and is shown with. Defaults to none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    null_words: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _is_one_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `1_000` and `010`, which readers of YAML take for different numbers."""
        forms = typing.get_args(cls.model_fields[info.field_name].annotation)
        kinds = {cls.model_fields[info.field_name].annotation, *forms}
        is_number = kinds & {int, float} and str not in kinds
        if isinstance(value, str) and is_number and _UNCLEAR_NUMBER.fullmatch(value.strip()):
            raise ValueError("a number is written without underscores and leading zeros")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_words(
        cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Refuses values with a `RecipeError`, where it is not the loader that asks.

        The loader words what is wrong itself: it knows where each value was written.
        """
        if info.context is not None:
            return handler(values)
        try:
            return handler(values)
        except (ValidationError, RecipeError):
            refused = cls._problems(values)
        raise refused

    @classmethod
    def _problems(cls, values: Any) -> RecipeError:
        from kerasllm.recipe.schema import problems, together

        if not isinstance(values, dict):
            return RecipeError(f"{cls.__name__} takes a mapping. Received: {values!r}")
        written = Written(cls.__name__, values)
        try:
            cls.model_validate(values, context=written)
        except ValidationError as error:
            return together(problems(cls, error, written))
        raise AssertionError("what was refused is refused again")
