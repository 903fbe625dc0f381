"""Procedural sample images, made from formulas and seeds alone, so that the pipeline can be tried without any data.

    field       noise fields, soft steps and vector shapes on a pixel grid
    anatomy     the vector geometry of one axial head slice: hull, sulci, ventricles, deep nuclei
    mri         brain-MRI-like slices from that geometry: a homogeneous gray set
    surfaces    the grounds that cigarettes lie on
    smoking     one cigarette: its body, shading, shadow and smoke
    cigarette   whole colour scenes: a wild set
    write       a folder of either kind, on all cores
"""
