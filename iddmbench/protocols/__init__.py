"""Published protocols: who measured on what, with which settings and thresholds. Each is a YAML file in data/."""

from iddmbench.protocols.protocol import OURS, PublishedProtocol, load_protocol, protocols

__all__ = ["OURS", "PublishedProtocol", "load_protocol", "protocols"]
