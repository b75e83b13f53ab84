"""Many pages on all cores and GPUs, within a time, and again after a kill.

A page is the unit of all work: one process reads it, digitizes it and hands back what is kept.
Pictures never cross processes, and memory holds one page a worker. Files, in the order of use:

    seats.py    which worker runs on which device, with how many threads
    workers.py  the processes: pages out, results in; one that dies costs one page at most
    pace.py     what is still spent on a page so that all pages end within the time
    store.py    finished pages on disk, for a run that goes on after a kill; one run a folder
    stop.py     Ctrl-C and SIGTERM: finish the pages under way, then report
"""
