"""The phrasebook's German, checked against what a grammar book says rather than against our own tables."""

import re

import pytest

from transformer.data.phrasebook import Pair, corpus, inflection, pairs, people, things, times, verbs
from transformer.data.phrasebook.numbers import (
    english_cardinal,
    english_ordinal,
    german_cardinal,
    german_ordinal,
)

# Written out here once more, so that a slip in the package's tables shows.
GERMAN_TO_TWELVE = [
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
]
GERMAN_NUMBERS = {
    13: "dreizehn",
    16: "sechzehn",
    17: "siebzehn",
    20: "zwanzig",
    21: "einundzwanzig",
    30: "dreißig",
    32: "zweiunddreißig",
    47: "siebenundvierzig",
    60: "sechzig",
    66: "sechsundsechzig",
    70: "siebzig",
    77: "siebenundsiebzig",
    99: "neunundneunzig",
    100: "hundert",
    101: "hunderteins",
    112: "hundertzwölf",
    340: "dreihundertvierzig",
    621: "sechshunderteinundzwanzig",
    999: "neunhundertneunundneunzig",
}


@pytest.fixture(scope="module")
def book() -> list[Pair]:
    return pairs("train", 300 * len(corpus.FRAMES))


def translations(book: list[Pair], pattern: str) -> list[tuple[re.Match[str], Pair]]:
    """The pairs whose source matches; at least twenty, so that no check passes for want of sentences."""
    found = [(match, pair) for pair in book if (match := re.search(pattern, pair.source))]
    assert len(found) >= 20, pattern
    return found


def test_german_numbers_by_a_list():
    assert [german_cardinal(number) for number in range(13)] == GERMAN_TO_TWELVE
    for number, word in GERMAN_NUMBERS.items():
        assert german_cardinal(number) == word


def test_german_numbers_say_units_before_tens():
    for number in range(21, 100):
        tens, units = divmod(number, 10)
        if units:
            unit = "ein" if units == 1 else GERMAN_TO_TWELVE[units]
            assert german_cardinal(number) == unit + "und" + german_cardinal(10 * tens)


def test_german_numbers_put_hundreds_first():
    for number in range(200, 1000):
        hundreds, rest = divmod(number, 100)
        tail = german_cardinal(rest) if rest else ""
        assert german_cardinal(number) == GERMAN_TO_TWELVE[hundreds] + "hundert" + tail
    assert len({german_cardinal(number) for number in range(1000)}) == 1000


@pytest.mark.parametrize("number", [-1, 1000])
def test_numbers_outside_the_range_are_refused(number):
    for say in (german_cardinal, english_cardinal, german_ordinal, english_ordinal):
        with pytest.raises(ValueError, match=f"number = {number}: give a number from"):
            say(number)


def test_english_numbers():
    assert english_cardinal(0) == "zero"
    assert english_cardinal(14) == "fourteen"
    assert english_cardinal(40) == "forty"
    assert english_cardinal(85) == "eighty-five"
    assert english_cardinal(300) == "three hundred"
    assert english_cardinal(508) == "five hundred and eight"
    assert [english_ordinal(n) for n in (1, 3, 5, 12, 20, 22, 30)] == (
        ["first", "third", "fifth", "twelfth", "twentieth", "twenty-second", "thirtieth"]
    )


def test_german_ordinals():
    stems = {
        1: "erst",
        2: "zweit",
        3: "dritt",
        7: "siebt",
        8: "acht",
        16: "sechzehnt",
        19: "neunzehnt",
        20: "zwanzigst",
    }
    for number, stem in stems.items():
        assert german_ordinal(number) == stem
    assert german_ordinal(21) == "einundzwanzigst"
    assert german_ordinal(31) == "einunddreißigst"


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german"),
    [
        (1, 0, "one o'clock", "ein Uhr"),
        (1, 5, "five past one", "fünf nach eins"),
        (7, 15, "quarter past seven", "Viertel nach sieben"),
        (7, 25, "twenty-five past seven", "fünf vor halb acht"),
        (7, 30, "half past seven", "halb acht"),
        (7, 35, "twenty-five to eight", "fünf nach halb acht"),
        (12, 30, "half past twelve", "halb eins"),
        (12, 45, "quarter to one", "Viertel vor eins"),
    ],
)
def test_clock(hour, minute, english, german):
    time = times.clock(hour, minute)
    assert (time.english, time.german) == (english, german)


def test_clock_refuses_what_it_cannot_say():
    for hour, minute in ((0, 30), (13, 0), (5, 7)):
        with pytest.raises(ValueError, match="give an hour from 1 to 12 and minutes in steps of five"):
            times.clock(hour, minute)


