"""From a folder of images to a trained StyleGAN2-ADA generator, its pictures and its quality numbers.

    dataset_tool            train                                                 generate / metrics
    source -> archive -> dataset -> loader -> augment -> networks -> losses -> loop -> snapshot -> images -> numbers

    sources, convert     a folder or zip of any images -> a checked, uniform archive
    archive              the dataset format: images and labels of a folder or zip
    dataset, loader      archive -> uint8 images and labels, in an order that depends on the seed and position alone
    augment, ada         the augmentation pipeline and the controller of its probability
    layers, networks     Generator and Discriminator
    losses, ema          one pure function a phase; the moving average of the generator
    training_loop        build, restore, and loop over the phases
    checkpoint           snapshots: plain containers, opened without running code
    reporting, images    log, statistics, TensorBoard; pictures and grids
    sampling             seeds -> z -> w -> uint8 images
    config               every default and preset
    commands             the command line, one command a file
"""

__version__ = "0.1.0"
