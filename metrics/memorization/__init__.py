"""Does a generator repeat training images? Measured against images that it was never trained on; no weights needed.

    thumbnails  sets of images as small pictures in memory
    search      the nearest images of a set, over mirroring and shifts
    duplicates  training images that are the same but for details, and holdout images that are training images
    alignment   two images beside each other at up to 256 pixels
    figures     rates, intervals and tests
    control     disguised copies that are planted, to see how many are found
    findings    what is found, for who writes it
    measure     the metric
"""
