from tests.fixtures.peers import peers

__all__ = ["peers"]
