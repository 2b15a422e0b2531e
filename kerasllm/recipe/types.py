"""The types of a recipe's values: the constraint, and how an error words it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1), "a text"]
Count = Annotated[int, Field(ge=1, lt=2**31), "a whole number from 1 to 2147483647"]
WholeNumber = Annotated[int, Field(ge=0, lt=2**31), "a whole number from 0 to 2147483647"]
Positive = Annotated[float, Field(gt=0), "a number above 0"]
NotNegative = Annotated[float, Field(ge=0), "a number, 0 or more"]
Share = Annotated[float, Field(ge=0, lt=1), "a number from 0 to below 1"]
Files = Annotated[
    Text | Annotated[list[Text], Field(min_length=1)],
    "a file, a glob, starter:NAME or a list of these",
]
LabelNames = Annotated[
    Text | Annotated[list[Text], Field(min_length=1)] | Annotated[dict[Text, Text], Field(min_length=1)],
    "a mapping of labels in the data to names, a list of the names of 0, 1, 2..., or a text file "
    "with a name a line",
]
LabelWeights = Annotated[
    dict[Text, Positive], Field(min_length=1), "a mapping of labels to numbers above 0"
]


class Section(BaseModel):
    """Keys that belong together. Only the keys of the schema are taken, and none changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
