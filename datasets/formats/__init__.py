"""Readers of published file formats: point clouds, meshes, images, nuScenes, AnoVox, CIFAR."""
