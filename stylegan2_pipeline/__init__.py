"""From a folder of images to a trained StyleGAN2-ADA generator, its pictures and its quality numbers.

    dataset_tool            train                                                 generate / metrics
    source -> archive -> dataset -> loader -> augment -> networks -> losses -> loop -> snapshot -> images -> numbers

Images to an archive
    sources              readers of every kind of collection, and their labels
    decode, encode       one image file -> checked pixels, and back (image_formats, png: which formats, and one by hand)
    conversion           source -> archive: look at all, decide for all, draw, write
    inspection           source -> a report of what is in it, with pictures and the command line to type
    archive              the dataset format: images and labels of a folder or zip
    sample_data          procedural images to try things on

Training: what is computed
    config, resolve      every default and preset; options as typed -> settings
    dataset              archive -> uint8 images and labels
    caching              where images wait: on the GPU, or in memory once a machine (shared_memory)
    loader               batches in an order that depends on the seed and position alone
    read_ahead           those read from the archive, by processes that may die (data_worker: one of them)
    latents              what a step draws for each sample
    augment, ada         the augmentation pipeline (augment_draws, augment_geometry, augment_color); its probability
                         (augment_sheets: pictures of what it does)
    bundles              what the host decides of a piece of work, moved to the device in one copy
    diffaugment          augments every image, for data too little even for ADA
    layers, networks     Generator and Discriminator (summary: a table of their layers)
    losses, ema          pure functions, the terms of each phase; the moving average of the generator
    phase_inputs         what each term is computed from, drawn outside
    graphs               terms as CUDA graphs: recorded, compared, played back
    training_step        phases, parts and optimizers (phases, parts: what they are)
    memory_estimate      what a step takes, gone through without computing
    checkpoint, transfer snapshots; starting from somebody's weights (adaptation: to other channels and labels;
                         safe_pickle, download: where from)

Training: the run
    launch, job          options -> a run, or one to go on with (continuing), in its folder (run_folder)
    ranks, rank_failures one process a device, here or under torchrun; what the first one died of
    training_loop        build, restore, and loop (clock: its time; telling: its words)
    training_state       everything that a run needs to go on, in a file that proves itself (saving: when; what stays)
    stopping, divergence signals; numbers that are none
    maintenance          what happens at a tick (shared_sampling: its images, made by all ranks)
    pictures, checkup    the same latents through training; their health
    health               measurements without weights, and rules that name one flag to change
    statistics           what a tick gathers on the device
    reporting, run_files log, statistics and metrics in files that can go back to a saved state
    live_view, live_panel the panel in a terminal (resources: what a run uses of the machine)
    trackers             TensorBoard, Weights & Biases, MLflow

From a trained network
    sampling, generation seeds -> z -> w -> uint8 images; the generate command's work
    evaluation           a generator and its data -> numbers of metrics/ (image_sets: what they compare;
                         path_distances: along paths in z and w; measuring: the metrics command's work)
    memorization         copies of training images: pages and pictures of what metrics/ found
    images               pictures and grids

Looking back at runs
    history, run_settings  a run folder read back, also those of the public code; its settings in one vocabulary
    report               one run, or two compared, as a page that loads nothing
    difficulty           how hard a dataset is: copies, variety, sharpness, spectrum, floors
    timelapse            a film of a run's pictures

The machine
    doctor               what it has, what the operators run, what to mend (doctor_probes, doctor_operators find out)
    build_ops            the native operators, compiled ahead of time

Shared: devices, parallel, progress. The command line: commands, one command a file.
"""

__version__ = "0.1.0"
