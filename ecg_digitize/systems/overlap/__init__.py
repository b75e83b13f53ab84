"""One lead's trace alone, where its neighbours reach into the crop: Karbasi et al., 2025.

Reza Karbasi, Masoud Rahimi, Abdol-Hossein Vahabie and Hadi Moradi, "Deep Learning-Based
Digitization of Overlapping ECG Images with Open-Source Python Code", arXiv 2506.10617. A U-Net
marks the trace of the lead that a crop is of. The means of the marked columns are its signal. The
scale of a crop is measured on its grid. This is their idea made anew, with none of their code,
weights or data:

* ``crop`` cuts a lead's box out of a rectified page, at the scale that the network knows,
* ``net`` is the U-Net, and ``training`` shows it crops with traces of other leads pasted across,
* ``series`` makes a line of a mask, and millivolts of the line,
* ``scale`` measures the period of a grid in a picture of any scale,
* ``read`` reads the boxes of a rectified page, whole pages, and single crops of unknown scale.
"""
