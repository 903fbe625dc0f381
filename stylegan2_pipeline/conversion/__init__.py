"""From any collection of images to a training archive, or to a page that says what is in it."""
