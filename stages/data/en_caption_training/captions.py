"""Made-up captions with known trees, in the scheme of ``treebank.py``; their words are in ``words.yaml``.

Web text hardly ever says "a brown dog riding a skateboard": captions are noun phrases with participles, and a parser
trained on text alone reads them as sentences. Meaning is left to chance; only the form matters.

Usage: ``python -m stages.data.en_caption_training.captions COUNT SEED OUT.spacy``
"""

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spacy
import yaml
from spacy.tokens import Doc, DocBin

from stages.data.en_caption_training.treebank import ATTRIBUTES

MAX_WORDS = 45

_LEXICON: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
_WORDS = {name: words.split() for name, words in _LEXICON.items() if isinstance(words, str)}
_FORMS = {name: forms for name, forms in _LEXICON.items() if isinstance(forms, dict)}


@dataclass(slots=True, eq=False)
class Word:
    """A word and what hangs below it.

    Attributes:
        text: As it stands in the caption.
        tag: Penn Treebank tag.
        pos: Universal part of speech.
        lemma: Dictionary form.
        dep: Relation to the word it hangs below.
        left: Children before it, in order.
        right: Children after it, in order.
    """

    text: str
    tag: str
    pos: str
    lemma: str
    dep: str = "ROOT"
    left: list["Word"] = field(default_factory=list)
    right: list["Word"] = field(default_factory=list)

    def before(self, child: "Word", dep: str) -> None:
        """Hang a child to the left, after those there are."""
        child.dep = dep
        self.left.append(child)

    def after(self, child: "Word", dep: str) -> None:
        """Hang a child to the right, after those there are."""
        child.dep = dep
        self.right.append(child)

    @property
    def is_plural(self) -> bool:
        """Takes a plural verb."""
        return self.tag == "NNS" or any(child.dep == "conj" for child in self.right)


def _noun(text: str) -> Word:
    return Word(text, "NN", "NOUN", text)


def _adjective(text: str) -> Word:
    return Word(text, "JJ", "ADJ", text)


def _preposition(text: str) -> Word:
    return Word(text, "IN", "ADP", text)


def _determiner(text: str) -> Word:
    return Word(text, "DT", "DET", "a" if text == "an" else text)


def _adverb(text: str) -> Word:
    return Word(text, "RB", "ADV", text)


def _comma() -> Word:
    return Word(",", ",", "PUNCT", ",")


def _be(is_plural: bool, pos: str) -> Word:
    return Word("are", "VBP", pos, "be") if is_plural else Word("is", "VBZ", pos, "be")


