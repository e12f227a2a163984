"""What is personal data and what only looks like it, one by one."""

import pytest

from btmd.privacy.detectors import Detectors


def found(text: str, **options: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in sorted(Detectors(**options).find(text))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to bob.smith+x@example.co.uk.", [("email", "bob.smith+x@example.co.uk")]),
        ("*Bob@Example.com*, 'eve@example.org'", [("email", "Bob@Example.com"), ("email", "eve@example.org")]),
        ("anna (at) firma (punkt) de", [("email", "anna (at) firma (punkt) de")]),
        ("jörg@müller.de ist neu", [("email", "jörg@müller.de")]),
        ("Rufen Sie 0171 1234567 an", [("phone", "0171 1234567")]),
        ("Rufen Sie uns unter +49 (0)30/901820-0 an", [("phone", "+49 (0)30/901820-0")]),
        ("Appelez le 06 12 34 56 78 svp", [("phone", "06 12 34 56 78")]),
        ("Appelez-moi au 06-12-34-56-78", [("phone", "06-12-34-56-78")]),
        ("mi número es el 612 345 678", [("phone", "612 345 678")]),
        ("il mio numero è 345 1234567", [("phone", "345 1234567")]),
        ("My number is (212) 555-0187 x12", [("phone", "(212) 555-0187 x12")]),
        ("Ring me on 020 7946 0018, please", [("phone", "020 7946 0018")]),
        ("15.01.2024 0171 1234567", [("phone", "0171 1234567")]),
        ("Tel. 030 7654321 / 0171 1234567", [("phone", "030 7654321"), ("phone", "0171 1234567")]),
        ("Card 4111 1111 1111 1111 exp 12/26", [("card", "4111 1111 1111 1111")]),
        ("paid with 378282246310005", [("card", "378282246310005")]),
        ("DE89 3704 0044 0532 0130 00 bei der Bank", [("iban", "DE89 3704 0044 0532 0130 00")]),
        ("gb82west12345698765432", [("iban", "gb82west12345698765432")]),
        ("Login from 203.0.113.77:4711", [("ip", "203.0.113.77")]),
        ("http://198.51.100.4/index", [("ip", "198.51.100.4")]),
        ("peer 2001:db8::8a2e:370:7334 left", [("ip", "2001:db8::8a2e:370:7334")]),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", [("key", "ghp_abcdefghijklmnopqrstuvwxyz0123456789")]),
        ("password: hunter2!", [("key", "hunter2!")]),
        ("DB_PASSWORD_PROD=xK9mP2vL", [("key", "xK9mP2vL")]),
        ("client_ip=203.0.113.77", [("ip", "203.0.113.77")]),
        ("8.8.8.8 is a DNS server", [("ip", "8.8.8.8")]),
        ("Otto;0171 7654321;Ulm", [("phone", "0171 7654321")]),
        ("Das Passwort lautet Sommer2026", [("key", "Sommer2026")]),
        ("https://bob:geheim1@example.com/x", [("key", "bob:geheim1")]),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123_-",
            [("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123_-")],
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nend",
            [("key", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----")],
        ),
    ],
)
def test_personal_data_is_found_as_it_is_written(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "logo@2x.png and left-pad@1.3.0",
        "git clone git@github.com:owner/name.git",
        "thanks @alice, see #4711",
        "Bestellnummer 0301234567",
        "Kundennummer: 030 1234567",
        "order no. 555-123-4567",
        "Tracking number 0171 1234567",
        "on 2024-01-15 10:30, not 01.02.2024",
        "ISBN 978-3-16-148410-0 or 0-306-40615-2",
        "It costs 612 345 678 €, that is 1.234.567,89 €",
        "La ciudad tiene 612 345 678 habitantes",
        "52.520008, 13.404954 and -33.8688, 151.2093",
        "Boston, MA 02110-1301, USA",
        "0900-0130 hours, then 0123456789",
        "x = 69069 + 907133923",
        "Artikelnummer 4111111111111111",
        "card 4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01",
        "seit Version 192.0.2.1 und nginx/198.51.100.4",
        "release 4.3.2.1 of 1.2.3.4",
        "127.0.0.1, 0.0.0.0, 255.255.255.0 and ::1",
        "std::vector, a::b, 12:30:45, 00:1A:2B:3C:4D:5E",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "sha512-7nkYTMbYj8FJpZCoLpTC0IdeDIk3AXkfyhGyrXOJ1uEhe8zW2zr5fRJXaN1Oz2Fs",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "the password is required and must be long; tokens: 512",
        "key_1=value2&key_2=value3",
        "thisIsAVeryLongCamelCaseIdentifierName2WithDigits",
        "Lottozahlen 03 12 24 33 41 49",
        "Donaudampfschifffahrtsgesellschaftskapitän",
        "",
    ],
)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert found(text) == []


def test_spellings_of_one_number_have_one_form() -> None:
    text = "Rufen Sie an: 0171 1234567, +49 171 123 45 67, 0049-171-1234567, +49 (0) 171/1234567"
    values = {one.value for one in Detectors().find(text)}
    assert values == {"+491711234567"}
    assert {one.value for one in Detectors().find("Bob@Example.com, bob (at) example.com")} == {"bob@example.com"}
    assert len({one.value for one in Detectors().find("2001:db8::1:2:3, 2001:0DB8:0:0:0:1:2:3 are hosts")}) == 1


@pytest.mark.parametrize(
    "word",
    [
        "api key",
        "access key",
        "private key",
        "secret key",
        "account-key",
        "encryption_key",
        "key",
        "secret",
        "token",
        "bearer",
        "credential",
        "credentials",
        "authorization",
        "password",
        "passphrase",
        "passwd",
        "passwort",
        "pwd",
        "kennwort",
        "schlüssel",
        "mot de passe",
        "clé",
        "clé api",
        "jeton",
        "contraseña",
        "clave",
        "clave secreta",
        "chiave",
        "chiave segreta",
        "parola d'ordine",
    ],
)
def test_every_word_for_a_key_tells_of_the_one_behind_it(word: str) -> None:
    value = "q7Zt_w2Kd9-xV4bn1RmP"
    for written in (word, word.upper(), word.capitalize()):
        assert found(f"1) {written}: {value}") == [("key", value)]


@pytest.mark.parametrize(
    "address", ["2001:db8:1:2:3:4:5:6", "1:2:3:4:5:6:203.0.113.9", "::ffff:203.0.113.9", "fe80::1a2b"]
)
def test_an_address_of_the_sixth_version_is_found_in_each_of_its_forms(address: str) -> None:
    assert found(f"the host {address} answers") == [("ip", address)]


def test_a_region_tells_how_numbers_are_written() -> None:
    assert found("Nr 8: 612 345 678 xyz") == []
    assert found("Nr 8: 612 345 678 xyz", regions=("ES",)) == [("phone", "612 345 678")]


def test_a_long_text_takes_time_in_proportion() -> None:
    # Each would take minutes if a detector went back and forth over it.
    for piece in (
        "1 2 3 4 5 6 7 8 9 0 ",
        "a" * 50,
        "1.2.3.4.5.",
        "0171-",
        "AB12 ",
        "x@y.",
        "aa:",
        "key=",
        "(at)",
        "a@b.de +49 30 901820 ",
    ):
        Detectors().find(piece * (60_000 // len(piece)))
