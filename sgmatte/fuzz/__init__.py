"""Damaged and hostile files made by the thousand, for every reader of sgmatte: `sgmatte bench fuzz`.

corpus.py makes sound files, mutations.py damages them, targets.py names the readers, worker.py runs them in a process
that may die. Input number n of a target depends on the seed and n alone, so each finding can be made again.
"""
