"""Poses in videos: frames of files, cameras and streams, detectors, steady joints, annotated videos."""

from __future__ import annotations

from litehrnet_cuda.video.annotation import Finding, Progress, annotate_video
from litehrnet_cuda.video.detectors import Detections, detect, load_detector
from litehrnet_cuda.video.frames import Frame, VideoFrames, describe_damage
from litehrnet_cuda.video.identities import Identities
from litehrnet_cuda.video.onnx_detector import OnnxDetector
from litehrnet_cuda.video.poses import FramePoses, VideoPoseEstimator, estimate_video
from litehrnet_cuda.video.smoothing import OneEuroFilter
from litehrnet_cuda.video.writing import JsonLines, VideoWriter

__all__ = [
    "Detections",
    "Finding",
    "Frame",
    "FramePoses",
    "Identities",
    "JsonLines",
    "OneEuroFilter",
    "OnnxDetector",
    "Progress",
    "VideoFrames",
    "VideoPoseEstimator",
    "VideoWriter",
    "annotate_video",
    "describe_damage",
    "detect",
    "estimate_video",
    "load_detector",
]
