"""jcjohnson's PyTorch copies of the original VGG release (`vgg16-00b39a1b.pth` and vgg19).

The layers are numbered as torchvision's, but the numbers in them are Caffe's: they expect
BGR from 0 to 255. Only the classifier tells them apart, whose layers stand at 1, 4 and 6
where torchvision's stand at 0, 3 and 6. Many programs rename or drop it. Such a file looks
like torchvision's in all but its values, and has to be called by this publisher's name.
"""

from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.publishers.publisher import CAFFE_BGR, PublishedNetwork, Publisher
from nst_jax.weights.publishers.torchvision import (
    features_and_heads,
    has_caffe_classifier,
    numbered_network,
)


def _recognise(arrays: Arrays) -> PublishedNetwork | None:
    named = features_and_heads(arrays)
    return _network(named) if named is not None and has_caffe_classifier(named) else None


def _recognise_named(arrays: Arrays) -> PublishedNetwork | None:
    named = features_and_heads(arrays)
    return None if named is None else _network(named)


def _network(named: Arrays) -> PublishedNetwork:
    return numbered_network(
        named, CAFFE_BGR, "the original VGG release, as jcjohnson's", "CC BY 4.0 (VGG release)"
    )


PUBLISHER = Publisher("caffe-torch", "jcjohnson's vgg16/vgg19 .pth", _recognise, _recognise_named)
