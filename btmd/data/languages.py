"""Which language a text is most likely in: by its letters, and for Latin ones by the small words of common languages.

Enough to tell that a dataset mixes languages, and cheap enough to look at every row. A text with too few small words, a
list of names or code, say, has no language rather than a wrong one.
"""

import re
from typing import Final

_LOOKED_AT_CHARS: Final = 300
_FEWEST_HITS: Final = 2
_LEAST_SHARE: Final = 0.12
"""Of a text's words: one in four or more is a small word in running text."""

_SMALL_WORDS: Final = {
    "en": "the and of to is that it was for with are this you not have be from they which an there what how by would "
    "on at his her she he him as or if but so we all will has had one more when who my your do did then them each",
    "de": "der die das und ist nicht ein eine zu den von mit sich des auf für dem im auch wird es wie wir ich oder",
    "fr": "le la les des et est une du que qui dans pour pas sur ce il avec au sont plus vous nous mais je elle cette",
    "es": "el los las y es una del que en por con para no se lo como más pero su al está son muy cuando qué yo hay",
    "it": "il gli di che è una per non con del della si sono anche come più ma nel alla dei questo ho perché io un lo",
    "pt": "o os as e é uma não do da em que para com por mais dos das se como mas ao foi ele são você um à sua nos",
    "nl": "het een van en is dat niet op te zijn voor met aan er maar om ook als dan deze wordt naar bij ik je hij nog",
    "pl": "i w nie na się z do jest to że co jak ale po tak za od czy dla ten już być są przez tylko jego o może",
    "sv": "och att det som en på är av för med den till inte om ett han var jag från vi så kan när ska eller sig du",
    "da": "og at det som en på er af for med den til ikke et han var jeg fra vi så kan når skal eller sig du har der",
    "cs": "a se na je že to v s z do jako ale by jsem pro jsou tak za po jak co nebo když který není už i o si",
    "tr": "ve bir bu da de için ile çok daha ne gibi ama var olarak mi kadar sonra o en ben olan ya hiç değil her mı",
    "ro": "și în a nu la cu de este pe care din o mai că un pentru sunt se ce ca am să fi dar sau prin după fost au",
    "fi": "ja on ei se että oli hän mutta kun ovat myös tai kuin niin jos minä mitä vain joka tämä siitä ole sen nyt",
    "hu": "a az és hogy nem egy is van ez azt csak de már volt még vagy mint ha ki meg el kell lesz én fel mert sem",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena ada mereka atau bisa oleh",
    "vi": "và của là không có được cho một trong những người với các đã khi này để đó thì cũng như tôi anh ra ở",
}
_LETTERS: Final = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("uk", re.compile(r"[іїєґІЇЄҐ]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
)
_BEYOND_LATIN: Final = re.compile(r"[\u0370-\u1fff\u3040-\ud7af]")


def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for language, words in _SMALL_WORDS.items():
        # A single letter is more often a variable or an initial.
        for word in {word for word in words.split() if len(word) > 1}:
            found[word] = (*found.get(word, ()), language)
    return found


_LANGUAGES_OF: Final = _by_word()


def language_of(text: str) -> str:
    """The likely language as two letters (ISO 639-1); empty where it cannot be told."""
    text = text[:_LOOKED_AT_CHARS]
    if not text.isascii():
        beyond = len(_BEYOND_LATIN.findall(text))
        if beyond * 3 > len(text.replace(" ", "")):
            return next((language for language, letters in _LETTERS if letters.search(text)), "")
    words = text.lower().split()
    hits: dict[str, float] = {}
    for word in words:
        languages = _LANGUAGES_OF.get(word)
        if languages is not None:
            # A word of many languages tells little.
            for language in languages:
                hits[language] = hits.get(language, 0) + 1 / len(languages)
    if not hits:
        return ""
    first, *others = sorted(hits.items(), key=lambda hit: -hit[1])
    clear = not others or first[1] >= 1.5 * others[0][1]
    return first[0] if clear and first[1] >= max(_FEWEST_HITS, _LEAST_SHARE * len(words)) else ""
