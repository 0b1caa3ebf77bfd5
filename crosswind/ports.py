"""Ports that children of `crosswind up` are to listen on: free before they start, and theirs when something answers."""

import socket

import psutil

from crosswind.errors import ServiceError


def refuse_taken(host: str, port: int, advice: str) -> None:
    """Refuses a port on which no server of ours could listen; 0, any free one, passes.

    Args:
        advice: what to do about it, for the message.

    Raises:
        ServiceError: it is taken, or the address is not this machine's.
    """
    if port == 0:
        return
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: past ends do not count
                probe.bind(address)
    except OSError as error:
        raise ServiceError(f"cannot listen on {host}:{port}: {error.strerror}; {advice}") from None


def listens(pid: int | None, port: int) -> bool:
    """Whether this process, and not another one, listens on the port."""
    if pid is None:
        return False
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.AccessDenied:  # not ours to see here, so its answer must do
        return True
    except psutil.Error:
        return False
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in found)
