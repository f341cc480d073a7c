"""UD English EWT as spaCy training data with the labels of spaCy's own English pipelines.

spaCy's English noun chunks are read off those labels and heads (content words hang below prepositions and copulas), so
a parser trained on plain Universal Dependencies finds none.

Usage: ``python -m stages.data.en_caption_training.treebank IN.conllu OUT.spacy``
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import spacy
from spacy.tokens import Doc, DocBin

ATTRIBUTES = ["ORTH", "TAG", "POS", "LEMMA", "HEAD", "DEP", "SPACY", "SENT_START"]

_LABELS = {
    "acl:relcl": "relcl",
    "advcl:relcl": "relcl",
    "aux:pass": "auxpass",
    "cc:preconj": "preconj",
    "compound:prt": "prt",
    "csubj:pass": "csubjpass",
    "det:predet": "predet",
    "discourse": "intj",
    "dislocated": "dep",
    "goeswith": "dep",
    "iobj": "dative",
    "list": "parataxis",
    "nmod:desc": "compound",
    "nmod:npmod": "npadvmod",
    "nmod:poss": "poss",
    "nmod:tmod": "npadvmod",
    "nmod:unmarked": "npadvmod",
    "nsubj:pass": "nsubjpass",
    "obj": "dobj",
    "obl:agent": "agent",
    "obl:npmod": "npadvmod",
    "obl:tmod": "npadvmod",
    "obl:unmarked": "npadvmod",
    "orphan": "dep",
    "reparandum": "dep",
    "root": "ROOT",
    "vocative": "npadvmod",
}
# fmt: off
_OF_CLAUSE = frozenset({
    "nsubj", "nsubjpass", "csubj", "csubjpass", "aux", "auxpass", "mark", "expl", "advcl", "ccomp", "parataxis", "intj",
    "npadvmod", "punct", "cc", "obl", "prep", "agent",
})
# fmt: on
_AFTER_ADJECTIVE = frozenset({"obl", "ccomp", "advcl", "npadvmod"})


@dataclass(slots=True)
class Sentence:
    """A sentence's tree, changed in place. Position 0 is the root's head; words count from 1.

    Attributes:
        words: Forms.
        lemmas: Their lemmas.
        tags: Penn Treebank tags.
        pos: Universal parts of speech.
        heads: Position of each word's head.
        deps: Its relation to that.
        spaces: Whether a space follows.
    """

    words: list[str]
    lemmas: list[str]
    tags: list[str]
    pos: list[str]
    heads: list[int]
    deps: list[str]
    spaces: list[bool]

    @property
    def positions(self) -> range:
        """All words."""
        return range(1, len(self.words))

    def children(self, head: int) -> list[int]:
        """The words whose head this is, in order."""
        return [i for i in self.positions if self.heads[i] == head]

    def attach(self, word: int, head: int, dep: str) -> None:
        """Hang a word elsewhere."""
        self.heads[word], self.deps[word] = head, dep


def read_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file with spaCy's names of relations, their trees not yet changed."""
    lines: list[list[str]] = []
    for line in [*path.read_text(encoding="utf-8").split("\n"), ""]:
        if line and not line.startswith("#"):
            lines.append(line.split("\t"))
        elif not line and lines:
            yield _sentence(lines)
            lines = []


def _sentence(lines: list[list[str]]) -> Sentence:
    words = [columns for columns in lines if columns[0].isdigit()]
    sentence = Sentence(
        words=["", *(columns[1] for columns in words)],
        lemmas=["", *(columns[2] for columns in words)],
        tags=["", *(columns[4] for columns in words)],
        pos=["", *(columns[3] for columns in words)],
        heads=[0, *(int(columns[6]) for columns in words)],
        deps=["", *(_LABELS.get(columns[7], columns[7].split(":")[0]) for columns in words)],
        spaces=[False, *("SpaceAfter=No" not in columns[9] for columns in words)],
    )
    for columns in lines:
        if "-" in columns[0]:
            _join_contraction(sentence, columns)
    return sentence


def _join_contraction(sentence: Sentence, columns: list[str]) -> None:
    """Write the words of "don't" without spaces between."""
    first, last = map(int, columns[0].split("-"))
    if "".join(sentence.words[first : last + 1]) == columns[1]:
        sentence.spaces[first:last] = [False] * (last - first)
        sentence.spaces[last] = "SpaceAfter=No" not in columns[9]


