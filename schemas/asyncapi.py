"""The AsyncAPI 3 document: every topic, its key, its messages, who writes and who reads, how long it is kept."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic.json_schema import JsonSchemaValue

from schemas.alerts import Alert
from schemas.commands import COMMAND_TYPES, PROVIDER_COMMAND_TYPES
from schemas.contract import DEAD_LETTER, FOLDER, GENERATED
from schemas.fulfillment import EVENT_TYPES, DelayedAct
from schemas.orders import OrderCreated
from schemas.providers import ProviderChanged
from schemas.statistics import Statistics
from schemas.topics import (
    FULFILLMENT_ALERTS,
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_PROVIDERS,
    FULFILLMENT_RETRY_PREFIX,
    FULFILLMENT_STATE,
    FULFILLMENT_STATISTICS,
    MONITOR_CHANGELOG,
    ORDERS_EVENTS,
    table,
)

PARTITIONS: Final = 4
DELAYS_S: Final = (15.0, 300.0, 900.0, 3600.0)
"""Of the settings' defaults: the document shows the topics of a deployment that changes nothing."""

GOLDEN: Final = FOLDER.parent / "tests" / "schemas" / "golden"

_KEY: Final = {"type": "string", "format": "uuid", "description": "order_id, in lower case"}
_KEYS: Final = {
    Statistics.__name__: {"type": "null"},
    Alert.__name__: {"type": "string", "description": "name/subject"},
    **{
        model.__name__: {"type": "string", "description": "the provider's name"}
        for model in (*PROVIDER_COMMAND_TYPES, ProviderChanged)
    },
}
"""Of records that are about no order."""
_SERVER: Final = {"$ref": "#/servers/kafka"}


@dataclass(frozen=True, slots=True)
class _Channel:
    title: str
    description: str
    messages: tuple[str, ...] = ()
    written_by: tuple[str, ...] = ()
    read_by: tuple[str, ...] = ()


_EVENTS: Final = tuple(model.__name__ for model in EVENT_TYPES)
_COMMANDS: Final = tuple(model.__name__ for model in (*COMMAND_TYPES, *PROVIDER_COMMAND_TYPES))
_LETTER: Final = "DeadLetter"
_CHANNELS: Final = {
    ORDERS_EVENTS: _Channel(
        "Orders",
        "What was bought. Any producer may write here, in any partition: a record found away from its order's home "
        "partition is forwarded there. Binary or structured CloudEvents, or the bare JSON object.",
        (OrderCreated.__name__,),
        ("gateway", "producer"),
        ("fulfiller", "projector"),
    ),
    FULFILLMENT_COMMANDS: _Channel(
        "Commands",
        "What people ask for. Every one is answered by an event that carries its command_id, or is a dead letter. "
        "SuspendProvider and ResumeProvider are keyed by the provider's name and answered in fulfillment.providers.",
        _COMMANDS,
        ("gateway",),
        ("fulfiller",),
    ),
    FULFILLMENT_EVENTS: _Channel(
        "Fulfilment events",
        "The record: what happened to each order, numbered 1, 2, 3 … within it. Written in transactions: read with "
        "isolation.level=read_committed. A reader takes fields that it does not know, and passes them over.",
        _EVENTS,
        ("fulfiller",),
        ("projector", "consumer"),
    ),
    FULFILLMENT_RETRY_PREFIX: _Channel(
        "Delayed acts",
        "What is due after this topic's delay. One topic for each distinct delay of RETRY_DELAYS and VERIFY_DELAYS.",
        (DelayedAct.__name__,),
        ("fulfiller",),
        ("fulfiller",),
    ),
    FULFILLMENT_STATE: _Channel(
        "State",
        "The fulfiller's own memory, compacted: the latest state of each order, its positions, its genesis record. "
        "No contract: another version may write it differently.",
        (),
        ("fulfiller",),
        ("fulfiller",),
    ),
    FULFILLMENT_DEAD_LETTER: _Channel(
        "Dead letters",
        "Records that can never be acted on: key, value and headers as they were, and behind them the headers that "
        "say why, and where they were found.",
        (_LETTER,),
        ("fulfiller",),
        ("projector", "consumer"),
    ),
    FULFILLMENT_PROVIDERS: _Channel(
        "Providers",
        "How each provider stands: compacted, keyed by its name. The last record counts, but what a provider said does "
        "not end an operator's suspension.",
        (ProviderChanged.__name__,),
        ("fulfiller",),
        ("fulfiller", "projector"),
    ),
    FULFILLMENT_STATISTICS: _Channel(
        "Statistics",
        "Counts of what was applied to the view, and how the open orders stand. Without a key.",
        (Statistics.__name__,),
        ("projector",),
        ("monitor",),
    ),
    FULFILLMENT_ALERTS: _Channel(
        "Alerts",
        "An alert was raised, or is over. At least once: one that is said again has the same id.",
        (Alert.__name__,),
        ("monitor",),
        ("monitor", "gateway", "consumer"),
    ),
    MONITOR_CHANGELOG: _Channel(
        "The monitor's table",
        "Faust's own memory of the monitor's windows. Nobody else reads it.",
        written_by=("monitor",),
        read_by=("monitor",),
    ),
}


