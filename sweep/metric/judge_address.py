"""The address of an OpenAI-compatible endpoint: whether it is one, and whose machine it names."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from sweep.refusal import Refusal

OWN = ("localhost", "local", "internal", "lan", "home.arpa")
"""Ends of names that the internet does not know: RFC 6761, 6762, 8375, and what is usual."""


def check_address(url: str) -> None:
    """Raises: Refusal: not the beginning of the addresses of an endpoint, or not only that."""
    bare = re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", url)[0])
    if bare != url:
        reason = "must hold no user, password or query, which would be written into every result; "
        raise Refusal("base_url", bare, f"{reason}the key belongs into OPENAI_API_KEY")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[^!-~]", url):
        raise Refusal("base_url", url, "must be an address such as http://127.0.0.1:8000/v1")
    if url.rstrip("/").endswith("/completions"):
        raise Refusal("base_url", url, "must end where /chat/completions begins")


def is_near(url: str) -> bool:
    """Whether an address is of this machine or of a private network, where nobody sends a bill.

    Decided by its form alone, without asking a name server: an address that is not routed, a name
    without a dot, or one that ends in one of `OWN`.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ip_address(host)
        return not (getattr(address, "ipv4_mapped", None) or address).is_global
    except ValueError:
        return "." not in host or host.endswith(tuple(f".{end}" for end in OWN))