@pytest.mark.parametrize(
    ("article", "noun", "english", "forms"),
    [
        (inflection.A, things.UMBRELLA, "an old umbrella", "ein alter / einen alten / einem alten Regenschirm"),
        (inflection.A, things.BAG, "an old bag", "eine alte / eine alte / einer alten Tasche"),
        (inflection.A, things.BOOK, "an old book", "ein altes / ein altes / einem alten Buch"),
        (inflection.THE, things.COAT, "the old coat", "der alte / den alten / dem alten Mantel"),
        (inflection.THE, things.LAMP, "the old lamp", "die alte / die alte / der alten Lampe"),
        (inflection.THE, things.SHIRT, "the old shirt", "das alte / das alte / dem alten Hemd"),
        (inflection.OUR, things.TABLE, "our old table", "unser alter / unseren alten / unserem alten Tisch"),
        (inflection.HER, things.JACKET, "her old jacket", "ihre alte / ihre alte / ihrer alten Jacke"),
        (inflection.NO, things.RADIO, "an old radio", "kein altes / kein altes / keinem alten Radio"),
    ],
)
def test_articles_and_adjectives_agree(article, noun, english, forms):
    phrase = inflection.noun_phrase(article, noun, things.OLD)
    *beginnings, last = forms.split(" / ")
    last, name = last.rsplit(" ", 1)
    assert phrase.english == english
    assert [phrase.nominative, phrase.accusative, phrase.dative] == [f"{form} {name}" for form in (*beginnings, last)]


def test_persons_in_three_cases():
    forms = {(person.nominative, person.accusative, person.dative) for person in people.OBJECTS}
    assert {
        ("ich", "mich", "mir"),
        ("er", "ihn", "ihm"),
        ("sie", "sie", "ihr"),
        ("wir", "uns", "uns"),
        ("sie", "sie", "ihnen"),
        ("Herr Weber", "Herrn Weber", "Herrn Weber"),
        ("die Kinder", "die Kinder", "den Kindern"),
        ("mein Onkel", "meinen Onkel", "meinem Onkel"),
        ("deine Tante", "deine Tante", "deiner Tante"),
    } <= forms


def test_nobody_acts_on_themselves():
    for couple in people.COUPLES:
        assert couple.subject.head != couple.other.head
        assert (couple.subject.pronoun, couple.other.english) not in {("I", "we"), ("we", "I"), ("he", "they")}


def test_possessive_agrees_after_her_and_their(book):
    """English her and their are one German word; its ending is the noun's."""
    for _, pair in translations(book, r"\bbelongs to (her|their) (son|brother|father|uncle|grandfather)\b"):
        assert " gehört ihrem " in pair.target
    for _, pair in translations(book, r"\bbelongs to (her|their) (sister|mother|aunt|grandmother|daughter)\b"):
        assert " gehört ihrer " in pair.target


def test_adjective_alone_keeps_the_gender_of_its_noun(book):
    endings = {"suitcase": "einen ..+en", "bag": "eine ..+e", "book": "ein ..+es", "shelf": "ein ..+es"}
    for match, pair in translations(book, r"a \w+ (suitcase|bag|book|shelf), but .* one\.$"):
        assert re.search(rf"aber .* {endings[match[1]]}\.$", pair.target), pair


def test_pronoun_has_the_gender_of_its_noun(book):
    pronouns = {"coat": "er", "suitcase": "er", "table": "er", "bag": "sie", "lamp": "sie", "book": "es", "sofa": "es"}
    for match, pair in translations(book, rf"({'|'.join(pronouns)}) in \w+ because it was"):
        assert f", weil {pronouns[match[1]]} " in pair.target


def test_place_takes_dative_for_being_and_accusative_for_putting(book):
    for match, pair in translations(
        book, r"( is|put) .* (?:next to|behind|in front of) the \w+ (sofa|shelf|window)\.$"
    ):
        article = "dem" if match[1] == " is" else "das"
        assert re.search(rf" (neben|hinter|vor) {article} \w+en? (Sofa|Regal|Fenster)\.$", pair.target), pair


SEPARABLE = [
    # English, prefix, finite forms, infinitive and participle without the prefix
    (r"\b(?:call|calls|called)\b", "an", "rufe|rufst|ruft|rufen|ruf", "rufen", "gerufen"),
    (r"\b(?:pick|picked) .* up\b", "ab", "hole|holst|holt|holen|hol", "holen", "geholt"),
    (r"\binvite\b", "ein", "lade|lädst|lädt|laden", "laden", "geladen"),
    (r"\b(?:bring|brought) .* along\b", "mit", "bringe|bringst|bringt|bringen", "bringen", "gebracht"),
    (r"\b(?:take|took) .* along\b", "mit", "nehme|nimmst|nimmt|nehmen", "nehmen", "genommen"),
    (r"\b(?:give|gave) .* back\b", "zurück", "gebe|gibst|gibt|geben", "geben", "gegeben"),
    (r"\b(?:takes place)\b", "statt", "findet", "finden", "gefunden"),
]


