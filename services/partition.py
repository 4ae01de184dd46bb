"""Where an order lives: the same partition of every keyed topic."""

from aiokafka.partitioner import murmur2

_POSITIVE = 0x7FFFFFFF


def home_partition(order_id: str, partitions: int) -> int:
    """As Java's and aiokafka's default partitioners have it, for a canonical lower-case UUID as the key.

    Named in every record of ours, because librdkafka's default differs.
    """
    return int((murmur2(order_id.encode()) & _POSITIVE) % partitions)