def relabel(sentence: Sentence) -> None:
    """Change a tree of Universal Dependencies to the scheme of spaCy's English pipelines."""
    for step in (_end_names_in_heads, _raise_copulas, _raise_prepositions, _attach_commas_to_first):
        for word in sentence.positions:
            step(sentence, word)


def _end_names_in_heads(sentence: Sentence, head: int) -> None:
    """The last word of a flat name becomes its head."""
    rest = [child for child in sentence.children(head) if sentence.deps[child] == "flat"]
    if not rest or rest[0] < head:
        return
    last = rest[-1]
    for child in sentence.children(head):
        sentence.heads[child] = last
    sentence.attach(last, sentence.heads[head], sentence.deps[head])
    for word in (head, *rest[:-1]):
        sentence.attach(word, last, "compound")


def _raise_copulas(sentence: Sentence, predicate: int) -> None:
    """A copula becomes the head of its clause, above the predicate."""
    children = sentence.children(predicate)
    copulas = [child for child in children if sentence.deps[child] == "cop"]
    if not copulas:
        return
    copula = copulas[0]
    is_prepositional = any(sentence.deps[child] == "case" and sentence.tags[child] != "POS" for child in children)
    sentence.attach(copula, sentence.heads[predicate], sentence.deps[predicate])
    for child in children:
        if child == copula:
            continue
        if sentence.deps[child] == "cop":
            sentence.attach(child, copula, "aux")
        elif _belongs_to_copula(sentence, child, predicate, copula):
            sentence.heads[child] = copula
    sentence.attach(predicate, copula, "obl" if is_prepositional else _complement(sentence.pos[predicate]))


def _belongs_to_copula(sentence: Sentence, child: int, predicate: int, copula: int) -> bool:
    dep, is_adjective = sentence.deps[child], sentence.pos[predicate] == "ADJ"
    if dep in ("punct", "cc"):
        return True
    if dep in _OF_CLAUSE:
        return not (is_adjective and dep in _AFTER_ADJECTIVE and child > predicate)
    if dep == "advmod":
        return not is_adjective or child <= min(copula, predicate)
    return dep == "conj" and (
        sentence.pos[child] in ("VERB", "AUX")
        or any(sentence.deps[grandchild] in ("cop", "nsubj") for grandchild in sentence.children(child))
    )


def _complement(pos: str) -> str:
    return {"ADJ": "acomp", "VERB": "acomp", "ADV": "advmod"}.get(pos, "attr")


def _raise_prepositions(sentence: Sentence, noun: int) -> None:
    """A preposition becomes the head of its phrase; of several, each hangs below the one before."""
    children = sentence.children(noun)
    markers = [
        child for child in children if sentence.deps[child] == "case" and sentence.tags[child] != "POS" and child < noun
    ]
    if not markers:
        if sentence.deps[noun] == "obl":
            sentence.deps[noun] = "npadvmod"
        return
    head = sentence.heads[noun]
    dep = sentence.deps[noun] if sentence.deps[noun] in ("agent", "ROOT", "conj") else "prep"
    for marker in markers:
        sentence.attach(marker, head, dep)
        head, dep = marker, "prep"
    for child in sentence.children(noun):
        if child < markers[0] and sentence.deps[child] in ("advmod", "cc", "punct", "mark"):
            sentence.heads[child] = markers[0]
    sentence.attach(noun, markers[-1], "pobj")


def _attach_commas_to_first(sentence: Sentence, word: int) -> None:
    """A conjunction or comma before a later conjunct or apposition hangs on the first."""
    conjunct = sentence.heads[word]
    if sentence.deps[word] not in ("cc", "punct") or sentence.deps[conjunct] not in ("conj", "appos"):
        return
    if word < conjunct and 0 < sentence.heads[conjunct] < word:
        sentence.heads[word] = sentence.heads[conjunct]


def to_doc(vocab: spacy.Vocab, sentence: Sentence) -> Doc:
    """The sentence as spaCy's gold standard."""
    heads = [head - 1 if head else word - 1 for word, head in enumerate(sentence.heads)]
    return Doc(
        vocab,
        words=sentence.words[1:],
        spaces=sentence.spaces[1:],
        tags=sentence.tags[1:],
        pos=sentence.pos[1:],
        lemmas=sentence.lemmas[1:],
        heads=heads[1:],
        deps=sentence.deps[1:],
    )


def main(source: str, target: str) -> None:
    """Convert a file."""
    vocab = spacy.blank("en").vocab
    docs = DocBin(attrs=ATTRIBUTES)
    for sentence in read_sentences(Path(source)):
        relabel(sentence)
        docs.add(to_doc(vocab, sentence))
    docs.to_disk(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
