"""Training scripts, evaluation, export and benchmark.

* Training: ``run`` trains a network by its script (``stage0``, ``stage1``, ``stage2``, ``refine``,
  ``strips``, ``names``, ``text``) in the ``loop``, ``together`` several at once; ``losses`` and
  ``depthwise`` are what they share. ``export`` puts the result into weights/, ``model_card`` tells
  what it is.
* Judging: ``evaluate`` scores pictures with truth (``pairs``), ``explain`` says what a score is
  lost to. ``validate`` judges synthetic pages, ``validate_sheets`` sheets of any layout and the
  quality of leads. ``compare*`` measures what ships against what was tried, ``bench`` takes the
  time.
"""
