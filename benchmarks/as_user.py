"""Being another user for as long as a connection is made."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

OWN_UID = os.geteuid()
"""Read once: while another user's connection is made, it is theirs in every thread."""
_turn = threading.Lock()


@contextmanager
def as_user(uid: int, gid: int) -> Iterator[None]:
    """Connections made in here are this user's, who is in this group alone.

    It takes root, and nobody else connects meanwhile.
    """
    with _turn:
        if uid == OWN_UID:
            yield
            return
        groups = os.getgroups()
        os.setgroups([gid])
        os.setegid(gid)
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
