"""Events to JSON and back: msgspec over the domain's structs, upcasters for old rows."""

from typing import Any

import msgspec

from btmd.domain.event import EVENT_TYPES, Event
from btmd.store.errors import EventUndecodable
from btmd.store.upcasters import upcast

_encoder = msgspec.json.Encoder()
_decoders: dict[type[Event], msgspec.json.Decoder[Any]] = {}


class RawEvent(Event, frozen=True):
    """An event of a type, or of a version of it, that this program does not know; kept as it is."""

    type: str
    schema_version: int
    data: dict[str, Any]


def encode_event(event: Event) -> tuple[str, Event]:
    """The JSON text that is stored for ``event``, and the event as it will be read from it.

    What cannot be read again (a float that is not a number becomes null) is never written, and what is made of the
    event now is what a replay will make of it. Raises EventUndecodable.
    """
    text = _encoder.encode(event).decode()
    return text, decode_event(event.TYPE, event.SCHEMA_VERSION, text)


def decode_event(type_name: str, schema_version: int, data: str) -> Event:
    """The domain's event, or a RawEvent where type or version is unknown. Raises EventUndecodable."""
    cls = EVENT_TYPES.get(type_name)
    if cls is None or schema_version > cls.SCHEMA_VERSION:
        return RawEvent(type_name, schema_version, msgspec.json.decode(data))
    try:
        if schema_version == cls.SCHEMA_VERSION:
            decoder = _decoders.get(cls)
            if decoder is None:
                decoder = _decoders[cls] = msgspec.json.Decoder(cls)
            return decoder.decode(data)  # type: ignore[no-any-return]
        fields = upcast(type_name, schema_version, cls.SCHEMA_VERSION, msgspec.json.decode(data))
        return msgspec.convert(fields, cls)
    except (msgspec.MsgspecError, LookupError) as error:
        raise EventUndecodable(
            f"An event of type {type_name}, version {schema_version}, does not fit: {error}."
        ) from error
