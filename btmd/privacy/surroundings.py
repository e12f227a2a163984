"""What the words around a number say of it, in five languages."""

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final

from msgspec import Struct

_BEFORE: Final = 60
_AFTER: Final = 28
_OTHER_NEAR: Final = 34
_WORDS_REMEMBERED: Final = 4096
"""A language has few words that are used often."""


class Said(Enum):
    """What a number is called: what is looked for, something else, or nothing."""

    THIS = "this"
    OTHER = "other"
    NOTHING = "nothing"


class _Vocabulary(Struct, frozen=True):
    """Words for one thing: whole ones, how longer ones begin (inflected or put together), and what long ones hold."""

    words: frozenset[str]
    beginnings: tuple[str, ...]
    parts: tuple[str, ...] = ()

    def has(self, word: str) -> bool:
        return (
            word in self.words
            or word.startswith(self.beginnings)
            or (len(word) >= _LONG_WORD and any(part in word for part in self.parts))
        )


_OTHER: Final = _Vocabulary(
    frozenset(
        (
            *("ref", "case", "item", "sku", "part", "isbn", "issn", "ean", "gtin", "upc", "model"),
            *("build", "po", "vat", "nif", "cif", "iva", "siret", "siren", "id", "uid", "ust"),
            *("ustid", "doi", "rfc", "zip", "plz", "lot", "lotto", "lote", "colis", "pacco", "code"),
            *("asset", "#", "§"),
        )
    ),
    (
        *("bestell", "auftrag", "rechnung", "kunden", "artikel", "sendung", "vorgang", "vertrag", "serien", "liefer"),
        *("lager", "inventar", "mitglied", "referenz", "aktenzeichen", "kennzeichen", "kennung", "steuer", "konto"),
        *("police", "buchung", "paket", "teilenummer", "teilenr", "materialn", "matrikel", "chargen", "fahrgestell"),
        *("losnummer", "barcode", "strichcode", "prüfsumme", "zähler", "postfach", "order", "invoice", "customer"),
        *("reference", "ticket", "article", "serial", "tracking", "parcel", "shipment", "account", "batch", "product"),
        *("member", "booking", "policy", "contract", "checkout", "transaction", "revision", "commit", "checksum"),
        *("timestamp", "patent", "license", "licence", "commande", "facture", "client", "référence"),
        *("suivi", "dossier"),
        *("contrat", "série", "produit", "adhérent", "réservation", "pedido", "factura", "referencia", "artículo"),
        *("albarán", "serie", "envío", "seguimiento", "expediente", "socio", "reserva", "ordine", "fattura"),
        *("riferimento", "articolo", "spedizione", "pratica", "prodotto", "matricola", "matrícula", "prenotazione"),
        *("código", "codice", "lotto"),
    ),
)
_PHONE: Final = _Vocabulary(
    frozenset(
        (
            *("tel", "tél", "telf", "tfno", "tlf", "sms", "cell", "ring", "signal", "ruf", "ruft", "rufst", "rufe"),
            *("rufen", "☎", "📞", "📱", "✆"),
        )
    ),
    (
        *("telefon", "rufnummer", "handy", "mobil", "anruf", "rückruf", "erreich", "durchwahl", "fax", "phone"),
        *("whatsapp", "call", "cellphone", "dial", "hotline", "reach", "contact", "contatt", "kontakt", "téléphone"),
        *("appel", "rappel", "joindre", "joignable", "portable", "teléfono", "móvil", "llam", "llám", "celular"),
        *("localic", "localiz", "cellulare", "chiam", "richiam", "recapito", "squill", "festnetz"),
    ),
    ("telefon", "handy", "rufnummer", "mobil"),
)
_CARD: Final = _Vocabulary(
    frozenset(["discover", "pan", "cc"]),
    (
        *("karte", "card", "carte", "carta", "tarjeta", "visa", "mastercard", "amex", "american", "maestro", "diners"),
        *("jcb", "unionpay", "kredit", "credit", "crédit", "pay", "paid", "paiement", "pag", "zahl", "bezahl"),
        *("buch", "abbuch", "abgebucht", "charge", "addebit", "debit", "débit", "carg"),
    ),
    ("karte",),
)
# What a word says together with the one before it: "my number", but "Best.-Nr.".
_NUMBER: Final = frozenset(["number", "nummer", "numéro", "número", "numero", "nr"])
_ONES_OWN: Final = frozenset(
    (
        *("my", "his", "her", "our", "your", "meine", "deine", "seine", "ihre", "unsere", "mon"),
        *("ma", "son", "notre", "votre", "mi", "su", "mio", "suo"),
    )
)
_ABBREVIATED: Final = frozenset(["art", "best", "kd", "rg", "re"])
_WORD: Final = re.compile(r"[^\W_]+|[#§☎📞📱✆]")
_LONG_WORD: Final = 7
_SENTENCE_END: Final = re.compile(r"[.!?]\s+(?=[^\W\d_])|\n")
VERSION_BEFORE: Final = re.compile(
    r"(?:versio[a-zé]*|versión|\bver|\bv|\brelease[ds]?|\bbuild|firmware|driver|treiber|\bpatch(?:ed)?|\brev(?:ision)?|"
    r"kapitel|abschnitt|section|chapter|chapitre|sección|capítulo|sezione|capitolo|paragraph|absatz|clause|ziffer|"
    r"fassung|§+|\bpunkt|\bupdate|\bupgraded?|aktualisiert|python|node|java|sdk|library|package|paket)\.?"
    r"(?:\s*(?:nummer|number|numéro|número|numero|nr\.?|no\.?|n°|is|ist|est|es|è|to|auf|von|from|à|a|da|der|of|[:=]))?"
    r"(?:\s*(?:to|auf|from|von|[:=]))?\s*[\"'(]?\Z"
)
"""For words in small letters, as `ADDRESS_NEAR`: that is searched for faster than in any case."""
ADDRESS_NEAR: Final = re.compile(
    r"(?:\bip\b|\bipv[46]\b|\bip-|server|\bhost|adress|address|dirección|indirizzo|\bping|\bdns\b|gateway|://|"
    r"\blog(?:ged)? ?in|\bssh\b|router|\bnet(?:z|work)|réseau|\brete\b|\bred\b|\bport\b|client|connect|verbind|"
    r"connexion|conexión|connessione|remote|peer|firewall|subnet)"
)
MEASURED_AFTER: Final = re.compile(
    r"\s?(?:€|\$|£|¥|%|°|‰|µ|²|(?:eur|usd|chf|gbp|euros?|dollars?|pounds?|francs?|franken|km|kg|cm|mm|mb|gb|tb|kb|ms|"
    r"bytes?|hz|mhz|einwohner\w*|habitant\w*|abitanti|inhabitants|people|personen|personnes|personas|persone|stück|"
    r"units?|pieces|rows|zeilen|uhr|points?|punkte|puntos|punti)\b)",
    re.IGNORECASE,
)


