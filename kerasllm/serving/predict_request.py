"""The texts of a request in the shape of TensorFlow Serving's REST API.

Row format, `{"instances": [...]}`, has a text or an object for each instance; column format,
`{"inputs": ...}`, has a list for each input of the model, of which there is one: `text`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from kerasllm.serving.refusal import Refusal
from kerasllm.serving.requests import brief, check_text

INPUT = "text"
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class PredictRequest:
    """What is to be classified.

    Attributes:
        texts: The texts.
        columns: Whether the answer is in column format.
    """

    texts: list[str]
    columns: bool


def parse_predict(body: dict[str, Any], most: int) -> PredictRequest:
    """Reads a request.

    Args:
        body: The JSON object.
        most: The most texts that it may have.

    Raises:
        Refusal: If a field is missing, unknown or of a wrong type, or there are too many texts.
    """
    unknown = sorted(set(body) - {"instances", "inputs", "signature_name"})
    if unknown:
        raise Refusal(
            400, f"Unknown field: {unknown[0]!r}. Known: instances, inputs, signature_name"
        )
    signature = body.get("signature_name", SIGNATURE)
    if not isinstance(signature, str):
        raise Refusal(400, f"'signature_name' must be a string. Received: {brief(signature)}")
    if signature not in ("", SIGNATURE):
        what = f"Serving signature name {brief(signature)} not found. Known: {SIGNATURE!r}"
        raise Refusal(400, what)
    if ("instances" in body) == ("inputs" in body):
        count = "both" if "inputs" in body else "none"
        what = f"Expected one of 'inputs' and 'instances'. Received: {count}"
        raise Refusal(400, what)
    columns = "inputs" in body
    where = "inputs" if columns else "instances"
    values = body[where]
    if columns:
        values = _column(values)
    if not isinstance(values, list) or not values:
        raise Refusal(400, f"{where!r} must be a list of texts. Received: {brief(values)}")
    if len(values) > most:
        what = f"{where!r} holds {len(values):,} texts, and this server takes {most:,} a request"
        raise Refusal(413, what)
    texts = []
    for place, value in enumerate(values):
        name = f"{where}[{place}]"
        texts.append(_text(value if columns else _row(value, name), name))
    return PredictRequest(texts, columns)


def _column(values: Any) -> Any:
    """Returns the list of texts of the column format; the one input's name may be left out."""
    if isinstance(values, dict) and "b64" not in values:
        if set(values) != {INPUT}:
            what = f"'inputs' must be texts or have one key, {INPUT!r}. Received: {brief(values)}"
            raise Refusal(400, what)
        values = values[INPUT]
    return values if isinstance(values, list) else [values]


def _row(value: Any, name: str) -> Any:
    if isinstance(value, dict) and "b64" not in value:
        if set(value) != {INPUT}:
            what = f"{name} must be a text or have one key, {INPUT!r}. Received: {brief(value)}"
            raise Refusal(400, what)
        return value[INPUT]
    return value


def _text(value: Any, name: str) -> str:
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            value = base64.b64decode(value["b64"], validate=True).decode()
        except (binascii.Error, ValueError):
            raise Refusal(400, f"{name} is not base64 of UTF-8") from None
    if not isinstance(value, str):
        raise Refusal(400, f"{name} must be a text. Received: {brief(value)}")
    if not value.strip():
        raise Refusal(400, f"{name} is empty")
    return check_text(value, name)
