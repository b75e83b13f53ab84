"""Systems that others published, made anew, to stand beside this one on the same pages.

None of them is in the notebook. Each is a package of its own, and each has the same files:

* ``net`` has the network, if it has one,
* ``training`` says what that is shown (`Samples`) and how it is judged (`loss_of`),
* ``read`` takes a page to a recording (`read`).

``registry`` lists them: what `train` and `compare systems` know.
"""
