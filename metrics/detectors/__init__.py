"""Feature extractors: uint8 images -> rows of features. Each is a plain torch module of ours with published weights.

    base                 what a detector is
    inception            Inception 2015, of FID, KID and the Inception score (inception_network: its layers)
    vgg16, lpips         VGG16, of precision and recall; on it the LPIPS distance, of path length
    dinov2               DINOv2 ViT-L/14
    random_features      a small network of fixed random weights: no file needed
    pixels32             pixels at 32x32: no network at all
    registry             detectors by name, opened when first asked for
    tf1_resize, bicubic  images to the size that a network takes, as those who published it did
    loading, torchscript weights into a network; tensors of a TorchScript file, none of whose code runs
"""
