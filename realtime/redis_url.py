"""What REDIS_URL names.

`redis://host:6379/0`, `rediss://` and `unix://` name one Redis. `redis+cluster://host:6379,host:6379` and
`rediss+cluster://` name nodes of a cluster that are asked for the others; user, password and options hold for
all of them.
"""

from __future__ import annotations

import re
from typing import Final

CLUSTER_SCHEMES: Final = ("redis+cluster", "rediss+cluster")


def is_cluster(url: str) -> bool:
    return url.startswith(tuple(f"{scheme}://" for scheme in CLUSTER_SCHEMES))


def seed_urls(url: str) -> list[str]:
    """The URL of each node that a cluster's URL names; the URL itself if it names one Redis."""
    if not is_cluster(url):
        return [url]
    scheme, _, rest = url.partition("+cluster://")
    netloc, tail = re.split(r"(?=[/?#]|$)", rest, maxsplit=1)
    login, at, hosts = netloc.rpartition("@")
    return [f"{scheme}://{login}{at}{host}{tail}" for host in hosts.split(",")]
