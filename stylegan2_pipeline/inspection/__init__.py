"""What is in a collection of images, and what should be done with it: the `inspect` verb, and reports of conversions.

    inspect     the verb: look at all images once, then say what was found; nothing else is written
    facts       counts, traits, classes, groups and copies, from what the scan found
    likeness    what the pictures have in common: which way they face, which are odd, which kinds there are
    remarks     what to look at before training
    advice      the command line to type, each option with its reason
    previews    small pictures of chosen images, made by all processes
    sheets      pictures for the page
    words, document, page, write   the report as text, JSON and one page that loads nothing
"""
