"""Where a request comes from."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from aiohttp import web

Network = IPv4Network | IPv6Network


class Addresses:
    """Proxies of one's own say for whom they speak; nobody else is believed."""

    def __init__(self, trusted_proxies: Sequence[Network]) -> None:
        self._trusted = trusted_proxies

    def of(self, request: web.Request) -> str:
        """The peer's; behind trusted proxies the last address in X-Forwarded-For that is none of theirs."""
        peer = request.remote or ""
        if not self._is_proxy(peer):
            return peer
        said = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        for hop in reversed([part.strip() for part in said]):
            # A scope (%eth0) may be any text, and means nothing to anybody else.
            if not _is_address(hop) or "%" in hop:
                break
            peer = hop
            if not self._is_proxy(hop):
                break
        return peer

    def _is_proxy(self, address: str) -> bool:
        return bool(self._trusted) and _is_address(address) and any(ip_address(address) in n for n in self._trusted)


def household(address: str) -> str:
    """What one party has at the least: an IPv4 address, 2^64 of IPv6's."""
    if not _is_address(address):
        return address
    said = ip_address(address.partition("%")[0])
    if isinstance(said, IPv4Address):
        return str(said)
    return str(said.ipv4_mapped or ip_network((said, 64), strict=False))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