@pytest.mark.parametrize(("english", "prefix", "finite", "infinitive", "participle"), SEPARABLE)
def test_separable_prefix_stands_last_or_is_attached(book, english, prefix, finite, infinitive, participle):
    """Alone at the end of a main clause; in front of its verb, which closes the clause, everywhere else."""
    parted = rf"(?i)\b({finite}) ([^,]* )?{prefix}(?=[.?,]|$)"
    closed = rf" ({prefix}({finite})|{prefix}zu{infinitive}|{prefix}({infinitive}|{participle})( \w+)?)(?=[.?,]|$)"
    for _, pair in translations(book, english):
        if "perfect tense" in pair.phenomena:
            assert re.search(rf" {prefix}{participle}[.?]$", pair.target), pair
        elif re.search(rf"\b(that|whether|when|why) .*{english}", pair.source):
            assert re.search(rf", (dass|ob|wann|warum) [^,]* {prefix}({finite})[.?]$", pair.target), pair
        else:
            assert bool(re.search(parted, pair.target)) != bool(re.search(closed, pair.target)), pair


def test_modal_verb_sends_the_infinitive_to_the_end(book):
    for _, pair in translations(book, r"^(?:Can|May|Should) (?!you tell).*\bcall\b"):
        assert re.search(r"^(Kann|Kannst|Können|Darf|Darfst|Dürfen|Sollte|Solltest|Sollten) .* anrufen\?$", pair.target)


def test_negated_modals_keep_their_meaning(book):
    german = {
        "must not": "darf|darfst|dürfen",
        "does not have to": "muss",
        "should not": "sollte|solltest|sollten",
        "cannot": "kann|kannst|können",
        "does not want to": "will",
    }
    for match, pair in translations(book, rf"({'|'.join(german)}) (?:bring|take|give|send|pack|unpack)"):
        assert re.search(rf" ({german[match[1]]}) .* nicht \w+en\.$", pair.target), pair


def test_verb_is_second_after_a_time(book):
    """One constituent, the time, and then the finite verb before its subject."""
    for match, pair in translations(book, r"^On (\w+day)( evening)? at [^,]+, (I|you|we|they|he|she) will"):
        subject = {"I": "ich", "you": "du", "we": "wir", "they": "sie", "he": "er", "she": "sie"}[match[3]]
        assert re.search(rf"^Am \w+ um (\w+ )*?\w+ {subject} ", pair.target), pair


def test_finite_verb_closes_every_subordinate_clause(book):
    finite = r"(hat|habe|hast|haben|ist|bin|bist|sind|war|muss|musst|müssen|regnet|schneit|scheint)"
    for _, pair in translations(book, r"\bbecause (I|you|we|they|he|she|it|my|your|his|her|our|their) "):
        assert re.search(rf", weil .* {finite}\.$", pair.target), pair
    for _, pair in translations(book, r"^If "):
        assert re.search(rf"^Wenn [^,]* {finite}, \w+", pair.target), pair
    for _, pair in translations(book, r"^The \w+ \w+ that "):
        assert re.search(r"^(Der|Die|Das) \w+ \w+, (den|die|das) [^,]* (habe|hast|hat|haben), ist ", pair.target), pair


def test_dates_agree_with_their_article(book):
    for _, pair in translations(book, r"takes place .*on the \w+"):
        assert re.search(r"\bam \S+(ten|sten) (Januar|Februar|M|A|J|S|O|N|D)", pair.target), pair
    for _, pair in translations(book, r"^(Today|Tomorrow) is \w+, the "):
        assert re.search(r"^(Heute|Morgen) ist (\w+tag|Mittwoch), der \w+te [A-Z]", pair.target), pair
    for _, pair in translations(book, r"tickets .* for \w+, the "):
        assert re.search(r" für \w+, den \w+ten [A-Z]", pair.target), pair


def test_prices_change_point_to_comma(book):
    for match, pair in translations(book, r"(\d+)\.(\d\d) euros"):
        assert f" {match[1]},{match[2]} Euro " in pair.target


def test_figures_are_copied(book):
    for pair in book:
        assert re.findall(r"\d+", pair.source) == re.findall(r"\d+", pair.target), pair


def test_strangers_are_addressed_as_sie_and_only_they(book):
    for pair in book:
        assert ("Entschuldigen Sie" in pair.target) == pair.source.startswith("Excuse me"), pair
    for _, pair in translations(book, r"^You "):
        assert pair.target.startswith("Du ")


def test_mood_and_end_mark(book):
    for pair in book:
        assert pair.source[-1] == pair.target[-1] == ("?" if "question" in pair.phenomena else ".")
        assert pair.source[0].isupper() or pair.source[0].isdigit()
        assert "  " not in pair.source + pair.target and "{" not in pair.source + pair.target


def test_english_third_person():
    assert verbs.Verb("have", "had", "haben", "hast", "hat", "gehabt").english_present(people.HE) == "has"
