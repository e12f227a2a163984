"""What the words around a number say of it, in five languages."""

import re
from enum import Enum
from typing import Final

_BEFORE: Final = 60
_AFTER: Final = 28
_OTHER_NEAR: Final = 34


class Said(Enum):
    """What a number is called: what is looked for, something else, or nothing."""

    THIS = "this"
    OTHER = "other"
    NOTHING = "nothing"


# Words for other numbers; parts of compound words count, or Bestellnummer would not.
_OTHER: Final = re.compile(
    r"(?:bestell|auftrag|rechnung|kunden|artikel|sendung|vorgang|vertrag|serien|liefer|lager|inventar|mitglied|"
    r"referenz|aktenzeichen|kennzeichen|kennung|steuer|konto\b|kontonummer|police|buchung|paket|teile|material|"
    r"matrikel|seriennr|chargen|fahrgestell|losnummer|barcode|strichcode|prüfsumme|zähler|postfach|plz|"
    r"\border|\binvoice|\bcustomer|\bref\b|\breference|\bticket|\bcase|\barticle|\bitem|\bsku\b|\bserial|\bpart\b|"
    r"\btracking|\bparcel|\bshipment|\bisbn|\bissn|\bean\b|\bgtin|\bupc\b|\baccount|\bbatch|\bmodel\b|\bproduct|"
    r"\bmember|\bbooking|\bpolicy|\bcontract|\bcheckout|\btransaction|\bbuild\b|\brevision|\bcommit|\bchecksum|"
    r"\btimestamp|\bzip\b|\bdoi\b|\brfc\b|\bpatent|\bbarcode|\blicen[cs]e|\basset|\bpo\b|"
    r"\bcommande|\bfacture|\bclient|\bréférence|\bcolis|\bsuivi|\bdossier|\bcontrat|\bsérie|\bproduit|\blot\b|"
    r"\badhérent|\bréservation|\bpedido|\bfactura|\breferencia|\bartículo|\balbarán|\bcliente|\bserie\b|\benvío|"
    r"\bseguimiento|\bexpediente|\bcontrato|\bproducto|\blote\b|\bsocio|\breserva|\bordine|\bfattura|\briferimento|"
    r"\barticolo|\bspedizione|\bpratica|\bcontratto|\bprodotto|\blotto\b|\bmatricola|\bprenotazione|\bpacco|"
    r"\bmatrícula|\bcódigo|\bcodice|\bcode\b|\bust-?id|\bvat\b|\bsiret|\bsiren|\bpartita iva|\bid\b|\bid-|\buid\b|"
    r"\bnif\b|\bcif\b|#|§|artikelnr|art\.-?nr|best\.-?nr|kd\.-?nr|rg\.-?nr|re\.-?nr)",
    re.IGNORECASE,
)
_PHONE: Final = re.compile(
    r"(?:telefon|rufnummer|handy|mobil|\bmobile|anruf|rückruf|\bruf(?:en|t|e|st)?\b|erreich|durchwahl|\bfax|"
    r"\btel\b|\btél|\btelf?\.|\bphone|whats\s?app|\bsms\b|\bcall|\bcell\b|\bcellphone|\bdial|\bring\b|\bhotline|"
    r"\btext me|\breach (?:me|us|him|her)|\bcontact|\bcontatt|\bkontakt|signal\b|"
    r"\btéléphone|\br?appel|\bjoindre|\bjoignable|\bportable|\bteléfono|\bmóvil|\bll[aá]m|\bcelular|\blocali[zc]|"
    r"\btelefono|\bcellulare|\b(?:ri)?chiam|\bcell\.|\brecapito|\bsquill|"
    r"\b(?:my|his|her|our) number|\bmeine nummer|\bmon numéro|\bmi número|\bmio numero|☎|📞|📱|✆)",
    re.IGNORECASE,
)
_CARD: Final = re.compile(
    r"(?:karte|\bcard|\bcarte\b|\bcarta\b|\btarjeta|visa\b|master\s?card|amex|american express|maestro|diners|"
    r"discover\b|jcb\b|payment|\bpaid\b|zahlung|bezahl|abbuch|\bpaiement|\bpay[ée]|\bpago|\bpag[ao]|\bcharge|addebit|\bd[ée]bit|\bcarg[aou]|union\s?pay|\bkredit|\bcredit|\bcrédit|\bcrédito|\bcredito|\bpan\b|\bcc\b)",
    re.IGNORECASE,
)
_SENTENCE_END: Final = re.compile(r"[.!?]\s+(?=[^\W\d_])|\n")
VERSION_BEFORE: Final = re.compile(
    r"(?:versio[a-zé]*|versión|\bver|\bv|\brelease[ds]?|\bbuild|firmware|driver|treiber|\bpatch(?:ed)?|\brev(?:ision)?|"
    r"kapitel|abschnitt|section|chapter|chapitre|sección|capítulo|sezione|capitolo|paragraph|absatz|clause|ziffer|"
    r"fassung|§+|\bpunkt|\bupdate|\bupgraded?|aktualisiert|python|node|java|sdk|library|package|paket)\.?"
    r"(?:\s*(?:nummer|number|numéro|número|numero|nr\.?|no\.?|n°|is|ist|est|es|è|to|auf|von|from|à|a|da|der|of|[:=]))?"
    r"(?:\s*(?:to|auf|from|von|[:=]))?\s*[\"'(]?\Z",
    re.IGNORECASE,
)
ADDRESS_BEFORE: Final = re.compile(
    r"(?:\bip\b|\bipv[46]\b|\bip-|server|\bhost|adress|address|dirección|indirizzo|\bping|\bdns\b|gateway|://|"
    r"\blog(?:ged)? ?in|\bssh\b|router|\bnet(?:z|work)|réseau|\brete\b|\bred\b|\bport\b|client|connect|verbind|"
    r"connexion|conexión|connessione|remote|peer|firewall|subnet)",
    re.IGNORECASE,
)
MEASURED_AFTER: Final = re.compile(
    r"\s?(?:€|\$|£|¥|%|°|‰|µ|²|(?:eur|usd|chf|gbp|euros?|dollars?|pounds?|francs?|franken|km|kg|cm|mm|mb|gb|tb|kb|ms|"
    r"bytes?|hz|mhz|einwohner\w*|habitant\w*|abitanti|inhabitants|people|personen|personnes|personas|persone|stück|"
    r"units?|pieces|rows|zeilen|uhr|points?|punkte|puntos|punti)\b)",
    re.IGNORECASE,
)


def window_before(text: str, start: int) -> str:
    """The words before a place, as far as they may tell what stands there."""
    return text[max(0, start - _BEFORE) : start]


def phone_context(text: str, start: int, end: int) -> Said:
    """Whether the nearest word calls it a phone number or another one."""
    said = _nearest(window_before(text, start), _PHONE)
    if said is Said.NOTHING and _PHONE.search(text[end : end + _AFTER]):
        return Said.THIS
    return said


def card_context(text: str, start: int) -> Said:
    """Whether the nearest word before it calls it a card or another number."""
    return _nearest(window_before(text, start), _CARD)


def _nearest(window: str, this: re.Pattern[str]) -> Said:
    here = max((one.end() for one in this.finditer(window)), default=-1)
    other = max((one.end() for one in _OTHER.finditer(window)), default=-1)
    if other > here and len(window) - other <= _OTHER_NEAR and not _SENTENCE_END.search(window, other):
        return Said.OTHER
    return Said.THIS if here >= 0 else Said.NOTHING
