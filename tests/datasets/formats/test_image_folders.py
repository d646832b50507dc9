"""Folders of PNG images: classes by folder, sizes alike, errors that name the file."""

import numpy as np
import pytest
from PIL import Image

from sickbay.datasets.formats.image_folders import find_folders, read_png


def png(path, value=0, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)


def tree(root, classes=("cat", "dog"), test="test"):
    for label, name in enumerate(classes):
        for index in range(3 - label % 2):
            png(root / f"train/{name}/{index}.png", 10 * label + index)
        png(root / f"{test}/{name}/0.png", 200 + label)


@pytest.mark.parametrize("test", ["test", "val"])
def test_images_are_read_by_class(tmp_path, test):
    tree(tmp_path, test=test)
    (train, labels), (tests, test_labels), classes = find_folders(tmp_path)
    assert classes == 2
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert train.shape == (5, 3, 8, 8)
    assert train[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11]
    assert (tests[:, 2, 7, 7].tolist(), test_labels.tolist()) == ([200, 201], [0, 1])


def test_numbered_classes_are_sorted_by_value(tmp_path):
    tree(tmp_path, classes=("10", "9", "2"))
    (train, labels), _, _ = find_folders(tmp_path)
    assert train[labels == 2, 0, 0, 0].tolist() == [0, 1, 2]  # "10", written as the first


def test_channels_come_first_and_grey_images_get_three(tmp_path):
    Image.fromarray(np.array([[[255, 0, 7]]], dtype=np.uint8)).save(tmp_path / "one.png")
    assert read_png(tmp_path / "one.png")[:, 0, 0].tolist() == [255, 0, 7]
    png(tmp_path / "grey.png", 9, mode="L")
    assert read_png(tmp_path / "grey.png")[:, 0, 0].tolist() == [9, 9, 9]


def test_other_folders_are_not_these(tmp_path):
    assert find_folders(tmp_path) is None
    png(tmp_path / "train/cat/0.png")
    assert find_folders(tmp_path) is None  # nothing to test on


def test_a_class_that_one_split_lacks_is_reported(tmp_path):
    tree(tmp_path)
    png(tmp_path / "test/emu/0.png")
    with pytest.raises(ValueError, match=r"the class 'emu' is in only one of train and test"):
        find_folders(tmp_path)


def test_images_of_several_sizes_are_reported(tmp_path):
    tree(tmp_path)
    png(tmp_path / "train/dog/9.png", size=(8, 9))
    with pytest.raises(ValueError, match=r"dog/9\.png: images must be of one size: .*\(9, 8\)"):
        find_folders(tmp_path)
    (tmp_path / "train/dog/9.png").unlink()
    for path in (tmp_path / "test").glob("*/*.png"):
        png(path, size=(4, 4))
    with pytest.raises(ValueError, match=r"must be of one size, and are \(8, 8\) in train and"):
        find_folders(tmp_path)


@pytest.mark.parametrize("damage", ["nonsense", "cut", "jpeg"])
def test_a_file_that_is_no_png_is_named(tmp_path, damage):
    path = tmp_path / "bad.png"
    png(path, size=(64, 64))
    if damage == "jpeg":
        Image.new("RGB", (8, 8)).save(path, format="JPEG")
    else:
        path.write_bytes(b"nonsense" if damage == "nonsense" else path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"bad\.png: this is no readable PNG image"):
        read_png(path)
