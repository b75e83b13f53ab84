"""A page in the browser on which pictures are read and readings are mended; and the same as REST.

In the order in which they are used:

* ``command.py`` starts the server and says where it is.
* ``guard.py`` decides who may ask, and how much they may send.
* ``desk.py`` keeps the pages in memory and reads them, one after the other.
* ``documents.py`` says what goes over the line, as JSON.
* ``app.py`` joins these: an address for each thing that can be asked.
* ``desk.html``, ``desk.css`` and ``desk.js`` are the page. It draws signals as the report does.

Pictures are in memory alone, and nothing is kept when the server ends.
"""
