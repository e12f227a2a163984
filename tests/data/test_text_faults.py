"""Damage is told by the texts that have it, and not by those that only look so."""

import pytest

from btmd.data.languages import language_of
from btmd.data.text_faults import damage_of, has_wrong_line_ends, is_placeholder, looks_cut_off, repeats_question


@pytest.mark.parametrize(
    "text",
    [
        "Müller grüßt",
        "Il a été reçu à l'école",
        "el niño está aquí",
        "it’s “quoted”",
        "5 € per kilo",
        "price: £20",
        "pří­liš žluťoučký kůň",
        "a 😀 smile",
    ],
)
def test_text_read_in_a_wrong_encoding_is_told_and_the_right_one_is_not(text: str) -> None:
    assert damage_of(text) == ""
    assert damage_of(text.encode().decode("latin-1")) in ("mojibake", "control_characters")
    try:
        seen = text.encode().decode("cp1252")
    except UnicodeDecodeError:
        return
    assert damage_of(seen) == "mojibake"


def test_russian_read_as_western_is_told() -> None:
    assert damage_of("привет, как дела".encode().decode("latin-1")) == "mojibake"


@pytest.mark.parametrize(
    "text",
    [
        "SÃO PAULO NÃO É LONGE, CORAÇÃO",
        "CAFÉ™ and Nestlé®",
        "ÂGE et Âme",
        "Ä, Ö and Ü are letters",
        "naïve façade, Ångström, Þór",
        "20 °C ± 3, ½ cup, §4 «oui»",
        "Đặng Thị Ngọc Thịnh, Âu Cơ",
        "x² + y² ≤ r²",
    ],
)
def test_western_letters_are_no_damage(text: str) -> None:
    assert damage_of(text) == ""


def test_lost_characters_and_control_characters_are_damage() -> None:
    assert damage_of("M\ufffdller") == "lost_characters"
    assert damage_of("a\x00b") == "control_characters"
    assert damage_of("a\tb\nc\x1b[0m") == ""


def test_wrong_line_ends() -> None:
    assert has_wrong_line_ends("one\r\ntwo")
    assert has_wrong_line_ends("one\rtwo")
    assert has_wrong_line_ends(r"First line\nSecond line\nThird line")
    assert not has_wrong_line_ends("one\ntwo")
    assert not has_wrong_line_ends(r"Use \n to begin a new line.")
    assert not has_wrong_line_ends('print("a\\nb")\nprint("c\\nd\\n")')


@pytest.mark.parametrize("answer", ["N/A", " none ", "-", "...", "???", "TODO", "null", "—"])
def test_answers_that_stand_for_a_missing_one(answer: str) -> None:
    assert is_placeholder(answer)


@pytest.mark.parametrize("answer", ["No", "7", "B", "是", "👍", "None of them.", "x", "→"])
def test_short_answers_are_answers(answer: str) -> None:
    assert not is_placeholder(answer)


SENTENCE = "The harbour master of the old town writes down each evening which boats came in and what"


@pytest.mark.parametrize("end", [" they had", ", ", " and", " the", " they had caught (cod,"])
def test_answers_that_break_off(end: str) -> None:
    assert looks_cut_off(SENTENCE + end)


def test_a_code_block_that_is_never_closed_is_cut_off() -> None:
    code = "Here is a function that does what you asked for:\n```python\nfor number in range(10):\n    print(number)"
    assert looks_cut_off(code)
    assert not looks_cut_off(code + "\n```")


@pytest.mark.parametrize(
    "answer",
    [
        SENTENCE + " they caught.",
        SENTENCE + " they caught!”",
        SENTENCE + " they caught:\n- cod\n- herring and mackerel",
        SENTENCE + " they caught.\n#### 72",
        SENTENCE + " they caught…",
        "Dear Ms. Miller,\n\n" + SENTENCE + " they caught.\n\nKind regards\nThe harbour master",
        "Yes and",
        "SELECT name FROM boats WHERE harbour = 'old town' AND caught > 20 ORDER BY name;\n-- sorted by name",
        SENTENCE.replace(" ", "\n"),
        "Paris",
    ],
)
def test_answers_that_end_where_they_should(answer: str) -> None:
    assert not looks_cut_off(answer)


def test_an_answer_that_repeats_the_question() -> None:
    question = "What is the capital of France?"
    assert repeats_question(question, "what is the capital of france")
    assert repeats_question(question, "What is the capital of France? Paris")
    assert not repeats_question(question, "The capital of France is Paris.")
    assert not repeats_question(question, "What is the capital of France? It is Paris, on the Seine, since 987.")
    assert not repeats_question("Say yes", "Say yes")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The boats that came in this evening are from the old town, and they have caught a lot."),
        ("de", "Die Boote sind heute Abend aus der alten Stadt gekommen und haben nicht viel gefangen."),
        ("fr", "Les bateaux sont rentrés ce soir dans le port et les pêcheurs ne sont pas contents de la pêche."),
        ("es", "Los barcos llegaron esta noche al puerto y los pescadores no están contentos con la pesca del día."),
        ("it", "Le barche sono arrivate nel porto questa sera e i pescatori non sono contenti della pesca."),
        ("pt", "Os barcos chegaram esta noite ao porto e os pescadores não estão contentes com a pesca do dia."),
        (
            "nl",
            "De boten zijn vanavond in de haven aangekomen en de vissers zijn niet tevreden met het werk.",
        ),
        (
            "pl",
            "Łodzie wróciły do portu wieczorem i rybacy nie są zadowoleni, że tak mało jest ryb.",
        ),
        ("sv", "Båtarna kom till hamnen på kvällen och fiskarna är inte nöjda med det som de fick för dagen."),
        ("ru", "Лодки вернулись в порт вечером, и рыбаки недовольны."),
        ("uk", "Човни повернулися в порт увечері, і рибалки незадоволені їхнім уловом."),
        ("ja", "船は夕方に港に戻り、漁師たちは満足していません。"),
        ("zh", "渔船晚上回到港口,渔民们并不满意。"),
        ("ko", "배들이 저녁에 항구로 돌아왔고 어부들은 만족하지 않았다."),
        ("ar", "عادت القوارب إلى الميناء في المساء والصيادون غير راضين."),
        ("", "for i in range(10): print(i * i)"),
        ("", "Paris, London, Rome"),
        ("", ""),
        ("", "42"),
    ],
)
def test_languages(language: str, text: str) -> None:
    assert language_of(text) == language


def test_an_english_text_with_foreign_names_stays_english() -> None:
    text = "The film El Niño de la Luna by Agustí Villaronga was shown in Cannes, and it was not what they hoped for."
    assert language_of(text) == "en"
