"""What the subcommands do: parsed arguments in, files and tables out, an exit code back.

Modules that need torch or OpenCV are imported by the commands that use them, so that --help and
wrong arguments are answered at once. Files:

    using.py       pictures to signals, for users: digitize, digitize-many, weights
    judging.py     how good and how fast that is: evaluate, validate, bench
    comparing.py   what ships against what was tried in its place: compare
    making.py      pages and weights: synth, train, train-all, export, model-card
    diagnosing.py  classes of diagnoses, for research: classify, and what makes and judges it
    shared.py      exit codes, the networks that are asked for, the progress bar
"""
