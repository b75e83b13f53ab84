"""One HTML file that shows what became of a folder of pictures.

In the order in which they are used:

* ``view.py`` packs what the report shows of one page: a worker does that, beside its files.
* ``html.py`` writes the file from the pages of a run.
* ``page.html``, ``page.css``, ``page.js`` and ``shared.js`` are put into it as they are. Nothing
  else is loaded: the file can be sent to somebody and opened without a network. ``shared.js`` draws
  the signals and the rows of the table; the page in the browser (``serve``) has it, too.
"""
