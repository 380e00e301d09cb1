"""Which language a message is written in (R2.6): by script, then by frequent words and letters. No library, no model.

Rather None than wrong: a greeting, a number or a list of products has no language. Looks at the first
``MAX_CHARS`` characters of the new words, so the time does not depend on the mail.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from gateway.normalize.language_words import LETTERS, WORDS

MAX_CHARS: Final = 4000
MIN_LETTERS: Final = 8
#: How many frequent words there must be, and how far the best must be ahead of the next.
MIN_SCORE: Final = 2.0
MIN_LEAD: Final = 0.4

_NOISE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|<[^<>\s]{1,200}>")
_NOISE_SIGNS: Final = ("@", "<", "://", "www.")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_SCRIPTS: Final = (
    ("kana", 0x3040, 0x30FF),
    ("kana", 0xFF66, 0xFF9D),
    ("han", 0x3400, 0x4DBF),
    ("han", 0x4E00, 0x9FFF),
    ("han", 0x20000, 0x3FFFF),
    ("hangul", 0xAC00, 0xD7AF),
    ("hangul", 0x1100, 0x11FF),
    ("hangul", 0x3130, 0x318F),
    ("cyrillic", 0x400, 0x52F),
    ("greek", 0x370, 0x3FF),
    ("greek", 0x1F00, 0x1FFF),
    ("hebrew", 0x590, 0x5FF),
    ("arabic", 0x600, 0x77F),
    ("arabic", 0xFB50, 0xFDFF),
    ("arabic", 0xFE70, 0xFEFF),
    ("thai", 0xE00, 0xE7F),
    ("devanagari", 0x900, 0x97F),
    ("bengali", 0x980, 0x9FF),
    ("gurmukhi", 0xA00, 0xA7F),
    ("gujarati", 0xA80, 0xAFF),
    ("tamil", 0xB80, 0xBFF),
    ("telugu", 0xC00, 0xC7F),
    ("kannada", 0xC80, 0xCFF),
    ("malayalam", 0xD00, 0xD7F),
    ("sinhala", 0xD80, 0xDFF),
    ("lao", 0xE80, 0xEFF),
    ("myanmar", 0x1000, 0x109F),
    ("georgian", 0x10A0, 0x10FF),
    ("armenian", 0x530, 0x58F),
    ("ethiopic", 0x1200, 0x137F),
    ("khmer", 0x1780, 0x17FF),
)
#: Scripts that one language of this business uses.
_SOLE: Final = {
    "greek": "el",
    "hebrew": "he",
    "thai": "th",
    "devanagari": "hi",
    "bengali": "bn",
    "gurmukhi": "pa",
    "gujarati": "gu",
    "tamil": "ta",
    "telugu": "te",
    "kannada": "kn",
    "malayalam": "ml",
    "sinhala": "si",
    "lao": "lo",
    "myanmar": "my",
    "georgian": "ka",
    "armenian": "hy",
    "ethiopic": "am",
    "khmer": "km",
    "hangul": "ko",
}
#: What must not be in a text for all its letters to be of that script.
_ALONE: Final = (
    ("latin", re.compile("[\u0370-\u1dff\u1f00-\u1fff\u2c00-\U0010ffff]")),
    ("cyrillic", re.compile("[A-Za-zªµº\xc0-\u03ff\u0530-\u1fff\u2071\u207f-\u20ff\u2100-\U0010ffff]")),
)
_CYRILLIC: Final = frozenset({"ru", "uk", "bg", "sr", "mk"})
_FREQUENT: Final = {language: frozenset(text.casefold().split()) for language, text in WORDS.items()}
_CLAIMS: Final[dict[str, list[str]]] = {}
for _language, _words in _FREQUENT.items():
    for _word in _words:
        _CLAIMS.setdefault(_word, []).append(_language)
#: Word -> its languages and what it counts for each: a word of few languages counts more.
_POINTS: Final = {word: (tuple(claims), 0.4 + 1.6 / len(claims)) for word, claims in _CLAIMS.items()}
_LANGUAGES_OF_LETTER: Final[dict[str, tuple[str, ...]]] = {
    letter: tuple(language for language, letters in LETTERS.items() if letter in letters)
    for letter in "".join(LETTERS.values())
}
_LETTER: Final = re.compile(f"[{''.join(_LANGUAGES_OF_LETTER)}]")
#: Pairs so close that the plain one is named when nothing else decides.
_PLAIN: Final = {frozenset({"id", "ms"}): "id", frozenset({"no", "da"}): "da", frozenset({"nl", "af"}): "nl"}


def detect(text: str) -> str | None:
    """Return the ISO 639-1 code of the language, or None when the text is too short or the case unclear."""
    sample = text[:MAX_CHARS]
    if any(sign in sample for sign in _NOISE_SIGNS):
        sample = _NOISE.sub(" ", sample)
    script, count, total, has_kana = _script(sample)
    if not total:
        return None
    if has_kana:
        return "ja" if total >= 4 else None
    if script == "han":
        return "zh" if count >= 4 and count * 3 > total else None
    if script in _SOLE:
        return _SOLE[script] if count >= 4 and count * 2 > total else None
    if total < MIN_LETTERS:
        return None
    if script == "arabic":
        return _tell_arabic(sample)
    if script == "cyrillic":
        return _by_words(sample, _CYRILLIC, is_cyrillic=True)
    return _by_words(sample, None, is_cyrillic=False)


def _script(sample: str) -> tuple[str, int, int, bool]:
    """Return the main script, its letters, all letters, and whether enough of them are kana.

    Where one script is alone, which is the rule, the letters are only counted as far as anybody asks.
    """
    for name, others in _ALONE:
        if others.search(sample) is None:
            letters = sum(map(str.isalpha, sample[: 4 * MIN_LETTERS]))
            if letters < MIN_LETTERS:
                letters = sum(map(str.isalpha, sample))
            return name, letters, letters, False
    scripts = _count_scripts(sample)
    total = sum(scripts.values())
    script, count = scripts.most_common(1)[0] if scripts else ("", 0)
    return script, count, total, scripts["kana"] >= 2 and scripts["kana"] * 12 > total


def _count_scripts(sample: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for char, number in Counter(sample).items():
        if char.isdecimal() or not (char.isalpha() or 0x900 <= ord(char) <= 0xE7F):
            continue
        point = ord(char)
        # two letters of Latin weigh as one of a script that writes a word in one or two signs
        counts[next((name for name, low, high in _SCRIPTS if low <= point <= high), "latin")] += number
    return counts


def _tell_arabic(sample: str) -> str:
    if any(letter in sample for letter in "ٹڈڑے"):
        return "ur"
    return "fa" if any(letter in sample for letter in "پچژگکی") and "ي" not in sample and "ة" not in sample else "ar"


def _by_words(sample: str, allowed: frozenset[str] | None, *, is_cyrillic: bool) -> str | None:
    """Score each language by its frequent words (a word of few languages counts more) and by its own letters."""
    folded = sample.casefold()
    words = _WORD.findall(folded.replace("’", "'"))
    scores: Counter[str] = Counter()
    points: dict[str, float] = {}
    hits: Counter[str] = Counter()
    for word, times in Counter(words).items():
        if word in _POINTS:
            languages, weight = _POINTS[word]
            for language in languages:
                if allowed is None or language in allowed:
                    points[language] = points.get(language, 0.0) + weight * times
                    hits[language] += times
    for letter, number in Counter(_LETTER.findall(folded)).items():
        languages = _LANGUAGES_OF_LETTER[letter]
        for language in languages:
            if (allowed is None or language in allowed) and (language in points or is_cyrillic or number > 1):
                points[language] = points.get(language, 0.0) + min(number, 4) * 1.2 / len(languages)
    scores.update({language: round(score * 100) for language, score in points.items()})
    if not scores:
        return None
    ranked = scores.most_common(2)
    best, score = ranked[0][0], ranked[0][1] / 100
    second = ranked[1][1] / 100 if len(ranked) > 1 else 0.0
    if score < MIN_SCORE or (len(words) > 12 and hits[best] * 12 < len(words)):
        return None
    if score - second < MIN_LEAD:
        return _PLAIN.get(frozenset({best, ranked[1][0]})) if score > 2 * MIN_SCORE else None
    return best
