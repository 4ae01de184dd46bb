import math

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.reads.summary import quantiles


@given(st.lists(st.floats(0.01, 10_000), min_size=20, max_size=200))
def test_percentiles_are_near_the_true_ones(latencies: list[float]) -> None:
    bins: dict[int, int] = {}
    for latency in latencies:
        number = math.floor(4 * math.log2(latency))
        bins[number] = bins.get(number, 0) + 1
    said = quantiles(bins)
    assert said is not None
    ranked = sorted(latencies)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        rank = share * len(ranked)
        around = ranked[max(math.ceil(rank) - 2, 0) : math.ceil(rank) + 1]
        assert min(around) / 1.2 - 0.01 <= said[name] <= max(around) * 1.2 + 0.01
