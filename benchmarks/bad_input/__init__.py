"""The bad-input scorecard: what becomes of every kind of bad row, of ours and of img2dataset's.

``pictures`` makes files whose pixels are known, ``cases`` says what each row gets and what is right for it, ``server``
serves them in a process of its own, ``contenders`` runs a pipeline and reads what it kept, ``score`` compares.
"""
