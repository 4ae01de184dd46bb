"""An answer held to the OpenAPI document."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the document."""

    method: str
    path: str
    operation: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def open(self) -> bool:
        """Anyone may make it."""
        return not self.operation["security"]

    @property
    def endless(self) -> bool:
        """It answers for as long as somebody listens."""
        return any("text/event-stream" in reply.get("content", ()) for reply in self.operation["responses"].values())

    @property
    def bodies(self) -> list[Any]:
        """Its examples."""
        if "requestBody" not in self.operation:
            return []
        return list(
            self.resolved(self.operation["requestBody"]["content"]["application/json"]["schema"]).get("examples", ())
        )

    def parameters(self, where: str) -> list[Mapping[str, Any]]:
        return [said for said in self.operation.get("parameters", ()) if said["in"] == where]

    def url(self, **values: str) -> str:
        """The path with its parameters: these, or their examples."""
        examples = {said["name"]: example(said) for said in self.parameters("path")}
        return re.sub(r"{(\w+)[^}]*}", lambda match: str((examples | values)[match[1]]), self.path)

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def faults(self, status: int, headers: Mapping[str, str], content: bytes) -> list[str]:
        """What in the answer is not as documented, a line each."""
        said = self.operation["responses"].get(str(status))
        if said is None:
            return [f"{self.name}: status {status} is not documented: {content[:300]!r}"]
        missing = [name for name, about in said.get("headers", {}).items() if about["required"] and name not in headers]
        if missing:
            return [f"{self.name}: {status} without {', '.join(missing)}"]
        if "content" not in said:
            return [f"{self.name}: {status} has a body"] if content else []
        media = headers.get("Content-Type", "").partition(";")[0]
        if media not in said["content"] and "*/*" not in said["content"]:
            return [f"{self.name}: {status} is {media}"]
        if not media.endswith("json") or media not in said["content"]:
            return []
        schema = said["content"][media].get("schema", {})
        checked = Draft202012Validator(
            {**schema, "components": self.document["components"]}, format_checker=FormatChecker()
        )
        return [
            f"{self.name}: {status}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in checked.iter_errors(orjson.loads(content))
        ]


def calls(document: Mapping[str, Any]) -> list[Call]:
    return [
        Call(method.upper(), path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def has_example(parameter: Mapping[str, Any]) -> bool:
    return bool(parameter["schema"].get("examples"))


def example(parameter: Mapping[str, Any]) -> str:
    return str(parameter["schema"]["examples"][0])