class Grammar:
    """Captions drawn at random. The order of draws is part of the data: it decides what a seed gives."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def caption(self) -> Word:
        """A caption's root."""
        root = self._sentence()
        root.dep = "ROOT"
        if self._chance(0.6):
            root.after(Word(".", ".", "PUNCT", "."), "punct")
        return root

    def is_capitalised(self) -> bool:
        """Whether the next caption starts with a capital."""
        return self._chance(0.75)

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _pick(self, kind: str) -> str:
        return self._rng.choice(_WORDS[kind])

    def _sentence(self) -> Word:
        draw = self._rng.random()
        subject = self._noun_phrase(self._rng.choice(["people", "animals", "things", None]))
        if draw < 0.67:
            return self._fragment(draw, subject)
        if draw < 0.82:  # a man is riding a horse
            verb = self._doing()
            verb.left = [subject, _be(subject.is_plural, "AUX"), *verb.left]
            subject.dep, verb.left[1].dep = "nsubj", "aux"
            return verb
        if draw < 0.9:  # a man rides a horse
            verb = self._doing(finite=True)
            verb.left.insert(0, subject)
            subject.dep = "nsubj"
            if subject.is_plural:
                verb.text, verb.tag = verb.lemma, "VBP"
            return verb
        if draw < 0.96:  # a man is on a horse
            verb = _be(subject.is_plural, "AUX")
            verb.before(subject, "nsubj")
            self._add_prepositional_phrase(verb)
            return verb
        verb = _be(subject.is_plural, "VERB")  # there is a man on a horse
        verb.before(Word("there", "EX", "PRON", "there"), "expl")
        verb.after(subject, "nsubj")
        self._add_prepositional_phrase(subject)
        return verb

    def _fragment(self, draw: float, subject: Word) -> Word:
        """The subject with what follows it: most captions are no sentences."""
        if draw < 0.3:  # a man riding a horse
            subject.after(self._doing(), "acl")
        elif draw < 0.5:  # a man on a horse
            for _ in range(self._rng.choice([1, 1, 2])):
                self._add_prepositional_phrase(subject)
            if self._chance(0.25):
                subject.after(self._doing(), "acl")
        elif draw < 0.58:  # a street lined with trees
            subject.after(self._done(), "acl")
        elif draw < 0.62:  # a man and a horse on a beach
            self._add_conjuncts(subject)
            self._add_prepositional_phrase(subject)
        else:  # a man that rides a horse
            verb = self._doing(finite=True)
            verb.left.insert(0, Word("that", "WDT", "PRON", "that", "nsubj"))
            subject.after(verb, "relcl")
        return subject

    def _noun_phrase(self, pool: str | None = None, depth: int = 0) -> Word:
        noun = _noun(self._pick(pool or self._rng.choice(["people", "animals", "things", "things", "places"])))
        if self._chance(0.22):
            noun.text, noun.tag = _FORMS["plurals"].get(noun.text, noun.text + "s"), "NNS"
        modifiers = self._modifiers(is_person=pool == "people")
        first = modifiers[0] if modifiers else noun
        determiner = self._determiner((first.left or [first])[0].text, noun.tag == "NNS")
        noun.left = [*determiner, *modifiers]
        if self._chance(0.08) and depth < 2:
            noun = self._group_of(noun)
        if depth < 2 and self._chance(0.12):
            self._add_conjuncts(noun)
        return noun

    def _modifiers(self, is_person: bool) -> list[Word]:
        modifiers = []
        if self._chance(0.45):
            modifiers.append(_adjective(self._pick("adjectives") if self._chance(0.97) else "black-and-white"))
            if self._chance(0.2):
                modifiers.append(_adjective(self._pick("adjectives")))
        if self._chance(0.04):
            text = self._rng.choice(["sitting", "standing", "running", "sleeping", "moving", "flying"])
            modifiers.append(Word(text, "VBG", "VERB", text))
        if self._chance(0.06):  # tree lined street
            text = self._rng.choice(["lined", "covered", "filled", "shaped"])
            participle = Word(text, "VBN", "VERB", text)
            participle.before(_noun(self._rng.choice(["tree", "snow", "grass", "flower", "fruit", "rock"])), "npadvmod")
            modifiers.append(participle)
        for modifier in modifiers:
            modifier.dep = "amod"
        if not is_person and self._chance(0.15):
            modifiers.append(_noun(self._pick("compounds")))
            modifiers[-1].dep = "compound"
        return modifiers

    def _determiner(self, following: str, is_plural: bool) -> list[Word]:
        """None or one."""
        draw = self._rng.random()
        if self._chance(0.12):
            return []
        if is_plural:
            return self._plural_determiner(draw)
        if draw < 0.72:
            word, dep = _determiner("an" if following[0] in "aeiou" else "a"), "det"
        elif draw < 0.95:
            word, dep = _determiner(self._rng.choice(["the", "the", "another", "this"])), "det"
        else:
            text = self._rng.choice(["his", "her", "its", "their"])
            word, dep = Word(text, "PRP$", "PRON", text), "poss"
        word.dep = dep
        return [word]

    def _plural_determiner(self, draw: float) -> list[Word]:
        if draw < 0.45:
            text = self._pick("numbers")
            return [Word(text, "CD", "NUM", text, "nummod")]
        if draw < 0.7:
            word, dep = _determiner(self._rng.choice(["some", "the"])), "det"
        elif draw < 0.85:
            word, dep = _adjective(self._rng.choice(["several", "many", "multiple", "other"])), "amod"
        else:
            return []
        word.dep = dep
        return [word]

    def _group_of(self, noun: Word) -> Word:
        """A group of …, a plate of …"""
        group = _noun(self._pick("groups"))
        group.before(_determiner("a"), "det")
        of = _preposition("of")
        of.after(noun, "pobj")
        group.after(of, "prep")
        noun.left = [child for child in noun.left if child.dep != "det"] or noun.left
        return group

    def _add_conjuncts(self, noun: Word) -> None:
        """… and a dog; …, a cat(,) and a dog."""
        is_list = not self._chance(0.65)
        if is_list:
            noun.after(_comma(), "punct")
            second = self._noun_phrase(depth=3)
            noun.after(second, "conj")
            noun = second
            if self._chance(0.4):
                noun.after(_comma(), "punct")
        noun.after(Word("and", "CC", "CCONJ", "and"), "cc")
        noun.after(self._noun_phrase(depth=3), "conj")

    def _add_prepositional_phrase(self, head: Word, depth: int = 0) -> None:
        draw = self._rng.random()
        if draw < 0.08:  # next to a dog
            adverb, preposition = _adverb("next"), _preposition("to")
            preposition.after(self._noun_phrase(depth=depth + 1), "pobj")
            adverb.after(preposition, "prep")
            head.after(adverb, "advmod")
        elif draw < 0.2:  # in front of a dog
            self._add_relational_phrase(head, draw < 0.14, depth)
        elif draw < 0.24:  # in the background
            preposition = _preposition("in")
            place = _noun(self._rng.choice(["middle", "background", "foreground", "air"]))
            place.before(_determiner("the"), "det")
            preposition.after(place, "pobj")
            head.after(preposition, "prep")
        else:
            preposition = _preposition(self._pick("prepositions"))
            noun = self._noun_phrase(self._rng.choice([None, "places"]), depth + 1)
            preposition.after(noun, "pobj")
            if depth < 1 and self._chance(0.2):
                self._add_prepositional_phrase(noun, depth + 1)
            head.after(preposition, "prep")

    def _add_relational_phrase(self, head: Word, is_front: bool, depth: int) -> None:
        """In front of …, on top of …, on the side of …"""
        preposition = _preposition("in" if is_front else "on")
        relation = _noun("front" if is_front else self._rng.choice(["top", "side"]))
        if relation.text == "side":
            relation.before(_determiner("the"), "det")
        of = _preposition("of")
        of.after(self._noun_phrase(depth=depth + 1), "pobj")
        relation.after(of, "prep")
        preposition.after(relation, "pobj")
        head.after(preposition, "prep")

    def _doing(self, finite: bool = False) -> Word:
        """A verb with what follows it: riding a horse, sits on a bench."""
        is_transitive = self._chance(0.5)
        forms = _FORMS["transitive" if is_transitive else "intransitive"]
        lemma = self._rng.choice(list(forms))
        verb = Word(forms[lemma].split()[finite], "VBZ" if finite else "VBG", "VERB", lemma)
        if is_transitive:
            verb.after(self._noun_phrase(self._rng.choice(["things", "things", "animals"]), 1), "dobj")
        if self._chance(0.1):
            verb.after(_adverb(self._rng.choice(["down", "together", "outside", "up", "away"])), "advmod")
        for _ in range(self._rng.choice([0, 1, 1, 1, 2])):
            self._add_prepositional_phrase(verb)
        return verb

    def _done(self) -> Word:
        """A passive participle with its preposition: lined with trees."""
        lemma = self._rng.choice(list(_FORMS["participles"]))
        participle, *own = _FORMS["participles"][lemma].split()
        verb = Word(participle, "VBN", "VERB", lemma)
        preposition = _preposition([self._rng.choice(["on", "in", "at", "next"]), *own][-1])
        if preposition.text == "next":
            preposition.text = "near"  # Its lemma stays "next": a slip, but what the shipped model has learnt from.
        preposition.after(self._noun_phrase(depth=1), "pobj")
        verb.after(preposition, "prep")
        return verb


