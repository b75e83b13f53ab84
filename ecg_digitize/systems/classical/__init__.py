"""The starter notebook's reading without a network: thresholds, fixed boxes, means of columns.

A picture is taken for the sheet as it is. Where a sheet is smaller than its picture, lies askew or
on its head, the boxes miss the leads; that is how it was published.
"""
