"""From a folder of images to a trained StyleGAN2-ADA generator, its pictures and its quality numbers.

    dataset_tool            train                                                 generate / metrics
    source -> archive -> dataset -> loader -> augment -> networks -> losses -> loop -> snapshot -> images -> numbers

Images to an archive
    sources              readers of folders and zips, and their labels
    decode, png          one image file -> checked pixels, and back
    scan, transform      what a source holds; pixels -> the size that is wanted
    convert              source -> archive (convert_options: what was asked; convert_report: what is said)
    archive              the dataset format: images and labels of a folder or zip
    sample_data          procedural images to try things on

Training
    config, resolve      every default and preset; options as typed -> settings
    dataset, loader      archive -> uint8 images and labels, in an order that depends on the seed and position alone
    latents              what a step draws for each sample
    augment, ada         the augmentation pipeline (augment_draws, augment_geometry, augment_color); its probability
                         (augment_sheets: pictures of what it does)
    layers, networks     Generator and Discriminator (summary: a table of their layers)
    losses, ema          one pure function a phase; the moving average of the generator
    training_step        the phases with their optimizers
    training_loop        build, restore, and loop (launch: one process or one a GPU; run_folder: where to)
    checkpoint, transfer snapshots; starting from somebody's weights (safe_pickle, download: where from)
    reporting            log, statistics, TensorBoard

From a trained network
    sampling, generation seeds -> z -> w -> uint8 images; the generate command's work
    evaluation           images -> numbers of metrics/
    images               pictures and grids

The machine
    doctor               what it has, what the operators run, what to mend (doctor_probes, doctor_operators find out)
    build_ops            the native operators, compiled ahead of time

Shared: devices, parallel, progress. The command line: commands, one command a file.
"""

__version__ = "0.1.0"