def words_with_heads(word: Word, head: Word | None = None) -> list[tuple[Word, Word]]:
    """The words of a tree in reading order, each with its head; the root is its own."""
    left = [pair for child in word.left for pair in words_with_heads(child, word)]
    right = [pair for child in word.right for pair in words_with_heads(child, word)]
    return [*left, (word, head or word), *right]


def to_doc(vocab: spacy.Vocab, pairs: list[tuple[Word, Word]], is_capitalised: bool) -> Doc:
    """A caption as spaCy's gold standard."""
    position = {id(word): i for i, (word, _) in enumerate(pairs)}
    texts = [word.text for word, _ in pairs]
    if is_capitalised:
        texts[0] = texts[0][0].upper() + texts[0][1:]
    return Doc(
        vocab,
        words=texts,
        spaces=[following not in ",." for following in texts[1:]] + [False],
        tags=[word.tag for word, _ in pairs],
        pos=[word.pos for word, _ in pairs],
        lemmas=[word.lemma for word, _ in pairs],
        heads=[position[id(head)] for _, head in pairs],
        deps=[word.dep for word, _ in pairs],
    )


def main(count: str, seed: str, target: str) -> None:
    """Write captions of at most ``MAX_WORDS`` words out of ``count`` drawn."""
    vocab = spacy.blank("en").vocab
    docs = DocBin(attrs=ATTRIBUTES)
    grammar = Grammar(int(seed))
    for _ in range(int(count)):
        pairs = words_with_heads(grammar.caption())
        if len(pairs) <= MAX_WORDS:
            docs.add(to_doc(vocab, pairs, grammar.is_capitalised()))
    docs.to_disk(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