def window_before(text: str, start: int) -> str:
    """The words before a place, as far as they may tell what stands there, in small letters."""
    return text[max(0, start - _BEFORE) : start].lower()


def phone_context(text: str, start: int, end: int) -> Said:
    """Whether the nearest word calls it a phone number or another one."""
    said = _nearest(window_before(text, start), _calls_a_phone)
    if said is Said.NOTHING and any(map(_calls_a_phone, _WORD.findall(text[end : end + _AFTER].lower()))):
        return Said.THIS
    return said


def card_context(text: str, start: int) -> Said:
    """Whether the nearest word before it calls it a card or another number."""
    return _nearest(window_before(text, start), _calls_a_card)


_calls_a_phone: Final = lru_cache(_WORDS_REMEMBERED)(_PHONE.has)
_calls_a_card: Final = lru_cache(_WORDS_REMEMBERED)(_CARD.has)
_calls_another: Final = lru_cache(_WORDS_REMEMBERED)(_OTHER.has)


def _nearest(window: str, this: Callable[[str], bool]) -> Said:
    words = [(one[0], one.end()) for one in _WORD.finditer(window)]
    for place in range(len(words) - 1, -1, -1):
        word, end = words[place]
        if this(word):
            return Said.THIS
        before = words[place - 1][0] if place else ""
        if this is _calls_a_phone and (
            (word in _NUMBER and before in _ONES_OWN) or (word == "me" and before == "text")
        ):
            return Said.THIS
        if _calls_another(word) or (word == "nr" and before in _ABBREVIATED):
            near = len(window) - end <= _OTHER_NEAR and not _SENTENCE_END.search(window, end)
            if near:
                return Said.OTHER
    return Said.NOTHING
