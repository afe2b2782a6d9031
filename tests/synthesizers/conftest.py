"""No test of a synthesizer goes on line: whatever is built, saved or loaded in this folder."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to connect or to look up a name fails, and is remembered."""
    attempts = []

    def guarded(original):
        def refuse(*arguments, **options):
            addresses = [each for each in arguments if not isinstance(each, socket.socket)]
            if isinstance(addresses[0], bytes | str) and str(addresses[0]).startswith("/"):
                return original(*arguments, **options)  # a socket of this machine's file system
            attempts.append(addresses)
            raise OSError("no network in this test")

        return refuse

    for place, names in ((socket, ("getaddrinfo", "create_connection")), (socket.socket, ("connect", "connect_ex"))):
        for name in names:
            monkeypatch.setattr(place, name, guarded(getattr(place, name)))
    yield attempts
    assert attempts == [], "a synthesizer tried to go on line"
