"""The starter notebook's network: a picture straight to twelve leads of 5,000 samples.

Nothing is found, cut out or followed in between, so nothing tells whether the network saw the leads
or made them up.
"""
