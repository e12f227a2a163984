"""Users and groups of this machine, as the kernel numbers them."""

import grp
import os
import pwd
from functools import lru_cache

from btmd.errors import NotFound


class AccountNotFound(NotFound):
    code, title = "account_not_found", "There is no such user or group"


def find_account(text: str) -> tuple[str, int]:
    """The name (a group's begins with ``@``) and number of a user, or of a ``@group``; numbers are taken for names.

    Asks the system's name service, which may take a while. Raises AccountNotFound.
    """
    name = text.strip()
    is_group = name.startswith("@")
    name = name.removeprefix("@")
    number = int(name) if name.isascii() and name.isdigit() and len(name) <= 10 else None
    try:
        if is_group:
            group = grp.getgrnam(name) if number is None else grp.getgrgid(number)
            return f"@{group.gr_name}", group.gr_gid
        user = pwd.getpwnam(name) if number is None else pwd.getpwuid(number)
        return user.pw_name, user.pw_uid
    except (KeyError, ValueError, OverflowError):
        kind, hint = ("group", "`getent group` lists them.") if is_group else ("user", "A group has an @ before it.")
        raise AccountNotFound(f"This machine has no {kind} called {name[:60]!r}.", hint=hint) from None


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """The user's name, or the number where the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def groups_of(uid: int) -> frozenset[int]:
    """The numbers of a user's groups, by the system's name service; none for a user it does not know."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))


def why_missing(subject: str, kernel_id: int) -> str:
    """Why a subject is not the one it was when it was granted something; nothing where it is."""
    try:
        _, number = find_account(subject)
    except AccountNotFound:
        return "this machine does not know them"
    return "" if number == kernel_id else f"who is called so now has the number {number}, not {kernel_id}"
