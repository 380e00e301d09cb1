"""What the models of all nouns share. Unknown members are refused, not ignored (T-G12)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Input(BaseModel):
    """A JSON body: exactly the declared members, of exactly the declared types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FormInput(BaseModel):
    """An urlencoded form: everything arrives as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


#: The public id of a thing.
PublicId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.~-]+$")]
ShortName = Annotated[str, Field(min_length=1, max_length=100)]
Secret = Annotated[str, Field(min_length=1, max_length=1024, json_schema_extra={"format": "password"})]
