"""Synthetic pages with exact labels.

In the order in which they are used:

* ``signals`` (records, or the model in ``simulator``) gives whole leads, ``augment`` makes many of
  one.
* ``page`` draws the competition's page and its like, ``sheets`` sheets of any layout, both on a
  ``canvas``; ``words``, ``text`` and ``fonts`` draw print alone.
* ``printing`` prints a page, ``wear`` folds, soaks and stains it.
* ``capture`` scans or photographs it on a ``desk`` in some ``light``, ``monitor`` on a screen; the
  ``warp`` says where each point of the sheet went. ``degrade`` is what that does to pixels.
* ``dataset`` puts it all together, ``folder`` and ``samples`` write pages to disk.

``chance`` is where the randomness comes from.
"""
