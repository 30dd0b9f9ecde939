"""Something for somebody, or somewhere with somebody: dative persons beside accusative things."""

from .frame import frame, question, statement
from .inflection import THE, A, Adjective, Determiner, Noun, noun_phrase
from .people import COUPLES, RELATIVES, Couple, Person
from .phenomena import DATIVE, GENDER_AGREEMENT, VERB_SECOND, Pair
from .places import AROUND_THE_HOUSE, MEETING_PLACES, OUTINGS
from .things import BICYCLE, PORTABLE, QUALITIES
from .times import COMING_DAYS, COMING_TIMES, MINUTES, PAST_DAYS
from .verbs import GO, Verb, main_clause, perfect, present, verb_first
from .words import Phrase

_GIVE = Verb("give", "gave", "schenken", "schenkst", "schenkt", "geschenkt")
_WAIT = Verb("wait", "waited", "warten", "wartest", "wartet", "gewartet")
_HANDING_OVER = (
    Verb("show", "showed", "zeigen", "zeigst", "zeigt", "gezeigt"),
    Verb("lend", "lent", "leihen", "leihst", "leiht", "geliehen"),
    Verb("send", "sent", "schicken", "schickst", "schickt", "geschickt"),
    Verb("bring", "brought", "bringen", "bringst", "bringt", "gebracht"),
)
_OCCASIONS = (
    Phrase("for Christmas", "zu Weihnachten"),
    Phrase("for Easter", "zu Ostern"),
    Phrase("as a surprise", "als Überraschung"),
)
_OWNED = (BICYCLE, *PORTABLE)


@frame(
    "quality",
    "noun",
    "occasion",
    couple=COUPLES,
    quality=QUALITIES,
    noun=_OWNED,
    occasion=_OCCASIONS,
)
def gift(couple: Couple, quality: Adjective, noun: Noun, occasion: Phrase) -> Pair:
    """We will give my sister a red coat for Christmas."""
    subject, other = couple.subject, couple.other
    thing = noun_phrase(A, noun, quality)
    verb = present(_GIVE, subject)
    return statement(
        f"{subject.english} will give {other.english_object} {thing.english} {occasion.english}",
        main_clause(subject.nominative, verb, other.dative, occasion.german, thing.accusative),
        (GENDER_AGREEMENT, DATIVE),
    )


@frame(
    "verb",
    "noun",
    "quality",
    couple=COUPLES,
    verb=_HANDING_OVER,
    article=(THE, A),
    quality=QUALITIES,
    noun=_OWNED,
    day=COMING_DAYS,
)
def handing_over(couple: Couple, verb: Verb, article: Determiner, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """I will show my aunt the new bicycle tomorrow."""
    subject, other = couple.subject, couple.other
    thing = noun_phrase(article, noun, quality)
    return statement(
        f"{subject.english} will {verb.english} {other.english_object} {thing.english} {day.english}",
        main_clause(subject.nominative, present(verb, subject), other.dative, day.german, thing.accusative),
        (GENDER_AGREEMENT, DATIVE),
    )


@frame(
    "verb",
    "noun",
    "quality",
    couple=COUPLES,
    verb=_HANDING_OVER,
    article=(THE, A),
    quality=QUALITIES,
    noun=_OWNED,
    day=PAST_DAYS,
)
def handed_over(couple: Couple, verb: Verb, article: Determiner, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """Three days ago, I showed my aunt the new bicycle."""
    subject, other = couple.subject, couple.other
    thing = noun_phrase(article, noun, quality)
    group = perfect(verb, subject)
    return statement(
        f"{day.english}, {subject.english} {verb.past} {other.english_object} {thing.english}",
        f"{day.german} {verb_first(subject.nominative, group, other.dative, thing.accusative)}",
        (GENDER_AGREEMENT, DATIVE, VERB_SECOND),
        group.phenomena,
        day.phenomena,
    )


@frame("quality", "noun", "owner", quality=QUALITIES, noun=_OWNED, place=AROUND_THE_HOUSE, owner=RELATIVES)
def belonging(quality: Adjective, noun: Noun, place: Phrase, owner: Person) -> Pair:
    """The blue bicycle in front of the house belongs to my brother."""
    thing = noun_phrase(THE, noun, quality)
    return statement(
        f"{thing.english} {place.english} belongs to {owner.english_object}",
        f"{thing.nominative} {place.german} gehört {owner.dative}",
        (GENDER_AGREEMENT, DATIVE),
        place.phenomena,
    )


@frame("quality", "noun", "owner", quality=QUALITIES, noun=_OWNED, place=AROUND_THE_HOUSE, owner=RELATIVES)
def belonging_question(quality: Adjective, noun: Noun, place: Phrase, owner: Person) -> Pair:
    """Does the blue bicycle in front of the house belong to your brother?"""
    thing = noun_phrase(THE, noun, quality)
    return question(
        f"does {thing.english} {place.english} belong to {owner.english_object}",
        f"gehört {thing.nominative} {place.german} {owner.dative}",
        (GENDER_AGREEMENT, DATIVE),
        place.phenomena,
    )


@frame("outing", "time", couple=COUPLES, outing=OUTINGS, time=COMING_TIMES)
def outing(couple: Couple, outing: Phrase, time: Phrase) -> Pair:
    """On Monday at half past seven, we will go to the cinema with my aunt."""
    subject, other = couple.subject, couple.other
    clause = verb_first(subject.nominative, present(GO, subject), f"mit {other.dative}", outing.german)
    return statement(
        f"{time.english}, {subject.english} will go {outing.english} with {other.english_object}",
        f"{time.german} {clause}",
        (DATIVE, VERB_SECOND),
        outing.phenomena,
        time.phenomena,
    )


@frame("outing", "day", couple=COUPLES, outing=OUTINGS, day=PAST_DAYS)
def past_outing(couple: Couple, outing: Phrase, day: Phrase) -> Pair:
    """Anna went to the cinema with her aunt three days ago."""
    subject, other = couple.subject, couple.other
    verb = perfect(GO, subject)
    return statement(
        f"{subject.english} went {outing.english} with {other.english_object} {day.english}",
        main_clause(subject.nominative, verb, day.german, f"mit {other.dative}", outing.german),
        (DATIVE,),
        verb.phenomena,
        outing.phenomena,
        day.phenomena,
    )


@frame("place", "minutes", day=PAST_DAYS, couple=COUPLES, place=MEETING_PLACES, minutes=MINUTES)
def waiting(day: Phrase, couple: Couple, place: Phrase, minutes: Phrase) -> Pair:
    """Yesterday, we waited for your brother at the station for twenty-one minutes."""
    subject, other = couple.subject, couple.other
    verb = perfect(_WAIT, subject)
    clause = verb_first(subject.nominative, verb, place.german, f"{minutes.german} Minuten", f"auf {other.accusative}")
    return statement(
        f"{day.english}, {subject.english} waited for {other.english_object} {place.english} "
        f"for {minutes.english} minutes",
        f"{day.german} {clause}",
        (VERB_SECOND,),
        verb.phenomena,
        place.phenomena,
        minutes.phenomena,
        day.phenomena,
    )


FRAMES = (
    gift,
    handing_over,
    handed_over,
    belonging,
    belonging_question,
    outing,
    past_outing,
    waiting,
)
