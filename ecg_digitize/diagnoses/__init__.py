"""Diagnoses that a page suggests, for research only: never a medical statement.

* ``classes`` has the ten classes, the rules that give them, and the table of labelled records,
* ``records`` says which records may be trained on, and which are for judging,
* ``inputs`` makes what a network looks at from a recording: only what is printed,
* ``imitate`` does to true signals what printing and digitizing does to them,
* ``printed`` prints records, digitizes the pages and keeps what was read, for training,
* ``signals`` has the network that looks at signals; it ships, see ``ship``,
* ``pictures`` has the one that looks at the rectified picture; it does not ship,
* ``thresholds`` says from which probability on a class is decided for,
* ``judge`` measures how good decisions are, and how many flip when a page is digitized,
* ``compare`` makes the tables of that, for `compare diagnoses`,
* ``classify`` takes a recording to its classes, for the command `classify`.

None of it is in the notebook, and no stage of the pipeline asks for it.
"""
