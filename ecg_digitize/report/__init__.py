"""One HTML file that shows what became of a folder of pictures.

In the order in which they are used:

* ``view.py`` packs what the report shows of one page: a worker does that, beside its files.
* ``html.py`` writes the file from the pages of a run.
* ``page.html``, ``page.css``, ``page.js`` and ``paper.js``, which draws the signals, are put into
  it as they are. Nothing else is loaded:
  the file can be sent to somebody and opened without a network.
"""