def asyncapi() -> JsonSchemaValue:
    channels, operations = {}, {}
    for topic in table(PARTITIONS, DELAYS_S):
        name = FULFILLMENT_RETRY_PREFIX if topic.name.startswith(FULFILLMENT_RETRY_PREFIX) else topic.name
        channel = _CHANNELS[name]
        channels[topic.name] = {
            "address": topic.name,
            "title": channel.title,
            "description": f"{channel.description}\n\nWritten by: {_said(channel.written_by)}. "
            f"Read by: {_said(channel.read_by)}.",
            "servers": [_SERVER],
            "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in channel.messages},
            "bindings": {"kafka": _binding(topic.partitions, topic.config)},
        }
        for action, services in (("send", channel.written_by), ("receive", channel.read_by)):
            for service in services:
                operations[f"{service}.{action}.{topic.name}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{topic.name}"},
                    "tags": [{"name": service}],
                }
    return {
        "asyncapi": "3.0.0",
        "x-generated": GENERATED,
        "info": {
            "title": "Bundle fulfilment",
            "version": "1.0.0",
            "description": "Topics of a deployment with the default settings; TOPIC_PREFIX, where set, goes before "
            "each name. Values are UTF-8 JSON, one event a record.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "KAFKA_BOOTSTRAP_SERVERS; KAFKA_SECURITY_PROTOCOL and its kin say how to get in.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": _messages(), "schemas": {"CloudEventHeaders": _cloudevent_headers()}},
    }


def _said(services: Iterable[str]) -> str:
    names = {"producer": "any event producer", "consumer": "any consumer"}
    return ", ".join(names.get(service, service) for service in services) or "nobody"


def _binding(partitions: int, config: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"cleanup.policy": [config.get("cleanup.policy", "delete")]}
    for name in ("retention.ms", "retention.bytes", "max.message.bytes"):
        if name in config:
            settings[name] = int(config[name])
    return {"partitions": partitions, "topicConfiguration": settings, "bindingVersion": "0.5.0"}


def _messages() -> dict[str, Any]:
    binary = {"$ref": "#/components/schemas/CloudEventHeaders"}
    named = {
        name: {
            "name": name,
            "contentType": "application/json",
            "headers": binary,
            "payload": {"$ref": f"json/{name}.schema.json"},
            "bindings": {"kafka": {"key": _KEYS.get(name, _KEY), "bindingVersion": "0.5.0"}},
            **_example(name),
        }
        for name in dict.fromkeys((OrderCreated.__name__, *_COMMANDS, *_EVENTS, DelayedAct.__name__, *_KEYS))
    }
    letter = {
        "name": _LETTER,
        "summary": "The original record, with the reason in its headers.",
        "headers": {"$ref": f"json/{DEAD_LETTER}.schema.json"},
        "payload": {"description": "The original bytes, whatever they are."},
        **_example(_LETTER),
    }
    return named | {_LETTER: letter}


def _example(name: str) -> dict[str, Any]:
    """The golden record: what was really written once, and is read for ever."""
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return {"examples": [{"headers": record["headers"], "payload": record["value"]}]}


def _cloudevent_headers() -> JsonSchemaValue:
    return {
        "description": "CloudEvents 1.0, Kafka protocol binding, binary mode.",
        "type": "object",
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": {
                "type": "string",
                "description": "Of a fulfilment event: a UUIDv5 of order_id and sequence, so always the same.",
            },
            "ce_type": {"type": "string", "description": "The message's name; AlertRaised or AlertCleared."},
            "ce_source": {"type": "string", "format": "uri-reference"},
            "ce_time": {"type": "string", "format": "date-time"},
            "content-type": {"const": "application/json"},
            "traceparent": {"type": "string", "description": "W3C Trace Context, where the purchase had one."},
        },
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"],
    }
