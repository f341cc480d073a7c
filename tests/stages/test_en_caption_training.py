from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc

from stages.data.en_caption_training.captions import Grammar, to_doc, words_with_heads
from stages.data.en_caption_training.treebank import read_sentences, relabel
from stages.data.en_caption_training.treebank import to_doc as treebank_doc

CONLLU = """\
# text = The man in front of the dog isn't happy, and he feeds Anna Maria Lee.
1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2\tman\tman\tNOUN\tNN\t_\t10\tnsubj\t_\t_
3\tin\tin\tADP\tIN\t_\t7\tcase\t_\t_
4\tfront\tfront\tNOUN\tNN\t_\t3\tfixed\t_\t_
5\tof\tof\tADP\tIN\t_\t3\tfixed\t_\t_
6\tthe\tthe\tDET\tDT\t_\t7\tdet\t_\t_
7\tdog\tdog\tNOUN\tNN\t_\t2\tnmod\t_\t_
8-9\tisn't\t_\t_\t_\t_\t_\t_\t_\t_
8\tis\tbe\tAUX\tVBZ\t_\t10\tcop\t_\t_
9\tn't\tnot\tPART\tRB\t_\t10\tadvmod\t_\t_
10\thappy\thappy\tADJ\tJJ\t_\t0\troot\t_\tSpaceAfter=No
11\t,\t,\tPUNCT\t,\t_\t14\tpunct\t_\t_
12\tand\tand\tCCONJ\tCC\t_\t14\tcc\t_\t_
13\the\the\tPRON\tPRP\t_\t14\tnsubj\t_\t_
14\tfeeds\tfeed\tVERB\tVBZ\t_\t10\tconj\t_\t_
14.1\tx\tx\tX\tX\t_\t_\t_\t_\t_
15\tAnna\tAnna\tPROPN\tNNP\t_\t14\tobj\t_\t_
16\tMaria\tMaria\tPROPN\tNNP\t_\t15\tflat\t_\t_
17\tLee\tLee\tPROPN\tNNP\t_\t15\tflat\t_\tSpaceAfter=No
18\t.\t.\tPUNCT\t.\t_\t10\tpunct\t_\tSpaceAfter=No

"""


@pytest.fixture(scope="module")
def vocab() -> spacy.Vocab:
    return spacy.blank("en").vocab


def made_up(vocab: spacy.Vocab, seed: int) -> Doc:
    return to_doc(vocab, words_with_heads(Grammar(seed).caption()), is_capitalised=False)


def test_a_treebank_sentence_gets_the_trees_that_noun_chunks_are_read_from(vocab: spacy.Vocab, tmp_path: Path) -> None:
    file = tmp_path / "one.conllu"
    file.write_text(CONLLU, encoding="utf-8")
    (sentence,) = read_sentences(file)
    relabel(sentence)
    doc = treebank_doc(vocab, sentence)
    assert doc.text == "The man in front of the dog isn't happy, and he feeds Anna Maria Lee."
    assert [chunk.text for chunk in doc.noun_chunks] == ["The man", "the dog", "he", "Anna Maria Lee"]
    assert {token.text: (token.dep_, token.head.text) for token in doc} == {
        "The": ("det", "man"),
        "man": ("nsubj", "is"),
        "in": ("prep", "man"),
        "front": ("fixed", "in"),
        "of": ("fixed", "in"),
        "the": ("det", "dog"),
        "dog": ("pobj", "in"),
        "is": ("ROOT", "is"),
        "n't": ("advmod", "happy"),
        "happy": ("acomp", "is"),
        ",": ("punct", "is"),
        "and": ("cc", "is"),
        "he": ("nsubj", "feeds"),
        "feeds": ("conj", "is"),
        "Anna": ("compound", "Lee"),
        "Maria": ("compound", "Lee"),
        "Lee": ("dobj", "feeds"),
        ".": ("punct", "is"),
    }


def test_made_up_captions_are_the_same_for_the_same_seed(vocab: spacy.Vocab) -> None:
    assert made_up(vocab, 3).to_json() == made_up(vocab, 3).to_json()
    assert made_up(vocab, 3).text != made_up(vocab, 4).text


@pytest.mark.parametrize("seed", range(40))
def test_every_noun_of_a_made_up_caption_is_in_one_noun_chunk(vocab: spacy.Vocab, seed: int) -> None:
    doc = made_up(vocab, seed)
    covered = [token.i for chunk in doc.noun_chunks for token in chunk]
    assert len(covered) == len(set(covered))
    assert {token.i for token in doc if token.pos_ == "NOUN"} <= set(covered)
    assert sum(token.dep_ == "ROOT" for token in doc) == 1
